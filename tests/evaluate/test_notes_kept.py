"""Notes kept: cases by hand, matching against a general algorithm, and the order of copies of a known tune."""

from importlib.util import find_spec

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from musiclm.evaluate.notes_kept import count, notes_kept, num_matched, pooled_f1
from musiclm.listen.notes import C4, NoteAnalyser, Transcription
from tests.listen.test_notes import plucked


def transcription(*notes: tuple[int, int, int], frames: int = 100) -> Transcription:
    """Of (first frame, key, number of frames)."""
    sounding, onsets = np.zeros((frames, 88), bool), np.zeros((frames, 88), bool)
    for start, key, length in notes:
        sounding[start : start + length, key] = True
        onsets[start, key] = True
    return Transcription(sounding, onsets)


def test_frames_and_onsets_by_hand() -> None:
    original = transcription((0, C4 - 1, 50), (20, C4, 40), (70, C4 + 12, 10))
    copy = transcription((4, C4 - 1, 50), (25, C4, 20), (70, C4 + 13, 10))
    counts = count(copy, original)
    assert counts.tolist() == [[46, 50, 50], [20, 30, 50], [1, 3, 3]], "five frames are more than 50 ms"
    assert count(original, original).tolist() == [[50, 50, 50], [50, 50, 50], [3, 3, 3]]
    found = notes_kept([copy, original], [original, original])
    assert found["keys_below_c4"].value == pytest.approx(2 * 96 / 200), "counts are summed before the F1"
    assert found["onsets"].value == pytest.approx(2 * 4 / 12)
    assert found["keys_below_c4"].low == pytest.approx(0.92) and found["keys_below_c4"].high == 1.0
    nothing = transcription()
    assert count(nothing, original).tolist() == [[0, 0, 50], [0, 0, 50], [0, 0, 3]]
    assert notes_kept([nothing], [original])["onsets"].value == 0.0
    assert np.isnan(notes_kept([nothing], [nothing])["onsets"].value)
    with pytest.raises(ValueError, match="100 and 99 frames"):
        count(original, transcription(frames=99))


def test_a_clip_weighs_by_its_notes() -> None:
    assert pooled_f1(np.array([[90.0, 90, 90], [0, 10, 10]])) == pytest.approx(0.9)


@pytest.mark.parametrize("seed", range(8))
def test_as_many_onsets_are_paired_as_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.random((120, 3)) < 0.15 for _ in range(2))
    most = 0
    for key in range(3):
        near = np.abs(np.flatnonzero(a[:, key])[:, None] - np.flatnonzero(b[:, key])[None]) <= 4
        most += int((maximum_bipartite_matching(csr_matrix(near)) >= 0).sum())
    assert num_matched(a, b, 4) == num_matched(b, a, 4) == most > 0


@pytest.mark.skipif(
    find_spec("basic_pitch") is None or find_spec("onnxruntime") is None, reason="basic-pitch is not installed"
)
def test_a_copy_without_bass_loses_the_lower_register_alone() -> None:
    tune = [60, 64, 67, 72, 71, 67, 64, 62]
    high = 0.2 * np.concatenate([plucked(note + 12, 0.5) for note in tune])
    low = 0.2 * np.concatenate([plucked(note - 24, 0.5) for note in tune])
    hear = NoteAnalyser()
    both, treble, other = (
        hear.transcribe(clip)
        for clip in (high + low, high, 0.2 * np.concatenate([plucked(note + 7, 0.5) for note in tune[::-1]]))
    )
    kept, lost = notes_kept([treble], [both]), notes_kept([other], [both])
    assert kept["keys_above_c4"].value > 0.6 > 0.3 > kept["keys_below_c4"].value
    assert lost["keys_above_c4"].value < kept["keys_above_c4"].value and lost["onsets"].value < kept["onsets"].value
    assert [one.value for one in notes_kept([both], [both]).values()] == [1.0, 1.0, 1.0]
