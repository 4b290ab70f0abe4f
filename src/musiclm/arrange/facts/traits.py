"""How the parts of a window go, where musicians have a word for it: a walking bass, off-beat chords, a rising melody,
one chord throughout.

A trait is "name: instrument", or "name" alone where it is the whole band's; its name is that of a rule `fact:...`. Part
traits are left out where an instrument plays two parts.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from musiclm.arrange.facts.excerpt import Excerpt
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.score import Score
from musiclm.arrange.timeline import DRUM_KEYS, Played

STRAIGHT_SWING = 0.52
LEAST_MOMENTS = 8  # of a part in the window, before its figures have a name
RISE_SEMITONES = 5.0  # of the melody's last third against its first
WIDE_SEMITONES, NARROW_SEMITONES = 19, 7
TIGHT_S = 0.004
HATS_SHARE = 0.85  # of a window, from the first hi-hat to the last


def traits_of(excerpt: Excerpt) -> tuple[str, ...]:
    """Of the audible parts, and of all together."""
    score, audible = excerpt.score, excerpt.audible
    single = [part for part in audible if excerpt.count_of(part.part.instrument) == 1]
    found = [f"{trait}: {part.part.instrument}" for part in single for trait in _part(score, part)]
    return (
        *found,
        *_hats(score, audible, excerpt.seconds),
        *_harmony(score, excerpt.start_s, excerpt.end_s),
        *_timing(score, audible),
    )


def _part(score: Score, part: Played) -> Iterator[str]:
    role, quarters = part.part.role, np.unique(np.round(part.quarter, 2))
    if len(quarters) < LEAST_MOMENTS or part.is_drums:
        return
    simple, straight = score.beat_unit == 4, score.swing <= STRAIGHT_SWING
    if role == "bass" and simple and _walks(part):
        yield "walking bass"
    if (
        role == "chords"
        and simple
        and np.mean(np.abs(quarters % 1 - (0.5 if straight else score.swing)) < 0.12) >= 0.85
    ):
        yield "offbeat chords"
    if role in ("melody", "riff", "bass") and simple and straight and _syncopated(quarters) >= 0.35:
        yield "syncopated"
    if role == "riff" and INSTRUMENTS[part.part.instrument].drive >= 0.4 and _fifths(part):
        yield "power chords"
    if role == "melody":
        yield from _contour(part)


def _walks(part: Played) -> bool:
    """A note a beat, nearly always another pitch, mostly near the last one."""
    steps, leaps = np.diff(part.quarter), np.abs(np.diff(part.pitch))
    return bool(np.mean(np.abs(steps - 1) < 0.2) >= 0.85 and np.mean(leaps > 0) >= 0.85 and np.mean(leaps <= 5) >= 0.6)


def _syncopated(quarters: Float[np.ndarray, " n"]) -> float:
    """Share of beats left out right after a moment off the beat."""
    ahead = np.arange(np.ceil(quarters[0]) + 1, np.ceil(quarters[-1]))[:, None] - quarters
    left_out = ~(np.abs(ahead) < 0.15).any(1) & ((ahead > 0.2) & (ahead < 0.8)).any(1)
    return float(left_out.mean()) if left_out.size else 0.0


def _fifths(part: Played) -> bool:
    """Fifths and octaves above the lowest note, and nothing else, in nearly all that sounds together."""
    groups: dict[float, list[int]] = {}
    for place, pitch in zip(part.quarter, part.pitch, strict=True):
        groups.setdefault(round(float(place) * 8) / 8, []).append(int(pitch))
    several = [group for group in groups.values() if len(group) > 1]
    bare = [all((pitch - min(group)) % 12 in (0, 7) for pitch in group) for group in several]
    return len(several) >= LEAST_MOMENTS and float(np.mean(bare)) >= 0.9


def _contour(part: Played) -> Iterator[str]:
    top: dict[float, int] = {}
    for place, pitch in zip(part.quarter, part.pitch, strict=True):
        top[round(float(place), 2)] = max(int(pitch), top.get(round(float(place), 2), 0))
    line = np.array([top[place] for place in sorted(top)])
    first, middle, last = (float(third.mean()) for third in np.array_split(line, 3))
    if last - first >= RISE_SEMITONES and first < middle < last:
        yield "rising"
    if first - last >= RISE_SEMITONES and first > middle > last:
        yield "falling"
    steps = np.abs(np.diff(line))
    steps = steps[steps > 0]
    if len(steps) >= LEAST_MOMENTS and np.mean(steps <= 2) >= 0.75:
        yield "stepwise"
    if len(steps) >= LEAST_MOMENTS and np.mean(steps >= 5) >= 0.5:
        yield "leaping"
    if np.ptp(line) >= WIDE_SEMITONES:
        yield "wide range"
    if np.ptp(line) <= NARROW_SEMITONES:
        yield "narrow range"


def _hats(score: Score, audible: Sequence[Played], seconds: float) -> Iterator[str]:
    """Even hi-hats nearly all the time, where nothing swings."""
    kits = [part for part in audible if part.is_kit]
    if score.beat_unit != 4 or score.swing > STRAIGHT_SWING or not kits:
        return
    places = np.unique(
        np.round(np.concatenate([p.quarter[np.isin(p.pitch, list(DRUM_KEYS["hi-hat"]))] for p in kits]), 1)
    )
    gaps = np.diff(places)
    if not gaps.size or float(np.ptp(places)) * 60 / score.tempo_bpm < HATS_SHARE * seconds:
        return
    for name, length in (("sixteenth hats", 0.25), ("eighth hats", 0.5)):
        if (
            len(gaps) >= 16
            and np.mean(np.abs(gaps - length) <= 0.11) >= 0.85
            and abs(np.mean(gaps) - length) < 0.15 * length
        ):
            yield name


def _harmony(score: Score, start_s: float, end_s: float) -> Iterator[str]:
    """How many different chords the window has."""
    chords = [
        (chord.root, chord.quality)
        for chord in score.chords
        if min(end_s, score.seconds_at(chord.start + chord.duration)) - max(start_s, score.seconds_at(chord.start))
        > 0.1
    ]
    changes = sum(a != b for a, b in zip(chords, chords[1:], strict=False))
    if chords and len(set(chords)) == 1 and end_s - start_s >= 8:
        yield "one chord"
    if len(set(chords)) == 2 and changes >= 3:
        yield "two chords"
    if len(set(chords)) >= 5:
        yield "many chords"


def _timing(score: Score, audible: Sequence[Played]) -> Iterator[str]:
    """Everybody on the grid, as only machines play."""
    places = np.concatenate([part.quarter for part in audible]) if audible else np.zeros(0)
    off_s = np.abs(places * 12 - np.round(places * 12)) / 12 * 60 / score.tempo_bpm
    if len(places) >= 40 and score.swing == 0.5 and np.quantile(off_s, 0.95) <= TIGHT_S:
        yield "on the grid"
