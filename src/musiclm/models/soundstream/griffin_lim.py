"""Phases for magnitudes in bands, in blocks of fixed length: the audio of a stream is that of the whole, to the bit.

Each band is made at a sample rate of its own, then brought to the full rate and added. A block takes its spectra and a
few after them; phases begin where those of the block before ended and go on by the frequency of the nearest peak, then
rounds of Griffin-Lim with momentum (Griffin and Lim 1984, Perraudin et al. 2013) make them agree with one another and
with what is already said. So nothing depends on how codes arrive, and memory is that of a block.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.models.soundstream.bands import POWER, BandsDecoder
from musiclm.models.soundstream.config import HALF_TAPS, Band, SoundStreamConfig
from musiclm.nn.precision import double
from musiclm.nn.stream import StreamState

MOMENTUM = 0.99


@dataclass
class BandTail:
    """What a band's next block needs of those before it."""

    phase: Tensor | None = None  # of the last spectrum, b f
    audio: Tensor | None = None  # windowed sum that later spectra add to, b s
    weight: Tensor | None = None  # sum of squared windows, s
    slow: Tensor | None = None  # samples of the slow rate that the interpolator still needs, b s


class BandSynthesis(nn.Module):
    """Magnitudes of one band -> audio of that band, block by block."""

    window: Tensor
    spread: Tensor
    taps: Tensor
    draws: Tensor

    def __init__(self, band: Band, sample_rate_hz: int, every_bin: bool = False) -> None:
        super().__init__()
        self.rounds, self.decimation = band.rounds, band.decimation
        self.n_fft, self.hop = band.n_fft // band.decimation, band.hop // band.decimation
        self.first, self.last = band.bins(sample_rate_hz)
        if self.last > self.n_fft // 2 + 1:
            raise ValueError(f"decimation {band.decimation} leaves no room for {band.high_hz} Hz")
        self.ahead = band.spectra_ahead
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        pool = band.pool(sample_rate_hz)
        self.register_buffer("spread", pool.T.contiguous(), persistent=False)
        self.pooled = band.num_pooled is not None and not every_bin
        draws = torch.rand(self.last - self.first, generator=torch.Generator().manual_seed(0))
        self.register_buffer("draws", draws, persistent=False)
        k = torch.arange(-HALF_TAPS * band.decimation, HALF_TAPS * band.decimation + 1, dtype=torch.float64)
        taps = (
            torch.sinc(k / band.decimation) * torch.hann_window(len(k) + 2, periodic=False, dtype=torch.float64)[1:-1]
        )
        # `interpolate` as a product: of the samples around, latest first, a row each of the samples between
        polyphase = F.pad(taps.float(), (0, band.decimation - 1)).view(-1, band.decimation).flip(0)
        self.register_buffer("taps", polyphase.contiguous(), persistent=False)

    def magnitude(self, squeezed: Float[Tensor, "b t f"]) -> Float[Tensor, "b t k"]:
        """Magnitudes of the band's bins as an unscaled transform has them."""
        size = squeezed.clamp(min=0).pow(1 / POWER)
        if self.pooled:
            size = size @ self.spread
        return size * (self.window.sum() / 2)

    def peaks(self, magnitude: Float[Tensor, "b t k"]) -> tuple[Int[Tensor, "b t k"], Float[Tensor, "b t k"]]:
        """The peak nearest to each bin, and its frequency in cycles per sample by a parabola through the logarithms of
        its neighbours.
        """
        log = (magnitude + 1e-7).log()
        left, right = F.pad(log, (1, 0), value=-1e4)[..., :-1], F.pad(log, (0, 1), value=-1e4)[..., 1:]
        peak = (log >= left) & (log >= right)
        inner_left, inner_right = torch.maximum(left, log - 20), torch.maximum(right, log - 20)
        offset = 0.5 * (inner_left - inner_right) / (inner_left - 2 * log + inner_right).clamp(max=-1e-3)
        k = torch.arange(log.shape[-1], device=log.device).expand_as(log)
        none = torch.full_like(k, -(10**6))
        below = torch.where(peak, k, none).cummax(-1)[0]
        above = -torch.where(peak, -k, none).flip(-1).cummax(-1)[0].flip(-1)
        nearest = torch.where(k - below <= above - k, below, above).clamp(0, log.shape[-1] - 1)
        return nearest, ((k + offset.clamp(-0.5, 0.5)).gather(-1, nearest) + self.first) / self.n_fft

    def first_phases(
        self, magnitude: Float[Tensor, "b t k"], before: Float[Tensor, "b k"] | None
    ) -> Float[Tensor, "b t k"]:
        """Phases that follow the peaks, from those of the spectrum before."""
        nearest, hz = self.peaks(magnitude)
        cycles = double(hz) * self.hop
        if before is None:
            # at a window's first sample the bins of one sine have the same phase but for a sign that alternates
            bins = torch.arange(magnitude.shape[-1], device=magnitude.device)
            cycles[:, 0] = (self.draws[nearest[:, 0]] + bins * 0.5).to(cycles.device)
        else:
            cycles[:, 0] += double(before) / (2 * math.pi)
        return (cycles.cumsum(1) % 1.0 * (2 * math.pi)).float().to(magnitude.device)

    def _overlap_add(self, frames: Float[Tensor, "b t n"]) -> Float[Tensor, "b s"]:
        """Sum of frames, each `hop` samples after the one before: (t - 1) * hop + n_fft samples."""
        b, t, n = frames.shape
        overlaps = -(-n // self.hop)
        parts = F.pad(frames, (0, overlaps * self.hop - n)).reshape(b, t, overlaps, self.hop)
        total = frames.new_zeros(b, t + overlaps - 1, self.hop)
        for index in range(overlaps):
            total[:, index : index + t] += parts[:, :, index]
        return total.reshape(b, -1)[:, : (t - 1) * self.hop + n]

    def _weight(self, num_frames: int) -> Float[Tensor, " s"]:
        """Sum of squared windows of frames."""
        return self._overlap_add(self.window.square().expand(1, num_frames, -1))[0]

    def block(self, squeezed: Float[Tensor, "b t f"], num: int, tail: BandTail) -> Float[Tensor, "b s"]:
        """Audio at the slow rate of the first `num` of some spectra, num * hop samples; the others are context."""
        magnitude = self.magnitude(squeezed)
        b, t, _ = magnitude.shape
        phase = self.first_phases(magnitude, tail.phase)
        size = magnitude[..., None]
        unit = torch.stack([phase.cos(), phase.sin()], -1)
        overlap = self.n_fft - self.hop
        frames = _Frames(self, b, t)
        said = magnitude.new_zeros(b, frames.length)
        weight = self._weight(t)
        if tail.audio is not None and tail.weight is not None:
            said[:, :overlap] += tail.audio
            weight = weight + F.pad(tail.weight, (0, frames.length - overlap))
        inverse = 1 / weight.clamp(min=1e-3)
        previous, moved, square = (torch.zeros_like(unit) for _ in range(3))
        scale = torch.zeros_like(magnitude)
        for _ in range(self.rounds):
            spectrum = frames.spectrum(frames.audio(size, unit).add_(said).mul_(inverse))
            torch.lerp(previous, spectrum, 1 + MOMENTUM, out=moved)
            previous = spectrum
            torch.mul(moved, moved, out=square)
            torch.add(square[..., 0], square[..., 1], out=scale).add_(1e-18).rsqrt_()
            torch.mul(moved, scale[..., None], out=unit)
        own = _Frames(self, b, num).audio(size[:, :num], unit[:, :num])
        total = own + said[:, : own.shape[1]]
        sums = self._weight(num)
        if tail.weight is not None:
            sums = sums + F.pad(tail.weight, (0, len(sums) - overlap))
        done = num * self.hop
        tail.phase = torch.atan2(unit[:, num - 1, :, 1], unit[:, num - 1, :, 0])
        tail.audio, tail.weight = total[:, done:].clone(), sums[done:].clone()
        return total[:, :done] / sums[:done].clamp(min=1e-3)

    def interpolate(self, slow: Float[Tensor, "b s"], tail: BandTail) -> Float[Tensor, "b r"]:
        """The slow samples at the full rate, `HALF_TAPS` slow samples late."""
        if self.decimation == 1:
            return slow
        before = slow.new_zeros(slow.shape[0], 2 * HALF_TAPS) if tail.slow is None else tail.slow
        known = torch.cat([before, slow], -1)
        tail.slow = known[:, known.shape[1] - 2 * HALF_TAPS :].clone()
        return (known.unfold(1, len(self.taps), 1) @ self.taps).flatten(1)


class _Frames:
    """Frames of one band to audio and back, again and again in the same memory."""

    def __init__(self, band: BandSynthesis, batch: int, num: int) -> None:
        self.band, hop, n = band, band.hop, band.n_fft
        overlaps = -(-n // hop)
        self.length = (num - 1) * hop + n
        self.full = band.window.new_zeros(batch, num, n // 2 + 1, dtype=torch.complex64)
        self.bins = torch.view_as_real(self.full)[:, :, band.first : band.last]
        padded = band.window.new_zeros(batch, num, overlaps * hop)
        self.frames = padded[..., :n]
        parts = padded.view(batch, num, overlaps, hop)
        self.sum = band.window.new_zeros(batch, num + overlaps - 1, hop)
        self.parts = [(self.sum[:, index : index + num], parts[:, :, index]) for index in range(overlaps)]
        self.total = self.sum.view(batch, -1)[:, : self.length]
        self.cut = self.total.unfold(-1, n, hop)

    def audio(self, size: Float[Tensor, "b t k 1"], unit: Float[Tensor, "b t k 2"]) -> Float[Tensor, "b s"]:
        """Sum of windowed frames, to be changed at will; the next call overwrites it."""
        torch.mul(size, unit, out=self.bins)
        torch.mul(torch.fft.irfft(self.full, n=self.band.n_fft), self.band.window, out=self.frames)
        self.sum.zero_()
        for total, part in self.parts:
            total.add_(part)
        return self.total

    def spectrum(self, audio: Float[Tensor, "b s"]) -> Float[Tensor, "b t k 2"]:
        """The band's bins of every frame of what `audio` gave, real and imaginary parts."""
        assert audio is self.total
        torch.mul(self.cut, self.band.window, out=self.frames)
        return torch.view_as_real(torch.fft.rfft(self.frames)[..., self.band.first : self.band.last])


class BandsSynthesis(nn.Module):
    """Magnitudes of all bands -> audio."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config = config
        self.bands = nn.ModuleList(
            [BandSynthesis(band, config.sample_rate_hz, config.every_bin) for band in config.bands]
        )
        self.lags = [band.lag for band in config.bands]
        # spectra of a block
        self.sizes = [config.block_frames * config.samples_per_frame // band.hop for band in config.bands]

    @torch.no_grad()
    def forward(self, magnitudes: list[Float[Tensor, "b _ _"]]) -> Float[Tensor, "b 1 s"]:
        """Audio of t * hop samples, the same for every band."""
        stream = SynthesisStream(self)
        return torch.cat([stream.push(magnitudes), stream.flush()], -1)


class SynthesisStream:
    """Spectra in, the samples that are final out. One per stream; a batch of streams may go side by side."""

    def __init__(self, synthesis: BandsSynthesis) -> None:
        self.synthesis = synthesis
        self.tails = [BandTail() for _ in synthesis.bands]
        self.spectra: list[Tensor] = []  # of each band, not yet made into audio
        self.audio: list[Tensor] = []  # of each band, not yet given out
        self.samples_in = self.samples_out = 0

    def push(self, magnitudes: list[Float[Tensor, "b _ _"]]) -> Float[Tensor, "b 1 s"]:
        """Samples that have become final with these spectra."""
        bands = self.synthesis.config.bands
        if not self.spectra:
            b = magnitudes[0].shape[0]
            self.spectra = [part[:, :0] for part in magnitudes]
            self.audio = [part.new_zeros(b, 0) for part in magnitudes]
            self.skip = list(self.synthesis.lags)
        self.samples_in += magnitudes[0].shape[1] * bands[0].hop
        self.spectra = [torch.cat(pair, 1) for pair in zip(self.spectra, magnitudes, strict=True)]
        return self._blocks()

    def _blocks(self) -> Float[Tensor, "b 1 s"]:
        for number, (band, tail) in enumerate(zip(self.synthesis.bands, self.tails, strict=True)):
            assert isinstance(band, BandSynthesis)
            size = self.synthesis.sizes[number]
            while self.spectra[number].shape[1] >= size + band.ahead:
                slow = band.block(self.spectra[number][:, : size + band.ahead], size, tail)
                self.spectra[number] = self.spectra[number][:, size:]
                fast = band.interpolate(slow, tail)
                skipped = min(self.skip[number], fast.shape[1])
                self.skip[number] -= skipped
                self.audio[number] = torch.cat([self.audio[number], fast[:, skipped:]], 1)
        ready = min(part.shape[1] for part in self.audio)
        out = torch.stack([part[:, :ready] for part in self.audio]).sum(0)
        self.audio = [part[:, ready:] for part in self.audio]
        self.samples_out += ready
        return out[:, None]

    def flush(self) -> Float[Tensor, "b 1 s"]:
        """The last samples: as many in all as the spectra span. After the end there is silence."""
        if not self.spectra:
            return torch.zeros(1, 1, 0)
        total, parts = self.samples_in, []
        while self.samples_out < total:
            silence = self.synthesis.config.block_frames * self.synthesis.config.samples_per_frame
            parts.append(
                self.push(
                    [
                        part.new_zeros(part.shape[0], silence // band.hop, part.shape[2])
                        for part, band in zip(self.spectra, self.synthesis.config.bands, strict=True)
                    ]
                )
            )
        left = total - (self.samples_out - sum(part.shape[-1] for part in parts))
        return torch.cat(parts, -1)[..., :left] if parts else self.spectra[0].new_zeros(self.spectra[0].shape[0], 1, 0)


class BandsStream:
    """Latents in, audio out, in blocks of `block_frames` latents, however they arrive.

    One per stream; a batch may go side by side.
    """

    def __init__(self, decoder: BandsDecoder, synthesis: BandsSynthesis) -> None:
        self.decoder, self.synthesis = decoder, SynthesisStream(synthesis)
        self.state = StreamState()
        self.size = synthesis.config.block_frames
        self.latent: Tensor | None = None  # not yet decoded, b d t
        self.frames_in = self.frames_out = 0  # of the decoder's network
        self.skip = decoder.lag

    @torch.no_grad()
    def push(self, latent: Float[Tensor, "b d t"]) -> Float[Tensor, "b 1 s"]:
        """Samples that have become final with these latents."""
        self.frames_in += latent.shape[-1] * self.decoder.steps
        return self._push(latent)

    def _push(self, latent: Float[Tensor, "b d t"]) -> Float[Tensor, "b 1 s"]:
        self.latent = latent if self.latent is None else torch.cat([self.latent, latent], -1)
        parts = [latent.new_zeros(latent.shape[0], 1, 0)]
        while self.latent.shape[-1] >= self.size:
            # one layout in memory, whatever pieces they came in: sums of another layout end with other last bits, and
            # phases grow those to differences that are audible
            block = self.latent[..., : self.size].transpose(1, 2).clone(memory_format=torch.contiguous_format)
            late = self.decoder.lagging(block.transpose(1, 2), self.state)
            self.latent = self.latent[..., self.size :]
            frames = self.size * self.decoder.steps
            start = min(self.skip, frames)
            self.skip -= start
            stop = min(frames, start + self.frames_in - self.frames_out)  # nothing sounds after the end
            self.frames_out += stop - start
            spectra = [part[:, start * n : stop * n] for part, n in zip(late, self.decoder.spectra, strict=True)]
            parts.append(self.synthesis.push(spectra))
        return torch.cat(parts, -1)

    @torch.no_grad()
    def flush(self) -> Float[Tensor, "b 1 s"]:
        """The last samples: those of every latent."""
        if self.latent is None:
            return torch.zeros(1, 1, 0)
        parts = []
        while self.frames_out < self.frames_in:
            missing = self.size - self.latent.shape[-1]
            parts.append(self._push(self.latent.new_zeros(*self.latent.shape[:2], missing)))
        return torch.cat([*parts, self.synthesis.flush()], -1)
