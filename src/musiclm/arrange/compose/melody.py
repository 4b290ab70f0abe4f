"""Melodies of our own: a motif, repeated and varied, in questions and answers, chord tones where the beat is strong."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from musiclm.arrange.compose.harmony import Harmony, bend_scale, nearest, scale_classes
from musiclm.arrange.compose.players import ACCENT, NORMAL, SOFT, Bar, Key
from musiclm.arrange.score import Note
from musiclm.arrange.styles.recipe import Tune

# units of a phrase: the same letter is the same motif, a stroke the same rhythm with another end
PHRASES = ("a a' a b", "a b a c", "a a b c", "a b a' b'", "a a' b b'", "a b c a'")


@dataclass(frozen=True, slots=True)
class _Motif:
    """A rhythm and the scale steps of its notes, counted from where it begins."""

    places: tuple[float, ...]
    durations: tuple[float, ...]
    steps: tuple[int, ...]


def make_melody(bars: Sequence[Bar], tune: Tune, key: Key, low: int, high: int, rng: random.Random) -> list[Note]:
    """A melody over `bars`.

    The last unit of every phrase comes to rest: on the fifth or third after a question, on the root after an answer.
    """
    unit = 2 if (len(bars) >= 8 and rng.random() < 0.7) or tune.density < 0.8 else 1
    names = _unit_names(len(bars), unit, rng)
    length = bars[0].length
    motifs: dict[str, _Motif] = {}
    notes: list[Note] = []
    middle = _middle(low, high)
    pitch = nearest(bars[0].chords[0][2].root, middle, low, high)
    for index, name in enumerate(names):
        here = bars[index * unit : (index + 1) * unit]
        motif = motifs.setdefault(name[0], _motif(length * unit, bars[0], tune, rng))
        if name.endswith("'"):
            motif = _varied(motif, rng)
        ends = index % 4 == 3 or index == len(names) - 1
        sung = _sing(motif, here, key, tune, pitch, (low, high), rng)
        if sung and (ends or index % 4 == 1):
            sung[-1] = _cadence(sung[-1], here, ends, low, high)
        notes += sung
        pitch = sung[-1].pitch if sung else pitch
        if abs(pitch - middle) > 9:
            pitch = nearest(pitch % 12, middle, low, high)
    return notes


def vary(notes: Sequence[Note], tune: Tune, rng: random.Random) -> list[Note]:
    """The same melody said again: a few notes left out, a few shortened."""
    return [
        Note(note.start, note.duration * (0.6 if rng.random() < 0.1 else 1.0), note.pitch, note.velocity)
        for note in notes
        if note.start % 1 == 0 or rng.random() > 0.06
    ]


def ornament(notes: Sequence[Note], share: float, key: Key, high: int, rng: random.Random) -> list[Note]:
    """Grace notes from the scale step above, an eighth of a quarter long, before a share of the longer notes."""
    out = []
    for note in notes:
        if note.duration >= 0.45 and rng.random() < share:
            grace = note.pitch + 1
            while grace % 12 not in key.scale:
                grace += 1
            if grace <= high:
                out.append(Note(note.start, 0.12, grace, SOFT))
                note = Note(note.start + 0.12, note.duration - 0.12, note.pitch, note.velocity)
        out.append(note)
    return out


def thirds_below(melody: Sequence[Note], bars: Sequence[Bar], low: int, high: int) -> list[Note]:
    """A second voice: the nearest chord tone a third to a sixth below each note; quick notes it leaves to the first."""
    out = []
    for note in melody:
        if note.duration < 0.4:
            continue
        chord = _chord_at(bars, note.start)
        found = [
            pitch
            for pitch in range(note.pitch - 9, note.pitch - 2)
            if pitch % 12 in chord.tones and low <= pitch <= high
        ]
        if found:
            out.append(Note(note.start, note.duration, found[-1], SOFT))
    return out


def guide_line(bars: Sequence[Bar], melody: Sequence[Note], low: int, high: int, rng: random.Random) -> list[Note]:
    """A slow line of thirds and sevenths that moves by the smallest steps, with a turn where the melody rests."""
    out: list[Note] = []
    pitch = (low + high) // 2
    starts = sorted(note.start for note in melody)
    for bar in bars:
        for start, duration, chord in bar.chords:
            guides = chord.tones[1:] or chord.tones
            options = [nearest(tone, pitch, low, high) for tone in guides]
            pitch = min(options, key=lambda option: (abs(option - pitch), option))
            at = bar.start + start
            busy = any(at + duration / 2 <= place < at + duration for place in starts)
            if busy or duration < 2 or rng.random() < 0.4:
                out.append(Note(at, duration * 0.96, pitch, SOFT))
            else:
                turn = nearest(chord.root, pitch, low, high)
                out.append(Note(at, duration / 2, pitch, SOFT))
                out.append(Note(at + duration / 2, duration / 2 * 0.9, turn, NORMAL))
    return out


def is_strong(place: float, pulse: float) -> bool:
    """Whether a place in a bar, in quarters, carries the beat."""
    return abs(place / pulse - round(place / pulse)) < 1e-6


def _unit_names(num_bars: int, unit: int, rng: random.Random) -> list[str]:
    num = max(1, num_bars // unit)
    phrase = rng.choice(PHRASES).split()
    names = [phrase[index % 4] for index in range(num)]
    return names if num * unit == num_bars else [*names, "a"]


def _motif(length: float, bar: Bar, tune: Tune, rng: random.Random) -> _Motif:
    bar_length = bar.length
    step = 0.5 if tune.density < 1.3 or bar.pulse == 1.5 or (bar_length == 3.0 and tune.density <= 2.05) else 0.25
    places = [round(index * step, 4) for index in range(int(length / step))]
    if tune.rests > 0 and length > bar_length:  # breath at the end
        places = [
            place for place in places if place < length - bar_length * min(0.75, tune.rests * rng.uniform(0.5, 2.0))
        ]
    num = max(1, min(len(places), round(tune.density * length * (1 - tune.rests / 2) * rng.uniform(0.75, 1.15))))
    weights = {place: _weight(place % bar_length, bar.pulse, tune) * rng.uniform(0.3, 1.0) for place in places}
    chosen = sorted(sorted(places, key=lambda place: -weights[place])[:num])
    if rng.random() > tune.syncopation and 0.0 not in chosen:
        chosen = [0.0, *chosen[1:]] if len(chosen) > 1 else [0.0]
    ends = [
        *chosen[1:],
        max(length if tune.rests < 0.1 else chosen[-1] + min(2.0, length - chosen[-1]), chosen[-1] + step),
    ]
    durations = tuple(max(0.2, (end - place) * tune.legato) for place, end in zip(chosen, ends, strict=True))
    steps, at, direction = [], 0, rng.choice((-1, 1))
    for _ in chosen:
        steps.append(at)
        if rng.random() < 0.3:
            direction = -direction
        if abs(at) > 4:
            direction = -1 if at > 0 else 1
        size = 0 if rng.random() < 0.12 else rng.choice((2, 2, 3, 4)) if rng.random() < tune.leap else 1
        at += direction * size
    return _Motif(tuple(chosen), durations, tuple(steps))


def _weight(place: float, pulse: float, tune: Tune) -> float:
    if place == 0:
        return 2.0
    if is_strong(place, pulse):
        return 1.4 - tune.syncopation
    if place % 0.5 == 0:
        return 0.75 + 0.8 * tune.syncopation
    return 0.45 + 0.35 * tune.syncopation


def _varied(motif: _Motif, rng: random.Random) -> _Motif:
    shift = rng.choice((-2, -1, 1, 2))
    half = len(motif.steps) // 2
    return _Motif(motif.places, motif.durations, (*motif.steps[:half], *(step + shift for step in motif.steps[half:])))


def _sing(
    motif: _Motif, bars: Sequence[Bar], key: Key, tune: Tune, near: int, span: tuple[int, int], rng: random.Random
) -> list[Note]:
    """The motif over these bars' chords, beginning near a pitch.

    Strong and long notes are chord tones, the rest stay in the scale.
    """
    low, high = span
    anchor = _snap(near, bars[0].chord_at(motif.places[0]).tones, low, high)
    home = scale_classes(tune.scale, key.tonic, key.mode)
    notes: list[Note] = []
    for index, (place, duration) in enumerate(zip(motif.places, motif.durations, strict=True)):
        bar = bars[min(int(place // bars[0].length), len(bars) - 1)]
        inside = bar.start + place % bar.length
        chord = bar.chord_at(place % bar.length)
        scale = home if len(home) == 5 else bend_scale(home, chord)
        pitch = _step(anchor, motif.steps[index], scale, low, high)
        strong = is_strong(place % bar.length, bar.pulse)
        if strong or duration >= 0.7:
            pitch = _snap(pitch, chord.tones, low, high)
        velocity = ACCENT if place % bar.length == 0 else NORMAL if strong else SOFT + 4
        # a long note gives way where the chord under it changes to one it does not belong to
        end = min(
            (
                bar.start + start
                for start, _, later in bar.chords
                if bar.start + start > inside and pitch % 12 not in later.tones
            ),
            default=inside + duration,
        )
        end = min(end, bar.start + bar.length + (0.0 if duration > 1 else 0.5))
        notes.append(Note(inside, min(duration, end - inside), pitch, velocity))
    return notes


def _cadence(note: Note, bars: Sequence[Bar], answer: bool, low: int, high: int) -> Note:
    chord = _chord_at(bars, note.start)
    tone = chord.tones[0] if answer else chord.tones[min(2, len(chord.tones) - 1)]
    return Note(note.start, note.duration, nearest(tone, note.pitch, low, high), note.velocity)


def _chord_at(bars: Sequence[Bar], place: float) -> Harmony:
    bar = next((bar for bar in reversed(bars) if bar.start <= place + 1e-6), bars[0])
    return bar.chord_at(place - bar.start)


def _snap(pitch: int, classes: Sequence[int], low: int, high: int) -> int:
    options = [option for option in range(low, high + 1) if option % 12 in classes]
    return min(options, key=lambda option: (abs(option - pitch), option))


def _step(anchor: int, steps: int, scale: Sequence[int], low: int, high: int) -> int:
    ladder = [pitch for pitch in range(low, high + 1) if pitch % 12 in scale]
    nearest_index = min(range(len(ladder)), key=lambda index: abs(ladder[index] - anchor))
    index = nearest_index + steps
    if index >= len(ladder):
        index = 2 * (len(ladder) - 1) - index
    return ladder[max(0, min(len(ladder) - 1, abs(index)))]


def _middle(low: int, high: int) -> int:
    return min((low + high) // 2, low + 12)
