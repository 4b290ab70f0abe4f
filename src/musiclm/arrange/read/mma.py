"""Bands from Musical MIDI Accompaniment (`mma`, GPL-2+), a program that plays chords in some 2000 grooves. Optional.

A library of the program is folders of style files; a style file defines grooves: the pattern itself, others of the same
band, an introduction, fills, an ending. `read_library` lists what can be used. `play` lets the program write a band's
MIDI and reads it back as parts whose roles are known, since each of the program's tracks says what it is for.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.packages import need
from musiclm.arrange.read.works import read_track
from musiclm.arrange.score import Note, Part, Role

LICENCE = "GPL-2+"
_HOMES = (Path("/usr/share/mma"), Path("/usr/local/share/mma"))
_TIMEOUT_S = 120
_TIMES = {"4": (4, 4), "4/4": (4, 4), "3": (3, 4), "3/4": (3, 4)}
# which track plays what; others (fixed notes, sound effects) are left out
_ROLES: dict[str, Role] = {
    "BASS": "bass", "WALK": "bass", "CHORD": "chords", "PLECTRUM": "chords", "ARPEGGIO": "arpeggio", "SCALE": "unknown",
    "DRUM": "drums",
}  # fmt: skip
_BASS_BELOW = 52  # MIDI: a bass track may hold any line of single notes, and is a bass where its median lies below
_HARMONY = re.compile(r"^\s*Begin\s+(Chord|Plectrum|Arpeggio)\b(?!.*Define)", re.IGNORECASE | re.MULTILINE)
_BASS = re.compile(r"^\s*Begin\s+(Bass|Walk)\b(?!.*Define)", re.IGNORECASE | re.MULTILINE)
_EXTRA = re.compile(r"(intro|end|fill|break|endstop|final)\w*$", re.IGNORECASE)
# a chord quality of ours as the program spells it
_QUALITIES = {"maj7": "M7", "maj9": "M9", "add9": "(add9)", "madd9": "m(add9)", "dim": "dim3"}


class MmaError(ValueError):
    """The program is missing, or failed on a piece. The message is one line."""


@dataclass(frozen=True)
class Mma:
    """The program as found: the script, and the folder with its modules and its library."""

    script: Path
    home: Path

    @property
    def library(self) -> Path:
        return self.home / "lib"


@dataclass(frozen=True, kw_only=True)
class GrooveFile:
    """A style file: grooves that one band plays."""

    name: str  # of the file in the library, without suffix: "stdlib/bossanova"
    about: str  # what its author says of it, one line; may be empty
    metre: tuple[int, int]
    grooves: tuple[str, ...]  # for whole sections, at least one
    intros: tuple[str, ...] = ()
    fills: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()


def find_mma(folder: Path | None = None) -> Mma | None:
    """The program in `folder`: its own, or the root of an unpacked package. Without one, that on PATH, with its files
    where its own variable MMA_HOME says. None if it isn't there.

    Raises: MmaError if a folder is named and holds no such program.
    """
    if folder is None:
        found = shutil.which("mma")
        named = os.environ.get("MMA_HOME")
        homes = [
            home
            for home in ((Path(named),) if named else _HOMES)
            if (home / "MMA").is_dir() and (home / "lib").is_dir()
        ]
        return Mma(Path(found), homes[0]) if found and homes else None
    for home in (folder / "usr/share/mma", folder):
        for script in (folder / "usr/bin/mma", folder / "mma", folder / "mma.py"):
            if script.is_file() and (home / "MMA").is_dir() and (home / "lib").is_dir():
                return Mma(script.absolute(), home.absolute())
    raise MmaError(f"{folder}: no program mma with its folders MMA and lib; unpack the Debian package mma there")


@lru_cache(maxsize=2)
def read_library(library: Path) -> tuple[GrooveFile, ...]:
    """The bands of four or three quarters a bar that have a bass and something that plays chords, by name."""
    bands = [_read_style(path, path.relative_to(library).with_suffix("").as_posix()) for path in library.rglob("*.mma")]
    return tuple(sorted((band for band in bands if band), key=lambda band: band.name))


@lru_cache(maxsize=2)
def digest(library: Path) -> str:
    """Changes where a style file does."""
    files = sorted(library.rglob("*.mma"))
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()[:16]


def spell(root: int, quality: str) -> str:
    """A chord as the program reads it, such as "Ebm7"."""
    names = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
    return names[root % 12] + _QUALITIES.get(quality, quality)


def play(mma: Mma, lines: Sequence[str]) -> tuple[Part, ...]:
    """The band's parts, in quarter notes, for a piece in the program's own language.

    Raises: MmaError with the program's complaint if it refuses the piece, or if nothing sounds.
    """
    mido = need("mido")
    with tempfile.TemporaryDirectory() as scratch:
        piece, midi = Path(scratch, "piece.mma"), Path(scratch, "piece.mid")
        piece.write_text("\n".join([*lines, ""]), encoding="utf-8")
        command = [sys.executable, str(mma.script), str(piece), "-f", str(midi)]
        environment = {**os.environ, "MMA_HOME": str(mma.home), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                cwd=scratch,
                timeout=_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MmaError(f"mma did not finish: {error}") from error
        if done.returncode != 0 or not midi.is_file():
            raise MmaError(f"mma failed: {' '.join((done.stdout + done.stderr).split())[-200:] or done.returncode}")
        file = mido.MidiFile(file=io.BytesIO(midi.read_bytes()), clip=True)
    parts: dict[tuple[Role, str], Part] = {}
    for track in file.tracks:
        role = _ROLES.get(str(track.name).split("-")[0].upper())
        for part in read_track(track, file.ticks_per_beat) if role else ():
            kind = _role(role or "unknown", part)
            known = parts.get((kind, part.instrument))
            notes = _clean([*(known.notes if known else ()), *part.notes])
            parts[kind, part.instrument] = replace(part, role=kind, notes=notes, level_db=0.0)
    if not any(part.notes for part in parts.values()):
        raise MmaError("mma wrote no notes")
    return tuple(parts.values())


def _role(role: Role, part: Part) -> Role:
    """What a part of a track is for; "unknown" for a line of single notes that is no bass."""
    pitches = sorted(note.pitch for note in part.notes)
    if INSTRUMENTS[part.instrument].family == "percussion":
        return "percussion"
    if part.role == "effects":
        return "effects"
    return "unknown" if role == "bass" and pitches[len(pitches) // 2] >= _BASS_BELOW else role


def _clean(notes: Sequence[Note]) -> tuple[Note, ...]:
    """In order; nothing begins before the piece, and of strokes on one key at one moment the louder stays."""
    kept: dict[tuple[float, int], Note] = {}
    for note in notes:
        place = (max(0.0, note.start), note.pitch)
        if place not in kept or kept[place].velocity < note.velocity:
            kept[place] = replace(note, start=place[0])
    return tuple(kept[place] for place in sorted(kept))


def _read_style(path: Path, name: str) -> GrooveFile | None:
    """A style file; None if it is no whole band or its metre is none of ours."""
    text = path.read_text(encoding="utf-8", errors="replace")
    times = {time for time in re.findall(r"^\s*Time\s+(\d+(?:/\d+)?)", text, re.IGNORECASE | re.MULTILINE)}
    signed = re.findall(r"^\s*TimeSig\s+(\d+)[ /]+(\d+)", text, re.IGNORECASE | re.MULTILINE)
    metres = {_TIMES.get(time) for time in times} | {(int(beats), int(unit)) for beats, unit in signed}
    names = list(dict.fromkeys(re.findall(r"^\s*DefGroove\s+([^\s/]+)", text, re.IGNORECASE | re.MULTILINE)))
    extras = {groove: found[1].lower() for groove in names if (found := _EXTRA.search(groove))}
    whole = tuple(groove for groove in names if groove not in extras)
    if len(metres) != 1 or None in metres or not whole or not _HARMONY.search(text) or not _BASS.search(text):
        return None
    about = re.search(r"^\s*Begin\s+Doc\s*$(.*?)^\s*End\s*$", text, re.IGNORECASE | re.MULTILINE | re.DOTALL)

    def those(*kinds: str) -> tuple[str, ...]:
        return tuple(groove for groove, kind in extras.items() if kind in kinds)

    metre = metres.pop()
    assert metre is not None
    return GrooveFile(
        name=name,
        about=" ".join(about[1].split())[:200] if about else "",
        metre=metre,
        grooves=whole,
        intros=those("intro"),
        fills=those("fill"),
        endings=those("end"),
    )
