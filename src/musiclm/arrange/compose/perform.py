"""From the grid to hands: swing, loose timing, dynamics."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from musiclm.arrange.score import Note, Role

# what a role is played at in a section of intensity 0.6
_LOUDNESS: dict[Role, int] = {
    "melody": 92,
    "countermelody": 78,
    "riff": 88,
    "chords": 76,
    "arpeggio": 74,
    "pad": 66,
    "bass": 88,
    "drums": 90,
    "percussion": 76,
    "effects": 76,
}
_MIDDLE = 82  # velocity of an unaccented note as players write it
_JITTER_S = 0.014  # standard deviation of the loosest hand
_MIN_DURATION = 0.03


@dataclass(frozen=True, kw_only=True)
class Hands:
    """How the band plays."""

    tempo_bpm: float
    swing: float  # 0.5 straight
    looseness: float
    intensity_at: Callable[[float], float]  # of a place in quarters; above 1 never


def perform(
    notes: Sequence[Note], role: Role, hands: Hands, rng: random.Random, *, recorded: bool = False
) -> tuple[Note, ...]:
    """Notes as they are played, sorted, inside 1 to 127; the same pitch never overlaps itself.

    `recorded` notes keep their own timing and swing; only their loudness follows the section.
    """
    quarters_a_second = hands.tempo_bpm / 60
    lag = rng.gauss(0, 0.3) * _JITTER_S * hands.looseness * quarters_a_second
    played = []
    for note in notes:
        start, end = note.start, note.start + note.duration
        if not recorded:
            start, end = swung(start, hands.swing), swung(end, hands.swing)
            start += lag + rng.gauss(0, 1) * _JITTER_S * hands.looseness * quarters_a_second
        wobble = rng.gauss(0, 1 + 5 * hands.looseness)
        loud = _LOUDNESS[role] + (note.velocity - _MIDDLE) + 56 * (hands.intensity_at(note.start) - 0.6) + wobble
        velocity = max(1, min(127, round(loud)))
        played.append(Note(max(0.0, start), max(_MIN_DURATION, end - start), note.pitch, velocity))
    return without_overlaps(played)


def swung(place: float, swing: float) -> float:
    """Where a place on the straight grid falls when the second eighth of a quarter comes at `swing` of it."""
    if swing == 0.5:
        return place
    whole = place // 1
    part = place - whole
    return whole + (part * 2 * swing if part < 0.5 else swing + (part - 0.5) * 2 * (1 - swing))


def without_overlaps(notes: Sequence[Note]) -> tuple[Note, ...]:
    """Sorted by start and pitch; a note ends before the same pitch begins again, and of two at one moment one stays."""
    last: dict[int, int] = {}
    out: list[Note] = []
    for note in sorted(notes, key=lambda note: (note.start, note.pitch, -note.velocity)):
        index = last.get(note.pitch)
        if index is not None and out[index].start + out[index].duration > note.start - 0.005:
            before = out[index]
            room = note.start - before.start - 0.01
            if room < _MIN_DURATION:
                continue
            out[index] = Note(before.start, min(before.duration, room), before.pitch, before.velocity)
        last[note.pitch] = len(out)
        out.append(note)
    return tuple(out)
