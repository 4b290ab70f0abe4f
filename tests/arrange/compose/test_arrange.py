"""Whole pieces: every style, what must hold for any of them."""

from dataclasses import replace
from functools import cache

import pytest

from musiclm.arrange.compose import grooves, patterns
from musiclm.arrange.compose.arrange import arrange
from musiclm.arrange.compose.form import FORMS
from musiclm.arrange.compose.harmony import PROGRESSIONS, QUALITIES
from musiclm.arrange.compose.perform import swung, without_overlaps
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.score import Chord, Note, Score, from_json, to_json
from musiclm.arrange.styles import STYLES

SEEDS = (1, 2)
CONSONANT = 0.75  # share of melody notes on the beat that belong to the chord, per piece; 0.93 over all
TUNED = ("melody", "countermelody", "riff", "chords", "arpeggio", "pad", "bass")


@cache
def piece(style: str, seed: int) -> Score:
    return arrange(style, seed)


def chord_at(score: Score, place: float) -> Chord:
    return next(chord for chord in reversed(score.chords) if chord.start <= place + 1e-6)


def consonance(score: Score) -> tuple[int, int]:
    """How many melody notes on the beat are chord tones, of how many."""
    bar = score.beats_per_bar * 4 / score.beat_unit
    pulse = 1.5 if score.beat_unit == 8 else 1.0
    hits = [
        note.pitch % 12 in {(chord.root + step) % 12 for step in QUALITIES[chord.quality]}
        for part in score.parts
        if part.role == "melody"
        for note in part.notes
        if abs((note.start + 0.08) % bar % pulse - 0.08) < 0.07 and note.duration > 0.2
        for chord in [chord_at(score, note.start + 0.08)]
    ]
    return sum(hits), len(hits)


def test_every_name_in_a_recipe_exists() -> None:
    tables = {
        "chords": patterns.CHORDS,
        "arpeggio": patterns.ARPEGGIOS,
        "bass": patterns.BASSES,
        "riff": {**patterns.RIFFS, **patterns.CHORDS},
        "percussion": patterns.PERCUSSION,
        "drums": grooves.GROOVES,
        "pad": {"legato": "", "drone": ""},
    }
    assert len(STYLES) >= 40
    for style in STYLES.values():
        assert set(style.progressions) <= set(PROGRESSIONS) and set(style.forms) <= set(FORMS)
        assert style.moods and style.uses and style.genres
        for line in style.lines:
            for name in line.instruments:
                assert line.role in INSTRUMENTS[name].roles, f"{style.name}: {name} as {line.role}"
            assert set(line.patterns) <= set(tables.get(line.role, ())), f"{style.name}: {line.role}"
    held_out = [style for style in STYLES.values() if style.held_out]
    assert 0.05 < len(held_out) / len(STYLES) < 0.25


def test_every_pattern_fills_its_bars() -> None:
    for table in (patterns.CHORDS, patterns.ARPEGGIOS, patterns.RIFFS, patterns.PERCUSSION):
        for name, text in table.items():
            assert {len(bar) for bar in patterns.bars_of(text)} <= {12, 16, 24}, name
            assert len({len(bar) for bar in patterns.bars_of(text)}) == 1, name
    for name, groove in grooves.GROOVES.items():
        lengths = {len(bar) for row in groove.values() for bar in row.split("|")}
        assert len(lengths) == 1 and lengths <= {12, 16} and set(groove) <= set(grooves.KEYS), name


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_piece_is_whole(style: str) -> None:
    for seed in SEEDS:
        score = piece(style, seed)
        assert 50 <= score.seconds <= 165
        assert (score.beats_per_bar, score.beat_unit) == STYLES[style].metre
        _check_time(score)
        _check_notes(score)


def _check_time(score: Score) -> None:
    """Sections and chords cover the piece without gaps; sections are whole bars; fills lie inside."""
    bar = score.beats_per_bar * 4 / score.beat_unit
    for spans in (score.sections, score.chords):
        at = 0.0
        for span in spans:
            assert abs(span.start - at) < 1e-6 and span.duration > 0
            at = span.start + span.duration
        assert abs(at - score.duration) < 1e-6
    assert all(section.start % bar == 0 and section.duration % bar == 0 for section in score.sections)
    assert all(0 <= start and start + duration <= score.duration for start, duration in score.fills)
    assert all(0 <= section.intensity <= 1 for section in score.sections)
    assert [place for place, _ in score.tempo_changes] == sorted(place for place, _ in score.tempo_changes)
    assert score.origins


def _check_notes(score: Score) -> None:
    assert any(part.role in TUNED for part in score.parts)
    for part in score.parts:
        instrument = INSTRUMENTS[part.instrument]
        assert part.notes and -1 <= part.pan <= 1
        assert list(part.notes) == sorted(part.notes, key=lambda note: (note.start, note.pitch))
        for note in part.notes:
            assert note.duration > 0 and 1 <= note.velocity <= 127
            assert 0 <= note.start <= score.duration + 0.5
            assert instrument.low <= note.pitch <= instrument.high or part.role == "drums", part
        if part.role == "drums":
            assert {note.pitch for note in part.notes} <= set(grooves.KEYS.values())


def test_melodies_agree_with_their_chords() -> None:
    hits = total = 0
    for style in STYLES:
        one, of = consonance(piece(style, 1))
        assert of < 8 or one / of >= CONSONANT, f"{style}: {one} of {of}"
        hits, total = hits + one, total + of
    assert hits / total > 0.93


def test_the_same_seed_is_the_same_piece_and_another_is_another() -> None:
    for style in ("swing jazz", "techno", "string quartet", "irish jig"):
        assert to_json(arrange(style, 5)) == to_json(arrange(style, 5))
        assert arrange(style, 5).parts != arrange(style, 6).parts


def test_a_score_survives_json() -> None:
    for style in ("funk", "piano nocturne", "arcade boss fight"):
        score = piece(style, 1)
        assert from_json(to_json(score)) == score
    with pytest.raises(ValueError, match="no score"):
        from_json('{"style": "funk"}')


def test_louder_sections_are_played_louder_or_by_more() -> None:
    louder = 0
    for style in STYLES:
        score = piece(style, 2)
        loads = {}
        for section in (max(score.sections, key=lambda s: s.intensity), min(score.sections, key=lambda s: s.intensity)):
            end = section.start + section.duration
            notes = [n for p in score.parts for n in p.notes if section.start <= n.start < end]
            loads[section.intensity] = sum(note.velocity**2 * note.duration for note in notes) / section.duration
        louder += loads[max(loads)] > loads[min(loads)]
    assert louder / len(STYLES) > 0.9


def test_endings() -> None:
    seen = set()
    for seed in range(30):
        score = arrange("soft rock ballad", seed)
        if score.tempo_changes:
            seen.add("slowing")
            bpms = [bpm for _, bpm in score.tempo_changes]
            assert bpms == sorted(bpms, reverse=True) and bpms[-1] < 0.8 * score.tempo_bpm
            assert score.seconds > score.duration * 60 / score.tempo_bpm
        else:
            seen.add("final chord")
        last = score.chords[-1]
        assert last.root == score.tonic
        if len(seen) == 2:
            break
    assert len(seen) == 2


def test_swing_moves_the_second_eighth_and_nothing_else() -> None:
    assert swung(3.5, 0.66) == pytest.approx(3.66)
    assert swung(3.0, 0.66) == 3.0
    assert swung(3.25, 0.5) == 3.25
    assert swung(3.75, 0.6) == pytest.approx(3.8)


def test_a_pitch_never_overlaps_itself() -> None:
    notes = [Note(0.0, 2.0, 60, 80), Note(1.0, 1.0, 60, 80), Note(1.0, 1.0, 64, 80), Note(1.0, 0.5, 60, 70)]
    kept = without_overlaps(notes)
    assert [(note.start, note.pitch) for note in kept] == [(0.0, 60), (1.0, 60), (1.0, 64)]
    assert kept[0].duration == pytest.approx(0.99)


def test_a_style_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no style 'yodel'"):
        arrange("yodel", 0)


def test_styles_are_themselves() -> None:
    """What a listener would name a style by."""
    for seed in range(4):
        assert all(abs(note.start * 4 - round(note.start * 4)) < 0.02 for note in _drums(arrange("techno", seed)))
        assert arrange("viennese waltz", seed).beats_per_bar == 3
        quartet = arrange("string quartet", seed)
        assert not [part for part in quartet.parts if part.role in ("drums", "percussion")]
        metal = arrange("heavy metal", seed)
        assert sum(part.instrument == "distorted guitar" for part in metal.parts) >= 1
        assert arrange("swing jazz", seed).swing >= 0.6
        assert len(arrange("ambient pad", seed).parts) >= 1 and not _drums(arrange("ambient pad", seed))


def _drums(score: Score) -> tuple[Note, ...]:
    notes = [part.notes for part in score.parts if part.role == "drums"]
    rolls = [(start, start + duration) for start, duration in score.fills]
    inside = [note for note in (notes[0] if notes else ()) if not any(a <= note.start < b for a, b in rolls)]
    return tuple(replace(note) for note in inside)
