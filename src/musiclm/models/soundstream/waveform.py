"""The paper's network (SoundStream, section III-A and III-B): strided causal convolutions with dilated residual units,
mirrored in the decoder.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.nn.block import Block
from musiclm.nn.stream import CausalConv1d, CausalConvTranspose1d, StreamState


class ResidualUnit(Block):
    """Dilated convolution of 7, pointwise convolution, skip (figure 3)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.wide = CausalConv1d(channels, channels, 7, dilation=dilation)
        self.point = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "b d t"], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        return x + F.elu(self.point(F.elu(self.wide(x, state))))


class WaveformEncoder(nn.Module):
    """The paper's encoder: `b 1 s` -> `b d t`."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        width = config.channels
        layers: list[nn.Module] = [CausalConv1d(1, width, 7)]
        for stride in config.strides:
            layers += [ResidualUnit(width, dilation) for dilation in (1, 3, 9)]
            layers += [CausalConv1d(width, 2 * width, 2 * stride, stride)]
            width *= 2
        self.layers = nn.ModuleList([*layers, CausalConv1d(width, config.latent_dim, 3)])

    def forward(self, audio: Float[Tensor, "b 1 s"], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        x = audio
        for index, layer in enumerate(self.layers):
            # ELU between convolutions; a residual unit brings its own
            x = layer(x if index == 0 or isinstance(layer, ResidualUnit) else F.elu(x), state)
        return x


class WaveformDecoder(nn.Module):
    """The paper's decoder, the encoder mirrored: `b d t` -> `b 1 s`."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        width = config.channels * 2 ** len(config.strides)
        layers: list[nn.Module] = [CausalConv1d(config.latent_dim, width, 7)]
        for stride in reversed(config.strides):
            layers += [CausalConvTranspose1d(width, width // 2, 2 * stride, stride)]
            width //= 2
            layers += [ResidualUnit(width, dilation) for dilation in (1, 3, 9)]
        self.layers = nn.ModuleList([*layers, CausalConv1d(width, 1, 7)])

    def forward(self, latent: Float[Tensor, "b d t"], state: StreamState | None = None) -> Float[Tensor, "b 1 s"]:
        x = latent
        for index, layer in enumerate(self.layers):
            x = layer(x if index == 0 or isinstance(layer, ResidualUnit) else F.elu(x), state)
        return x
