"""Sizes of the codec."""

import bisect
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from musiclm.core.streams import TokenSpec

HALF_TAPS = 12  # of the interpolator on either side, in samples of a band's own rate


@dataclass(frozen=True, kw_only=True)
class Band:
    """One band of the `bands` network: how its magnitudes are read and how often they are coded."""

    n_fft: int  # samples of a window
    hop: int  # samples between spectra
    low_hz: float
    high_hz: float
    fold: int  # spectra a code
    groups: int  # neighbouring parts of the band with codebooks of their own
    num_pooled: int | None = None  # magnitudes handed on: so many bands of even ratio; None: every bin
    decimation: int = 1  # phases are made at 1 / decimation of the sample rate
    rounds: int = 16  # of Griffin-Lim

    def __post_init__(self) -> None:
        if self.n_fft % self.decimation or self.hop % self.decimation or self.n_fft < 2 * self.hop:
            raise ValueError(
                f"a band's n_fft and hop must be multiples of decimation {self.decimation}, and n_fft at least twice "
                "the hop, "
                f"got {self.n_fft} and {self.hop}"
            )
        if not 0 <= self.low_hz < self.high_hz:
            raise ValueError(f"a band must reach from low_hz up to high_hz, got {self.low_hz} to {self.high_hz}")

    @property
    def lag(self) -> int:
        """Samples by which audio trails the spectra it is made of: half of what windows reach past their hops, and the
        interpolator.
        """
        return (self.n_fft - self.hop) // 2 + (HALF_TAPS * self.decimation if self.decimation > 1 else 0)

    @property
    def spectra_ahead(self) -> int:
        """Spectra past a block of them that its phases must suit: a window's length."""
        return -(-self.n_fft // self.hop)

    def bins(self, sample_rate_hz: int) -> tuple[int, int]:
        """First bin and the one past the last."""
        first = max(1, round(self.low_hz * self.n_fft / sample_rate_hz))
        return first, min(self.n_fft // 2 + 1, round(self.high_hz * self.n_fft / sample_rate_hz))

    def width(self, sample_rate_hz: int) -> int:
        """Magnitudes of one spectrum."""
        return self.num_bins(sample_rate_hz) if self.num_pooled is None else self.num_pooled

    def num_bins(self, sample_rate_hz: int) -> int:
        """Bins of one spectrum, pooled or not."""
        first, last = self.bins(sample_rate_hz)
        return last - first

    def pool(self, sample_rate_hz: int) -> Float[Tensor, "n f"]:
        """1 where a bin belongs to a band of even ratio; every band has a bin.

        The identity if magnitudes are not pooled.
        """
        first, last = self.bins(sample_rate_hz)
        if self.num_pooled is None:
            return torch.eye(last - first)
        if not 0 < self.num_pooled <= last - first:
            raise ValueError(f"num_pooled must lie in 1..{last - first}, the bins of the band, got {self.num_pooled}")
        ratio = (last / first) ** (1 / self.num_pooled)
        edges = [first]
        for band in range(1, self.num_pooled):  # where bands are narrower than a bin, one bin each
            edges.append(max(round(first * ratio**band), edges[-1] + 1))
        member = [bisect.bisect_right(edges, bin) - 1 for bin in range(first, last)]
        pool = torch.zeros(last - first, self.num_pooled)
        pool[torch.arange(last - first), torch.tensor(member)] = 1
        return pool

    def group_width(self, sample_rate_hz: int) -> int:
        """Magnitudes of one spectrum that a group codes; the last group may have fewer."""
        return -(-self.width(sample_rate_hz) // self.groups)


# notes below C4, the middle, and what is above the highest fundamentals
BASE_BANDS = (
    Band(n_fft=4096, hop=480, low_hz=20, high_hz=480, fold=4, groups=4, decimation=16, rounds=24),
    Band(n_fft=2048, hop=240, low_hz=480, high_hz=1900, fold=4, groups=4, decimation=4),
    Band(n_fft=960, hop=240, low_hz=1900, high_hz=12000, fold=2, groups=3, num_pooled=96, rounds=6),
)


class Slot(NamedTuple):
    """One of the codes of a frame."""

    level: int  # of the group's residual levels
    band: int
    time: int  # within the frame
    group: int


@dataclass(frozen=True, kw_only=True)
class SoundStreamConfig:
    """Sizes, by default the paper's: waveform, C = 32, strides whose product is 480 in MusicLM, latent 256."""

    network: Literal["waveform", "bands"] = "waveform"
    sample_rate_hz: int = 24000
    latent_dim: int = 256  # width of a quantized frame
    levels: int = 12  # RVQ levels
    codebook_size: int = 1024
    codebook_decay: float = 0.99  # EMA of the codebooks, per step
    # waveform network
    channels: int = 32  # of the first convolution; doubled by every strided one
    strides: tuple[int, ...] = (2, 4, 6, 10)
    # bands network
    bands: tuple[Band, ...] = BASE_BANDS
    group_levels: int = 2  # RVQ levels of each group; `levels` of the stream are all codes of a frame
    group_dim: int = 32  # width of a quantized group
    group_width: int = 96  # of its encoder
    group_blocks: int = 3
    trunk_width: int = 512  # of the decoder
    trunk_blocks: int = 5
    trunk_kernel: int = 7  # frames of the trunk, the last `trunk_ahead` of them in the future
    trunk_ahead: int = 1
    block_frames: int = 8  # codes that are decoded together
    every_bin: bool = False  # the decoder tells every bin, of pooled bands too, whose codes know the pooled ones
    # a group's first code stays while its squared distance is at most 1 + hold times that of the nearest
    # (`GroupedVQ.encode_held`)
    hold: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.hold < math.inf:
            raise ValueError(f"hold is {self.hold}; it must be 0 or more")
        if self.hold and self.network != "bands":
            raise ValueError(f"hold is {self.hold}; only the network `bands` has codes that hold")
        if self.every_bin and self.network != "bands":
            raise ValueError("every_bin is for the network `bands`, whose bands may be pooled")
        if self.network == "bands":
            self._check_bands()
        if 2 * self.sample_rate_hz % self.samples_per_frame:
            raise ValueError(
                f"a code must span a whole fraction of two seconds: {self.samples_per_frame} samples at "
                f"{self.sample_rate_hz} Hz do not"
            )

    def _check_bands(self) -> None:
        if not self.bands:
            raise ValueError("the network `bands` needs at least one band")
        for band in self.bands:
            if self.samples_per_frame % (band.hop * band.fold):
                raise ValueError(
                    f"a code of each band must span a whole fraction of {self.samples_per_frame} samples, "
                    f"got {band.hop * band.fold}"
                )
            most = band.fold * band.group_width(self.sample_rate_hz)
            if not 0 < self.group_dim <= most:
                raise ValueError(f"group_dim must lie in 1..{most}, the magnitudes of a code, got {self.group_dim}")
        slots = len(self.slots)
        if self.levels != slots:
            raise ValueError(f"levels must be {slots}, the codes of a frame of these bands, got {self.levels}")
        if self.latent_dim * self.group_levels != slots * self.group_dim:
            raise ValueError(
                f"latent_dim must be {slots // self.group_levels * self.group_dim}, all groups of a frame, got "
                f"{self.latent_dim}"
            )
        if not 0 <= self.trunk_ahead < self.trunk_kernel:
            raise ValueError(f"trunk_ahead must lie in 0..{self.trunk_kernel - 1}, got {self.trunk_ahead}")

    @property
    def decoded_widths(self) -> list[int]:
        """Magnitudes of one spectrum of each band that the decoder of the bands network tells."""
        rate = self.sample_rate_hz
        return [band.num_bins(rate) if self.every_bin else band.width(rate) for band in self.bands]

    @property
    def slots(self) -> list[Slot]:
        """The codes of a frame of the bands network in their order: by level, so that a prefix is a lower bitrate, then
        band, time, group.
        """
        frame = self.samples_per_frame
        return [
            Slot(level, number, time, group)
            for level in range(self.group_levels)
            for number, band in enumerate(self.bands)
            for time in range(frame // (band.hop * band.fold))
            for group in range(band.groups)
        ]

    @property
    def series(self) -> tuple[int, ...]:
        """Of each code of a frame of the bands network: the quantizer that gives it, counted over all groups of all
        bands, level by level. Codes of one quantizer follow one another in time."""
        before = [sum(band.groups for band in self.bands[:number]) for number in range(len(self.bands) + 1)]
        return tuple(slot.level * before[-1] + before[slot.band] + slot.group for slot in self.slots)

    @property
    def place_groups(self) -> list[int]:
        """Of the bands network: the group of each code of the first level."""
        return list(self.series[: len(self.slots) // self.group_levels])

    @property
    def trunk_steps(self) -> int:
        """Frames of the decoder's network in a code frame: as many as the second slowest band has codes."""
        spans = sorted((band.hop * band.fold for band in self.bands), reverse=True)
        return self.samples_per_frame // spans[min(1, len(spans) - 1)]

    @property
    def samples_per_frame(self) -> int:
        """Audio samples per code frame."""
        if self.network == "bands":
            return max(band.hop * band.fold for band in self.bands)
        return math.prod(self.strides)

    @property
    def lookahead(self) -> int:
        """Samples past a frame's end that the encoder needs."""
        if self.network == "bands":
            return max((band.n_fft - band.hop) // 2 for band in self.bands)
        return 0

    @property
    def decoder_lookahead(self) -> int:
        """Samples past a frame's end that must be decoded before the frame is final."""
        if self.network == "bands":
            network = self.trunk_blocks * self.trunk_ahead * self.samples_per_frame // self.trunk_steps
            block = self.block_frames * self.samples_per_frame
            return network + block + max(band.spectra_ahead * band.hop + band.lag for band in self.bands)
        return 0

    @property
    def spec(self) -> TokenSpec:
        """The stream of codes that a model of these sizes makes."""
        return TokenSpec(
            name="acoustic",
            codebook_size=self.codebook_size,
            levels=self.levels,
            frame_rate_hz=self.sample_rate_hz / self.samples_per_frame,
        )
