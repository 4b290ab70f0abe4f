"""Spectral features of 24 kHz audio: STFT and log-mel, own and dependency-free so that training and use agree.

Everything is float32 on tensors `b s` in [-1, 1]. Mel filters are the HTK triangles, area-normalised off (peak 1), as
AudioSet models use them.
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE_HZ = 24000


def mel_to_hz(mel: Tensor) -> Tensor:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def mel_filterbank(
    sample_rate_hz: int, n_fft: int, num_mels: int, fmin_hz: float = 0.0, fmax_hz: float | None = None
) -> Float[Tensor, "bins mels"]:
    """Triangular HTK filters of peak 1 over the bins of an `n_fft` transform.

    Raises ValueError for a range outside the band.
    """
    fmax_hz = fmax_hz if fmax_hz is not None else sample_rate_hz / 2
    if not 0 <= fmin_hz < fmax_hz <= sample_rate_hz / 2:
        raise ValueError(f"mel range {fmin_hz}..{fmax_hz} Hz must rise within 0..{sample_rate_hz / 2} Hz")
    bins = torch.linspace(0, sample_rate_hz / 2, n_fft // 2 + 1, dtype=torch.float64)
    lo, hi = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (fmin_hz, fmax_hz))  # plain floats: works on meta too
    edges = mel_to_hz(torch.linspace(lo, hi, num_mels + 2, dtype=torch.float64))
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def frame_signal(audio: Float[Tensor, "b s"], n_fft: int, hop: int, left: int | None = None) -> Float[Tensor, "b t n"]:
    """Cuts ceil(s / hop) overlapping frames; frame t covers samples [t*hop - left, t*hop - left + n_fft), zeros
    outside.

    `left=None` centres each frame on its hop: left = (n_fft - hop) // 2. `left = n_fft - hop` is causal.
    """
    s = audio.shape[-1]
    left = (n_fft - hop) // 2 if left is None else left
    num_frames = math.ceil(s / hop)
    right = max(0, (num_frames - 1) * hop + n_fft - left - s)
    return F.pad(audio, (left, right)).unfold(-1, n_fft, hop)[:, :num_frames]


def stft(
    audio: Float[Tensor, "b s"], n_fft: int, hop: int, window: Float[Tensor, " n"], left: int | None = None
) -> Complex[Tensor, "b t f"]:
    """Short-time Fourier transform of `frame_signal` frames under a window."""
    return torch.fft.rfft(frame_signal(audio, n_fft, hop, left) * window)


class LogMel(nn.Module):
    """Natural-log mel magnitudes, floor 1e-5: `b s` -> `b f t` with t = ceil(s / hop)."""

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        *,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        n_fft: int = 1024,
        hop: int = 240,
        num_mels: int = 80,
        fmin_hz: float = 0.0,
        fmax_hz: float | None = None,
        floor: float = 1e-5,
        left: int | None = None,
    ) -> None:
        super().__init__()
        if hop < 1 or n_fft < hop:
            raise ValueError(f"LogMel needs 1 <= hop <= n_fft, got hop {hop} and n_fft {n_fft}")
        self.n_fft, self.hop, self.floor, self.left = n_fft, hop, floor, left
        # derived from the arguments, so never stored with the weights
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        filters = mel_filterbank(sample_rate_hz, n_fft, num_mels, fmin_hz, fmax_hz)
        self.register_buffer("filters", filters * (2.0 / n_fft), persistent=False)

    def forward(self, audio: Float[Tensor, "b s"]) -> Float[Tensor, "b f t"]:
        magnitude = stft(audio, self.n_fft, self.hop, self.window, self.left).abs()
        return (magnitude @ self.filters).clamp(min=self.floor).log().transpose(1, 2)
