"""The corpus on disk: what a track is, and the manifest that lists them.

DIR/manifest.jsonl      a line per track, sorted by source, package and origin
DIR/skipped.jsonl       a line per file that is not in the corpus, with the reason
DIR/audio/<id>.flac     mono, 24 kHz, 16 bit
DIR/journal.jsonl       what a build has finished, so that it can be stopped and go on (build.py)
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from musiclm.core.output import replacing

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
RENDERED = "rendered"  # the source of tracks that `musiclm corpus render` made; all others are real


class CorpusError(ValueError):
    """A corpus that can't be built or read. The message is one line: what is wrong, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Track:
    id: str  # the first 16 hex digits of sha256: the same audio has the same id wherever it came from
    path: str  # of the FLAC, relative to the corpus folder
    source: str  # the folder's name, or a named source ("debian-games")
    package: str  # the package, or the first folder below the source; "" at its top
    origin: str  # path of the original inside the package or folder
    title: str
    artist: str
    genre: str  # as the file's tag has it; "" if it has none
    licence: str  # "unknown" if nobody said
    seconds: float  # after trimming
    sha256: str  # of the 16-bit samples
    split: Split
    piece: str  # variants of one piece share it, and with it the split
    held_out: bool  # the whole package is kept for testing


def load_manifest(folder: str | Path) -> list[Track]:
    """The tracks of a corpus. Raises: CorpusError if the folder holds no manifest, or one without tracks or with
    a line that is none."""
    path = Path(folder) / "manifest.jsonl"
    if not path.is_file():
        raise CorpusError(f"{folder}: no corpus here (no manifest.jsonl); make one with `musiclm corpus build`")
    names = {field.name for field in fields(Track)}
    tracks = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                if set(record) != names or record["split"] not in SPLITS:
                    raise ValueError
            except (ValueError, TypeError) as error:
                raise CorpusError(f"{path}: line {number} is not a track; build the corpus again") from error
            tracks.append(Track(**record))
    if not tracks:
        raise CorpusError(f"{path}: lists no track; build the corpus again")
    return tracks


def load_skipped(folder: str | Path) -> list[dict[str, str]]:
    """What a build left out: records of source, package, origin and reason; [] if there is no such file."""
    path = Path(folder) / "skipped.jsonl"
    if not path.is_file():
        return []
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def save_manifest(folder: Path, tracks: Iterable[Track], skipped: Iterable[Mapping[str, str]]) -> None:
    """Writes both lists, each atomically: a reader meets the old list or the new one."""
    _write_lines(folder / "skipped.jsonl", skipped)
    _write_lines(folder / "manifest.jsonl", (asdict(track) for track in tracks))


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    try:
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    except OSError as error:
        raise CorpusError(
            f"{path}: could not be written ({error.strerror}); check free space and permissions"
        ) from error
