"""A piece for a band of Musical MIDI Accompaniment: form, chords and a melody of our own, all else by the band.

What the score says is what was written: chords, key, form, tempo and metre go into the program, who plays what comes
out of it. Whether the groove swings is measured from its notes, and the melody is played so.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from musiclm.arrange.compose.arrange import arrange_in
from musiclm.arrange.compose.lines import without_clashes
from musiclm.arrange.read import mma
from musiclm.arrange.read.mma import GrooveFile, Mma
from musiclm.arrange.read.sources import NO_SOURCES, Sources
from musiclm.arrange.score import Chord, Note, Origin, Part, Score
from musiclm.arrange.styles.bands import BAND_KITS, style_of_band
from musiclm.arrange.timeline import bar_quarters

_MELODY_SHARE = 0.85  # of pieces
_FILL_SHARE = 0.5  # of sections that are followed by another
_UNSURE_SWING = 0.55  # between straight and swung: nothing is said of it
_OFFBEATS = {0.5: (0.42, 0.585), 0.67: (0.6, 0.71)}


def playable_bands(program: Mma) -> tuple[GrooveFile, ...]:
    """The bands of the program's library whose style is known."""
    return tuple(band for band in mma.read_library(program.library) if style_of_band(band.name))


def arrange_for_band(band: GrooveFile, program: Mma, seed: int, sources: Sources = NO_SOURCES) -> Score:
    """A piece of 60 to 150 s. The same arguments give the same piece.

    Raises: ValueError for a band without a style, MmaError if the program fails.
    """
    style = style_of_band(band.name)
    if style is None:
        raise ValueError(f"{band.name}: no style is known that this band plays; add it to styles/bands.py")
    style = replace(style, metre=band.metre)
    draft = arrange_in(style, seed, sources)
    lines = notation(draft, band, random.Random(f"{band.name}/{seed}/grooves"))
    parts = _within(mma.play(program, lines), draft.duration)
    swing, sung_swing = measured_swing(parts)
    sung = arrange_in(replace(style, swing=(sung_swing, sung_swing)), seed, sources)
    has_melody = random.Random(f"{band.name}/{seed}/melody").random() < _MELODY_SHARE
    kit = random.Random(f"{band.name}/{seed}/kit").choice(BAND_KITS[style.name])
    melody = tuple(part for part in sung.parts if part.role == "melody") if has_melody else ()
    tune = [note for part in melody for note in part.notes]
    parts = tuple(
        replace(part, notes=tuple(without_clashes(part.notes, tune)))
        if part.role in ("chords", "arpeggio")
        else replace(part, instrument=kit)
        if part.role == "drums"
        else part
        for part in parts
    )
    parts = tuple(part for part in (*melody, *parts) if part.notes)
    groove = Origin(what="groove", source="mma", name=band.name, licence=mma.LICENCE)
    return replace(
        draft, swing=swing, parts=parts, chords=_sounding(draft.chords, parts), fills=(),
        origins=(*draft.origins, groove)
    )  # fmt: skip


def notation(score: Score, band: GrooveFile, rng: random.Random) -> list[str]:
    """The form and chords of a score in the program's language, with a groove of the band for each kind of section."""
    bar, beats = bar_quarters(score), score.beats_per_bar
    lines = [
        f"RndSeed {rng.randrange(1_000_000)}",
        f"Tempo {score.tempo_bpm:g}",
        f"TimeSig {score.beats_per_bar} {score.beat_unit}",
    ]
    chosen: dict[str, str] = {}
    for index, section in enumerate(score.sections):
        first, last = round(section.start / bar), round((section.start + section.duration) / bar)
        usual = chosen.setdefault(section.name, rng.choice(band.grooves))
        if section.name == "intro" and index == 0 and band.intros and rng.random() < 0.6:
            usual = rng.choice(band.intros)
        fill = rng.choice(band.fills) if band.fills and rng.random() < _FILL_SHARE else ""
        ending = rng.choice(band.endings) if band.endings and rng.random() < 0.7 else ""
        groove = ""
        for number in range(first, last):
            wanted = usual
            if index + 1 < len(score.sections):
                wanted = fill if fill and number == last - 1 and last - first > 2 else usual
            elif ending and number >= last - 2:
                wanted = ending
            if wanted != groove:
                lines.append(f"Groove {band.name}:{wanted}")
                groove = wanted
            names = [_chord_at(score.chords, number * bar + beat * bar / beats) for beat in range(beats)]
            said = [name if beat == 0 or name != names[beat - 1] else "/" for beat, name in enumerate(names)]
            lines.append(f"{number + 1} {' '.join(said)}")
    return lines


def measured_swing(parts: Sequence[Part]) -> tuple[float, float]:
    """Where second eighths fall, as told and as played.

    Told: 0.5 or 0.67 where nearly all notes in the middle of a beat fall there, strummed ones a little later; else
    0.55, of which nothing is said. Played: the one of the two where most fall, for a melody to go with.
    """
    places = np.array([note.start % 1 for part in parts for note in part.notes])
    between = places[(places > 0.4) & (places < 0.71)]
    if len(between) < 16:
        return _UNSURE_SWING, 0.5
    shares = {swing: np.mean((between >= low) & (between <= high)) for swing, (low, high) in _OFFBEATS.items()}
    most = max(shares, key=lambda swing: shares[swing])
    return (most if shares[most] >= 0.9 else _UNSURE_SWING), most


def _chord_at(chords: Sequence[Chord], place: float) -> str:
    chord = next((c for c in chords if c.start - 1e-6 <= place < c.start + c.duration - 1e-6), None)
    return mma.spell(chord.root, chord.quality) if chord else "z"


def _within(parts: Sequence[Part], end: float) -> tuple[Part, ...]:
    """Notes that start in the piece, none longer than it lasts."""

    def cut(notes: Sequence[Note]) -> tuple[Note, ...]:
        return tuple(replace(n, duration=min(n.duration, end - n.start)) for n in notes if n.start < end - 0.02)

    return tuple(replace(part, notes=cut(part.notes)) for part in parts)


def _sounding(chords: Sequence[Chord], parts: Sequence[Part]) -> tuple[Chord, ...]:
    """Those during which somebody plays two pitches or more; drums alone have no harmony."""
    notes = [note for part in parts if part.role in ("chords", "arpeggio", "bass") for note in part.notes]
    sounding = []
    for chord in chords:
        end = chord.start + chord.duration
        classes = {n.pitch % 12 for n in notes if n.start < end - 0.1 and n.start + n.duration > chord.start + 0.1}
        if len(classes) >= 2:
            sounding.append(chord)
    return tuple(sounding)
