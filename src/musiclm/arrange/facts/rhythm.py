"""Tempo, beat and swing of a window."""

import numpy as np

from musiclm.arrange.facts.excerpt import Excerpt
from musiclm.arrange.timeline import DRUM_KEYS, beat_quarters

# beats a minute; what lies between two words gets none
SPEEDS = (("very slow", 0, 62), ("slow", 62, 78), ("medium", 90, 118), ("fast", 130, 168), ("very fast", 172, 400))


def tempo_of(excerpt: Excerpt) -> tuple[int | None, str]:
    """Beats a minute where they stay the same, and "slower" or "faster" where they do not.

    Nothing of a finished work whose notes do not keep to the beats that its file counts.
    """
    if not in_time(excerpt):
        return None, ""
    inside = _tempi(excerpt)
    bpms = [bpm for _, bpm in inside]
    one_way = len(bpms) == 2 or np.all(np.diff(bpms) < 0) or np.all(np.diff(bpms) > 0)
    change = ""
    if min(inside)[0] >= 0.1 and min(bpms) < 0.92 * max(bpms) and one_way:
        change = "slower" if bpms[-1] < bpms[0] else "faster"
    share, most = max(inside)
    steady = max(bpms) <= 1.03 * min(bpms) or share >= 0.8
    return (round(most) if steady else None), change


def _tempi(excerpt: Excerpt) -> list[tuple[float, float]]:
    """(share of the window, beats a minute), in order of time."""
    score = excerpt.score
    pieces = [(0.0, score.tempo_bpm), *((score.seconds_at(place), bpm) for place, bpm in score.tempo_changes)]
    found = []
    for (start, bpm), (end, _) in zip(pieces, [*pieces[1:], (np.inf, 0.0)], strict=True):
        share = (min(end, excerpt.end_s) - max(start, excerpt.start_s)) / excerpt.seconds
        if share > 0:
            found.append((share, bpm / beat_quarters(score)))
    return found


def in_time(excerpt: Excerpt) -> bool:
    """Whether beats can be told: always of a piece of ours, of a finished work where its notes keep to them."""
    return not excerpt.score.as_written or _keeps_time(excerpt)


def _keeps_time(excerpt: Excerpt) -> bool:
    """Whether the notes of a finished work agree with the beats that its file counts.

    Nearly all on a grid of sixteenths or triplets, no other place of the grid struck more often than the beat, and most
    beats struck, 50 to 200 a minute.
    """
    inside = excerpt.parts
    begun = [(part.start >= excerpt.start_s) & (part.start < excerpt.end_s) for part in inside]
    if sum(those.sum() for those in begun) < 8:
        return False
    seconds = np.concatenate([part.start[those] for part, those in zip(inside, begun, strict=True)])
    places = np.concatenate([part.quarter[those] for part, those in zip(inside, begun, strict=True)])
    places = places / beat_quarters(excerpt.score)

    def near(place: float) -> np.ndarray:
        return np.abs((places - place + 0.5) % 1 - 0.5) < 0.06

    on, straight, thirds = near(0), [near(k / 4) for k in (1, 2, 3)], [near(k / 3) for k in (1, 2)]
    on_grid = max(np.any([on, *grid], axis=0).mean() for grid in (straight, thirds))
    beats = np.unique(np.round(places[on]))
    num_beats = places.max() - places.min()
    bpm = 60 * num_beats / max(seconds.max() - seconds.min(), 1e-3)
    return bool(
        on_grid >= 0.85
        and all(on.sum() >= 0.9 * other.sum() for other in (*straight, *thirds))
        and len(beats) >= 0.6 * num_beats
        and 50 <= bpm <= 200
    )


def speed_of(excerpt: Excerpt, bpm: int | None) -> str:
    """A word for the tempo; none where listeners may feel another one: in half time, or in the bars of a waltz."""
    word = _word_for(bpm, excerpt.onset_rate_hz)
    return "" if word.endswith("fast") and (_is_half_time(excerpt) or excerpt.score.beats_per_bar == 3) else word


def _word_for(bpm: int | None, rate_hz: float) -> str:
    """A word for the tempo, unless the notes go against it: a fast pulse under long notes does not sound fast."""
    for word, low, high in SPEEDS:
        if bpm is not None and low <= bpm < high:
            fast, slow = word.endswith("fast"), word.endswith("slow")
            return "" if (fast and rate_hz < 2.5) or (slow and rate_hz > 6.0) else word
    return ""


def _is_half_time(excerpt: Excerpt) -> bool:
    """Whether the snare falls on the third beat of four, and seldom on the second and fourth."""
    score, kits = excerpt.score, excerpt.kits
    if (score.beats_per_bar, score.beat_unit) != (4, 4) or not kits:
        return False
    struck = np.concatenate([part.quarter[np.isin(part.pitch, [37, 38, 39, 40])] for part in kits]) % 4
    third, back = (np.abs(struck - 2) < 0.15).sum(), ((np.abs(struck - 1) < 0.15) | (np.abs(struck - 3) < 0.15)).sum()
    return bool(third >= 2 and third > back)


def swing_of(excerpt: Excerpt) -> bool | None:
    """Whether off-beat eighths come late; None with too few of them, a little swing, or a finished work."""
    score, audible = excerpt.score, excerpt.audible
    if score.as_written or beat_quarters(score) != 1:
        return None
    places = np.concatenate([part.quarter for part in audible]) % 1 if audible else np.zeros(0)
    if score.swing >= 0.58:
        return True if (np.abs(places - score.swing) < 0.08).sum() >= 6 else None
    return False if score.swing <= 0.52 and (np.abs(places - 0.5) < 0.08).sum() >= 6 else None


def drum_sounds_of(excerpt: Excerpt) -> tuple[str, ...]:
    """What stands out of the drum kits: four strokes or more (two crashes)."""
    keys = np.concatenate([part.pitch for part in excerpt.kits]) if excerpt.kits else np.zeros(0, int)
    counts = {name: int(np.isin(keys, list(those)).sum()) for name, those in DRUM_KEYS.items()}
    return tuple(name for name, count in counts.items() if count >= (2 if name == "crash" else 4))


def beat_of(excerpt: Excerpt) -> tuple[str, ...]:
    """Drum patterns that have a name, in 4/4 only."""
    score, kits = excerpt.score, excerpt.kits
    if (score.beats_per_bar, score.beat_unit) != (4, 4) or not kits or not in_time(excerpt):
        return ()
    places, keys = (np.concatenate([getattr(part, name) for part in kits]) for name in ("quarter", "pitch"))
    beats = np.arange(np.ceil(places.min() - 0.1), np.floor(places.max()) + 1)
    if len(beats) < 8 or score.seconds_at(beats[-1]) - score.seconds_at(beats[0]) < 0.5 * excerpt.seconds:
        return ()

    def strikes(*names: str) -> np.ndarray:
        struck = places[np.isin(keys, [key for name in names for key in DRUM_KEYS[name]])]
        return np.array([bool((np.abs(struck - beat) < 0.12).any()) for beat in beats])

    kick, snare, back = strikes("kick"), strikes("snare", "clap", "rim"), beats % 2 == 1
    found = []
    if kick.mean() >= 0.9:
        found.append("four on the floor")
    if snare[back].mean() >= 0.85 and snare[~back].mean() <= 0.3:
        found.append("backbeat")
    return tuple(found)
