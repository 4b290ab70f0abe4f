"""Pitches of a melody: whatever octave and sound it is in, in pieces as whole, and none where nothing sounds."""

import numpy as np
import pytest
import torch

from musiclm.models.melody import pitches
from musiclm.models.melody.pitches import MIDDLE, NO_PITCH, PITCHES, PitchTracker
from tests.models.melody.toy import line

TUNE = [(0.4 * i, 0.4 * i + 0.38, pitch) for i, pitch in enumerate((60, 62, 64, 65, 67, 65, 72, 59))]
SECONDS = 3.2


def pitches_of(audio: np.ndarray) -> np.ndarray:
    codes = PitchTracker().encode(torch.from_numpy(np.asarray(audio, np.float32))[None, None])
    assert codes.shape == (1, PITCHES.levels, -(-len(audio) // 1920))
    return codes[0, 0].numpy()


def played(tune: list[tuple[float, float, int]], frames: int) -> np.ndarray:
    """What sounds at the middle of each frame."""
    found = np.full(frames, NO_PITCH)
    for start, end, pitch in tune:
        first, last = int(np.ceil(start * 12.5 - 0.5)), int(np.ceil(end * 12.5 - 0.5))
        found[first:last] = pitch
    return found


@pytest.mark.parametrize("partials", [1.2, 2.0, 3.5])
@pytest.mark.parametrize("up", [-12, 0, 5, 12])
def test_a_tune_is_found_in_any_octave_and_sound(up: int, partials: float) -> None:
    tune = [(start, end, pitch + up) for start, end, pitch in TUNE]
    found = pitches_of(0.3 * line(tune, SECONDS, partials))
    assert abs(np.median(found[found != NO_PITCH]) - MIDDLE) <= 6
    true = played(tune, len(found))
    octaves = np.median((found - true)[true != NO_PITCH])
    assert octaves % 12 == 0, "the same tune in another octave"
    right = found == np.where(true == NO_PITCH, NO_PITCH, true + octaves)
    assert right.mean() > 0.85, "but for frames in which tones change"


def test_nothing_sounds_where_there_is_silence() -> None:
    assert (pitches_of(np.zeros(24000)) == NO_PITCH).all()
    pause = np.concatenate([0.3 * line(TUNE[:2], 0.8, 2.0), np.zeros(24000), 0.3 * line(TUNE[:2], 0.8, 2.0)])
    found = pitches_of(pause)
    assert (found[13:20] == NO_PITCH).all() and (found[:8] != NO_PITCH).all() and (found[25:32] != NO_PITCH).all()
    assert (pitches_of(0.01 * pause) == found).all(), "however loud it is"


def test_pieces_are_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = 0.3 * line(TUNE, SECONDS, 2.0)
    whole = pitches_of(audio)
    monkeypatch.setattr(pitches, "PIECE", 7)
    assert (pitches_of(audio) == whole).all()
