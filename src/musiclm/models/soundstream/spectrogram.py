"""The network of `base`: codes hold magnitudes and, for low bins, the frequency within the bin; phases are made at the
decoder.

The encoder never sees absolute phase, so a held note keeps its codes and language models have something to learn. What
it does see of phase is how far it advanced since the frame before: that is the frequency of a partial, finer than the
bins are wide. The decoder tells magnitudes and phase advances; `musiclm.models.soundstream.phase` makes audio of them.
Why, with figures: docs/decisions/001-codec-front-end.md.

Both networks add to a linear path that is fixed before training: the principal components of a code's spectra. The
codec then starts where a linear one ends, and the RVQ's first levels are those of most variance.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.nn.precision import double
from musiclm.nn.stream import CausalConv1d, CausalConvTranspose1d, StreamState, left_context

FLOOR = 1e-4  # -80 dB of a full-scale sine, whose magnitude is 1


class Spectra(NamedTuple):
    """What the codes describe, at the fast rate."""

    log_magnitude: Float[Tensor, "b t f"]  # log(magnitude + FLOOR)
    phase_advance: Float[
        Tensor, "b t f 2"
    ]  # unit vectors: phase gained since the frame before, less the bin centre's; the less sure, the shorter


class ConvNeXtBlock(nn.Module):
    """Causal depthwise convolution of 7, LayerNorm, two pointwise layers three times as wide, scaled skip."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.depthwise = CausalConv1d(width, width, 7, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.contract = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Float[Tensor, "b d t"], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        y = self.norm(self.depthwise(x, state).transpose(1, 2))
        return x + (self.contract(F.gelu(self.expand(y))) * self.scale).transpose(1, 2)


def _blocks(width: int, num: int) -> nn.ModuleList:
    return nn.ModuleList([ConvNeXtBlock(width, 1 / max(1, num)) for _ in range(num)])


class SpectrogramEncoder(nn.Module):
    """Spectra -> ConvNeXt at the fast rate -> strided convolution -> ConvNeXt at the code rate, plus principal
    components: `b 1 s` -> `b d t`.
    """

    window: Tensor
    carrier: Tensor
    basis: Tensor
    offset: Tensor

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.n_fft, self.hop, self.stride, self.tonal_bins = config.n_fft, config.hop, config.stride, config.tonal_bins
        self.context = config.n_fft  # samples before a frame's hop: the window's own, and the hop of the frame before
        window = torch.hann_window(config.n_fft)
        self.register_buffer("window", window * (2 / window.sum()), persistent=False)
        circles = torch.arange(config.num_bins, dtype=torch.float64) * config.hop / config.n_fft
        carrier = torch.polar(torch.ones_like(circles), -2 * math.pi * circles)
        self.register_buffer("carrier", carrier.to(torch.complex64), persistent=False)
        num_features = config.num_bins + 2 * config.tonal_bins
        self.register_buffer("basis", torch.zeros(config.latent_dim, config.stride * num_features))
        self.register_buffer("offset", torch.zeros(config.stride * num_features))
        self.project = nn.Conv1d(num_features, config.fast_width, 1)
        self.fast = _blocks(config.fast_width, config.fast_blocks)
        self.down = CausalConv1d(config.fast_width, config.slow_width, 2 * config.stride, config.stride)
        self.slow = _blocks(config.slow_width, config.slow_blocks)
        self.norm = nn.LayerNorm(config.slow_width)
        self.out = nn.Linear(config.slow_width, config.latent_dim)
        nn.init.normal_(self.out.weight, std=1e-3)

    def analyse(self, audio: Float[Tensor, "b 1 s"], state: StreamState | None = None) -> Spectra:
        """Spectra of every hop; phase advances as unit vectors."""
        frames = left_context(self, audio, self.context, state)[:, 0].unfold(-1, self.n_fft, self.hop)
        spectrum = torch.fft.rfft(frames * self.window)
        phase_advance = spectrum[:, 1:] * spectrum[:, :-1].conj() * self.carrier
        phase_advance = torch.view_as_real(phase_advance / phase_advance.abs().clamp(min=1e-12))
        return Spectra((spectrum[:, 1:].abs() + FLOOR).log(), phase_advance)

    def features(self, spectra: Spectra) -> Float[Tensor, "b t n"]:
        """Log magnitudes of about unit spread, and the low bins' phase advances: short where it is quiet, for they say
        nothing there.
        """
        loudness = 1 - spectra.log_magnitude / math.log(FLOOR)  # 0 at the floor, 1 at full scale
        phase_advance = (spectra.phase_advance * loudness[..., None])[:, :, : self.tonal_bins]
        return torch.cat([4 * loudness - 1.5, phase_advance.flatten(2)], -1)

    def codewise(self, features: Float[Tensor, "b t n"]) -> Float[Tensor, "b u m"]:
        """The features of each code's fast frames side by side."""
        return features.reshape(features.shape[0], -1, self.stride * features.shape[-1])

    def forward(self, audio: Float[Tensor, "b 1 s"], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        features = self.features(self.analyse(audio, state))
        x = self.project(features.transpose(1, 2))
        for block in self.fast:
            x = block(x, state)
        x = self.down(x, state)
        for block in self.slow:
            x = block(x, state)
        linear = F.linear(self.codewise(features) - self.offset, self.basis)
        return (linear + self.out(self.norm(x.transpose(1, 2)))).transpose(1, 2)


class SpectrogramDecoder(nn.Module):
    """ConvNeXt at the code rate -> transposed convolution -> ConvNeXt at the fast rate, plus the inverse of the
    encoder's linear path.
    """

    inverse: Tensor
    offset: Tensor

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.num_bins, self.stride = config.num_bins, config.stride
        num_features = config.num_bins + 2 * config.tonal_bins
        self.register_buffer("inverse", torch.zeros(config.stride * num_features, config.latent_dim))
        self.register_buffer("offset", torch.zeros(config.stride * num_features))
        self.project = CausalConv1d(config.latent_dim, config.slow_width, 3)
        self.slow = _blocks(config.slow_width, config.slow_blocks)
        self.up = CausalConvTranspose1d(config.slow_width, config.fast_width, 2 * config.stride, config.stride)
        self.fast = _blocks(config.fast_width, config.fast_blocks)
        self.norm = nn.LayerNorm(config.fast_width)
        self.head = nn.Linear(config.fast_width, 3 * config.num_bins)
        nn.init.normal_(self.head.weight, std=1e-3)

    def forward(self, latent: Float[Tensor, "b d t"], state: StreamState | None = None) -> Spectra:
        x = self.project(latent, state)
        for block in self.slow:
            x = block(x, state)
        x = self.up(x, state)
        for block in self.fast:
            x = block(x, state)
        linear = F.linear(latent.transpose(1, 2), self.inverse, self.offset)
        linear = linear.reshape(linear.shape[0], x.shape[2], -1)
        linear = F.pad(linear, (0, 3 * self.num_bins - linear.shape[-1]))  # phase advances of the upper bins
        out = self.head(self.norm(x.transpose(1, 2))).float() + linear
        loudness = (out[..., : self.num_bins] + 1.5) / 4
        log_magnitude = (1 - loudness) * math.log(FLOOR)
        return Spectra(log_magnitude.clamp(max=1.0), out[..., self.num_bins :].unflatten(-1, (self.num_bins, 2)))


@torch.no_grad()
def fit_linear_path(
    encoder: SpectrogramEncoder, decoder: SpectrogramDecoder, spectra: list[Spectra], sample_rate_hz: int
) -> float:
    """Sets the linear path to the principal components of some spectra, bins weighted as mel does; the share of
    variance they hold.

    Latents get a mean square of 1.
    """
    rows = double(torch.cat([encoder.codewise(encoder.features(piece)).flatten(0, 1) for piece in spectra]))
    hz = torch.linspace(0, sample_rate_hz / 2, decoder.num_bins, dtype=torch.float64, device=rows.device)
    weight = (1 + hz / 700) ** -0.5  # root of mels per Hz
    weight = torch.cat([weight, weight[: encoder.tonal_bins].repeat_interleave(2)]).repeat(encoder.stride)
    offset = rows.mean(0)
    weighted = (rows - offset) * weight
    variances, directions = torch.linalg.eigh(weighted.T @ weighted / len(rows))
    dim = encoder.basis.shape[0]
    basis = directions[:, -dim:].flip(1)
    held = variances[-dim:].sum()
    scale = (held / dim).sqrt()
    encoder.basis.copy_(basis.T * weight / scale)
    decoder.inverse.copy_(basis / weight[:, None] * scale)
    encoder.offset.copy_(offset)
    decoder.offset.copy_(offset)
    return float(held / variances.sum())
