"""Notes that were written down are counted; and how posteriors become notes, by hand."""

from importlib.util import find_spec

import numpy as np
import pytest

from musiclm.listen.notes import C4, FRAME_RATE_HZ, NoteAnalyser, count_notes, transcription

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
    notes = transcription(onset, sounding)
    assert notes.onsets.sum() == 3 and notes.onsets[80, 40] and not notes.onsets[81, 40]
    found = count_notes(notes, 100.0)
    assert found["note_density"] == 3 / 2, "the note of two frames is none"
    # 102 frames in which any sounds, 152 pitches in them
    assert found["polyphony"] == pytest.approx(152 / 102)
    silent = count_notes(transcription(np.zeros((9, 88)), np.zeros((9, 88))))
    assert silent == dict.fromkeys(("note_density", "polyphony", "keys_below_c4", "keys_above_c4"), 0.0)


def test_keys_sounding_by_register_are_means_over_all_frames() -> None:
    sounding = np.zeros((200, 88))
    sounding[:100, [C4 - 1, C4 - 13]] = 0.8  # two keys below middle C for half of the time
    sounding[:50, C4] = 0.8  # middle C itself for a quarter
    found = count_notes(transcription(np.zeros((200, 88)), sounding))
    assert found["keys_below_c4"] == 1.0 and found["keys_above_c4"] == 0.25
    assert found["polyphony"] == 2.5


@installed
def test_it_counts_a_tune_and_its_chords() -> None:
    tune = [60, 64, 67, 72, 71, 67, 64, 62, 60, 59, 62, 65]
    single = np.concatenate([plucked(note, 0.5) for note in tune])
    chords = np.concatenate([plucked(n, 0.5) + plucked(n + 4, 0.5) + plucked(n + 9, 0.5) for n in tune])
    hear = NoteAnalyser()
    one, three = hear(0.2 * single), hear(0.1 * chords)
    assert one["note_density"] == pytest.approx(2, abs=0.35)
    # partials of chords are taken for notes now and then
    assert 5 < three["note_density"] < 9 and three["polyphony"] > 1.7 > 1.4 > one["polyphony"], (one, three)
    rng = np.random.default_rng(0)
    assert hear(0.1 * rng.standard_normal(4 * RATE).astype(np.float32))["note_density"] < 0.7
    assert len(hear.posteriors(single)[0]) == (6 * 22050) // 256
    assert len(hear.transcribe(single).onsets) / FRAME_RATE_HZ == pytest.approx(6, abs=0.02)


@installed
def test_a_bass_sounds_below_middle_c_and_a_tune_above() -> None:
    hear = NoteAnalyser()
    low = hear(0.2 * np.concatenate([plucked(note, 0.5) for note in (36, 43, 38, 45, 41, 48)]))
    high = hear(0.2 * np.concatenate([plucked(note, 0.5) for note in (72, 79, 74, 81, 77, 84)]))
    assert low["keys_below_c4"] > 0.5 > 0.2 > high["keys_below_c4"]
    assert high["keys_above_c4"] > 0.5 and high["keys_above_c4"] > 2 * low["keys_above_c4"]
    middle = hear.transcribe(0.2 * plucked(60, 1.0)).sounding  # the key numbered C4 is middle C
    assert middle.sum(0).argmax() == C4


@pytest.mark.skipif(find_spec("basic_pitch") is not None, reason="basic-pitch is installed")
def test_without_it_the_command_is_named() -> None:
    with pytest.raises(ValueError, match="pip install --no-deps basic-pitch"):
        NoteAnalyser()
