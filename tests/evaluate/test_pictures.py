"""Constant-Q pictures show notes where they are, and the page of two columns holds every clip."""

import io

import numpy as np
import pytest

from musiclm.evaluate.pictures import BINS_PER_OCTAVE, FLOOR_DB, constant_q_db, side_by_side

pytest.importorskip("matplotlib")
from matplotlib import image

RATE = 24000


def tone(midi: int, seconds: float = 2.0) -> np.ndarray:
    hz = 440 * 2 ** ((midi - 69) / 12)
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("midi", [28, 45, 60, 84])
def test_a_note_is_a_line_at_its_pitch(midi: int) -> None:
    picture = constant_q_db(tone(midi))
    middle = picture[:, picture.shape[1] // 2]
    assert picture.shape[0] == 252 and picture.max() == pytest.approx(0) and picture.min() >= FLOOR_DB
    assert abs(int(middle.argmax()) - (midi - 24) * BINS_PER_OCTAVE // 12) <= 1, "rows are thirds of semitones from C1"
    assert (middle > -20).sum() < 12, "two semitones away there is nothing"


def test_two_low_notes_of_a_chord_are_two_lines_and_silence_is_none() -> None:
    middle = constant_q_db(tone(36) + tone(40))[:, 40]
    first, second = (36 - 24) * 3, (40 - 24) * 3
    assert middle[first] > -6 and middle[second] > -6 and middle[(first + second) // 2] < -15
    assert (constant_q_db(np.zeros(RATE, np.float32)) == FLOOR_DB).all()


def read(png: bytes) -> np.ndarray:
    return image.imread(io.BytesIO(png), format="png")[..., :3]


def test_both_columns_are_drawn_in_their_places() -> None:
    clip = ("a prompt with $5 and a_b^c", tone(60))
    one = read(side_by_side([clip], []))
    four = read(side_by_side([clip, clip], [("real", tone(60)), ("real", 0 * tone(60))]))
    assert four.shape[0] == 2 * one.shape[0] and four.shape[1] == 2 * one.shape[1]
    bright = four[..., 0] > 0.9  # red of magma's upper end, and white
    coloured = bright & (four[..., 2] < 0.8)
    rows, columns = four.shape[0] // 2, four.shape[1] // 2
    quarters = [coloured[y : y + rows, x : x + columns].sum() for y in (0, rows) for x in (0, columns)]
    assert min(quarters[:3]) > 100 and quarters[3] < 0.1 * min(quarters[:3]), "the silent clip is dark"
    with pytest.raises(ValueError, match="no clips"):
        side_by_side([], [clip])
