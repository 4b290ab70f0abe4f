"""What the melody encoder sees, and that its codes depend on nothing but the sound."""

from pathlib import Path

import numpy as np
import pytest
import torch

from musiclm.core.artifact import save_artifact
from musiclm.core.streams import MELODY
from musiclm.models.melody import model as module
from musiclm.models.melody.features import (
    BELOW,
    HARMONICS,
    LOWEST_MIDI,
    NUM_BINS,
    PER_SEMITONE,
    PitchSpectra,
    with_harmonics,
)
from musiclm.models.melody.model import KIND, MelodyConfig, MelodyEncoder, unstored
from tests.models.melody.toy import tone

SMALL = MelodyConfig(channels=(3, 4, 5), width=8, dim=6, rvq_levels=2, rvq_size=8)


def make(config: MelodyConfig = SMALL) -> MelodyEncoder:
    torch.manual_seed(1)
    encoder = MelodyEncoder(config).eval()
    encoder.rvq.fit_kmeans(torch.nn.functional.normalize(torch.randn(200, config.dim), dim=-1))
    return encoder


def sound(seconds: float, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    notes = [tone(50 + random.integers(0, 30), 0.3, 1.0) for _ in range(int(seconds / 0.3) + 1)]
    return torch.from_numpy(np.concatenate(notes)[: round(seconds * 24000)]).float()[None, None]


@pytest.mark.parametrize("pitch", [38, 45, 57, 60, 72.5, 93, 106])
def test_a_tone_is_loudest_in_its_bin(pitch: float) -> None:
    """Low and high tones come from windows of two lengths."""
    spectra = PitchSpectra()(torch.from_numpy(tone(pitch, 1.5, 30.0)).float()[None])[0, :, 9]
    assert int(spectra.argmax()) - BELOW == round((pitch - LOWEST_MIDI) * PER_SEMITONE)
    far = spectra.clone()
    far[int(spectra.argmax()) - 4 : int(spectra.argmax()) + 5] = 0
    assert float(far.max()) < 0.12 * float(spectra.max()), "low tones spread by a window's resolution, not farther"


def test_a_harmonic_tone_shows_at_every_harmonic_of_its_pitch() -> None:
    spectra = PitchSpectra()(torch.from_numpy(tone(57, 1.5, 0.0)).float()[None])
    stacked = with_harmonics(spectra)[0, :, :, 9]
    assert stacked.shape == (len(HARMONICS), NUM_BINS)
    at = (57 - LOWEST_MIDI) * PER_SEMITONE
    for harmonic, row in zip(HARMONICS, stacked, strict=True):
        near = float(row[at - 1 : at + 2].max())
        assert near < 0.01 if harmonic < 1 else near > 0.02, harmonic


@pytest.mark.parametrize(("seconds", "frames"), [(0.3, 1), (0.4, 1), (1.19, 2), (4.0, 10), (8.05, 20)])
def test_a_vector_of_length_one_each_400_ms(seconds: float, frames: int) -> None:
    encoder, audio = make(), sound(seconds)
    vectors = encoder.embed(audio)
    assert vectors.shape == (1, frames, SMALL.dim)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(1, frames))
    codes = encoder.encode(audio)
    assert codes.shape == (1, 2, frames) and 0 <= int(codes.min()) and int(codes.max()) < 8
    assert encoder.spec.frame_rate_hz == MELODY.frame_rate_hz == 2.5


def test_pieces_equal_the_whole_and_a_batch_its_items(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, audio = make(), torch.cat([sound(9.0, 1), sound(9.0, 2)])
    whole = encoder.embed(audio)
    torch.testing.assert_close(encoder.embed(audio[1:]), whole[1:], atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(module, "PIECE", 5)
    torch.testing.assert_close(encoder.embed(audio), whole, atol=1e-5, rtol=1e-4)


def test_a_vector_knows_its_window_and_nothing_else() -> None:
    encoder, audio = make(), sound(9.0)
    before = encoder.embed(audio)
    changed = audio.clone()
    changed[..., 6 * 24000 :] = sound(3.0, 5)
    after = encoder.embed(changed)
    same = (before - after).abs().amax(-1)[0] < 1e-5
    # 1.64 s of spectra to either side, and the reach of the longest window
    assert same[: int((6 - 1.64 - 0.2) / 0.4)].all() and not same[int(6 / 0.4) :].any()


def test_an_octave_changes_little_by_construction_and_a_semitone_more() -> None:
    encoder = make()

    def vectors(shift: int) -> torch.Tensor:
        notes = np.concatenate([tone(p + shift, 0.4, 1.0) for p in (60, 64, 67, 65, 62, 60, 71, 72, 67, 64)])
        return encoder.embed(torch.from_numpy(notes).float()[None, None])[0]

    own = vectors(0)
    assert (own * vectors(12)).sum(-1).mean() > (own * vectors(1)).sum(-1).mean()


def test_level_does_not_matter() -> None:
    encoder, audio = make(), sound(4.0)
    alike = (encoder.embed(audio) * encoder.embed(0.1 * audio)).sum(-1)
    assert float(alike.min()) > 0.95


def test_saved_and_loaded_gives_the_same_codes_without_what_only_training_needs(tmp_path: Path) -> None:
    encoder, audio = make(), sound(4.0)
    save_artifact(tmp_path / "melody", KIND, SMALL, encoder, {}, skip=unstored(encoder.state_dict()))
    loaded = MelodyEncoder.from_artifact(tmp_path / "melody")
    assert torch.equal(loaded.encode(audio), encoder.encode(audio)) and len(loaded.codes_hash) == 64
    assert loaded.config == SMALL and not loaded.training


@pytest.mark.parametrize("wrong", [{"window": 40}, {"window": 7}, {"dim": 0}, {"rvq_size": 1}])
def test_sizes_that_can_not_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        MelodyConfig(**wrong)  # type: ignore[arg-type]
