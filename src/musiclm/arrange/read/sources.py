"""Melodies, chords and drumming from elsewhere, read from a folder by libraries.

All of it is optional: without any, pieces are made of own material. The folder may hold files, folders and .tar.xz
archives in any order. What is looked for: ABC tunes with chord symbols (Nottingham), the Groove MIDI dataset (an
info.csv beside its MIDI files), POP909 (beats, chords and keys of songs, with phrase labels). A file that can't be read
is skipped and listed.
"""

import csv
import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from musiclm.arrange import limits
from musiclm.arrange.packages import need
from musiclm.arrange.score import QUALITIES, Mode, Note
from musiclm.core.output import write_atomic
from musiclm.core.unicode import name_text
from musiclm.core.workers import pool

# chords of a bar: (start in the bar, duration, root above the tonic, quality)
RelativeBar = tuple[tuple[float, float, int, str], ...]
Files = Mapping[str, bytes]  # path inside the folder or archive -> content

_SUFFIXES = (".abc", ".mid", ".midi", ".csv", ".txt")
_READ_VERSION = 1  # raise when reading changes, so that caches are made anew
_CHORDS = {
    "maj": "", "min": "m", "min7": "m7", "maj7": "maj7", "7": "7", "sus2": "sus2", "sus4": "sus4", "sus4(b7)": "7sus4",
    "maj6": "6", "min6": "m6", "dim": "dim", "hdim7": "m7b5", "dim7": "dim7", "aug": "aug",
}  # fmt: skip
_NAMES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
# an electronic kit's zones on the nearest General MIDI drum
_ZONES = {22: 42, 26: 46, 40: 38, 58: 43}
_LICENCE_TUNES = "GPL-3 (collection); tunes traditional"
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class TunePart:
    """Bars of a tune with its tonic at C; `notes` and `chords` are as long as each other."""

    notes: tuple[tuple[Note, ...], ...]
    chords: tuple[RelativeBar, ...]


@dataclass(frozen=True, kw_only=True)
class FolkTune:
    source: str
    name: str
    licence: str
    metre: tuple[int, int]
    mode: Mode
    parts: tuple[TunePart, ...]  # the strains, each once


@dataclass(frozen=True, kw_only=True)
class SongChords:
    """Chords of a song's phrases by letter, tonic at C; never its melody."""

    source: str
    name: str
    licence: str
    mode: Mode
    phrases: dict[str, tuple[RelativeBar, ...]]


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Bars that a drummer played, with his timing: notes from the bar line of each bar, in quarters."""

    name: str
    family: str  # "rock", "jazz/swing", ...
    bpm: float
    bars: tuple[tuple[Note, ...], ...]
    swing: float  # measured: where the second eighth falls, 0.5 straight
    licence: str


@dataclass(frozen=True, kw_only=True)
class Sources:
    tunes: tuple[FolkTune, ...] = ()
    songs: tuple[SongChords, ...] = ()
    grooves: tuple[Performance, ...] = ()
    fills: tuple[Performance, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()  # (file, reason)


NO_SOURCES = Sources()


def load_sources(folder: Path, cache: Path | None = None, jobs: int = 1, needed: bool = True) -> Sources:
    """All that the folder holds. Reading a thousand ABC tunes takes minutes, spread over `jobs` processes; with
    `cache`, a JSON file, it is done once.

    Raises: ValueError if there is no such folder, or, where sources are `needed`, nothing usable in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of sources; leave --sources out to make pieces of own material")
    files = dict(list_files(folder, lambda name: name.endswith(_SUFFIXES)))
    stamp = hashlib.sha256(f"{_READ_VERSION} {[(name, len(data)) for name, data in sorted(files.items())]}".encode())
    if cache and cache.is_file():
        known = json.loads(cache.read_text(encoding="utf-8"))
        if known.get("stamp") == stamp.hexdigest():
            return from_dict(known)
    sources = read_sources(files, jobs)
    if needed and not (sources.tunes or sources.songs or sources.grooves):
        raise ValueError(f"{folder}: no tunes (.abc), grooves (info.csv and .mid) or songs (chord_midi.txt) in it")
    if cache:
        write_atomic(cache, json.dumps({"stamp": stamp.hexdigest(), **asdict(sources)}))
    return sources


def read_sources(files: Files, jobs: int = 1) -> Sources:
    """Sorts files by what they are and reads each; what fails goes to `skipped` with its reason.

    Raises: ImportError for a missing reader.
    """
    skipped: list[tuple[str, str]] = []
    if any(name.endswith(".abc") for name in files):
        need("music21")
    if any(name.endswith("info.csv") for name in files):
        need("mido")
    tunes: list[FolkTune] = []
    books = [(name, files[name]) for name in sorted(files) if name.endswith(".abc")]
    for read, complaints in in_processes(read_abc, books, jobs):
        tunes += read
        skipped += complaints
    beats, fills = _read_grooves(files, skipped)
    songs = []
    for name in sorted(files):
        if name.endswith("/chord_midi.txt"):
            song = try_reading(lambda name=name: _song(name.removesuffix("chord_midi.txt"), files), name, skipped)  # type: ignore[misc]
            if song:
                songs.append(song)
    return Sources(
        tunes=tuple(tunes), songs=tuple(songs), grooves=tuple(beats), fills=tuple(fills), skipped=tuple(skipped)
    )


def from_dict(record: Mapping[str, Any]) -> Sources:
    """The inverse of `asdict`, after JSON made lists of tuples."""

    def notes(bars: Any) -> tuple[tuple[Note, ...], ...]:
        return tuple(tuple(Note(**note) for note in bar) for bar in bars)

    def chords(bars: Any) -> tuple[RelativeBar, ...]:
        return tuple(tuple((chord[0], chord[1], chord[2], chord[3]) for chord in bar) for bar in bars)

    def tune(item: Any) -> FolkTune:
        parts = tuple(TunePart(notes=notes(part["notes"]), chords=chords(part["chords"])) for part in item["parts"])
        return FolkTune(**{**item, "metre": tuple(item["metre"]), "parts": parts})

    return Sources(
        tunes=tuple(tune(item) for item in record["tunes"]),
        songs=tuple(
            SongChords(**{**item, "phrases": {name: chords(bars) for name, bars in item["phrases"].items()}})
            for item in record["songs"]
        ),
        grooves=tuple(Performance(**{**item, "bars": notes(item["bars"])}) for item in record["grooves"]),
        fills=tuple(Performance(**{**item, "bars": notes(item["bars"])}) for item in record["fills"]),
        skipped=tuple((name, reason) for name, reason in record["skipped"]),
    )


def read_abc(name: str, data: bytes) -> tuple[list[FolkTune], list[tuple[str, str]]]:
    """The tunes of an ABC file with chord symbols, a metre we play and whole strains; (tune, reason) of the others."""
    from music21 import abcFormat

    skipped: list[tuple[str, str]] = []

    def split() -> dict[Any, Any]:
        return dict(abcFormat.ABCFile().readstr(data.decode("utf-8", "replace")).splitByReferenceNumber())

    handlers = try_reading(split, name, skipped) or {}
    tunes = []
    for number, handler in handlers.items():
        tune = try_reading(lambda handler=handler: _tune(handler), f"{name}#{number}", skipped)  # type: ignore[misc]
        if tune:
            tunes.append(tune)
    return tunes, skipped


def in_processes(read: Callable[..., _T], arguments: Sequence[tuple[Any, ...]], jobs: int) -> list[_T]:
    """`read` of all arguments, in their order, by up to `jobs` processes."""
    if jobs == 1 or len(arguments) < 2:
        return [read(*argument) for argument in arguments]
    with pool(min(jobs, len(arguments))) as processes:
        return list(processes.map(read, *zip(*arguments, strict=True), chunksize=1))


def list_files(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files that are wanted by name, in a folder and in its .tar.xz archives.

    Raises: ValueError for an archive that can't be read.
    """
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(".tar.xz"):
            try:
                with tarfile.open(path, "r:xz") as archive:
                    for member in archive:
                        if member.isfile() and wanted(member.name):
                            content = archive.extractfile(member)
                            assert content is not None
                            yield name_text(f"{path.name}/{member.name}"), content.read()
            except (tarfile.TarError, OSError, EOFError) as error:
                raise ValueError(f"{path}: can't be read ({error}); fetch it again or take it away") from error
        elif path.is_file() and wanted(path.name):
            yield name_text(path.relative_to(folder)), path.read_bytes()


def try_reading(read: Callable[[], _T], name: str, skipped: list[tuple[str, str]]) -> _T | None:
    """What `read` returns; if it fails or takes too long, nothing, and the reason goes to `skipped` by the name."""
    try:
        with limits.within(limits.READ_S):
            return read()
    except Exception as error:  # the libraries raise whatever a broken file makes them raise
        reason = " ".join(str(error).split()) or type(error).__name__
        skipped.append((name, reason[:160]))
        return None


def _tune(handler: Any) -> FolkTune:
    from music21 import abcFormat, harmony, key, meter

    part = abcFormat.translate.abcToStreamScore(handler).parts[0]
    signature = part.recurse().getElementsByClass(meter.TimeSignature).first()
    tonality = part.recurse().getElementsByClass(key.Key).first()
    if signature is None or tonality is None or tonality.mode not in ("major", "minor", "dorian", "mixolydian"):
        raise ValueError("no metre, or no key in a mode we play")
    metre = {(2, 4): (4, 4), (2, 2): (4, 4)}.get((signature.numerator, signature.denominator))
    metre = metre or (signature.numerator, signature.denominator)
    length = signature.barDuration.quarterLength
    tonic = tonality.tonic.pitchClass
    flat: list[tuple[float, Any]] = []
    strains: list[list[tuple[float, Any]]] = []
    at = 0.0
    for measure in part.getElementsByClass("Measure"):
        if measure.duration.quarterLength < length and not flat:  # an upbeat, which our bars have no place for
            continue
        flat += [(at + float(element.offset), element) for element in measure.notesAndRests]
        at += float(measure.duration.quarterLength)
        if (
            (measure.rightBarline is not None and flat and abs(at % length) < 1e-6)
            or at >= 16 * length
            or (measure.rightBarline is not None and flat and at % length)
        ):
            strains.append(flat)
            flat, at = [], 0.0
    if flat:
        strains.append(flat)
    bar = 4.0 if metre == (4, 4) else float(length)
    parts = tuple(made for strain in strains if (made := _strain(strain, bar, tonic, harmony)) is not None)
    if not parts:
        raise ValueError("no strain of eight whole bars with chords")
    title = handler.getTitle() or "untitled"
    return FolkTune(
        source="nottingham", name=title, licence=_LICENCE_TUNES, metre=metre, mode=tonality.mode, parts=parts[:3]
    )


def _strain(elements: list[tuple[float, Any]], bar: float, tonic: int, harmony: Any) -> TunePart | None:
    """Eight bars of melody and chords relative to the tonic; None if there are fewer, or no chord to begin with."""
    notes: list[list[Note]] = [[] for _ in range(8)]
    changes: list[tuple[float, int, str]] = []
    for at, element in elements:
        if at >= 8 * bar:
            break
        if isinstance(element, harmony.ChordSymbol):
            changes.append((at, (element.root().pitchClass - tonic) % 12, _quality(element)))
        elif not element.isRest and element.quarterLength > 0:
            pitch = element.pitches[-1].midi - (tonic if tonic <= 6 else tonic - 12)
            index = int(at // bar)
            notes[index].append(Note(at - index * bar, float(element.quarterLength), pitch, 84))
    if not changes or not notes[6] or changes[0][0] >= bar:
        return None
    return TunePart(notes=tuple(tuple(row) for row in notes), chords=tuple(_bars_of_changes(changes, bar, 8)))


def _quality(symbol: Any) -> str:
    kinds = {"major": "", "minor": "m", "dominant-seventh": "7", "minor-seventh": "m7", "major-seventh": "maj7"}
    return kinds.get(
        symbol.chordKind, "dim" if "dim" in symbol.chordKind else "m" if "minor" in symbol.chordKind else ""
    )


def _bars_of_changes(changes: list[tuple[float, int, str]], bar: float, num: int) -> Iterator[RelativeBar]:
    root, quality = changes[0][1:]
    for index in range(num):
        start, end = index * bar, (index + 1) * bar
        inside = [change for change in changes if start <= change[0] < end]
        if not inside or inside[0][0] > start:
            inside = [(start, root, quality), *inside]
        ends = [*[change[0] for change in inside[1:]], end]
        yield tuple(
            (at - start, stop - at, root, quality)
            for (at, root, quality), stop in zip(inside, ends, strict=True)
            if stop > at
        )
        root, quality = inside[-1][1:]


def _read_grooves(files: Files, skipped: list[tuple[str, str]]) -> tuple[list[Performance], list[Performance]]:
    beats: list[Performance] = []
    fills: list[Performance] = []
    for name in sorted(files):
        if not name.endswith("info.csv"):
            continue
        for row in csv.DictReader(io.StringIO(files[name].decode("utf-8", "replace"))):
            path = name.removesuffix("info.csv") + (row.get("midi_filename") or "?")
            if row.get("time_signature") != "4-4" or path not in files:
                continue
            played = try_reading(lambda row=row, path=path: _performance(row, files[path]), path, skipped)  # type: ignore[misc]
            if played:
                (fills if row["beat_type"] == "fill" else beats).append(played)
    return beats, fills


def _performance(row: Mapping[str, str], data: bytes) -> Performance:
    import mido

    midi = mido.MidiFile(file=io.BytesIO(data))
    notes: list[Note] = []
    for track in midi.tracks:
        at = 0
        for message in track:
            at += message.time
            if message.type == "note_on" and message.velocity > 0:
                pitch = _ZONES.get(message.note, message.note)
                notes.append(Note(at / midi.ticks_per_beat, 0.2, pitch, message.velocity))
    bars: dict[int, list[Note]] = {}
    for note in sorted(notes, key=lambda note: note.start):
        index = int((note.start + 0.12) // 4)  # a stroke just before the bar line means the one after it
        bars.setdefault(index, []).append(Note(round(note.start - 4 * index, 4), 0.2, note.pitch, note.velocity))
    fill = row["beat_type"] == "fill"
    whole = [tuple(bars.get(index, ())) for index in range(max(bars, default=-1) + 1)]
    whole = [max(whole, key=len)] if fill and whole else [bar for bar in whole[:-1] if len(bar) >= 4][:8]
    if not whole:
        raise ValueError("no whole bar of drumming")
    offbeats = sorted(note.start % 1 for bar in whole for note in bar if 0.4 < note.start % 1 < 0.75)
    swing = offbeats[len(offbeats) // 2] if len(offbeats) >= 6 else 0.5
    return Performance(
        name=row["id"],
        family=row["style"],
        bpm=float(row["bpm"]),
        bars=tuple(whole),
        swing=round(swing, 3),
        licence="CC BY 4.0",
    )


def _song(prefix: str, files: Files) -> SongChords:
    """Chords of a song by the letters of its phrases, from its beats in fours and its one key."""
    number = prefix.rstrip("/").rsplit("/", 1)[-1]
    keys = [line.split() for line in files[f"{prefix}key_audio.txt"].decode().splitlines() if line.strip()]
    if len(keys) != 1:
        raise ValueError("more keys than one")
    name, quality = keys[0][2].split(":")
    tonic = _pitch_class(name)
    beats = [line.split() for line in files[f"{prefix}beat_midi.txt"].decode().splitlines() if line.strip()]
    times = [float(beat[0]) for beat in beats]
    downbeats = [index for index, beat in enumerate(beats) if float(beat[2]) == 1]
    spans = [line.split() for line in files[f"{prefix}chord_midi.txt"].decode().splitlines() if line.strip()]
    labels = next((files[path] for path in sorted(files) if path.endswith(f"/{number}/human_label1.txt")), None)
    if labels is None:
        raise ValueError("no phrase labels")
    phrases: dict[str, tuple[RelativeBar, ...]] = {}
    at = 0
    for letter, count in re.findall(r"([A-Za-z])(\d+)", labels.decode()):
        bars = downbeats[at : at + int(count)]
        at += int(count)
        whole = all(b - a == 4 for a, b in zip(bars, [*bars[1:], bars[-1] + 4], strict=True)) if bars else False
        if letter.isupper() and int(count) in (4, 8) and whole and letter not in phrases and bars[-1] + 4 <= len(times):
            phrases[letter] = tuple(_song_bars(bars, times, spans, tonic))
    lengths = Counter(len(bars) for bars in phrases.values())
    if not phrases:
        raise ValueError("no phrase of four or eight bars in fours")
    length = lengths.most_common(1)[0][0]
    return SongChords(
        source="pop909",
        name=number,
        licence="MIT",
        mode="major" if quality == "maj" else "minor",
        phrases={letter: bars for letter, bars in phrases.items() if len(bars) == length},
    )


def _song_bars(bars: list[int], times: list[float], spans: list[list[str]], tonic: int) -> Iterator[RelativeBar]:
    changes: list[tuple[float, int, str]] = []
    for index, first in enumerate(bars):
        for beat in range(4):
            place = times[first + beat] + 0.05
            text = next((span[2] for span in spans if float(span[0]) <= place < float(span[1])), "N")
            if text == "N" or beat % 2 == 1:  # changes on every beat are passing chords
                continue
            name, kind = text.split("/")[0].split(":")
            found = ((_pitch_class(name) - tonic) % 12, _CHORDS.get(kind, ""))
            assert found[1] in QUALITIES
            if not changes or changes[-1][1:] != found:
                changes.append((index * 4.0 + beat, *found))
    if not changes or changes[0][0] >= 4.0:
        raise ValueError("a phrase without chords")
    yield from _bars_of_changes(changes, 4.0, len(bars))


def _pitch_class(name: str) -> int:
    return (_NAMES[name[0]] + name.count("#") - name.count("b")) % 12
