"""Facts of scores that are written by hand, so that each is known."""

import pytest

from musiclm.arrange.facts.window import facts_of, facts_of_piece, fits
from musiclm.arrange.score import Section
from tests.arrange.toy_scores import beat, part, piece, random_score, scale


def instruments(facts):
    return [player.instrument for player in facts.players]


def player(facts, instrument):
    return next(p for p in facts.players if p.instrument == instrument)


def test_who_plays_and_what():
    facts = facts_of(piece(scale("violin"), scale("piano", "chords", tonic=48), beat()), 0.0)
    assert [(p.instrument, p.role) for p in facts.players] == [
        ("violin", "melody"),
        ("piano", "chords"),
        ("drum kit", "drums"),
    ]
    assert facts.drums is True and facts.complete and not facts.voices and facts.electric is False


def test_a_few_notes_or_a_soft_part_are_not_heard():
    few = part("melody", "flute", [(0, 0.5, 72), (1, 0.5, 74)])
    soft = scale("oboe", velocity=90, tonic=60)
    soft = part("melody", "oboe", [(n.start, n.duration, n.pitch) for n in soft.notes], level_db=-30)
    facts = facts_of(piece(scale("violin"), few, soft), 0.0)
    assert instruments(facts) == ["violin"] and not facts.complete
    one_long = part("pad", "warm pad", [(0, 20, 60)])
    assert instruments(facts_of(piece(scale("violin"), one_long), 0.0)) == ["violin", "warm pad"]


def test_no_drums_means_not_one_stroke():
    assert facts_of(piece(scale()), 0.0).drums is False
    assert facts_of(piece(scale(), part("drums", "drum kit", [(39, 0.1, 49)])), 10.0).drums is None
    early = part("drums", "drum kit", [(19.0, 0.1, 49)])  # a second before the window: it still rings
    assert facts_of(piece(scale(), early), 10.0).drums is None
    assert facts_of(piece(scale(), part("percussion", "timpani", [(k, 0.5, 45) for k in range(40)])), 0.0).drums is True


@pytest.mark.parametrize(
    ("bpm", "word"),
    [(58, "very slow"), (70, "slow"), (84, ""), (104, "medium"), (124, ""), (145, "fast"), (180, "very fast")],
)
def test_tempo_in_numbers_and_words(bpm, word):
    facts = facts_of(piece(scale(step=0.5, end=80), bpm=float(bpm), duration=80.0), 0.0)
    assert facts.tempo_bpm == bpm and facts.speed == word


def test_compound_metre_is_felt_in_dotted_quarters():
    facts = facts_of(piece(scale(step=0.5), bpm=150.0, beats_per_bar=6, beat_unit=8), 0.0)
    assert facts.tempo_bpm == 100 and facts.metre == "6/8" and facts.swing is None


def test_a_fast_pulse_under_long_notes_is_not_called_fast():
    assert facts_of(piece(scale(step=4.0, end=80), bpm=150.0, duration=80.0), 0.0).speed == ""
    half = beat(end=80, keys=(36, 42, 42, 42)), part("drums", "drum kit", [(2 + 4 * k, 0.1, 38) for k in range(20)])
    assert facts_of(piece(scale(step=0.5, end=80), *half, bpm=150.0, duration=80.0), 0.0).speed == ""


def test_a_snare_on_every_beat_is_no_half_time():
    strokes = beat(end=80, keys=(38, 38, 38, 38))
    assert facts_of(piece(scale(step=0.5, end=80), strokes, bpm=150.0, duration=80.0), 0.0).speed == "fast"


def test_tempo_changes():
    slowing = piece(scale(), tempo_changes=((30.0, 110.0), (35.0, 90.0)))
    facts = facts_of(slowing, 10.0)
    assert facts.tempo_change == "slower" and facts.tempo_bpm is None and facts.speed == ""
    assert facts_of(slowing, 0.0).tempo_bpm == 120 and facts_of(slowing, 0.0).tempo_change == ""


def test_key_only_where_the_notes_show_it():
    assert facts_of(piece(scale(tonic=63), tonic=3), 0.0).key == "Eb major"
    assert facts_of(piece(scale(tonic=63), tonic=4), 0.0).key == ""  # the notes are of another key
    fifths = part("melody", "piano", [(k, 0.9, (60, 67)[k % 2]) for k in range(40)])
    assert facts_of(piece(fifths), 0.0).key == ""  # major or minor? nobody knows
    assert facts_of(piece(scale(tonic=60), tonic=9, mode="minor"), 0.0).key == "A minor"


def test_entries_and_exits():
    facts = facts_of(piece(scale("violin"), scale("flute", start=10), beat(end=12)), 0.0)
    assert [(e.kind, e.instrument, e.at_s) for e in facts.events] == [
        ("enters", "flute", 5.0),
        ("leaves", "drum kit", 5.8),
    ]
    twice = facts_of(piece(scale("violin"), scale("violin", "countermelody", start=10)), 0.0)
    assert not twice.events  # another violin plays already


def test_fills_rolls_and_crashes():
    roll = part("drums", "drum kit", [(16 + k / 8, 0.05, 38) for k in range(16)])
    crash = part("drums", "drum kit", [(18.0, 0.5, 49)])
    found = facts_of(piece(scale(), roll, crash, fills=((16.0, 2.0),)), 0.0).events
    assert [(e.kind, e.at_s) for e in found] == [("roll", 8.0), ("crash", 9.0)]
    uneven = zip((0.0, 0.5, 0.7, 1.1, 1.25, 1.45, 1.47), (38, 38, 38, 38, 38, 49, 51), strict=True)
    beaten = part("drums", "drum kit", [(16 + place, 0.05, key) for place, key in uneven])
    events = facts_of(piece(scale(), beat(end=16), beaten, fills=((16.0, 2.0),)), 0.0).events
    assert [e.kind for e in events] == ["fill", "crash"], "five strokes of a snare and two cymbals are no roll"
    fill = part("drums", "drum kit", [(16 + k / 2, 0.05, (38, 45, 43, 41)[k]) for k in range(4)])
    assert [e.kind for e in facts_of(piece(scale(), beat(end=16), fill, fills=((16.0, 2.0),)), 0.0).events] == ["fill"]
    assert not facts_of(
        piece(scale(), beat(end=16), fill, fills=((16.0, 20.0),)), 0.0
    ).events  # it goes on after the window


def test_a_stop_is_silence_of_all():
    notes = [(k, 0.9, 60 + k % 5) for k in range(40) if not 8 <= k < 11]
    facts = facts_of(piece(part("melody", "piano", notes)), 0.0)
    assert [(e.kind, e.at_s) for e in facts.events] == [("stop", 3.95)]
    held = part("pad", "warm pad", [(0, 40, 48)])
    assert not facts_of(piece(part("melody", "piano", notes), held), 0.0).events


def test_dynamics():
    def ramp(*velocities):
        return part(
            "melody",
            "violin",
            [(k, 0.9, 62, velocities[0] + (velocities[1] - velocities[0]) * k // 20) for k in range(20)],
        )

    assert facts_of(piece(ramp(40, 120)), 0.0).dynamics == "louder"
    assert facts_of(piece(ramp(120, 40)), 0.0).dynamics == "softer"
    assert facts_of(piece(ramp(90, 90)), 0.0).dynamics == ""


def test_how_they_play():
    facts = facts_of(piece(scale("flute", tonic=84, step=0.25, length=0.4)), 0.0)
    flute = player(facts, "flute")
    assert (flute.register, flute.articulation, flute.pace) == ("high", "staccato", "rapid")
    slow = player(facts_of(piece(scale("cello", tonic=40, step=4.0, length=1.0)), 0.0), "cello")
    assert (slow.register, slow.articulation, slow.pace) == ("low", "sustained", "slow")
    both = facts_of(piece(scale("flute", tonic=84), scale("flute", "countermelody", tonic=60)), 0.0)
    assert {p.register for p in both.players} == {""}  # which of the two would it be said of?


def test_repetition():
    riff = part("riff", "saw lead", [(k / 2, 0.4, (60, 63, 67, 63, 65, 63, 60, 58)[k % 8]) for k in range(80)])
    assert player(facts_of(piece(riff), 0.0), "saw lead").repeats
    assert not player(facts_of(piece(scale("saw lead", "riff", step=0.75)), 0.0), "saw lead").repeats


def test_drum_patterns():
    four = part("drums", "drum kit", [(k, 0.1, 36) for k in range(40)])
    assert facts_of(piece(scale(), four), 0.0).beat == ("four on the floor",)
    back = part("drums", "drum kit", [(k, 0.1, (36, 38)[k % 2]) for k in range(40)])
    facts = facts_of(piece(scale(), back), 0.0)
    assert facts.beat == ("backbeat",) and facts.drum_sounds == ("kick", "snare")
    assert facts_of(piece(scale(), back, beats_per_bar=3), 0.0).beat == ()


def test_swing():
    swung = part("melody", "piano", [(k // 2 + (0.67 if k % 2 else 0), 0.3, 60 + k % 5) for k in range(80)])
    assert facts_of(piece(swung, swing=0.67), 0.0).swing is True
    assert facts_of(piece(scale(step=0.5)), 0.0).swing is False
    assert facts_of(piece(scale(step=1.0), swing=0.67), 0.0).swing is None  # nothing off the beat to swing


def test_sections_and_the_end():
    sections = (
        Section(name="intro", start=0, duration=20, intensity=0.2),
        Section(name="outro", start=20, duration=20, intensity=0.2),
    )
    score = piece(scale(), sections=sections)
    assert [(facts_of(score, at).section, facts_of(score, at).ends) for at in (0.0, 5.0, 10.0)] == [
        ("intro", False),
        ("", False),
        ("outro", True),
    ]
    assert facts_of_piece(score).seconds == 20.0


def test_moods_give_way_to_what_is_measured():
    assert fits("cheerful", "fast", "C major", "") and not fits("cheerful", "fast", "C minor", "")
    assert (
        not fits("calm", "very fast", "", "")
        and not fits("energetic", "slow", "", "")
        and not fits("fast", "fast", "", "")
    )
    assert not fits("sad", "", "", "") and fits("sad", "", "A minor", "") and fits("heroic", "slow", "", "")
    facts = facts_of(piece(scale(tonic=60), tonic=9, mode="minor", style="surf rock"), 0.0)
    assert "sunny" not in facts.moods and facts.era == "1960s" and facts.uses


def test_windows_outside_the_piece_are_refused():
    for start, seconds in ((20.0, 10.0), (-1.0, 10.0), (0.0, 0.0)):
        with pytest.raises(ValueError, match="the piece lasts 20.0 s"):
            facts_of(piece(scale()), start, seconds)


def test_any_score_has_facts():
    for seed in range(6):
        score = random_score(seed)
        facts = facts_of(score, score.seconds - 0.5)
        assert facts.seconds <= 0.5 and facts_of_piece(score).style == score.style
