"""SoundStream's losses (section III-D and III-E): spectral reconstruction, hinge adversarial, feature matching.

Spectral terms are means relative to the target's own level, so that their weights mean the same for quiet and loud
music and for any batch; the paper sums them. `SpectraLoss` is ours: the spectrogram network is told its magnitudes and
phase advances directly, which costs no synthesis.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.features import mel_filterbank, stft
from musiclm.models.soundstream.spectrogram import FLOOR, Spectra
from musiclm.nn.parts import mean


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


class SpectraDistance(NamedTuple):
    """Terms of `SpectraLoss`."""

    bins: Float[Tensor, ""]  # mean |difference| of log magnitudes, nepers, bins weighted as mel does
    bands: Float[Tensor, ""]  # the same of the energy in bands
    linear: Float[Tensor, ""]  # L1 of magnitudes over the target's, 1 for silence as output
    phase_advance: Float[
        Tensor, ""
    ]  # squared distance of phase advances, weighted by the target's loudness; 1 for a decoder that knows nothing


class SpectraLoss(nn.Module):
    """Decoded spectra against the original's.

    Logs of single bins are those of a smooth spectrum where the music is noise; bands hold the energy.
    """

    mel: Tensor
    bands: Tensor

    def __init__(self, sample_rate_hz: int, num_bins: int) -> None:
        super().__init__()
        hz = torch.linspace(0, sample_rate_hz / 2, num_bins)
        slope = 1 / (700 + hz)  # mels per Hz
        self.register_buffer("mel", slope / slope.mean(), persistent=False)
        # one bin a band as far as num_bins / 8, then bands of even ratio
        low = num_bins // 8
        ratio = torch.logspace(0, 1, 9 * low // 8, base=num_bins / low)
        edges = sorted({*range(low), *(low * ratio).round().int().tolist()})
        index = torch.bucketize(torch.arange(num_bins), torch.tensor(edges), right=True) - 1
        members = F.one_hot(index.clamp(max=len(edges) - 2), len(edges) - 1).float()
        self.register_buffer("bands", members / members.sum(0), persistent=False)

    def forward(self, output: Spectra, target: Spectra) -> SpectraDistance:
        out, ref = output.log_magnitude, target.log_magnitude
        size_out, size_ref = out.exp(), ref.exp()
        energy_out, energy_ref = ((size.square() @ self.bands).log() / 2 for size in (size_out, size_ref))
        weight = (ref - math.log(FLOOR)) * self.mel  # 0 for silence
        phase_advance = (output.phase_advance - target.phase_advance).square().sum(-1)
        return SpectraDistance(
            bins=((out - ref).abs() * self.mel).mean(),
            bands=(energy_out - energy_ref).abs().mean(),
            linear=(
                ((size_out - size_ref).abs() @ self.mel).mean(1)
                / ((size_ref @ self.mel).mean(1) + self.mel.sum() * FLOOR)
            ).mean(),
            phase_advance=(phase_advance * weight).sum() / (mean(weight.sum()) + 1e-6),
        )


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
