"""The notes of a window of a piece: what every measure of `musiclm.arrange.facts` looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.score import Score
from musiclm.arrange.timeline import Played, timeline

AUDIBLE_DB = 12.0  # a part further below the loudest one is not spoken of
LEAST_NOTES, LEAST_S = 3, 2.0  # so many notes, or so long a sound, before a part counts as audible


@dataclass(frozen=True)
class Excerpt:
    """`score` from `start_s` to `end_s`."""

    score: Score
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    @cached_property
    def all_parts(self) -> list[Played]:
        """Parts of the whole piece, with all their notes."""
        return timeline(self.score)

    @cached_property
    def parts(self) -> list[Played]:
        """The same parts, each with its notes in the window; some may have none."""
        return [part.between(self.start_s, self.end_s) for part in self.all_parts]

    @cached_property
    def sounding(self) -> list[Played]:
        """Those that have notes in the window."""
        return [part for part in self.parts if part.start.size]

    @cached_property
    def audible(self) -> list[Played]:
        """Those that play enough, and loudly enough, for a listener to notice."""
        return [part for part in self.sounding if self._is_audible(part)]

    @cached_property
    def pitched(self) -> list[Played]:
        """Those of `audible` that have pitches to speak of."""
        return [part for part in self.audible if not part.is_drums and part.part.role != "effects"]

    @cached_property
    def kits(self) -> list[Played]:
        """Drum kits among the audible parts."""
        return [part for part in self.audible if part.is_kit]

    @cached_property
    def strokes(self) -> list[Played]:
        """Drums and percussion, however soft."""
        return [part for part in self.sounding if part.is_drums]

    @cached_property
    def onset_rate_hz(self) -> float:
        """Moments a second at which something begins; those within 50 ms of each other are one."""
        onsets = np.sort(np.concatenate([part.start for part in self.parts])) if self.parts else np.zeros(0)
        count, last = 0, -1.0
        for onset in onsets[(onsets >= self.start_s) & (onsets < self.end_s)]:
            if onset - last > 0.05:
                count, last = count + 1, float(onset)
        return count / self.seconds

    def count_of(self, instrument: str) -> int:
        """How many parts of the window an instrument plays."""
        return sum(part.part.instrument == instrument for part in self.sounding)

    def _is_audible(self, part: Played) -> bool:
        loudest = max(loudness(other) for other in self.sounding)
        if loudness(part) < loudest - AUDIBLE_DB:
            return False
        onsets = int(((part.start >= self.start_s - 0.05) & (part.start < self.end_s - 0.1)).sum())
        if part.is_drums:
            return onsets > LEAST_NOTES
        lasts = 2.0 if INSTRUMENTS[part.part.instrument].decay != "sustained" else np.inf  # what is struck dies away
        ends = np.minimum(part.end, part.start + lasts)
        sounding_s = _union(np.maximum(part.start, self.start_s), np.minimum(ends, self.end_s))
        return (onsets >= LEAST_NOTES and sounding_s >= 0.3) or sounding_s >= LEAST_S


def loudness(part: Played) -> float:
    """Of its mean note, in dB against the same instrument at full velocity.

    By General MIDI's square law and the part's level.
    """
    return part.part.level_db + 40 * float(np.log10(max(1.0, part.velocity.mean()) / 127))


def instruments(parts: Sequence[Played]) -> set[str]:
    return {part.part.instrument for part in parts}


def _union(starts: Float[np.ndarray, " n"], ends: Float[np.ndarray, " n"]) -> float:
    """Seconds covered by intervals sorted by their starts."""
    total, reached = 0.0, -np.inf
    for start, end in zip(starts, ends, strict=True):
        if end > max(start, reached):
            total += end - max(start, reached)
            reached = end
    return float(total)
