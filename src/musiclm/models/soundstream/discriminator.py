"""SoundStream's discriminators (section III-C): waveform at several scales, and complex STFT.

Each returns its inner layers and, last, its logits. Paper: 3 waveform scales as in MelGAN, one STFT of window 1024 and
hop 256 with 32 channels.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from musiclm.core.features import stft


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of all discriminators of one codec."""

    waveform_scales: int = 3  # each at half the rate of the one before
    waveform_channels: int = 16
    waveform_max_channels: int = 1024
    stft_windows: tuple[int, ...] = (1024,)  # hop is a quarter
    stft_channels: int = 32


class WaveformDiscriminator(nn.Module):
    """MelGAN's: strided grouped convolutions over samples."""

    def __init__(self, channels: int, max_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [weight_norm(nn.Conv1d(1, channels, 15, padding=7))]
        width = channels
        for _ in range(4):
            wider = min(width * 4, max_channels)
            layers.append(weight_norm(nn.Conv1d(width, wider, 41, stride=4, padding=20, groups=max(1, width // 4))))
            width = wider
        layers.append(weight_norm(nn.Conv1d(width, width, 5, padding=2)))
        layers.append(weight_norm(nn.Conv1d(width, 1, 3, padding=1)))
        self.layers = nn.ModuleList(layers)

    def forward(self, audio: Float[Tensor, "b 1 s"]) -> list[Tensor]:
        x, out = audio, []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < len(self.layers) - 1:
                x = F.leaky_relu(x, 0.2)
            out.append(x)
        return out


class StftUnit(nn.Module):
    """Two convolutions, the second strided in (time, frequency), with a strided skip."""

    def __init__(self, width: int, wider: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv2d(width, width, 3, padding=1))
        kernel = (stride[0] + 2, stride[1] + 2)
        self.second = weight_norm(nn.Conv2d(width, wider, kernel, stride, padding=(1, 1)))
        self.skip = weight_norm(nn.Conv2d(width, wider, 1, stride))

    def forward(self, x: Float[Tensor, "b d t f"]) -> Float[Tensor, "b e u g"]:
        y = self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))
        skip = self.skip(x)
        t, f = min(y.shape[2], skip.shape[2]), min(y.shape[3], skip.shape[3])
        return y[:, :, :t, :f] + skip[:, :, :t, :f]


class StftDiscriminator(nn.Module):
    """2-D convolutions over real and imaginary STFT planes (figure 4)."""

    window: Tensor

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft) * (2.0 / n_fft) ** 0.5, persistent=False)
        self.inlet = weight_norm(nn.Conv2d(2, channels, 7, padding=3))
        factors = [(1, 2, (1, 2)), (2, 4, (2, 2)), (4, 4, (1, 2)), (4, 8, (2, 2)), (8, 8, (1, 2)), (8, 16, (2, 2))]
        self.units = nn.ModuleList([StftUnit(channels * a, channels * b, stride) for a, b, stride in factors])
        self.outlet = weight_norm(nn.Conv2d(16 * channels, 1, (1, n_fft // 2 // 64)))

    def forward(self, audio: Float[Tensor, "b 1 s"]) -> list[Tensor]:
        spectrum = stft(audio[:, 0], self.n_fft, self.n_fft // 4, self.window)
        # contiguous: on a strided view the backward pass of this convolution corrupted memory (torch 2.13, CPU, one
        # thread)
        x = self.inlet(torch.view_as_real(spectrum).permute(0, 3, 1, 2)[..., :-1].contiguous())
        out = [x]
        for unit in self.units:
            x = unit(x)
            out.append(x)
        return [*out, self.outlet(F.leaky_relu(x, 0.2))]


class Discriminators(nn.Module):
    """All discriminators side by side; a list of their layers."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.waveform = nn.ModuleList(
            [
                WaveformDiscriminator(config.waveform_channels, config.waveform_max_channels)
                for _ in range(config.waveform_scales)
            ]
        )
        self.stft = nn.ModuleList([StftDiscriminator(n, config.stft_channels) for n in config.stft_windows])

    def forward(self, audio: Float[Tensor, "b 1 s"]) -> list[list[Tensor]]:
        out: list[list[Tensor]] = []
        scaled = audio
        for index, waveform in enumerate(self.waveform):
            if index:
                scaled = F.avg_pool1d(scaled, 4, 2, padding=1, count_include_pad=False)
            out.append(waveform(scaled))
        return out + [discriminator(audio) for discriminator in self.stft]
