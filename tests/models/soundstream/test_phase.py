"""Audio from magnitudes and phase advances: pitch exact, noise noisy, grouping of no consequence; the linear path and
the losses on spectra.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from musiclm.core.audio import load
from musiclm.evaluate.codec import mel_distance_db, pitch_correlation
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.loss import SpectraLoss, roughness
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.soundstream.phase import CIRCLE, PhaseStream, PhaseSynthesis
from musiclm.models.soundstream.spectrogram import (
    FLOOR,
    Spectra,
    SpectrogramDecoder,
    SpectrogramEncoder,
    fit_linear_path,
)

CONFIG = SoundStreamConfig(
    latent_dim=8, levels=3, codebook_size=16, fast_width=16, slow_width=24, fast_blocks=1, slow_blocks=1
)
CLIP = Path(__file__).parents[2] / "data" / "clips" / "flare-cave-theme.ogg"


def tone(hz: float, seconds: float = 2.0) -> torch.Tensor:
    t = torch.arange(round(seconds * 24000)) / 24000
    return (0.4 * torch.sin(2 * math.pi * hz * t.double())).float()[None, None]


def music() -> torch.Tensor:
    return torch.from_numpy(load(CLIP)[: 4 * 24000])[None, None]


def resynthesize(audio: torch.Tensor, tonal_bins: int = 481, iterations: int = 4) -> np.ndarray:
    spectra = SoundStream(CONFIG).spectra(audio)
    phase_advance = spectra.phase_advance.clone()
    phase_advance[:, :, tonal_bins:] = 0
    synthesis = PhaseSynthesis(dataclasses.replace(CONFIG, phase_iterations=iterations))
    return synthesis(Spectra(spectra.log_magnitude, phase_advance))[0, 0].numpy()


@pytest.mark.parametrize("hz", [110.0, 437.3, 1319.5])
def test_a_tone_keeps_its_frequency_to_a_cent_and_its_level(hz: float) -> None:
    audio = tone(hz)
    output = resynthesize(audio)[4800:-4800]
    spectrum = np.abs(np.fft.rfft(output * np.hanning(len(output)), 1 << 20))
    found = np.argmax(spectrum) * 24000 / (1 << 20)
    assert abs(1200 * math.log2(found / hz)) < 1, found
    assert np.sqrt(np.mean(output**2)) == pytest.approx(0.4 / math.sqrt(2), rel=0.1)


def test_full_scale_is_one_and_silence_is_the_floor() -> None:
    model = SoundStream(CONFIG)
    spectra = model.spectra(tone(1000.0) * 2.5)
    assert float(spectra.log_magnitude[0, 50:150].max(-1).values.mean()) == pytest.approx(0, abs=0.02)
    silence = model.spectra(torch.zeros(1, 1, 4800))
    assert torch.allclose(silence.log_magnitude, torch.full_like(silence.log_magnitude, math.log(FLOOR)))
    assert PhaseSynthesis(CONFIG)(silence).abs().max() == 0


def test_music_from_its_true_spectra_is_nearly_itself_and_phase_advances_keep_pitch() -> None:
    audio = music()
    target = audio[0, 0].numpy()
    output = resynthesize(audio, tonal_bins=64)
    drawn = resynthesize(audio, tonal_bins=0)
    assert mel_distance_db(output, target) < 1.2
    assert mel_distance_db(output, target) < mel_distance_db(resynthesize(audio, 64, iterations=0), target)
    assert pitch_correlation(output, target) > 0.9 > pitch_correlation(drawn, target)


def test_unsure_phase_advances_make_noise_not_a_tone() -> None:
    t, bins = 400, CONFIG.num_bins
    flat = torch.full((1, t, bins), math.log(0.01))
    unsure = PhaseSynthesis(CONFIG)(Spectra(flat, torch.zeros(1, t, bins, 2)))[0, 0].numpy()
    sure = PhaseSynthesis(CONFIG)(Spectra(flat, torch.tensor([1.0, 0.0]).expand(1, t, bins, 2)))[0, 0].numpy()

    def flatness(x: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(x[4800:-4800] * np.hanning(len(x) - 9600)))[2000:-2000] ** 2
        return float(np.exp(np.log(power + 1e-12).mean()) / power.mean())

    assert flatness(unsure) > 0.3 > 0.1 > flatness(sure)


def test_phases_sum_exactly_in_any_grouping() -> None:
    synthesis = PhaseSynthesis(CONFIG)
    phase_advance = torch.randn(2, 50, CONFIG.num_bins, 2, generator=torch.Generator().manual_seed(0))
    whole = synthesis.accumulate(phase_advance)
    first = synthesis.accumulate(phase_advance[:, :7])
    rest = synthesis.accumulate(phase_advance[:, 7:], 7, first[:, -1])
    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert 0 <= int(whole.min()) and int(whole.max()) < CIRCLE


@pytest.mark.parametrize("sizes", [[1] * 100, [7] * 14 + [2], [30, 30, 40]])
def test_a_stream_is_the_whole_to_the_bit(sizes: list[int]) -> None:
    """Spectra being given; what the decoder says of them may differ in its last bits."""
    synthesis, spectra = PhaseSynthesis(CONFIG), SoundStream(CONFIG).spectra(music()[..., : 100 * 240])
    stream = PhaseStream(synthesis)
    parts = zip(spectra.log_magnitude.split(sizes, 1), spectra.phase_advance.split(sizes, 1), strict=True)
    pieces = [*(stream.push(Spectra(*part)) for part in parts), stream.flush()]
    assert torch.equal(torch.cat(pieces, -1), synthesis(spectra))


@pytest.mark.parametrize("sizes", [[1] * 100, [30, 30, 40]])
def test_a_stream_keeps_no_more_frames_than_later_samples_need(sizes: list[int]) -> None:
    spectra = SoundStream(CONFIG).spectra(music()[..., : 100 * 240])
    stream = PhaseStream(PhaseSynthesis(CONFIG))
    for log_magnitude, phase_advance in zip(
        spectra.log_magnitude.split(sizes, 1), spectra.phase_advance.split(sizes, 1), strict=True
    ):
        stream.push(Spectra(log_magnitude, phase_advance))
        assert stream.magnitude is not None and stream.magnitude.shape[1] <= max(sizes) + 2 * CONFIG.phase_reach + 5


def test_the_linear_path_is_the_best_of_its_rank() -> None:
    spectra = SoundStream(CONFIG).spectra(music())
    errors, held = [], []
    for dim in (4, 16, 48):
        config = dataclasses.replace(CONFIG, latent_dim=dim)
        encoder, decoder = SpectrogramEncoder(config), SpectrogramDecoder(config)
        held.append(fit_linear_path(encoder, decoder, [spectra], 24000))
        features = encoder.codewise(encoder.features(spectra))
        latent = (features - encoder.offset) @ encoder.basis.T
        assert float(latent.square().mean()) == pytest.approx(1, rel=1e-3)
        back = latent @ decoder.inverse.T + decoder.offset
        errors.append(float((back - features).square().mean()))
        torch.testing.assert_close((back - encoder.offset) @ encoder.basis.T, latent, atol=1e-3, rtol=1e-3)
    assert errors == sorted(errors, reverse=True) and held == sorted(held) and held[-1] > 0.4


def test_losses_on_spectra_by_hand() -> None:
    loss = SpectraLoss(24000, CONFIG.num_bins)
    target = SoundStream(CONFIG).spectra(music())
    assert [float(x) for x in loss(target, target)] == [0, 0, 0, 0]
    louder = Spectra(target.log_magnitude + 0.5, -target.phase_advance)
    distance = loss(louder, target)
    assert float(distance.bins) == pytest.approx(0.5, rel=1e-4)
    assert float(distance.bands) == pytest.approx(0.5, rel=1e-4)
    assert float(distance.phase_advance) == pytest.approx(4, rel=1e-3), (
        "the other way round is twice the length of a unit vector"
    )
    silence = Spectra(torch.full_like(target.log_magnitude, math.log(FLOOR)), torch.zeros_like(target.phase_advance))
    distance = loss(silence, target)
    assert 0.8 < float(distance.linear) <= 1
    assert float(distance.phase_advance) == pytest.approx(1, rel=1e-3)


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
