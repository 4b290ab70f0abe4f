"""SoundStream's losses (section III-D and III-E): spectral reconstruction, hinge adversarial, feature matching.

Spectral terms are means relative to the target's own level, so that their weights mean the same for quiet and loud
music and for any batch; the paper sums them.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.features import mel_filterbank, stft
from musiclm.nn.parts import mean

FLOOR = 1e-4  # of magnitudes, -80 dB of a full-scale sine, where logarithms end


class SpectralLoss(nn.Module):
    """Relative L1 on mel magnitudes plus log-mel distance per frame, over windows 2^6..2^11 with a quarter-window hop
    (equations 4 and 5).
    """

    def __init__(self, sample_rate_hz: int, windows: tuple[int, ...], num_mels: int) -> None:
        super().__init__()
        self.windows = windows
        for n_fft in windows:
            # a 64-sample window has 33 bins: more mel bands than n_fft / 4 would leave most filters empty
            bands = min(num_mels, n_fft // 4)
            filters = mel_filterbank(sample_rate_hz, n_fft, bands)
            self.register_buffer(f"filters_{n_fft}", filters[:, filters.sum(0) > 0], persistent=False)
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft), persistent=False)

    def forward(
        self, output: Float[Tensor, "b 1 s"], target: Float[Tensor, "b 1 s"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """(relative linear distance, log distance in nepers), each averaged over the windows."""
        linear, log = output.new_zeros(()), output.new_zeros(())
        for n_fft in self.windows:
            window, filters = getattr(self, f"window_{n_fft}"), getattr(self, f"filters_{n_fft}")
            both = stft(torch.cat([output, target])[:, 0], n_fft, n_fft // 4, window)
            # the square root of a sum kept away from zero: abs() has no gradient at silence
            magnitude = (both.real.square() + both.imag.square() + 1e-9).sqrt() @ filters * (2.0 / n_fft)
            out, ref = magnitude.chunk(2)
            linear = linear + ((out - ref).abs().mean((1, 2)) / (ref.mean((1, 2)) + 1e-4)).mean()
            floor = 1e-5
            difference = (out + floor).log() - (ref + floor).log()
            log = log + (difference.square().mean(2) + 1e-8).sqrt().mean()
        return linear / len(self.windows), log / len(self.windows)


def roughness(audio: Float[Tensor, "b 1 s"], n_fft: int = 1024) -> Float[Tensor, ""]:
    """How much log magnitudes change from frame to frame, mean over clips, frames and bins, in nepers. A codec that
    averages over what it can't tell scores less than the original; mel distances and ViSQOL hardly mind.
    """
    window = torch.hann_window(n_fft, device=audio.device)
    spectrum = stft(audio[:, 0], n_fft, n_fft // 4, window * (2 / window.sum()))
    return (spectrum.abs() + FLOOR).log().diff(dim=1).abs().mean()


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Float[Tensor, ""]:
    """Hinge loss (equation 1), averaged over discriminators; 2 when they can't tell, 0 when they surely can."""
    losses = [F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def adversarial_loss(fake: list[list[Tensor]]) -> Float[Tensor, ""]:
    """The generator's side of the hinge loss (equation 2)."""
    return torch.stack([F.relu(1 - f[-1]).mean() for f in fake]).mean()


def feature_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Float[Tensor, ""]:
    """L1 between inner layers, relative to the real ones' size (equation 3)."""
    pairs = [
        (r.detach(), f)
        for real_layers, fake_layers in zip(real, fake, strict=True)
        for r, f in zip(real_layers[:-1], fake_layers[:-1], strict=True)
    ]
    sizes = mean(torch.stack([r.abs().mean() for r, _ in pairs]))
    losses = [(f - r).abs().mean() / (size + 1e-6) for (r, f), size in zip(pairs, sizes, strict=True)]
    return torch.stack(losses).mean()


def generator_losses(discriminators: nn.Module, real: Any, fake: Any) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`adversarial_loss` and `feature_loss` of what a generator made; from now on the discriminators learn nothing."""
    discriminators.requires_grad_(False)
    with torch.no_grad():
        real_layers = discriminators(real)
    fake_layers = discriminators(fake)
    return adversarial_loss(fake_layers), feature_loss(real_layers, fake_layers)
