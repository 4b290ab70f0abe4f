"""Harmony worked by hand."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.arrange.compose.harmony import (
    PROGRESSIONS,
    QUALITIES,
    SCALES,
    Harmony,
    bend_scale,
    choose_progression,
    colour_chord,
    fit,
    nearest,
    parse_numeral,
    parse_progression,
    scale_classes,
    voice,
)


@pytest.mark.parametrize(
    ("numeral", "tonic", "root", "quality"),
    [
        ("I", 0, 0, ""),
        ("ii7", 0, 2, "m7"),
        ("V7", 7, 2, "7"),  # D7 in G
        ("bVI", 0, 8, ""),
        ("bVII7", 2, 0, "7"),  # C7 in D
        ("iio7", 9, 11, "m7b5"),  # B half diminished in A minor
        ("#ivo7", 0, 6, "dim7"),
        ("ivm6", 0, 5, "m6"),
        ("Imaj7", 5, 5, "maj7"),
        ("I5", 4, 4, "5"),
        ("viio", 0, 11, "dim"),
    ],
)
def test_numerals(numeral: str, tonic: int, root: int, quality: str) -> None:
    assert parse_numeral(numeral, tonic) == Harmony(root, quality)


@pytest.mark.parametrize("text", ["", "H", "I7b13", "vx"])
def test_what_is_no_numeral_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"numeral|quality"):
        parse_numeral(text, 0)


def test_every_progression_parses() -> None:
    for pool in PROGRESSIONS.values():
        for text in pool:
            assert all(1 <= len(bar) <= 2 for bar in parse_progression(text, 0))


def test_a_minor_key_takes_its_dominant_with_the_leading_tone() -> None:
    bent = bend_scale(scale_classes("mode", 9, "minor"), Harmony(4, ""))  # E major in A minor
    assert 8 in bent and 7 not in bent  # G sharp, no G


def test_sevenths_are_those_of_the_key() -> None:
    assert colour_chord(Harmony(0, ""), "sevenths", 0, "major").quality == "maj7"
    assert colour_chord(Harmony(7, ""), "sevenths", 0, "major").quality == "7"
    assert colour_chord(Harmony(0, ""), "sevenths", 0, "mixolydian").quality == "7"
    assert colour_chord(Harmony(2, "m"), "power", 0, "major").quality == "5"


def test_progressions_fit_their_mode() -> None:
    assert fit("I V vi IV", "major") == 1.0
    assert fit("i bVI bIII bVII", "minor") == 1.0
    assert fit("I V vi IV", "phrygian") < 0.7
    rng = random.Random(0)
    for mode in ("major", "minor", "dorian", "phrygian", "lydian", "mixolydian"):
        for _ in range(20):
            assert fit(choose_progression(("pop", "rock", "metal"), mode, rng), mode) >= 0.9


def test_the_nearest_voicing_is_taken() -> None:
    c_major = voice(Harmony(0, ""), (), 55, 74, 3)
    assert voice(Harmony(9, "m"), (60, 64, 67), 48, 74, 3) == (60, 64, 69)  # two notes stay, one moves a tone
    assert {pitch % 12 for pitch in c_major} == {0, 4, 7}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 11), st.sampled_from(sorted(QUALITIES)), st.integers(36, 70), st.integers(16, 30))
def test_voicings_hold_chord_tones_inside_the_register(root: int, quality: str, low: int, width: int) -> None:
    chord = Harmony(root, quality)
    pitches = voice(chord, (), low, low + width)
    assert pitches and all(low <= pitch <= low + width and pitch % 12 in chord.tones for pitch in pitches)
    assert list(pitches) == sorted(set(pitches))


def test_of_five_tones_the_fifth_is_left_out() -> None:
    for quality in (name for name, steps in QUALITIES.items() if len(steps) == 5):
        root, third, _, seventh, ninth = Harmony(2, quality).tones
        assert {pitch % 12 for pitch in voice(Harmony(2, quality), (), 48, 80)} == {root, third, seventh, ninth}


def test_nearest_stays_inside() -> None:
    assert nearest(0, 59, 55, 72) == 60
    assert nearest(11, 90, 55, 72) == 71
    with pytest.raises(ValueError, match="widen"):
        nearest(1, 60, 60, 60)


def test_scales_have_their_modes() -> None:
    assert scale_classes("pentatonic", 0, "major") == (0, 2, 4, 7, 9)
    assert scale_classes("pentatonic", 9, "minor") == (9, 0, 2, 4, 7)
    assert scale_classes("harmonic minor", 0, "phrygian") == SCALES["phrygian"]
