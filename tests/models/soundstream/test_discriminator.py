"""What discriminators see: audio, decoded magnitudes or both; one of magnitudes learns to tell blurred ones."""

import math

import pytest
import torch

from musiclm.models.soundstream.discriminator import DiscriminatorConfig, Discriminators
from musiclm.models.soundstream.loss import adversarial_loss, discriminator_loss
from musiclm.models.soundstream.spectrogram import FLOOR


def magnitudes(batch: int) -> torch.Tensor:
    """Log magnitudes of noise, 40 frames of 96 bins."""
    return (torch.randn(batch, 40, 96) * 0.3 + 0.5 * math.log(FLOOR)).clamp(min=math.log(FLOOR))


def test_each_sees_what_it_needs() -> None:
    torch.manual_seed(0)
    audio = torch.randn(2, 1, 4800)
    judges = Discriminators(
        DiscriminatorConfig(waveform_scales=2, waveform_channels=4, stft_windows=(256,), stft_channels=8, stft_patch=16)
    )
    assert judges.need_audio and len(judges(audio)) == 3
    seen = Discriminators(
        DiscriminatorConfig(waveform_scales=0, stft_windows=(), magnitude_patches=(8, 24), magnitude_channels=8)
    )
    assert not seen.need_audio
    layers = seen(None, magnitudes(2))
    assert [row[-1].shape for row in layers] == [(2, 1, 40, 12), (2, 1, 40, 4)]
    both = Discriminators(
        DiscriminatorConfig(waveform_scales=1, waveform_channels=4, stft_windows=(), magnitude_patches=(8,))
    )
    assert len(both(audio, magnitudes(2))) == 2
    with pytest.raises(AssertionError):
        judges(None, magnitudes(2))


def test_blurred_magnitudes_are_told() -> None:
    torch.manual_seed(0)
    discriminators = Discriminators(
        DiscriminatorConfig(waveform_scales=0, stft_windows=(), magnitude_patches=(8,), magnitude_channels=8)
    )
    optimizer = torch.optim.Adam(discriminators.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        real = magnitudes(4)
        blurred = magnitudes(4).mean(1, keepdim=True).expand(-1, 40, -1)
        loss = discriminator_loss(discriminators(None, real), discriminators(None, blurred))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[0] > 1.8 and losses[-1] < 0.2  # 2: can't tell
    assert (
        float(adversarial_loss(discriminators(None, blurred))) > float(adversarial_loss(discriminators(None, real))) + 1
    )
