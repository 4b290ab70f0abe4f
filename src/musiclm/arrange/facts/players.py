"""Who plays in a window, and how: register, articulation, pace, repetition."""

import numpy as np

from musiclm.arrange.facts.excerpt import Excerpt, instruments, loudness
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.score import Role, Score
from musiclm.arrange.timeline import Played, bar_quarters
from musiclm.data.captions.facts import Player

LEAST_ONSETS = 4  # of a part in the window, before its register, articulation or pace is named
HIGH, HIGH_QUARTILE = 79, 74  # MIDI pitches: the median of a high part, and what three quarters of its notes reach
LOW, LOW_QUARTILE = 52, 57
RAPID_S, SLOW_S = 0.17, 1.0  # between onsets
STACCATO_S, STACCATO_SHARE = 0.25, 0.5  # length of a note, and that as a share of the gap between onsets
SUSTAINED_S = 1.5


def players_of(excerpt: Excerpt) -> tuple[Player, ...]:
    """The audible parts, in the score's order."""
    return tuple(_player(part, excerpt) for part in excerpt.audible)


def drums_of(excerpt: Excerpt) -> bool | None:
    """Whether drums or percussion play.

    False only where not one stroke falls, nor rings on from 1.5 s before; None in between.
    """
    if any(part.is_drums and part.part.role != "effects" for part in excerpt.audible):
        return True
    from_s = max(0.0, excerpt.start_s - 1.5)
    rings = any(part.between(from_s, excerpt.end_s).start.size for part in excerpt.all_parts if part.is_drums)
    return None if rings else False


def electric_of(excerpt: Excerpt) -> bool | None:
    """True if all instruments are electric or electronic, False if none is, None for a mixture or silence."""
    kinds = {INSTRUMENTS[name].electric for name in instruments(excerpt.sounding)}
    return kinds.pop() if len(kinds) == 1 else None


def has_voices(excerpt: Excerpt) -> bool:
    """Whether a choir or a synthetic voice plays, however softly."""
    return any(INSTRUMENTS[name].family == "voices" for name in instruments(excerpt.sounding))


def is_complete(excerpt: Excerpt) -> bool:
    """Whether nothing sounds but the audible instruments."""
    return instruments(excerpt.sounding) == instruments(excerpt.audible)


def _player(part: Played, excerpt: Excerpt) -> Player:
    """How a part is played is left out where its instrument plays another one too."""
    name, instrument = part.part.instrument, INSTRUMENTS[part.part.instrument]
    role = part.part.role if part.part.role != "unknown" else _role(part, excerpt)
    single = not part.is_drums and excerpt.count_of(name) == 1
    begins = (part.start >= excerpt.start_s - 0.05) & (part.start < excerpt.end_s)
    described = single and begins.sum() >= LEAST_ONSETS
    staccato, pace = _staccato_and_pace(part, begins) if described else (False, "")
    sustained = single and instrument.decay == "sustained" and float(np.median(part.end - part.start)) >= SUSTAINED_S
    return Player(
        instrument=name,
        family=instrument.family,
        role=role,
        enters_s=round(max(0.0, float(part.start.min()) - excerpt.start_s), 2),
        leaves_s=round(min(excerpt.end_s, float(part.end.max())) - excerpt.start_s, 2),
        register=_register(part, begins) if described else "",
        articulation="sustained" if sustained else "staccato" if staccato else "",
        pace=pace,
        repeats=single and role in ("riff", "arpeggio", "bass", "melody", "chords") and _repeats(part, excerpt.score),
    )


def _register(part: Played, begins: np.ndarray) -> str:
    """ "high" or "low" of a part that is no bass."""
    if INSTRUMENTS[part.part.instrument].family == "bass" or part.part.role == "bass":
        return ""
    quarter, middle, upper = (float(q) for q in np.percentile(part.pitch[begins], [25, 50, 75]))
    if middle >= HIGH and quarter >= HIGH_QUARTILE:
        return "high"
    return "low" if middle <= LOW and upper <= LOW_QUARTILE else ""


def _staccato_and_pace(part: Played, begins: np.ndarray) -> tuple[bool, str]:
    """Whether notes are short and detached, and "rapid" or "slow" by the gaps between onsets."""
    gaps = np.diff(np.unique(np.round(part.start[begins], 2)))
    gaps = gaps[gaps > 0.04]
    if not len(gaps):
        return False, ""
    length_s, gap_s = float(np.median((part.end - part.start)[begins])), float(np.median(gaps))
    pace = "rapid" if gap_s <= RAPID_S else "slow" if gap_s >= SLOW_S else ""
    return length_s / gap_s <= STACCATO_SHARE and length_s <= STACCATO_S, pace


def _role(part: Played, excerpt: Excerpt) -> Role:
    """What a part of a finished work does in the window.

    Chords where most of what it strikes is three notes or more; melody where it alone plays one note at a time, high
    above all others and as loud; unknown otherwise.
    """
    begins = (part.start >= excerpt.start_s) & (part.start < excerpt.end_s)
    moments, sizes = np.unique(np.round(part.start[begins] / 0.03), return_counts=True)
    if len(moments) >= 3 and (sizes >= 3).mean() >= 0.6:
        return "chords"
    if len(moments) < 6 or (sizes > 1).any() or (part.start[1:] < part.end[:-1] - 0.1).mean() > 0.05:
        return "unknown"
    others = [p for p in excerpt.audible if not p.is_drums and p.part is not part.part]
    lowest = float(np.percentile(part.pitch[begins], 25))
    above = all(lowest > float(np.percentile(p.pitch, 90)) for p in others)
    loud = all(loudness(part) >= loudness(p) - 3.0 for p in others)
    return "melody" if above and loud else "unknown"


def _repeats(part: Played, score: Score) -> bool:
    """Whether nearly every bar plays the pitches and places (to a sixteenth) of the bar, or of the two bars, before."""
    bar = bar_quarters(score)
    bars: dict[int, set[tuple[int, int]]] = {}
    for place, pitch in zip(part.quarter, part.pitch, strict=True):
        sixteenth = round(float(place) * 4)
        bars.setdefault(int(sixteenth // (bar * 4)), set()).add((int(sixteenth % (bar * 4)), int(pitch)))
    numbers = sorted(bars)[1:-1] if len(bars) > 4 else sorted(bars)  # those at the edges may be cut
    if len(numbers) < 3 or np.mean([len(bars[n]) for n in numbers]) < 2:
        return False
    for period in (1, 2):
        pairs = [(bars[n], bars[n - period]) for n in numbers if n - period in numbers]
        alike = [len(a & b) / len(a | b) for a, b in pairs]
        if len(pairs) >= 2 and min(alike) >= 0.8:
            return True
    return False
