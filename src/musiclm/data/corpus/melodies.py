"""Melodies in several renditions, on disk: what the melody encoder learns from.

DIR/renditions.jsonl      a line per rendition (`Rendition`), those of a melody together
DIR/audio/<name>.flac     stereo, 24 kHz, 16 bit: the melody on the left, what accompanies it on the right
DIR/melodies.json         what they were made with (`musiclm corpus melodies`)

A rendition keeps its two channels apart so that training can mix them anew each time: a pair of renditions is then
many pairs.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from musiclm.core.audio import SAMPLE_RATE_HZ
from musiclm.core.output import replacing
from musiclm.core.unicode import name_bytes
from musiclm.data.corpus.manifest import SPLITS, CorpusError, Split

LIST_FILE = "renditions.jsonl"
SETTINGS_FILE = "melodies.json"


@dataclass(frozen=True, kw_only=True)
class Rendition:
    """A melody, played or sung once."""

    melody: int  # renditions of one melody share it, and with it the split
    split: Split
    path: str  # of the FLAC, relative to the folder
    sound: str  # an instrument, or hum, sing, whistle
    backing: str  # own, chords, other chords, or none: what harmony the accompaniment has
    octave: int  # that the melody is played higher than it was written
    tempo: float  # times as fast as it was written
    seconds: float
    notes: tuple[tuple[float, float, int], ...]  # (start, end, MIDI pitch) as they sound here, seconds

    def at(self, written_s: float) -> float:
        """Where a moment of the melody as written, in seconds, lies here."""
        return written_s / self.tempo


def load_renditions(folder: str | Path) -> list[Rendition]:
    """Raises: CorpusError if the folder holds no renditions or a line of the list is none."""
    path = Path(folder) / LIST_FILE
    if not path.is_file():
        raise CorpusError(
            f"{folder}: no melodies here (no {LIST_FILE}); make them with `musiclm corpus melodies --out DIR`"
        )
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(rendition_of(line))
        except (ValueError, TypeError, KeyError) as error:
            raise CorpusError(f"{path}: line {number} is no rendition; make the melodies again") from error
    return found


def soundfonts_of(folder: str | Path) -> list[str]:
    """What the renditions were played with, and its licence. Raises: CorpusError if the folder does not say."""
    path = Path(folder) / SETTINGS_FILE
    try:
        return [str(font) for font in json.loads(path.read_text(encoding="utf-8"))["soundfonts"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path}: can't be read ({error}); make the melodies again") from error


def rendition_of(line: str) -> Rendition:
    """Raises: ValueError, TypeError or KeyError if a line of the list is no rendition."""
    record = json.loads(line)
    if set(record) != {field.name for field in fields(Rendition)} or record["split"] not in SPLITS:
        raise ValueError("no rendition")
    notes = tuple((float(start), float(end), int(pitch)) for start, end, pitch in record.pop("notes"))
    return Rendition(**record, notes=notes)


def save_renditions(folder: Path, renditions: Iterable[Rendition]) -> None:
    """The whole list, atomically. Raises: CorpusError if it can't be written."""
    path = folder / LIST_FILE
    try:
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(one)) + "\n" for one in renditions)
    except OSError as error:
        raise CorpusError(
            f"{path}: could not be written ({error.strerror}); check free space and permissions"
        ) from error


def read_rendition(
    folder: str | Path, rendition: Rendition, start_s: float, duration_s: float
) -> Float[np.ndarray, "2 s"]:
    """Melody and accompaniment of [start_s, start_s + duration_s), which may begin before 0; zeros outside.

    Raises: CorpusError if the audio is missing or damaged.
    """
    path = Path(folder) / rendition.path
    start, num = round(start_s * SAMPLE_RATE_HZ), round(duration_s * SAMPLE_RATE_HZ)
    out = np.zeros((2, num), np.float32)
    try:
        with soundfile.SoundFile(name_bytes(path)) as file:
            first, last = max(0, start), min(file.frames, start + num)
            if first < last:
                file.seek(first)
                out[:, first - start : last - start] = file.read(last - first, dtype="float32", always_2d=True).T
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise CorpusError(f"{path}: can't be read ({error}); make the melodies again") from error
    return out
