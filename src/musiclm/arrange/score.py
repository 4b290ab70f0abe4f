"""A piece as the arranger knows it: all that the renderer needs and all that a caption may say.

Time is in quarter notes unless a name has a unit. Nothing here is guessed from audio. What a `Score` does not say, a
caption does not say either.
"""

import bisect
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

Role = Literal[
    "melody", "countermelody", "riff", "chords", "arpeggio", "pad", "bass", "drums", "percussion", "effects", "unknown"
]
Mode = Literal["major", "minor", "dorian", "phrygian", "lydian", "mixolydian"]
AS_WRITTEN = "as written"  # stands for the style of a finished piece from elsewhere, whose style nobody told
SectionName = Literal["intro", "verse", "chorus", "bridge", "break", "build-up", "solo", "outro"]

# chord qualities, and their notes in semitones above the root
QUALITIES: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "5": (0, 7),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "6": (0, 4, 7, 9),
    "m6": (0, 3, 7, 9),
    "add9": (0, 4, 7, 14),
    "madd9": (0, 3, 7, 14),
    "9": (0, 4, 7, 10, 14),
    "m9": (0, 3, 7, 10, 14),
    "maj9": (0, 4, 7, 11, 14),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "7sus4": (0, 5, 7, 10),
    "dim": (0, 3, 6),
    "dim7": (0, 3, 6, 9),
    "m7b5": (0, 3, 6, 10),
    "aug": (0, 4, 8),
}


@dataclass(frozen=True, slots=True)
class Note:
    start: float  # quarter notes from the beginning of the piece, human timing included
    duration: float  # quarter notes
    pitch: int  # MIDI; of drums a key of the General MIDI drum map
    velocity: int  # 1 to 127


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one player plays."""

    role: Role
    instrument: str  # a name of `instruments.INSTRUMENTS`, such as "nylon guitar"
    notes: tuple[Note, ...]
    level_db: float = 0.0  # against the other parts, before the mix
    pan: float = 0.0  # -1 left to 1 right


@dataclass(frozen=True, kw_only=True)
class Section:
    name: SectionName
    start: float  # quarter notes
    duration: float
    intensity: float  # 0 (hardly there) to 1 (everything plays, loud)


@dataclass(frozen=True, kw_only=True)
class Chord:
    start: float
    duration: float
    root: int  # pitch class, 0 is C
    quality: str  # a name of QUALITIES, such as "m7"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a melody, a chord progression or a groove comes from."""

    what: str  # "melody", "chords", "groove", "piece"
    source: str  # "nottingham", "groove", "own", ...
    name: str  # of the piece in that source
    licence: str


@dataclass(frozen=True, kw_only=True)
class Score:
    style: str  # a name of `styles.STYLES`, or AS_WRITTEN
    seed: int
    tempo_bpm: float  # quarter notes a minute
    tempo_changes: tuple[tuple[float, float], ...] = ()  # (quarter note, bpm) after the first, such as a slowing end
    beats_per_bar: int = 4
    beat_unit: int = 4  # 4: a quarter note, 8: an eighth
    tonic: int = 0  # pitch class, 0 is C
    mode: Mode = "major"
    swing: float = 0.5  # where the second eighth of a beat falls: 0.5 straight, 0.67 triplets
    duration: float  # quarter notes
    parts: tuple[Part, ...]
    sections: tuple[Section, ...]
    chords: tuple[Chord, ...]
    fills: tuple[tuple[float, float], ...] = ()  # (start, duration) of drum fills and rolls
    origins: tuple[Origin, ...] = ()

    def seconds_at(self, quarters: float) -> float:
        """The time of a place in the piece, tempo changes counted."""
        places, segments = self._tempo_map
        seconds, at, bpm = segments[bisect.bisect_left(places, quarters)]
        return seconds + (quarters - at) * 60 / bpm

    @cached_property
    def _tempo_map(self) -> tuple[list[float], list[tuple[float, float, float]]]:
        """Where the tempo changes, and of each segment, the first one included: (seconds before it, where it begins,
        bpm).
        """
        segments = [(0.0, 0.0, self.tempo_bpm)]
        for place, next_bpm in self.tempo_changes:
            seconds, at, bpm = segments[-1]
            segments.append((seconds + (place - at) * 60 / bpm, place, next_bpm))
        return [place for place, _ in self.tempo_changes], segments

    @property
    def as_written(self) -> bool:
        """A finished piece: its notes, instruments and tempi are known, and nothing else but what these show."""
        return self.style == AS_WRITTEN

    @property
    def seconds(self) -> float:
        return self.seconds_at(self.duration)


def to_json(score: Score) -> str:
    """One line that `from_json` turns into an equal score. A note is a list: start, duration, pitch, velocity."""
    record = asdict(score)
    for part, written in zip(record["parts"], score.parts, strict=True):
        part["notes"] = [[note.start, note.duration, note.pitch, note.velocity] for note in written.notes]
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> Score:
    """Raises: ValueError if the text is no score."""
    try:
        record: dict[str, Any] = json.loads(text)
        parts = tuple(
            Part(**{**part, "notes": tuple(Note(*note) for note in part["notes"])}) for part in record.pop("parts")
        )
        return Score(
            **{
                **record,
                "parts": parts,
                "sections": tuple(Section(**section) for section in record["sections"]),
                "chords": tuple(Chord(**chord) for chord in record["chords"]),
                "origins": tuple(Origin(**origin) for origin in record["origins"]),
                "tempo_changes": tuple((place, bpm) for place, bpm in record["tempo_changes"]),
                "fills": tuple((start, duration) for start, duration in record["fills"]),
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no score written by `musiclm corpus render` ({error})") from error
