"""Figures of parts that are written by hand, so that each is known."""

from dataclasses import replace

import pytest

from musiclm.arrange.facts.window import facts_of
from musiclm.arrange.score import Chord
from tests.arrange.toy_scores import beat, part, piece, scale


def traits(*parts, **more):
    return {trait.split(":")[0] for trait in facts_of(piece(*parts, **more), 0.0).traits}


def notes(places, pitches, length=0.4):
    return [(place, length, pitches[k % len(pitches)]) for k, place in enumerate(places)]


def test_a_walking_bass_walks_in_quarters():
    pitches = (36, 38, 40, 41, 43, 41, 40, 38)
    assert "walking bass" in traits(part("bass", "double bass", notes(range(40), pitches)))
    assert "walking bass" not in traits(part("bass", "double bass", notes(range(40), (36,))))
    eighths = [k / 2 for k in range(80)]
    assert "walking bass" not in traits(part("bass", "double bass", notes(eighths, pitches)))


def test_offbeat_chords_and_syncopation():
    offbeat = [k + 0.5 for k in range(40)]
    assert "offbeat chords" in traits(part("chords", "piano", notes(offbeat, (60,))))
    assert "offbeat chords" not in traits(part("chords", "piano", notes(range(40), (60,))))
    pushed = [k + place for k in range(0, 40, 4) for place in (0, 1.5, 2.5, 3.5)]
    assert "syncopated" in traits(part("riff", "piano", notes(pushed, (60, 62))))
    assert "syncopated" not in traits(part("riff", "piano", notes(range(40), (60, 62))))


def test_power_chords_are_bare_fifths():
    places = [k for k in range(20) for _ in range(2)]
    assert "power chords" in traits(part("riff", "distorted guitar", notes(places, (40, 47))))
    assert "power chords" not in traits(part("riff", "distorted guitar", notes(places, (40, 44))))


@pytest.mark.parametrize(
    ("pitches", "said"),
    [
        ([48 + k for k in range(20)], {"rising", "stepwise", "wide range"}),
        ([max(54, 72 - k) for k in range(20)], {"falling", "stepwise"}),
        ([60, 67] * 10, {"leaping", "narrow range"}),
        ([60, 62, 64, 62] * 5, {"stepwise", "narrow range"}),
    ],
)
def test_the_course_of_a_melody(pitches, said):
    found = traits(part("melody", "flute", notes(range(20), pitches)))
    assert said == found & {"rising", "falling", "stepwise", "leaping", "wide range", "narrow range"}


def test_hats_are_counted_where_nothing_swings():
    sixteenths = part("drums", "drum kit", notes([k / 4 for k in range(160)], (42,), 0.1))
    assert "sixteenth hats" in traits(sixteenths) and "eighth hats" in traits(beat(keys=(42, 42, 42, 42)))
    assert not traits(sixteenths, swing=0.6) & {"sixteenth hats", "eighth hats"}


def test_chords_of_a_window():
    def chords(*roots):
        return tuple(Chord(start=4 * k, duration=4, root=root, quality="") for k, root in enumerate(roots))

    def harmony(*roots):
        score = replace(piece(scale()), chords=chords(*roots))
        return set(facts_of(score, 0.0).traits) & {"one chord", "two chords", "many chords"}

    assert harmony(0, 0, 0, 0, 0, 0) == {"one chord"} and harmony(0, 7, 0, 7, 0, 7) == {"two chords"}
    assert harmony(0, 5, 7, 2, 9, 4) == {"many chords"} and harmony(0, 5, 7, 0, 5, 7) == set()


def test_machines_play_on_the_grid():
    assert "on the grid" in traits(scale(step=0.5), beat())
    loose = [(k / 2 + (0.03 if k % 2 else 0.0), 0.2, 60 + k % 5) for k in range(80)]
    assert "on the grid" not in traits(part("melody", "flute", loose), beat())
