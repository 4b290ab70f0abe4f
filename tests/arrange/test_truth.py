"""The checks of `truth` say no to what is false: on scores where one claim holds and its opposite does not."""

import dataclasses

import pytest

from musiclm.arrange.score import Score
from tests.arrange.toy_scores import beat, part, piece, random_score, scale
from tests.arrange.truth import Window, is_true


def says(score: Score, kind: str, value: str, start_s: float = 0.0) -> bool:
    return is_true(kind, value, Window(score, start_s, 10.0))


def test_style_is_held_against_band_metre_and_tempo() -> None:
    score = random_score(3, "surf rock")
    assert says(score, "style", "surf rock") and not says(score, "style", "string quartet")
    renamed = dataclasses.replace(score, style="string quartet")
    assert not says(renamed, "style", "string quartet"), "surf guitars and drums are no string quartet"
    assert not says(dataclasses.replace(score, beats_per_bar=3), "style", "surf rock")
    assert not says(dataclasses.replace(score, tempo_bpm=40.0), "style", "surf rock")


def test_moods_are_held_against_the_notes() -> None:
    major, minor = piece(scale(), style="surf rock"), piece(scale(tonic=60), tonic=9, mode="minor", style="surf rock")
    assert says(major, "mood", "sunny") and not says(minor, "mood", "sunny")
    assert not says(major, "mood", "gloomy"), "not a mood of the style"
    slow, busy = (
        piece(scale(step=step), style="lullaby music box", bpm=bpm) for step, bpm in ((1.0, 80.0), (0.25, 200.0))
    )
    assert says(slow, "mood", "soothing") and not says(busy, "mood", "soothing")
    long = piece(scale(step=4.0), style="surf rock", bpm=120.0)
    assert says(major, "mood", "energetic") and not says(long, "mood", "energetic")
    assert says(piece(scale(tonic=60), tonic=9, mode="minor", style="folk ballad"), "mood", "sad")
    assert not says(piece(scale(), style="folk ballad"), "mood", "sad")


def test_the_mode_is_the_third_that_sounds() -> None:
    mislabelled = piece(scale(), mode="minor")  # the notes are C major whatever the score says
    assert says(mislabelled, "mode", "major") and not says(mislabelled, "mode", "minor")


@pytest.mark.parametrize(("late", "swung"), [(0.5, False), (0.62, True)])
def test_swing_is_where_the_offbeats_fall(late: float, swung: bool) -> None:
    notes = [(k // 2 + (late if k % 2 else 0), 0.3, 60 + k % 5) for k in range(80)]
    score = piece(part("melody", "piano", notes), swing=0.5 if swung else 0.66)  # the score's own word is wrong
    assert says(score, "swing", "yes") is swung and says(score, "swing", "no") is not swung


def test_a_roll_is_one_drum_in_quick_succession() -> None:
    def strokes(places: list[float], keys: list[int]) -> Score:
        notes = [(16 + place, 0.05, key) for place, key in zip(places, keys, strict=True)]
        return piece(scale(), part("drums", "drum kit", notes), fills=((16.0, 2.0),))

    eighths = [k / 8 for k in range(16)]
    assert says(strokes(eighths, [38] * 16), "roll", "1") and not says(strokes(eighths, [38] * 16), "roll", "2")
    assert not says(strokes(eighths, [38, 42, 47, 36] * 4), "roll", "1"), "four drums in turn"
    assert not says(strokes([k / 2 for k in range(4)], [38] * 4), "roll", "1"), "four strokes a second apart"
    uneven = [0.0, 0.5, 0.7, 1.1, 1.25, 1.45, 1.47]
    assert not says(strokes(uneven, [38] * 5 + [49, 51]), "roll", "1"), "a beat with two cymbals"
    assert says(strokes(eighths, [38] * 16), "fill", "1")
    assert not says(piece(scale(), fills=((16.0, 2.0),)), "fill", "1"), "nobody strikes a drum"


def test_a_stop_is_silence() -> None:
    broken = part("melody", "piano", [(k, 0.9, 60 + k % 5) for k in range(40) if not 8 <= k < 11])
    assert says(piece(broken), "stop", "stop")
    assert not says(piece(scale()), "stop", "stop")
    assert not says(piece(broken, part("pad", "warm pad", [(0, 40, 48)])), "stop", "stop"), "somebody holds a note"
    assert not says(piece(broken, part("drums", "drum kit", [(8.0, 0.1, 49)])), "stop", "stop"), "a cymbal rings"
    assert not says(piece(broken, beat()), "stop", "stop"), "the drums go on"
    early = part("melody", "piano", [(k, 0.9, 60 + k % 5) for k in range(3, 40)])
    assert not says(piece(early), "stop", "stop"), "music that has not begun does not stop"
