"""The network `bands`: magnitudes in three resolutions, groups of neighbouring bins coded side by side, each band at
its own rate.

A window of 40 ms can't tell two notes of a chord at 130 Hz apart, and one of 170 ms blurs every stroke. So low
frequencies are read through long windows and coded slowly, high ones through short windows and coded fast. A band is
cut into groups of neighbouring bins with codebooks of their own. The encoder of a group sees that group alone, so a
code says which partials sound there and nothing else; the decoder sees all groups over a second of time. No phase is
coded: `musiclm.models.soundstream.griffin_lim` makes phases that fit the magnitudes. Why, with figures:
docs/decisions/013-three-bands.md.

Magnitudes are handled to the power `POWER`: errors then weigh by how loud a partial is, not by how far it lies above
the noise floor.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.models.soundstream.config import Band, SoundStreamConfig
from musiclm.nn.precision import double
from musiclm.nn.stream import StreamState, left_context

POWER = 0.3  # of magnitudes, a full-scale sine having 1
MOST_FACTOR = 2.0  # of a magnitude's spread that `BandsDecoder.calibrate` makes up for


class BandAnalysis(nn.Module):
    """Audio -> magnitudes of one band to the power `POWER`, a spectrum each `hop` samples; every bin: none pooled."""

    window: Tensor
    pool: Tensor

    def __init__(self, band: Band, sample_rate_hz: int, every_bin: bool = False) -> None:
        super().__init__()
        self.n_fft, self.hop = band.n_fft, band.hop
        self.first, self.last = band.bins(sample_rate_hz)
        window = torch.hann_window(band.n_fft)
        self.register_buffer("window", window * (2 / window.sum()), persistent=False)
        pool = band.pool(sample_rate_hz)
        self.register_buffer("pool", pool / pool.sum(0), persistent=False)
        self.pooled = band.num_pooled is not None and not every_bin

    def forward(self, audio: Float[Tensor, "b s"]) -> Float[Tensor, "b t f"]:
        """Spectra of the windows that lie in `audio`, t = (s - n_fft) / hop + 1."""
        frames = audio.unfold(-1, self.n_fft, self.hop)
        power = torch.view_as_real(torch.fft.rfft(frames * self.window)[..., self.first : self.last]).square().sum(-1)
        if self.pooled:
            power = power @ self.pool
        return power.pow(POWER / 2)


class GroupedLinear(nn.Module):
    """A linear layer of its own for each of `groups` groups."""

    def __init__(self, num_in: int, num_out: int, groups: int, std: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(groups, num_in, num_out) * (num_in**-0.5 if std is None else std))
        self.bias = nn.Parameter(torch.zeros(groups, num_out))

    def forward(self, x: Float[Tensor, "b t g d"]) -> Float[Tensor, "b t g e"]:
        return torch.einsum("btgd,gde->btge", x, self.weight) + self.bias


class LookaheadBlock(nn.Module):
    """ConvNeXt over time, groups of channels apart: depthwise convolution, LayerNorm, two pointwise layers, scaled
    skip.

    The convolution sees `ahead` frames of the future: the output lags the input by as many, the skip too.
    """

    def __init__(self, width: int, groups: int, *, kernel: int, ahead: int, expansion: int, scale: float) -> None:
        super().__init__()
        self.kernel, self.ahead = kernel, ahead
        self.taps = nn.Parameter(torch.randn(kernel, groups, width) * kernel**-0.5)
        self.norm = nn.LayerNorm(width)
        self.expand = GroupedLinear(width, expansion * width, groups)
        self.contract = GroupedLinear(expansion * width, width, groups)
        self.scale = nn.Parameter(torch.full((groups, width), scale))

    def forward(self, x: Float[Tensor, "b t g d"], state: StreamState | None = None) -> Float[Tensor, "b t g d"]:
        t = x.shape[1]
        past = left_context(self, x.movedim(1, -1), self.kernel - 1, state).movedim(-1, 1)
        y = past[:, :t] * self.taps[0]
        for k in range(1, self.kernel):
            y = torch.addcmul(y, past[:, k : k + t], self.taps[k])
        y = self.contract(F.gelu(self.expand(self.norm(y))))
        lag = self.kernel - 1 - self.ahead
        return past[:, lag : lag + t] + y * self.scale


class BandEncoder(nn.Module):
    """Magnitudes of one band -> latents of its groups at the band's code rate: principal components, and what a network
    adds to them.
    """

    basis: Tensor
    offset: Tensor

    def __init__(self, band: Band, config: SoundStreamConfig) -> None:
        super().__init__()
        self.fold, self.groups = band.fold, band.groups
        self.num_bins = band.group_width(config.sample_rate_hz)
        num_in, width = band.fold * self.num_bins, config.group_width
        self.register_buffer("basis", torch.zeros(band.groups, num_in, config.group_dim))
        self.register_buffer("offset", torch.zeros(band.groups, num_in))
        self.project = GroupedLinear(num_in, width, band.groups)
        scale = 1 / max(1, config.group_blocks)
        self.blocks = nn.ModuleList(
            [
                LookaheadBlock(width, band.groups, kernel=3, ahead=0, expansion=2, scale=scale)
                for _ in range(config.group_blocks)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.out = GroupedLinear(width, config.group_dim, band.groups, std=1e-3)

    def rows(self, magnitude: Float[Tensor, "b t f"]) -> Float[Tensor, "b u g n"]:
        """The magnitudes of each code of each group side by side; what the last group lacks is zero."""
        b, t, f = magnitude.shape
        x = F.pad(magnitude, (0, self.groups * self.num_bins - f))
        x = x.reshape(b, t // self.fold, self.fold, self.groups, self.num_bins)
        return x.transpose(2, 3).flatten(3)

    def forward(self, magnitude: Float[Tensor, "b t f"], state: StreamState | None = None) -> Float[Tensor, "b u g d"]:
        rows = self.rows(magnitude) - self.offset
        x = self.project(4 * rows)
        for block in self.blocks:
            x = block(x, state)
        return torch.einsum("btgn,gnd->btgd", rows, self.basis).float() + self.out(self.norm(x)).float()


class BandsEncoder(nn.Module):
    """Audio -> a latent a frame: every band, time and group in the order of level 1 of `config.slots`."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config, self.ahead = config, config.lookahead
        self.context = 2 * config.lookahead
        self.analyses = nn.ModuleList([BandAnalysis(band, config.sample_rate_hz) for band in config.bands])
        self.encoders = nn.ModuleList([BandEncoder(band, config) for band in config.bands])
        self.every_bin = nn.ModuleList([BandAnalysis(band, config.sample_rate_hz, True) for band in config.bands])

    def analyse(
        self, audio: Float[Tensor, "b 1 s"], state: StreamState | None = None, every_bin: bool = False
    ) -> list[Float[Tensor, "b _ _"]]:
        """Magnitudes of each band, centred on their hops. `audio`: whole frames, `lookahead` samples ahead of them."""
        padded = left_context(self, audio, self.context, state)[:, 0]
        spectra = []
        analyses = self.every_bin if every_bin else self.analyses
        for band, analysis in zip(self.config.bands, analyses, strict=True):
            side = (band.n_fft - band.hop) // 2
            start = self.ahead - side
            spectra.append(analysis(padded[:, start : start + audio.shape[-1] + 2 * side]))
        return spectra

    def encode(self, spectra: list[Float[Tensor, "b _ _"]], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        """Latents of magnitudes."""
        parts = []
        for band, encoder, magnitude in zip(self.config.bands, self.encoders, spectra, strict=True):
            latent = encoder(magnitude, state)
            times = self.config.samples_per_frame // (band.hop * band.fold)
            parts.append(latent.reshape(latent.shape[0], latent.shape[1] // times, -1))
        return torch.cat(parts, -1).transpose(1, 2)

    def forward(self, audio: Float[Tensor, "b 1 s"], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        return self.encode(self.analyse(audio, state), state)


class GroupBasis(nn.Module):
    """Latents of one band's groups -> magnitudes: the inverse of the encoder's principal components."""

    inverse: Tensor
    offset: Tensor
    member: Tensor | None

    def __init__(self, band: Band, config: SoundStreamConfig) -> None:
        super().__init__()
        self.fold, self.width = band.fold, band.width(config.sample_rate_hz)
        num_out = band.fold * band.group_width(config.sample_rate_hz)
        self.register_buffer("inverse", torch.zeros(band.groups, config.group_dim, num_out))
        self.register_buffer("offset", torch.zeros(band.groups, num_out))
        member = band.pool(config.sample_rate_hz).argmax(1) if config.every_bin and band.num_pooled else None
        self.register_buffer("member", member, persistent=False)  # the pooled magnitude that a bin is part of

    def forward(self, latent: Float[Tensor, "b u g d"]) -> Float[Tensor, "b t f"]:
        rows = torch.einsum("bugd,gdn->bugn", latent, self.inverse) + self.offset
        b, u, g, _ = rows.shape
        out = rows.reshape(b, u, g, self.fold, -1).transpose(2, 3).reshape(b, u * self.fold, -1)[..., : self.width]
        return out if self.member is None else out[..., self.member]

    @torch.no_grad()
    def scale(self, factor: Float[Tensor, " f"]) -> None:
        """Multiplies each magnitude of the band, pooled as they are coded."""
        groups = self.inverse.shape[0]
        padded = F.pad(factor.to(self.inverse), (0, self.inverse.shape[2] // self.fold * groups - self.width), value=1)
        own = padded.view(groups, 1, -1).expand(-1, self.fold, -1).flatten(1)
        self.inverse *= own[:, None]
        self.offset *= own


class BandsDecoder(nn.Module):
    """Latents -> magnitudes of each band, to the power `POWER`: principal components, and what a network over all
    groups and time adds.

    The network has `trunk_steps` frames a code frame, each of `trunk_blocks` blocks looks `trunk_ahead` of them ahead.
    """

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config, self.steps = config, config.trunk_steps
        self.lag = config.trunk_blocks * config.trunk_ahead  # in frames of the network
        width = config.trunk_width
        self.bases = nn.ModuleList([GroupBasis(band, config) for band in config.bands])
        self.project = nn.Linear(config.latent_dim, self.steps * width)
        scale = 1 / max(1, config.trunk_blocks)
        self.blocks = nn.ModuleList(
            [
                LookaheadBlock(width, 1, kernel=config.trunk_kernel, ahead=config.trunk_ahead, expansion=3, scale=scale)
                for _ in range(config.trunk_blocks)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.widths = config.decoded_widths
        # spectra of each band in a frame of the network
        self.spectra = [config.samples_per_frame // (band.hop * self.steps) for band in config.bands]
        self.head = nn.Linear(width, sum(n * f for n, f in zip(self.spectra, self.widths, strict=True)))
        nn.init.normal_(self.head.weight, std=1e-3)

    def linear(self, latent: Float[Tensor, "b d t"]) -> Float[Tensor, "b u n"]:
        """The principal components' part, a row a frame of the network."""
        b, _, t = latent.shape
        parts, start = [], 0
        for band, basis in zip(self.config.bands, self.bases, strict=True):
            times = self.config.samples_per_frame // (band.hop * band.fold)
            size = times * band.groups * self.config.group_dim
            own = latent[:, start : start + size].transpose(1, 2).reshape(b, t * times, band.groups, -1)
            parts.append(basis(own).reshape(b, t * self.steps, -1))
            start += size
        return torch.cat(parts, -1)

    def lagging(self, latent: Float[Tensor, "b d t"], state: StreamState | None = None) -> list[Float[Tensor, "b _ _"]]:
        """Magnitudes of each band, `lag` frames of the network late."""
        b, _, t = latent.shape
        x = self.project(latent.transpose(1, 2)).reshape(b, t * self.steps, 1, -1)
        for block in self.blocks:
            x = block(x, state)
        linear = self.linear(latent)
        late = left_context(self, linear.transpose(1, 2), self.lag, state).transpose(1, 2)[:, : t * self.steps]
        out = self.head(self.norm(x[:, :, 0])).float() + late
        sizes = [n * f for n, f in zip(self.spectra, self.widths, strict=True)]
        return [part.reshape(b, -1, f) for part, f in zip(out.split(sizes, -1), self.widths, strict=True)]

    def forward(self, latent: Float[Tensor, "b d t"]) -> list[Float[Tensor, "b _ _"]]:
        """Magnitudes of each band of a whole clip; after its end latents are zero. May be below zero."""
        ahead = -(-self.lag // self.steps)
        late = self.lagging(F.pad(latent, (0, ahead)))
        frames = latent.shape[-1] * self.steps
        return [part[:, self.lag * n : (self.lag + frames) * n] for part, n in zip(late, self.spectra, strict=True)]

    @torch.no_grad()
    def tell_every_bin(self) -> "BandsDecoder":
        """A decoder that gives every bin of a pooled band what this one gives the band, to go on learning from."""
        model = BandsDecoder(replace(self.config, every_bin=True))
        rows, start = [], 0
        for basis, num, width in zip(model.bases, self.spectra, self.widths, strict=True):
            own = torch.arange(start, start + num * width).reshape(num, width)
            assert isinstance(basis, GroupBasis)
            rows.append((own if basis.member is None else own[:, basis.member]).flatten())
            start += num * width
        state = self.state_dict()
        for name in ("head.weight", "head.bias"):
            state[name] = state[name][torch.cat(rows)]
        model.load_state_dict(state)
        return model

    @torch.no_grad()
    def calibrate(
        self, pieces: Iterable[tuple[list[Float[Tensor, "b _ _"]], list[Float[Tensor, "b _ _"]]]]
    ) -> list[float]:
        """Gives each magnitude the mean and, by pooled magnitude, the spread of the originals' over clips and time: a
        factor and an offset, which become part of the last layer. What is learned by regression is drawn to the mean.

        pieces: magnitudes that this decoder gave, and those of the originals; one piece is held at a time. Returns: the
        mean factor of each band.
        """
        moments = [(Moments(), Moments()) for _ in self.widths]
        for decoded, true in pieces:
            for (given, wanted), ours, theirs in zip(moments, decoded, true, strict=True):
                given.add(ours.flatten(0, 1))
                wanted.add(theirs.flatten(0, 1))
        first = 0
        factors = []
        for basis, num, width, (own, other) in zip(self.bases, self.spectra, self.widths, moments, strict=True):
            assert isinstance(basis, GroupBasis)
            member = torch.arange(width) if basis.member is None else basis.member
            member = member.to(own.mean.device)
            spread, aim = (own.mean.new_zeros(basis.width).index_add(0, member, part.var) for part in (own, other))
            factor = (aim / spread.clamp(min=1e-12)).sqrt().clamp(1 / MOST_FACTOR, MOST_FACTOR)
            offset = other.mean - factor[member] * own.mean
            basis.scale(factor)
            rows = slice(first, first + num * width)
            each, added = (part.repeat(num).to(self.head.weight) for part in (factor[member], offset))
            self.head.weight[rows] *= each[:, None]
            self.head.bias[rows] = self.head.bias[rows] * each + added
            first += num * width
            factors.append(float(factor.mean()))
        return factors


class Moments:
    """Mean and variance of each column of rows that come in pieces, in float64."""

    def __init__(self) -> None:
        self.num, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, rows: Float[Tensor, "n f"]) -> None:
        """Takes a piece in, around its own mean: sums of squares would lose what is small beside the mean."""
        rows = double(rows)
        share = len(rows) / (self.num + len(rows))
        moved = rows.mean(0) - self.mean.to(rows)
        self.squares = self.squares.to(rows) + (rows - rows.mean(0)).square().sum(0) + moved.square() * self.num * share
        self.mean = self.mean.to(rows) + moved * share
        self.num += len(rows)

    @property
    def var(self) -> Float[Tensor, " f"]:
        return self.squares / (self.num - 1)


@torch.no_grad()
def fit_linear_path(
    encoder: BandsEncoder, decoder: BandsDecoder, spectra: list[list[Float[Tensor, "b _ _"]]]
) -> list[float]:
    """Sets the linear paths to the principal components of each group in some spectra; the share of variance they hold,
    by band.

    Latents of a band get a mean square of 1.
    """
    shares = []
    for number, (band_encoder, basis) in enumerate(zip(encoder.encoders, decoder.bases, strict=True)):
        assert isinstance(band_encoder, BandEncoder) and isinstance(basis, GroupBasis)
        rows = double(torch.cat([band_encoder.rows(piece[number]).flatten(0, 1) for piece in spectra]))
        offset = rows.mean(0)
        centred = (rows - offset).transpose(0, 1)
        variances, directions = torch.linalg.eigh(centred.transpose(1, 2) @ centred / centred.shape[1])
        dim = band_encoder.basis.shape[-1]
        kept, held = directions[:, :, -dim:].flip(-1), variances[:, -dim:].sum()
        scale = (held / (len(kept) * dim)).sqrt()
        band_encoder.basis.copy_(kept / scale)
        basis.inverse.copy_(kept.transpose(1, 2) * scale)
        band_encoder.offset.copy_(offset)
        basis.offset.copy_(offset)
        shares.append(float(held / variances.sum()))
    return shares
