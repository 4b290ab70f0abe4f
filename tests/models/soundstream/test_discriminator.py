"""What discriminators see, and that one learns to tell what is blurred; how rough a copy is."""

import math

import torch

from musiclm.models.soundstream.discriminator import DiscriminatorConfig, Discriminators
from musiclm.models.soundstream.loss import adversarial_loss, discriminator_loss, roughness


def test_each_has_its_layers_and_logits() -> None:
    torch.manual_seed(0)
    judges = Discriminators(
        DiscriminatorConfig(waveform_scales=2, waveform_channels=4, stft_windows=(256, 512), stft_channels=2)
    )
    layers = judges(torch.randn(2, 1, 4800))
    assert len(layers) == 4 and all(len(row) > 1 and len(row[-1]) == 2 for row in layers)
    assert layers[1][0].shape[-1] == layers[0][0].shape[-1] / 2, "the second scale has half the rate"


def test_a_tone_is_told_from_noise() -> None:
    torch.manual_seed(0)
    judges = Discriminators(
        DiscriminatorConfig(waveform_scales=1, waveform_channels=4, stft_windows=(256,), stft_channels=2)
    )
    optimizer = torch.optim.Adam(judges.parameters(), lr=3e-3)
    tone = torch.sin(torch.arange(2400) * 0.3)[None, None]
    losses = []
    for _ in range(30):
        real, fake = 0.3 * torch.randn(4, 1, 2400), 0.4 * tone + 0.01 * torch.randn(4, 1, 2400)
        loss = discriminator_loss(judges(real), judges(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5 and losses[-1] < 0.2  # 2: can't tell
    assert float(adversarial_loss(judges(fake))) > float(adversarial_loss(judges(real))) + 1


def test_roughness_tells_what_is_blurred() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 1, 24000, generator=generator) * 0.1
    tone = (
        torch.sin(torch.arange(24000) * 2 * math.pi * 93.75 * 4 / 24000).expand(2, 1, -1) * 0.1
    )  # four bins' width: steady
    assert float(roughness(torch.zeros(1, 1, 4096))) == 0
    assert float(roughness(tone[..., 2048:-2048])) < 0.1 * float(roughness(noise))
    # a gain moves the logs of all frames alike, but for what lies near the floor
    torch.testing.assert_close(roughness(noise * 0.5), roughness(noise), atol=0.04, rtol=0)
