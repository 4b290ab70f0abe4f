"""Takes and uploads on disk: files, and an SQLite list of them.

A file is written whole, on the disk, under its name, before the list has it; so a process that is killed loses no take
that it has announced. What the list lacks at the next start is put into it. Ids are the first 16 digits of the
sha256 that takes and uploads are known by, so what is there twice is one.

    takes.sqlite       the list, and what jobs were asked for and not done yet
    sounds/ID.take     codes and what made them
    sounds/ID.wav      the sound, as `musiclm generate -o ID.wav --take` writes both
    sounds/ID.mp3      an upload, as it came; ID.mid is a MIDI file
    work/              sound in the making
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from musiclm.core.artifact import ArtifactError, file_hash
from musiclm.core.audio import SAMPLE_RATE_HZ, AudioError, read_blocks, write_blocks
from musiclm.core.output import PART_SUFFIX, OutputError
from musiclm.generate.melody import is_midi, melody_sound
from musiclm.generate.music import UNPROMPTED, tags_of
from musiclm.generate.take import SUFFIX, Take, load_take

ID_DIGITS = 16
MAX_NAME_CHARACTERS = 200
MIDI = "midi"  # in place of a verb: an upload that is a melody in notes
MOST_TRIES = 3  # of a job, when the process ended while there was work
_FILE = re.compile(rf"([0-9a-f]{{{ID_DIGITS}}})(\.[a-z0-9]+)")
_SCHEMA = """
create table if not exists takes (
    id text primary key, kind text not null, name text not null, kept integer not null, verb text not null,
    parent text, prompt text, file text not null, duration_s real not null,
    made_from_s real not null, made_to_s real not null, created_s real not null, about text not null);
create index if not exists takes_parent on takes (parent);
create table if not exists jobs (
    id text primary key, verb text not null, request text not null, created_s real not null,
    tries integer not null default 0);
"""


class NoSuchTake(LookupError):
    """No take or upload has the id. The message is one line."""


class FullError(ValueError):
    """There is no room for another take. The message is one line."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A take or an upload, as the list has it."""

    id: str
    kind: Literal["take", "upload"]
    name: str
    kept: bool
    verb: str  # that made it; "upload", or "midi" for a MIDI file
    parent: str | None  # the id of what it was made from, which may be gone
    prompt: str | None
    file: str  # that holds its sound
    duration_s: float  # of its sound
    made_from_s: float  # of its sound, what is new begins; of an upload nothing is
    made_to_s: float
    created_s: float  # since 1970
    about: dict[str, Any]  # what made a take (`musiclm.generate.take.About`); of an upload nothing


class Shelf:
    """What there is to go on from: any thread of the process that has the store, and processes that work for it."""

    def __init__(self, folder: str | Path) -> None:
        """Opens the folder of a store that is there. Raises: sqlite3.Error."""
        self.folder, self.sounds = Path(folder), Path(folder) / "sounds"
        self._lock = threading.RLock()
        self._rows = sqlite3.connect(self.folder / "takes.sqlite", check_same_thread=False, isolation_level=None)
        self._rows.row_factory = sqlite3.Row

    def find(self, id: str) -> Entry:
        """Raises: NoSuchTake."""
        with self._lock:
            row = self._rows.execute("select * from takes where id = ?", (id,)).fetchone()
        if row is None:
            raise NoSuchTake(f"there is no take or upload {id}")
        return _entry(row)

    def source(self, entry: Entry) -> Path:
        """What music goes on from: the file of a take's codes, or the sound that was uploaded."""
        return self.sounds / (f"{entry.id}{SUFFIX}" if entry.kind == "take" else entry.file)


class Store(Shelf):
    """One process at a time; any thread."""

    def __init__(self, folder: str | Path, max_takes: int = 1000) -> None:
        """Opens a folder, or makes it, and puts right what a killed process left.

        Raises: OutputError if another service uses it, or it can't be written to or read.
        """
        self.folder, self.max_takes = Path(folder), max_takes
        self.work, self._writing = self.folder / "work", threading.Lock()
        try:
            for path in (self.folder / "sounds", self.work):
                path.mkdir(parents=True, exist_ok=True)
            self._held = open(self.folder / "lock", "a")  # noqa: SIM115 (held as long as the store)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{folder}: another service uses this folder; stop it, or give another --folder"
            ) from None
        except OSError as error:
            raise OutputError(f"{folder}: can't be used ({error.strerror}); give another --folder") from None
        try:
            super().__init__(folder)
            self._rows.executescript("pragma journal_mode = wal; pragma synchronous = full;" + _SCHEMA)
        except sqlite3.Error as error:
            self._held.close()
            raise OutputError(
                f"{self.folder / 'takes.sqlite'}: can't be read ({error}); move it away, and takes are listed anew"
            ) from None
        self._recover()

    def close(self) -> None:
        """At the end of a service that was not killed."""
        with self._lock:
            self._rows.execute("update jobs set tries = 0")
            self._rows.close()
            self._held.close()

    # -- what is there

    def all(self) -> list[Entry]:
        """The oldest first."""
        with self._lock:
            return [_entry(row) for row in self._rows.execute("select * from takes order by created_s, id")]

    def sound(self, entry: Entry) -> Path:
        return self.sounds / entry.file

    def blocks(self, entry: Entry) -> Iterator[Float[np.ndarray, "1 n"]]:
        """Its sound at 24 kHz; of a MIDI file the notes that are followed, by plain tones. Raises: AudioError."""
        path = self.sound(entry)
        return iter([melody_sound(path)[None]]) if entry.verb == MIDI else read_blocks(path)

    # -- what comes in

    def add_take(self, take: Take, blocks: Callable[[], Iterator[Any]]) -> Entry:
        """A take that was made, its sound and its row, in this order. blocks: its sound, (1, s) each.

        Raises: AudioError, OSError for a disk that is full.
        """
        id = take.id[:ID_DIGITS]
        sound, codes = self.sounds / f"{id}.wav", self.sounds / f"{id}{SUFFIX}"
        with self._writing:
            if not codes.is_file():
                write_blocks(sound, blocks(), take.about.sample_rate_hz, tags_of(take.about))
                take.save(codes)
                _sync(self.sounds)
        entry = self._insert(_entry_of(take))
        self._make_room(entry)
        return entry

    def add_upload(self, temporary: Path, suffix: str, name: str, duration_s: float) -> Entry:
        """A sound file that was checked. `temporary` lies in this folder, and becomes the upload. Raises: OSError."""
        id = file_hash(temporary)[:ID_DIGITS]
        target = self.sounds / f"{id}{suffix}"
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync(self.sounds)
        entry = self._insert(_upload(target, name, duration_s))
        self._make_room(entry)
        return entry

    def change(self, id: str, name: str | None = None, kept: bool | None = None) -> Entry:
        """Raises: NoSuchTake."""
        with self._lock:
            self.find(id)
            if name is not None:
                self._rows.execute("update takes set name = ? where id = ?", (name, id))
            if kept is not None:
                self._rows.execute("update takes set kept = ? where id = ?", (int(kept), id))
            return self.find(id)

    def remove(self, id: str) -> None:
        """Raises: NoSuchTake; ValueError if something was made from it."""
        with self._lock:
            entry = self.find(id)
            num = self._rows.execute("select count(*) from takes where parent = ?", (id,)).fetchone()[0]
            if num:
                raise ValueError(f"{id} can't be deleted: {num} takes were made from it; delete those first")
            self._rows.execute("delete from takes where id = ?", (id,))
            for path in {self.source(entry), self.sound(entry)}:
                path.unlink(missing_ok=True)

    def _insert(self, entry: Entry) -> Entry:
        with self._lock:
            values = (
                *(entry.id, entry.kind, entry.name, int(entry.kept), entry.verb, entry.parent, entry.prompt),
                *(
                    entry.file,
                    entry.duration_s,
                    entry.made_from_s,
                    entry.made_to_s,
                    entry.created_s,
                    json.dumps(entry.about),
                ),
            )
            self._rows.execute(f"insert or ignore into takes values ({', '.join('?' * len(values))})", values)
            return self.find(entry.id)

    def check_room(self) -> None:
        """Raises: FullError if another take would be one too many, and none may go."""
        if self._surplus(1) > 0 and self._oldest("") is None:
            raise FullError(f"there are {self.max_takes} takes that are kept or built upon; delete some, or keep fewer")

    def _surplus(self, num_new: int = 0) -> int:
        with self._lock:
            return int(self._rows.execute("select count(*) from takes").fetchone()[0]) + num_new - self.max_takes

    def _oldest(self, but: str) -> str | None:
        """The oldest that nobody keeps and nothing was made from, other than `but`."""
        with self._lock:
            row = self._rows.execute(
                "select id from takes where not kept and id != ? "
                "and id not in (select parent from takes where parent is not null) order by created_s limit 1",
                (but,),
            ).fetchone()
        return None if row is None else str(row["id"])

    def _make_room(self, new: Entry) -> None:
        with self._lock:
            while self._surplus() > 0 and (oldest := self._oldest(new.id)) is not None:
                self.remove(oldest)

    # -- jobs that were accepted

    def add_job(self, id: str, verb: str, request: str) -> None:
        """A job that is to be done even if this process is killed."""
        with self._lock:
            self._rows.execute(
                "insert into jobs (id, verb, request, created_s) values (?, ?, ?, ?)", (id, verb, request, time.time())
            )

    def end_job(self, id: str) -> None:
        with self._lock:
            self._rows.execute("delete from jobs where id = ?", (id,))

    def jobs(self) -> list[tuple[str, str, str]]:
        """(id, verb, request) of jobs that were accepted and did not end; those that ended the process too often are
        given up."""
        with self._lock:
            self._rows.execute("update jobs set tries = tries + 1")
            self._rows.execute("delete from jobs where tries > ?", (MOST_TRIES,))
            rows = self._rows.execute("select id, verb, request from jobs order by created_s").fetchall()
        return [(row["id"], row["verb"], row["request"]) for row in rows]

    # -- after a kill

    def _recover(self) -> None:
        for path in [*self.work.iterdir(), *self.sounds.glob(f".*{PART_SUFFIX}")]:
            path.unlink(missing_ok=True)
        listed = {entry.id: entry for entry in self.all()}
        for id, entry in listed.items():
            if not (self.source(entry).is_file() and self.sound(entry).is_file()):
                self._rows.execute("delete from takes where id = ?", (id,))
        found = {path: match for path in sorted(self.sounds.iterdir()) if (match := _FILE.fullmatch(path.name))}
        codes = {match[1] for path, match in found.items() if path.suffix == SUFFIX}
        for path, match in found.items():
            if match[1] in listed:
                continue
            if path.suffix == SUFFIX:
                self._adopt_take(path)
            elif match[1] not in codes:
                self._adopt_upload(path)

    def _adopt_take(self, path: Path) -> None:
        with contextlib.suppress(ArtifactError):
            take = load_take(path)
            if path.with_suffix(".wav").is_file() and path.stem == take.id[:ID_DIGITS]:
                self._insert(_entry_of(take))

    def _adopt_upload(self, path: Path) -> None:
        """An upload whose name is not known any more, or a sound whose take was not written, which is of no use."""
        if file_hash(path)[:ID_DIGITS] != path.stem:
            path.unlink()
            return
        with contextlib.suppress(AudioError):
            entry = _upload(path, path.name, 0.0)
            num = sum(block.shape[1] for block in self.blocks(entry))
            self._insert(dataclasses.replace(entry, duration_s=num / SAMPLE_RATE_HZ))


def _entry(row: sqlite3.Row) -> Entry:
    fields = dict(row)
    return Entry(**{**fields, "kept": bool(fields["kept"]), "about": json.loads(fields["about"])})


def _entry_of(take: Take) -> Entry:
    about, id = take.about, take.id[:ID_DIGITS]
    return Entry(
        id=id,
        kind="take",
        name=(about.title or UNPROMPTED)[:MAX_NAME_CHARACTERS],
        kept=False,
        verb="story" if about.story is not None and about.parent is None else about.verb,
        parent=None if about.parent is None else about.parent.hash[:ID_DIGITS],
        prompt=about.prompt,
        file=f"{id}.wav",
        duration_s=about.sound_samples / about.sample_rate_hz,
        made_from_s=about.made_samples[0] / about.sample_rate_hz,
        made_to_s=about.made_samples[1] / about.sample_rate_hz,
        created_s=time.time(),
        about=take.document,
    )


def _upload(path: Path, name: str, duration_s: float) -> Entry:
    return Entry(
        id=path.stem,
        kind="upload",
        name=name,
        kept=False,
        verb=MIDI if is_midi(path) else "upload",
        parent=None,
        prompt=None,
        file=path.name,
        duration_s=duration_s,
        made_from_s=0.0,
        made_to_s=0.0,
        created_s=time.time(),
        about={},
    )


def _sync(folder: Path) -> None:
    """Names in a folder, onto the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
