"""The drummer: an own groove or a recorded performance, lighter and heavier with the section, fills at its end."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from musiclm.arrange.compose.grooves import FILLS, KEYS, ROLLS, Groove
from musiclm.arrange.compose.players import ACCENT, NORMAL, SOFT, Bar
from musiclm.arrange.read.sources import Performance
from musiclm.arrange.score import Note, SectionName

_VELOCITY = {"X": ACCENT + 6, "x": NORMAL, "o": 46}
_LIGHT = frozenset({"closed", "pedal", "ride", "stick", "shaker", "bell"})


@dataclass(kw_only=True)
class Drumming:
    notes: list[Note] = field(default_factory=list)
    fills: list[tuple[float, float]] = field(default_factory=list)
    recorded: bool = False  # notes carry a drummer's own timing


def drum_section(
    bars: Sequence[Bar],
    groove: Groove,
    performance: Performance | None,
    recorded_fills: Sequence[Performance],
    name: SectionName,
    intensity: float,
    into_louder: bool,
    rng: random.Random,
) -> Drumming:
    """The drums of one section. `into_louder`: the next section is louder, so a fill leads there more often."""
    out = Drumming()
    if name == "build-up":
        _roll(bars, out)
        return out
    rows = _for_intensity(groove, intensity, rng)
    for bar in bars:
        if performance and intensity >= 0.35:
            played = performance.bars[bar.number % len(performance.bars)]
            out.notes += [Note(bar.start + note.start, note.duration, note.pitch, note.velocity) for note in played]
        else:
            out.notes += groove_bar(rows, bar)
    if intensity >= 0.55 and name not in ("intro", "break"):
        out.notes.append(Note(bars[0].start, 1.0, KEYS["crash"], ACCENT))
    if intensity >= 0.3 and name != "outro" and rng.random() < (0.85 if into_louder else 0.5):
        _fill(bars[-1], out, recorded_fills if performance else (), rng)
    middle = len(bars) // 2 - 1
    if len(bars) >= 8 and intensity >= 0.5 and rng.random() < 0.35:
        _fill(bars[middle], out, recorded_fills if performance else (), rng)
    return out


def groove_bar(groove: Groove, bar: Bar) -> list[Note]:
    """One bar of a groove, on the grid."""
    notes = []
    for drum, text in groove.items():
        rows = text.split("|")
        row = rows[bar.number % len(rows)]
        step = bar.length / len(row)
        notes += [
            Note(bar.start + index * step, step, KEYS[drum], _VELOCITY[mark])
            for index, mark in enumerate(row)
            if mark != "."
        ]
    return notes


def vary_groove(groove: Groove, rng: random.Random) -> Groove:
    """The groove as this drummer plays it: a kick more or less, a hat left out or opened."""
    out = {}
    for drum, text in groove.items():
        marks = list(text)
        for index, mark in enumerate(marks):
            draw = rng.random()
            if drum == "kick" and mark == "x" and draw < 0.25:
                marks[index] = "."
            elif (
                drum == "kick"
                and mark == "."
                and index % 16 in (7, 10, 14)
                and len(text.split("|")[0]) == 16
                and draw < 0.06
            ):
                marks[index] = "x"
            elif drum in ("closed", "shaker") and mark == "x" and draw < 0.06:
                marks[index] = "."
        out[drum] = "".join(marks)
    return out


def _for_intensity(groove: Groove, intensity: float, rng: random.Random) -> Groove:
    if intensity < 0.4:
        light = {drum: row for drum, row in groove.items() if drum in _LIGHT}
        if light and rng.random() < 0.6:
            return {
                **light,
                **({"kick": groove["kick"].replace("x", ".")} if "kick" in groove and rng.random() < 0.5 else {}),
            }
    if intensity > 0.75 and "closed" in groove and "ride" not in groove and "open" not in groove and rng.random() < 0.5:
        swapped = rng.choice(("ride", "open"))
        return {swapped if drum == "closed" else drum: row for drum, row in groove.items()}
    return groove


def _fill(bar: Bar, out: Drumming, recorded: Sequence[Performance], rng: random.Random) -> None:
    """Replaces the bar's end by a fill: a recorded one if there are any, else one of ours, over a whole or half bar."""
    if recorded and bar.length == 4.0:
        played = rng.choice(recorded)
        start = bar.start
        new = [Note(start + note.start, note.duration, note.pitch, note.velocity) for note in played.bars[-1]]
    else:
        steps = 16 if bar.length == 4.0 else 12
        fill = rng.choice(FILLS[steps])
        start = bar.start + rng.choice((0.0, 0.5)) * bar.length
        new = [note for note in groove_bar(fill, bar) if note.start >= start]
    if len(new) < 3:
        return
    out.notes = [note for note in out.notes if not start <= note.start < bar.start + bar.length - 1e-6] + new
    out.fills.append((start, bar.start + bar.length - start))


def _roll(bars: Sequence[Bar], out: Drumming) -> None:
    """Snare strokes that come closer and louder: quarters, then eighths, then sixteenths."""
    total = len(bars)
    for index, bar in enumerate(bars):
        steps = 16 if bar.length == 4.0 else 12
        early, late = ROLLS[steps].split("|")
        share = (index + 1) / total
        row = late if share > 0.7 else early
        step = bar.length / steps
        for place, mark in enumerate(row):
            if mark != ".":
                loud = SOFT - 16 + round(46 * (index + place / steps) / total)
                out.notes.append(Note(bar.start + place * step, step, KEYS["snare"], loud))
        out.notes.append(Note(bar.start, 0.5, KEYS["kick"], NORMAL))
    rolled = max(1, round(0.3 * total))
    out.fills.append((bars[-rolled].start, bars[-1].start + bars[-1].length - bars[-rolled].start))
