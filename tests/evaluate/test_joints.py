"""Whether the same piece goes on: on music whose key and tempo are known."""

import numpy as np
import pytest

from musiclm.evaluate.joints import goes_on
from tests.listen.test_music import chord, clicks

C_MAJOR, F_SHARP_MAJOR = [[60, 64, 67], [65, 69, 72], [67, 71, 74], [60, 64, 67]], [[66, 70, 73], [71, 75, 78]] * 2


def piece(chords: list[list[int]], bpm: float, seed: int) -> np.ndarray:
    """Eight seconds: chords of two seconds each, and a click on each beat."""
    return np.concatenate([chord(notes, 2.0) for notes in chords]) + clicks(bpm, 8.0, seed)


def test_the_same_piece_goes_on_and_another_does_not() -> None:
    before, after = piece(C_MAJOR, 120, 0), piece(C_MAJOR, 120, 1)
    other = piece(F_SHARP_MAJOR, 87, 2)
    same = goes_on(before, after)
    assert same["tempo"] == same["key"] == 1.0 and same["chroma"] > 0.9
    else_ = goes_on(before, other)
    assert else_["tempo"] == else_["key"] == 0.0 and else_["chroma"] < 0.5


def test_half_the_tempo_is_the_same_and_silence_is_nothing() -> None:
    assert goes_on(piece(C_MAJOR, 120, 0), piece(C_MAJOR, 60, 1))["tempo"] == 1.0
    silent = goes_on(np.zeros(8 * 24000, np.float32), piece(C_MAJOR, 120, 0))
    assert silent == {"chroma": pytest.approx(0.0, abs=1e-6), "tempo": 0.0, "key": 0.0}
