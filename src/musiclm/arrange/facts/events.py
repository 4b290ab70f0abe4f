"""What happens in a window: entries and exits, fills, crashes, silences, growing and fading, the form of the piece."""

from collections.abc import Iterator

import numpy as np

from musiclm.arrange.facts.excerpt import Excerpt
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.timeline import DRUM_KEYS, Played
from musiclm.data.captions.facts import Event

LOUDER_DB = 5.0  # of the last three tenths of a window against the first three
LEAST_S = 2.0  # of a window before an entry and after it, before an exit and after it


def events_of(excerpt: Excerpt) -> tuple[Event, ...]:
    """In order of time."""
    found = [*_entries_and_exits(excerpt), *_fills(excerpt), *_crashes(excerpt), *_stops(excerpt)]
    return tuple(sorted(found, key=lambda event: event.at_s))


def _entries_and_exits(excerpt: Excerpt) -> Iterator[Event]:
    """Of instruments that play one part alone, where others play too."""
    if len(excerpt.audible) < 2:
        return
    start_s, end_s = excerpt.start_s, excerpt.end_s
    for part in excerpt.audible:
        first, last, name = float(part.start.min()), float(part.end.max()), part.part.instrument
        if excerpt.count_of(name) != 1:
            continue
        if first - start_s >= LEAST_S and end_s - first >= LEAST_S:
            yield Event(kind="enters", at_s=round(first - start_s, 2), instrument=name)
        goes_on = max(float(other.end.max()) for other in excerpt.audible) - last >= 1.5
        if end_s - last >= LEAST_S and last - start_s >= LEAST_S and goes_on:
            yield Event(kind="leaves", at_s=round(last - start_s, 2), instrument=name)


def _fills(excerpt: Excerpt) -> Iterator[Event]:
    """Fills and rolls of the drums that lie wholly in the window."""
    strokes = excerpt.strokes
    for place, length in excerpt.score.fills:
        begin, end = excerpt.score.seconds_at(place), excerpt.score.seconds_at(place + length)
        hits = np.concatenate([p.start[(p.start >= begin - 0.02) & (p.start < end)] for p in strokes] or [np.zeros(0)])
        if begin >= excerpt.start_s and end <= excerpt.end_s and len(hits) >= 3:
            kind = "roll" if _is_roll(strokes, begin, end) else "fill"
            yield Event(kind=kind, at_s=round(begin - excerpt.start_s, 2))


def _crashes(excerpt: Excerpt) -> Iterator[Event]:
    """Crash cymbals, but for those struck just before the window ends."""
    for part in excerpt.strokes:
        crashes = part.start[np.isin(part.pitch, list(DRUM_KEYS["crash"])) & (part.start >= excerpt.start_s)]
        for at in crashes:
            if part.is_kit and at < excerpt.end_s - 0.3:
                yield Event(kind="crash", at_s=round(float(at) - excerpt.start_s, 2))


def _stops(excerpt: Excerpt) -> Iterator[Event]:
    if (at := _stop(excerpt)) is not None:
        yield Event(kind="stop", at_s=round(at - excerpt.start_s, 2))


def _is_roll(strokes: list[Played], begin: float, end: float) -> bool:
    """Whether nearly all strokes of the kit are of one drum, six or more in quick succession."""
    kits = [part for part in strokes if part.is_kit]
    if not kits:
        return False
    moments, keys = (np.concatenate([getattr(part, name) for part in kits]) for name in ("start", "pitch"))
    inside = (moments >= begin - 0.02) & (moments < end)
    for name in ("snare", "tom"):
        struck = np.sort(moments[inside & np.isin(keys, list(DRUM_KEYS[name]))])
        if len(struck) >= max(6, 0.7 * inside.sum()) and float(np.median(np.diff(struck))) <= 0.13:
            return True
    return False


def _stop(excerpt: Excerpt) -> float | None:
    """Where all fall silent at once for 0.7 s or more and then go on; a ringing cymbal is no silence."""
    intervals = []
    for part in excerpt.all_parts:
        ringing = np.isin(part.pitch, list(DRUM_KEYS["crash"] | DRUM_KEYS["ride"])) if part.is_kit else False
        intervals.append(
            np.stack([part.start, np.where(ringing, part.start + 2.5, np.maximum(part.end, part.start + 0.15))])
        )
    if not intervals:
        return None
    spans = np.concatenate(intervals, 1)
    spans = spans[:, np.argsort(spans[0])]
    reached = np.maximum.accumulate(spans[1])
    for end, following in zip(reached[:-1], spans[0, 1:], strict=True):
        if following - end >= 0.7 and end >= excerpt.start_s + 1 and following <= excerpt.end_s - 0.5:
            return float(end)
    return None


def dynamics_of(excerpt: Excerpt) -> str:
    """ "louder" or "softer", where the power goes one way: first three tenths, middle, last three tenths."""
    edges = np.linspace(excerpt.start_s, excerpt.end_s, 11)
    power = np.full(10, 1e-9)
    for part in excerpt.parts:
        lasts = 1.0 if INSTRUMENTS[part.part.instrument].decay != "sustained" else np.inf
        ends = np.minimum(part.end, part.start + lasts)
        weight = 10 ** (part.part.level_db / 10) * (part.velocity / 127) ** 4
        for k in range(10):
            overlap = np.clip(np.minimum(ends, edges[k + 1]) - np.maximum(part.start, edges[k]), 0, None)
            power[k] += float((overlap * weight).sum())
    decibels = 10 * np.log10([power[:3].mean(), power[3:7].mean(), power[7:].mean()])
    if decibels[2] - decibels[0] >= LOUDER_DB and decibels[0] <= decibels[1] <= decibels[2]:
        return "louder"
    if decibels[0] - decibels[2] >= LOUDER_DB and decibels[0] >= decibels[1] >= decibels[2]:
        return "softer"
    return ""


def section_of(excerpt: Excerpt) -> str:
    """The section that holds 80 % of the window or more."""
    at = excerpt.score.seconds_at
    for section in excerpt.score.sections:
        begin, end = at(section.start), at(section.start + section.duration)
        if min(end, excerpt.end_s) - max(begin, excerpt.start_s) >= 0.8 * excerpt.seconds:
            return section.name
    return ""


def ends_in(excerpt: Excerpt) -> bool:
    """Whether the piece ends in the window. False for finished works, which may be cut short or made to go round."""
    return excerpt.end_s >= excerpt.score.seconds - 0.05 and not excerpt.score.as_written
