"""Scores by hand and at random, so that facts and words are tested without the arranger."""

import random
from dataclasses import replace

from musiclm.arrange.facts.harmony import SCALES
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.score import Note, Part, Score, Section
from musiclm.arrange.styles import STYLES, Line


def part(role, instrument, notes, level_db=0.0):
    """Notes as (start, duration, pitch) or (start, duration, pitch, velocity), quarters."""
    rows = [(*note, 90)[:4] for note in notes]
    return Part(
        role=role,
        instrument=instrument,
        level_db=level_db,
        notes=tuple(Note(start=s, duration=d, pitch=p, velocity=v) for s, d, p, v in rows),
    )


def piece(*parts, bpm=120.0, duration=40.0, style="surf rock", **more):
    """20 s at 120 BPM unless told otherwise."""
    sections = more.pop("sections", (Section(name="verse", start=0.0, duration=duration, intensity=0.5),))
    return Score(
        style=style, seed=0, tempo_bpm=bpm, duration=duration, parts=parts, chords=(), sections=sections, **more
    )


def scale(instrument="piano", role="melody", start=0.0, end=40.0, step=1.0, tonic=60, length=0.9, velocity=90):
    """Up and down the major scale."""
    degrees = [0, 2, 4, 5, 7, 9, 11, 12, 11, 9, 7, 5, 4, 2]
    count = int((end - start) / step)
    return part(
        role, instrument, [(start + k * step, step * length, tonic + degrees[k % 14], velocity) for k in range(count)]
    )


def beat(start=0.0, end=40.0, instrument="drum kit", keys=(36, 42, 38, 42)):
    """Eighths: kick, hat, snare, hat."""
    count = int((end - start) * 2)
    return part("drums", instrument, [(start + k / 2, 0.1, keys[k % 4]) for k in range(count)])


def random_score(seed: int, style: str | None = None, bars: int = 24) -> Score:
    """A band of a style that plays at random, but in its key; some come in late or stop early."""
    rng = random.Random(seed)
    recipe = STYLES[style or rng.choice(sorted(STYLES))]
    beats, unit = recipe.metre
    bar = beats * 4 / unit
    tonic, mode = rng.randrange(12), rng.choice(recipe.modes)
    degrees = sorted(SCALES[mode])[:7]
    parts = []
    for line in recipe.lines:
        if rng.random() < line.probability:
            first, last = rng.choice((0, 0, 0, 2, 4, 8)), rng.choice((bars, bars, bars - 6))
            name = rng.choice(line.instruments)
            notes = [note for k in range(first, last) for note in _bar(line, name, k * bar, bar, tonic, degrees, rng)]
            parts.append(part(line.role, name, notes, line.level_db))
    end = bars * bar
    bpm = rng.uniform(*recipe.tempo)
    swing = recipe.swing[1]
    parts = [
        replace(part, notes=tuple(replace(note, start=_swung(note.start, swing)) for note in part.notes))
        for part in parts
    ]
    return Score(
        style=recipe.name, seed=seed, tempo_bpm=bpm,
        tempo_changes=((end - 4 * bar, bpm * 0.8),) if rng.random() < 0.3 else (),
        beats_per_bar=beats, beat_unit=unit, tonic=tonic, mode=mode, swing=swing, duration=end, parts=tuple(parts),
        chords=(),
        sections=(
            Section(name="intro", start=0, duration=4 * bar, intensity=0.3),
            Section(name="verse", start=4 * bar, duration=end - 8 * bar, intensity=0.6),
            Section(name="outro", start=end - 4 * bar, duration=4 * bar, intensity=0.3),
        ),
        fills=((7 * bar, bar / 2),),
    )  # fmt: skip


def _swung(place: float, swing: float) -> float:
    """The first half of each quarter made `swing` long, the second the rest."""
    quarter, within = divmod(place, 1.0)
    return quarter + (2 * swing * within if within < 0.5 else 1 - 2 * (1 - swing) * (1 - within))


def _bar(line: Line, name: str, at: float, bar: float, tonic: int, degrees: list[int], rng: random.Random):
    instrument = INSTRUMENTS[name]
    low, high = line.low or instrument.low, line.high or instrument.high

    def pitch(degree: int) -> int:
        found = tonic + degree + 12 * rng.choice((2, 3, 4, 5))
        while found < low:
            found += 12
        while found > high:
            found -= 12
        return found

    if instrument.on_drum_channel:
        for k in range(int(bar * 2)):
            keys = (
                [rng.choice(instrument.drum_keys)]
                if instrument.drum_keys
                else [42, *((36,) if k % 4 == 0 else (38,) if k % 4 == 2 else ())]
            )
            keys += [49] if not instrument.drum_keys and k == 0 and rng.random() < 0.1 else []
            yield from ((at + k / 2, 0.1, key, rng.randint(70, 110)) for key in keys)
    elif line.role in ("melody", "countermelody", "riff"):
        place = 0.0
        while place < bar:
            length = rng.choice((0.25, 0.5, 0.5, 1.0, 2.0))
            yield at + place, length * rng.choice((0.4, 0.9)), pitch(rng.choice(degrees)), rng.randint(60, 110)
            place += length
    elif line.role in ("bass", "arpeggio"):
        step = 1.0 if line.role == "bass" else 0.5
        yield from ((at + k * step, step * 0.9, pitch(degrees[(2 * k) % 7]), 85) for k in range(int(bar / step)))
    else:
        yield from ((at, bar * 0.95, pitch(degrees[k]), 75) for k in (0, 2, 4))
