"""SoundStream's discriminators (section III-C): waveform at several scales, and complex STFT.

Each returns its inner layers and, last, its logits. Paper: 3 waveform scales as in MelGAN, one STFT of window 1024 and
hop 256 with 32 channels. `base` takes fewer channels and three STFT windows: on two cores the discriminators cost more
than the codec. Ours besides: the spectrogram network's magnitudes can be judged as they are decoded, which costs no
synthesis.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from musiclm.core.features import stft
from musiclm.models.soundstream.spectrogram import FLOOR


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of all discriminators of one codec."""

    waveform_scales: int = 3  # each at half the rate of the one before
    waveform_channels: int = 16
    waveform_max_channels: int = 1024
    stft_windows: tuple[int, ...] = (1024,)  # hop is a quarter
    stft_channels: int = 32
    stft_patch: int = 1  # bins per patch along frequency; 1 is the paper's network on single bins
    magnitude_patches: tuple[int, ...] = ()  # discriminators of decoded log magnitudes, by bins per patch
    magnitude_channels: int = 48


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


class PatchDiscriminator(nn.Module):
    """Complex STFT cut into patches of `patch` bins, then 2-D convolutions over frames and patches.

    The paper's network convolves single bins at full resolution; on a CPU that costs many times the codec. Patches keep
    the work in matrices.
    """

    window: Tensor

    def __init__(self, n_fft: int, channels: int, patch: int) -> None:
        super().__init__()
        if n_fft // 2 % patch:
            raise ValueError(f"stft_patch {patch} must divide half of every STFT window, here {n_fft // 2}")
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft) * (2.0 / n_fft) ** 0.5, persistent=False)
        self.inlet = nn.Conv2d(2, channels, (1, patch), (1, patch))
        self.layers = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=(d, 1), dilation=(d, 1)) for d in (1, 2, 4)]
        )
        self.outlet = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, audio: Float[Tensor, "b 1 s"]) -> list[Tensor]:
        spectrum = stft(audio[:, 0], self.n_fft, self.n_fft // 4, self.window)
        planes = torch.view_as_real(spectrum)[:, :, :-1]
        # compressed like the codec's input: what is wrong in the quiet bins counts as well
        planes = planes * (planes.square().sum(-1, keepdim=True) + 1e-6) ** -0.25
        x = F.leaky_relu(self.inlet(planes.permute(0, 3, 1, 2).contiguous()), 0.2)
        out = [x]
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            out.append(x)
        return [*out, self.outlet(x)]


class MagnitudeDiscriminator(nn.Module):
    """Log magnitudes of the spectrogram network, in patches of `patch` bins and three frames; no audio is needed."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.inlet = nn.Conv2d(1, channels, (3, patch), (1, patch), padding=(1, 0))
        self.layers = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=(d, 1), dilation=(d, 1)) for d in (1, 2, 4)]
        )
        self.outlet = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, log_magnitude: Float[Tensor, "b t f"]) -> list[Tensor]:
        x = 1 - 2 * log_magnitude / math.log(FLOOR)  # -1 at the floor, 1 at full scale
        x = F.leaky_relu(self.inlet(x[:, None]), 0.2)
        out = [x]
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            out.append(x)
        return [*out, self.outlet(x)]


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
        self.stft = nn.ModuleList(
            [
                PatchDiscriminator(n, config.stft_channels, config.stft_patch)
                if config.stft_patch > 1
                else StftDiscriminator(n, config.stft_channels)
                for n in config.stft_windows
            ]
        )
        self.magnitude = nn.ModuleList(
            [MagnitudeDiscriminator(config.magnitude_channels, patch) for patch in config.magnitude_patches]
        )

    @property
    def need_audio(self) -> bool:
        """Whether any of them needs audio."""
        return len(self.waveform) + len(self.stft) > 0

    def forward(
        self, audio: Float[Tensor, "b 1 s"] | None, log_magnitude: Float[Tensor, "b t f"] | None = None
    ) -> list[list[Tensor]]:
        out: list[list[Tensor]] = []
        if self.need_audio:
            assert audio is not None
            scaled = audio
            for index, waveform in enumerate(self.waveform):
                if index:
                    scaled = F.avg_pool1d(scaled, 4, 2, padding=1, count_include_pad=False)
                out.append(waveform(scaled))
            out += [discriminator(audio) for discriminator in self.stft]
        if len(self.magnitude):
            assert log_magnitude is not None
            out += [discriminator(log_magnitude) for discriminator in self.magnitude]
        return out
