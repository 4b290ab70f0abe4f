"""From magnitudes and phase advances to audio: phases are summed, then made consistent by Griffin-Lim; whole or as a
stream, with the same result.

A frame's first phase is that of the frame before plus its phase advance. Where the decoder is unsure of that, the phase
is drawn: a hiss then stays a hiss. A few iterations of Griffin and Lim (1984) with momentum (Perraudin, Balazs and
Sondergaard 2013) follow. Each makes a frame depend on those it overlaps, so a frame is final when `phase_reach` later
ones are known.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.spectrogram import FLOOR, Spectra
from musiclm.nn.precision import double

MOMENTUM = 0.99
CIRCLE = 1 << 24  # phases are summed as whole numbers of 2 pi / CIRCLE: exact in any grouping
NUM_DRAWS = 997  # frames after which the draws repeat


class PhaseSynthesis(nn.Module):
    """Audio from spectra."""

    window: Tensor
    start: Tensor
    advance: Tensor
    draws: Tensor

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.n_fft, self.hop, self.iterations = config.n_fft, config.hop, config.phase_iterations
        self.reach, self.overlap = config.phase_reach, config.n_fft // config.hop - 1
        window = torch.hann_window(config.n_fft)
        self.register_buffer("window", window, persistent=False)
        # magnitudes have the analysis window's sum taken out, n / 2, and hops of squared windows add up to 3 n / 8 over
        # hop
        self.gain = 2 * config.hop / 3
        generator = torch.Generator().manual_seed(0)
        bins = config.num_bins
        self.register_buffer("start", torch.randint(CIRCLE, (bins,), generator=generator), persistent=False)
        self.register_buffer("draws", torch.rand(NUM_DRAWS, bins, generator=generator) - 0.5, persistent=False)
        centre = torch.arange(bins) * CIRCLE * config.hop // config.n_fft
        self.register_buffer("advance", centre % CIRCLE, persistent=False)

    def magnitude(self, spectra: Spectra) -> Float[Tensor, "b t f"]:
        return (spectra.log_magnitude.exp() - FLOOR).clamp(min=0)

    @torch.no_grad()
    def accumulate(
        self, phase_advance: Float[Tensor, "b t f 2"], first_frame: int = 0, before: Int[Tensor, "b f"] | None = None
    ) -> Int[Tensor, "b t f"]:
        """First phases of frames `first_frame`.., unit 2 pi / CIRCLE; `before` is the phase of the frame before."""
        sureness = phase_advance.square().sum(-1).sqrt().clamp(max=1)
        index = (torch.arange(phase_advance.shape[1], device=phase_advance.device) + first_frame) % NUM_DRAWS
        circles = torch.atan2(phase_advance[..., 1], phase_advance[..., 0]) / (2 * math.pi) + self.draws[index] * (
            1 - sureness
        )
        steps = (double(circles) * CIRCLE).round().long().to(circles.device) + self.advance
        steps[:, 0] += self.start if before is None else before
        return steps.cumsum(1) % CIRCLE

    def forward(self, spectra: Spectra) -> Float[Tensor, "b 1 s"]:
        """Audio of t * hop samples. Gradients reach the magnitudes; phases are taken as given."""
        magnitude = self.magnitude(spectra)
        audio = self.consistent(magnitude, self.accumulate(spectra.phase_advance))
        ahead = (self.n_fft - self.hop) // 2
        return audio[:, None, ahead : ahead + magnitude.shape[1] * self.hop]

    def consistent(self, magnitude: Float[Tensor, "b t f"], phase: Int[Tensor, "b t f"]) -> Float[Tensor, "b s"]:
        """Audio from the first frame's first sample to the last one's last: (t - 1) * hop + n_fft samples."""
        with torch.no_grad():
            angle = phase.to(magnitude.dtype) * (2 * math.pi / CIRCLE)
            unit = torch.polar(torch.ones_like(angle), angle)
            previous = torch.zeros_like(unit)
            for _ in range(self.iterations):
                frames = self._overlap_add(magnitude.detach() * unit).unfold(-1, self.n_fft, self.hop)
                spectrum = torch.fft.rfft(frames * self.window)
                moved = spectrum + MOMENTUM * (spectrum - previous)
                previous = spectrum
                unit = moved / moved.abs().clamp(min=1e-12)
        return self._overlap_add(magnitude * unit)

    def _overlap_add(self, spectrum: Tensor) -> Float[Tensor, "b s"]:
        frames = torch.fft.irfft(spectrum, n=self.n_fft) * (self.window * self.gain)
        b, t, _ = frames.shape
        parts = frames.reshape(b, t, self.overlap + 1, self.hop)
        total = sum(F.pad(parts[:, :, i], (0, 0, i, self.overlap - i)) for i in range(self.overlap + 1))
        assert isinstance(total, Tensor)
        return total.reshape(b, -1)


class PhaseStream:
    """Spectra in, the samples that have become final out. One per stream."""

    def __init__(self, synthesis: PhaseSynthesis) -> None:
        self.synthesis = synthesis
        self.num_frames = self.num_hops = 0  # taken in; given out, counted from the first frame's first sample
        self.magnitude: Tensor | None = None  # frames that later samples depend on
        self.phase: Tensor | None = None
        self.skip = (synthesis.n_fft - synthesis.hop) // 2

    def push(self, spectra: Spectra) -> Float[Tensor, "b 1 s"]:
        """Samples that no later frame can change."""
        magnitude = self.synthesis.magnitude(spectra)
        before = None if self.phase is None else self.phase[:, -1]
        phase = self.synthesis.accumulate(spectra.phase_advance, self.num_frames, before)
        self.num_frames += phase.shape[1]
        self.magnitude = magnitude if self.magnitude is None else torch.cat([self.magnitude, magnitude], 1)
        self.phase = phase if self.phase is None else torch.cat([self.phase, phase], 1)
        return self._until(max(self.num_hops, self.num_frames - self.synthesis.reach))

    def flush(self) -> Float[Tensor, "b 1 s"]:
        """The last samples: num_frames * hop in all."""
        audio = self._until(self.num_frames + self.synthesis.overlap)
        return (
            audio[..., : audio.shape[-1] - (self.synthesis.n_fft - self.synthesis.hop) // 2] if audio.numel() else audio
        )

    def _until(self, end: int) -> Float[Tensor, "b 1 s"]:
        """Samples of the hops from `num_hops` to `end`."""
        hop, reach, overlap = self.synthesis.hop, self.synthesis.reach, self.synthesis.overlap
        if self.magnitude is None or self.phase is None:
            return torch.zeros(1, 1, 0)
        if end == self.num_hops:
            return self.magnitude.new_zeros(self.magnitude.shape[0], 1, 0)
        first = self.num_frames - self.magnitude.shape[1]
        audio = self.synthesis.consistent(self.magnitude, self.phase)
        audio = audio[:, None, (self.num_hops - first) * hop : (end - first) * hop]
        self.num_hops = end
        # a sample needs the frames that overlap it, and each of those the frames within reach
        keep = max(0, end - overlap - reach - 1 - first)
        self.magnitude, self.phase = self.magnitude[:, keep:], self.phase[:, keep:]
        skipped = min(self.skip, audio.shape[-1])
        self.skip -= skipped
        return audio[..., skipped:]
