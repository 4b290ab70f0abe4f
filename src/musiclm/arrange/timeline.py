"""The notes of a score in seconds, as arrays: what facts, pictures and audits look at."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.score import Part, Score

# General MIDI drum keys by what a listener calls them
DRUM_KEYS: dict[str, frozenset[int]] = {
    "kick": frozenset({35, 36}),
    "snare": frozenset({38, 40}),
    "rim": frozenset({37}),
    "clap": frozenset({39}),
    "hi-hat": frozenset({42, 44, 46}),
    "tom": frozenset({41, 43, 45, 47, 48, 50}),
    "crash": frozenset({49, 52, 55, 57}),
    "ride": frozenset({51, 53, 59}),
}


@dataclass(frozen=True)
class Played:
    """One part's notes, in order of their starts."""

    part: Part
    start: Float[np.ndarray, " n"]  # seconds
    end: Float[np.ndarray, " n"]
    pitch: Int[np.ndarray, " n"]
    velocity: Float[np.ndarray, " n"]
    quarter: Float[np.ndarray, " n"]  # starts again, in quarter notes

    @property
    def is_drums(self) -> bool:
        return INSTRUMENTS[self.part.instrument].family in ("drums", "percussion")

    @property
    def is_kit(self) -> bool:
        """Whether pitches are keys of the General MIDI drum map."""
        return INSTRUMENTS[self.part.instrument].family == "drums"

    def between(self, start_s: float, end_s: float) -> "Played":
        """The notes that sound for 50 ms or more between two times; starts and ends are left as they are."""
        inside = np.minimum(self.end, end_s) - np.maximum(self.start, start_s) >= np.minimum(
            0.05, self.end - self.start
        )
        inside &= (self.start < end_s) & (self.end > start_s)
        return Played(self.part, *(getattr(self, name)[inside] for name in _COLUMNS))


_COLUMNS = ("start", "end", "pitch", "velocity", "quarter")


def to_seconds(score: Score, quarters: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """`Score.seconds_at` of many places at once."""
    places = [0.0, *(place for place, _ in score.tempo_changes)]
    times = np.array([score.seconds_at(place) for place in places])
    bpms = np.array([score.tempo_bpm, *(bpm for _, bpm in score.tempo_changes)])
    index = np.clip(np.searchsorted(places, quarters, side="right") - 1, 0, None)
    return times[index] + (quarters - np.array(places)[index]) * 60 / bpms[index]


def timeline(score: Score) -> list[Played]:
    """Every part's notes. Parts without a note are left out."""
    found = []
    for part in score.parts:
        if not part.notes:
            continue
        notes = sorted(part.notes, key=lambda note: (note.start, note.pitch))
        start = np.array([note.start for note in notes], np.float64)
        end = start + np.array([note.duration for note in notes], np.float64)
        found.append(
            Played(
                part,
                to_seconds(score, start),
                to_seconds(score, end),
                np.array([note.pitch for note in notes]),
                np.array([note.velocity for note in notes], np.float64),
                start,
            )
        )
    return found


def beat_quarters(score: Score) -> float:
    """What a listener taps to, in quarter notes: a dotted quarter where eighths come in threes, else the beat unit."""
    if score.beat_unit == 8 and score.beats_per_bar % 3 == 0:
        return 1.5
    return 4 / score.beat_unit


def bar_quarters(score: Score) -> float:
    return score.beats_per_bar * 4 / score.beat_unit
