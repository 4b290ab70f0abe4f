"""Sizes of the codec."""

import math
from dataclasses import dataclass
from typing import Literal

from musiclm.core.streams import TokenSpec


@dataclass(frozen=True, kw_only=True)
class SoundStreamConfig:
    """Sizes. Paper: waveform, C = 32, strides whose product is 480 in MusicLM, latent 256."""

    network: Literal["waveform", "spectrogram"] = "spectrogram"
    sample_rate_hz: int = 24000
    latent_dim: int = 96  # width of a quantized frame
    levels: int = 12  # RVQ levels
    codebook_size: int = 1024
    codebook_decay: float = 0.99  # EMA of the codebooks, per step
    # waveform network
    channels: int = 32  # of the first convolution; doubled by every strided one
    strides: tuple[int, ...] = (2, 4, 6, 10)
    # spectrogram network: `hop` samples a fast frame, `stride` fast frames a code
    n_fft: int = 960
    hop: int = 240
    stride: int = 2
    fast_width: int = 192  # ConvNeXt width at the fast rate
    slow_width: int = 320  # at the code rate
    fast_blocks: int = 3  # on either side
    slow_blocks: int = 4  # on either side
    tonal_bins: int = 64  # lowest bins whose frequency within the bin is coded too
    phase_iterations: int = 4  # of Griffin-Lim, from accumulated phases

    def __post_init__(self) -> None:
        if self.network == "spectrogram" and (self.n_fft % self.hop or self.n_fft < 2 * self.hop):
            raise ValueError(f"n_fft must be a multiple of hop, at least twice, got {self.n_fft} and {self.hop}")
        if not 0 <= self.tonal_bins <= self.num_bins:
            raise ValueError(f"tonal_bins must lie in 0..{self.num_bins}, got {self.tonal_bins}")
        if self.sample_rate_hz % self.samples_per_frame:
            raise ValueError(
                f"a code must span a whole fraction of a second: {self.samples_per_frame} samples at "
                f"{self.sample_rate_hz} Hz do not"
            )

    @property
    def num_bins(self) -> int:
        """Bins of one spectrum."""
        return self.n_fft // 2 + 1

    @property
    def samples_per_frame(self) -> int:
        """Audio samples per code frame."""
        return math.prod(self.strides) if self.network == "waveform" else self.hop * self.stride

    @property
    def lookahead(self) -> int:
        """Samples past a frame's end that the encoder needs."""
        return 0 if self.network == "waveform" else (self.n_fft - self.hop) // 2

    @property
    def phase_reach(self) -> int:
        """Fast frames on either side that the phase of a frame depends on."""
        return self.phase_iterations * (self.n_fft // self.hop - 1)

    @property
    def decoder_lookahead(self) -> int:
        """Samples past a frame's end that must be decoded before the frame is final."""
        return 0 if self.network == "waveform" else self.lookahead + self.phase_reach * self.hop

    @property
    def spec(self) -> TokenSpec:
        """The stream of codes that a model of these sizes makes."""
        return TokenSpec(
            name="acoustic",
            codebook_size=self.codebook_size,
            levels=self.levels,
            frame_rate_hz=self.sample_rate_hz / self.samples_per_frame,
        )
