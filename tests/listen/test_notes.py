"""Notes that were written down are counted; and how posteriors become notes, by hand."""

from importlib.util import find_spec

import numpy as np
import pytest

from musiclm.listen.notes import NoteListener, count_notes

RATE = 24000
installed = pytest.mark.skipif(
    find_spec("basic_pitch") is None or find_spec("onnxruntime") is None, reason="basic-pitch is not installed"
)


def plucked(midi: int, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    hz = 440 * 2 ** ((midi - 69) / 12)
    return sum(np.sin(2 * np.pi * hz * k * time) * np.exp(-3 * k * time) / k**2 for k in range(1, 7)).astype(np.float32)


def test_peaks_that_go_on_are_notes() -> None:
    onset, sounding = np.zeros((200, 88)), np.zeros((200, 88))
    for start, key, length in ((10, 40, 50), (10, 44, 50), (80, 40, 50), (150, 47, 2)):
        onset[start - 1 : start + 2, key] = (0.3, 0.9, 0.4)
        sounding[start : start + length, key] = 0.8
    found = count_notes(onset, sounding, 100.0)
    assert found["note_density"] == 3 / 2, "the note of two frames is none"
    # 102 frames in which any sounds, 152 pitches in them
    assert found["polyphony"] == pytest.approx(152 / 102)
    assert count_notes(np.zeros((9, 88)), np.zeros((9, 88)), 100.0) == {"note_density": 0.0, "polyphony": 0.0}


@installed
def test_it_counts_a_tune_and_its_chords() -> None:
    tune = [60, 64, 67, 72, 71, 67, 64, 62, 60, 59, 62, 65]
    single = np.concatenate([plucked(note, 0.5) for note in tune])
    chords = np.concatenate([plucked(n, 0.5) + plucked(n + 4, 0.5) + plucked(n + 9, 0.5) for n in tune])
    hear = NoteListener()
    one, three = hear(0.2 * single), hear(0.1 * chords)
    assert one["note_density"] == pytest.approx(2, abs=0.35)
    # partials of chords are taken for notes now and then
    assert 5 < three["note_density"] < 9 and three["polyphony"] > 1.7 > 1.4 > one["polyphony"], (one, three)
    rng = np.random.default_rng(0)
    assert hear(0.1 * rng.standard_normal(4 * RATE).astype(np.float32))["note_density"] < 0.7
    assert len(hear.posteriors(single)[0]) == (6 * 22050) // 256


@pytest.mark.skipif(find_spec("basic_pitch") is not None, reason="basic-pitch is installed")
def test_without_it_the_command_is_named() -> None:
    with pytest.raises(ValueError, match="pip install --no-deps basic-pitch"):
        NoteListener()
