"""Finished pieces played as they are written: MIDI files, MusicXML, and the music in Doom's WAD files, each as a
`Score`.

Notes, instruments and tempi are the file's; volume and expression become velocities, a held pedal longer notes, a bend
the nearest pitch. Bank changes and SysEx are ignored: everything is General MIDI, with drums on channel 10. What a file
does not tell (style, form, who has the melody) the score leaves open, and `facts` measures what it can from the notes.
"""

import bisect
import hashlib
import io
import json
import math
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from musiclm.arrange import limits
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.packages import need
from musiclm.arrange.read.sources import Files, in_processes, list_files, try_reading
from musiclm.arrange.score import AS_WRITTEN, Note, Origin, Part, Role, Score, to_json
from musiclm.arrange.timeline import bar_quarters
from musiclm.core.output import write_atomic
from musiclm.core.theory import estimate_key

MOST_S = 300.0  # what is longer ends at the last bar line before
LEAST_S = 10.0
GAP_S = 4.0  # silence longer than this is shortened by whole bars
_READ_VERSION = 2  # raise when reading changes, so that caches are made anew
_SUFFIXES = (".mid", ".midi", ".wad", ".mxl", ".musicxml", "info.csv", "chord_midi.txt")
_LICENCE_FILES = re.compile(r"(^|/)(copyright|(LICEN[CS]E|COPYING|COPYRIGHT)(\.\w+)?)$")
_DRUM_CHANNEL = 9
_METRES = ((4, 4), (3, 4), (2, 4), (5, 4), (6, 4), (3, 8), (5, 8), (6, 8), (7, 8), (9, 8), (12, 8))
_PROGRAMS = {i.program: name for name, i in INSTRUMENTS.items() if not i.on_drum_channel}
_KITS = {i.program: name for name, i in INSTRUMENTS.items() if i.family == "drums"}
# a clap belongs to the kit; the other keys that hand percussion owns are its own
_HANDS = {key: name for name, i in INSTRUMENTS.items() for key in i.drum_keys if key != 39}
# four voices that name no instruments: soprano, alto, tenor and bass
_CHOIRS = {
    "string quartet": (40, 40, 41, 42), "choir": (52, 52, 52, 52), "church organ": (19, 19, 19, 19),
    "woodwinds": (73, 68, 71, 70),
    "brass": (56, 60, 57, 57), "harpsichord": (6, 6, 6, 6),
}  # fmt: skip
# a part for a voice, and what plays it: programs by the lowest MIDI pitch that its median may have
_VOICE = re.compile(r"\b(voices?|vocals?|singer|singstimme|stimme|gesang|chant|canto)\b", re.IGNORECASE)
_SINGERS = {0: (42, 70, 57, 60), 62: (41, 69, 71, 66, 60), 69: (40, 73, 68, 71, 40, 64, 52)}
_FREE = {"freedoom-license": "BSD-3-Clause", "GPL-2.0": "GPL-2", "GPL-3.0": "GPL-3"}  # as Debian writes them, as we do


@dataclass(frozen=True)
class Works:
    scores: tuple[str, ...] = ()  # JSON of `Score`
    skipped: tuple[tuple[str, str], ...] = ()  # (file, reason)
    stamp: str = ""


@dataclass
class _Channel:
    """What a MIDI channel is set to while its messages go by; `gains` and `bends` keep their past as (tick, value)."""

    program: int = 0
    volume: int = 100
    expression: int = 127
    pedal: bool = False
    registered: list[int] = field(default_factory=lambda: [127, 127])  # parameter that data entry sets
    bend_range: int = 2  # semitones
    gains: list[tuple[int, float]] = field(default_factory=lambda: [(0, 100 / 127)])
    bends: list[tuple[int, float]] = field(default_factory=lambda: [(0, 0.0)])
    sounding: dict[int, "_Struck"] = field(default_factory=dict)
    held: list["_Struck"] = field(default_factory=list)  # by the pedal alone


@dataclass
class _Struck:
    channel: int
    program: int
    pitch: int
    velocity: int
    on: int  # ticks
    off: int = -1


def load_works(folder: Path, cache: Path | None = None, jobs: int = 1) -> Works:
    """The finished pieces that the folder holds, as files or in .tar.xz archives; with `cache`, a JSON file, read once.

    MIDI files of Groove MIDI and POP909 are sources of the arranger and left to it. Raises: ValueError if there is no
    such folder or no piece in it, ImportError if a reader is missing.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of finished pieces")
    files = dict(list_files(folder, lambda name: name.lower().endswith(_SUFFIXES) or bool(_LICENCE_FILES.search(name))))
    digests = [(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())]
    stamp = hashlib.sha256(f"{_READ_VERSION} {digests}".encode()).hexdigest()
    if cache and cache.is_file():
        known = json.loads(cache.read_text(encoding="utf-8"))
        if known.get("stamp") == stamp:
            return _from_cache(known)
    works = replace(read_works(files, jobs), stamp=stamp)
    if not works.scores:
        raise ValueError(f"{folder}: no finished piece (.mid, .mxl, .wad) that can be read; leave --works out")
    if cache:
        write_atomic(cache, json.dumps(vars(works)))
    return works


@lru_cache(maxsize=1)
def cached_works(cache: Path) -> Works:
    """What `load_works` wrote."""
    return _from_cache(json.loads(cache.read_text(encoding="utf-8")))


def read_works(files: Files, jobs: int = 1) -> Works:
    """Every piece once, in order of its file's name; what can't be read, is empty or was there already is listed."""
    skipped: list[tuple[str, str]] = []
    found = [piece for name in sorted(files) if not _is_source(name, files) for piece in _pieces(name, files, skipped)]
    if any(data[:4] == b"MThd" for _, data in found):
        need("mido")
    if any(name.lower().endswith((".mxl", ".musicxml")) for name, _ in found):
        need("music21")
    first: dict[bytes, str] = {}
    wanted = []
    for name, data in found:
        if data in first:
            skipped.append((name, f"the same as {first[data]}"))
        else:
            first[data] = name
            wanted.append((name, data, licence_of(name, files)))
    scores = []
    for text, complaints in in_processes(_read, wanted, jobs):
        scores += [text] if text else []
        skipped += complaints
    return Works(tuple(scores), tuple(sorted(skipped)))


def licence_of(name: str, files: Files) -> str:
    """What the nearest licence file says: one beside the piece or in a folder above, or that of a Debian package
    unpacked there.
    """
    for folder in PurePosixPath(name).parents:
        inside = re.compile(re.escape("" if str(folder) == "." else f"{folder}/") + r"(usr/share/doc/[^/]+/)?[^/]+$")
        found = [path for path in sorted(files) if _LICENCE_FILES.search(path) and inside.match(path)]
        if len(found) == 1:
            text = files[found[0]].decode("utf-8", "replace")
            stated = re.search(r"^License: *(\S+)", text, re.MULTILINE)
            if not stated and re.search(r"^\s*CC0 1\.0 Universal", text, re.MULTILINE):
                return "CC0"
            return _FREE.get(stated[1], stated[1]) if stated else f"see {found[0]}"
        if found:
            return f"see {', '.join(found)}"
    return "unknown"


def read_midi(data: bytes, origin: Origin) -> Score:
    """A MIDI file as a score: a part an instrument.

    Raises: ValueError for what is no music we can play or too much of it, and what mido raises.
    """
    mido = need("mido")
    limits.check_size(len(data))
    midi = mido.MidiFile(file=io.BytesIO(data), clip=True)
    if midi.type == 2 or not 0 < midi.ticks_per_beat < 0x8000:
        raise ValueError("its tracks are separate pieces, or its time is not counted in beats")
    ticks = max((sum(message.time for message in track) for track in midi.tracks), default=0)
    limits.check_messages(sum(map(len, midi.tracks)), ticks / midi.ticks_per_beat)
    struck, channels, tempi, metre = _played(mido.merge_tracks(midi.tracks, skip_checks=True))
    if not struck:
        raise ValueError("no notes")
    parts = _parts(struck, channels, midi.ticks_per_beat)
    tempo, *changes = [(tick / midi.ticks_per_beat, bpm) for tick, bpm in tempi]
    end = max(note.start + note.duration for part in parts for note in part.notes)
    score = Score(
        style=AS_WRITTEN, seed=0, tempo_bpm=tempo[1], tempo_changes=tuple(changes), beats_per_bar=metre[0],
        beat_unit=metre[1],
        duration=end, parts=parts, sections=(), chords=(), origins=(origin,),
    )  # fmt: skip
    score = _cut_short(_without_silence(score))
    limits.check_parts(score.parts)
    if score.seconds < LEAST_S:
        raise ValueError(f"{score.seconds:.1f} s of music, less than {LEAST_S:.0f}")
    key = estimate_key(_weights(score.parts))
    return replace(score, tonic=key.tonic, mode=key.mode) if key else score


def read_track(messages: Iterable[Any], ticks: int) -> tuple[Part, ...]:
    """The parts of one track: its messages in order, `ticks` a quarter note. None if it strikes no note.

    Raises: ValueError if no note of it sounds.
    """
    struck, channels, _, _ = _played(messages)
    return _parts(struck, channels, ticks) if struck else ()


def _from_cache(known: dict[str, Any]) -> Works:
    skipped = tuple((name, reason) for name, reason in known["skipped"])
    return Works(tuple(known["scores"]), skipped, known["stamp"])


def _is_source(name: str, files: Files) -> bool:
    """Whether a file belongs to Groove MIDI or POP909."""
    above = [str(folder) for folder in PurePosixPath(name).parents]
    groove = any(b"midi_filename" in files.get(f"{folder}/info.csv".removeprefix("./"), b"")[:300] for folder in above)
    return groove or any(f"{folder}/chord_midi.txt".removeprefix("./") in files for folder in above)


def _pieces(name: str, files: Files, skipped: list[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """The pieces of a file by name: itself, or the music of a WAD; what is broken of that is listed in `skipped`."""
    data = files[name]
    if name.lower().endswith(".wad"):
        for lump, piece, problem in _lumps(data):
            if problem:
                skipped.append((f"{name}/{lump}".removesuffix("/"), problem))
            else:
                yield f"{name}/{lump}", piece
    elif name.lower().endswith((".mid", ".midi", ".mxl", ".musicxml")):
        yield name, data


def _lumps(data: bytes) -> Iterator[tuple[str, bytes, str]]:
    """The music of a WAD archive, the lumps whose names begin with D_, as (name, content, ""); what is broken as (name
    or "", b"", reason).
    """
    if data[:4] not in (b"IWAD", b"PWAD") or len(data) < 12:
        yield "", b"", "no WAD archive"
        return
    count, directory = struct.unpack_from("<II", data, 4)
    whole = min(count, max(0, len(data) - directory) // 16)
    if whole < count:
        yield "", b"", f"a damaged WAD archive: {whole} of {count} entries of its directory are there"
    total, any_music = 0, False
    for at in range(directory, directory + 16 * whole, 16):
        start, size, entry = struct.unpack_from("<II8s", data, at)
        lump = entry.split(b"\0")[0].decode("ascii", "replace")
        if not lump.startswith("D_"):
            continue
        any_music = True
        total += size
        if total > len(data):  # entries that share their content may add up to any size
            yield lump, b"", "a damaged WAD archive: its music is larger than the file"
            return
        if start + size > len(data):
            yield lump, b"", "cut short: it ends after the archive does"
        else:
            yield lump, data[start : start + size], ""
    if whole == count and not any_music:
        yield "", b"", "no music in it"


def _read(name: str, data: bytes, licence: str) -> tuple[str, list[tuple[str, str]]]:
    """JSON of the piece's score, or nothing, and complaints."""
    skipped: list[tuple[str, str]] = []
    folder, _, rest = name.partition("/")
    title = PurePosixPath(rest or folder).with_suffix("").name
    origin = Origin(what="piece", source=folder if rest else "works", name=title, licence=licence)

    def read() -> Score:
        if data[:4] == b"MThd":
            return read_midi(data, origin)
        if data[:4] == b"MUS\x1a":
            raise ValueError("Doom's own MUS format; turn it into MIDI first")
        if name.lower().endswith((".mxl", ".musicxml")):
            return read_midi(*_midi_of_xml(name, data, origin))
        raise ValueError("no MIDI file" if data else "empty")

    score = try_reading(read, name, skipped)
    return (to_json(score) if score else ""), skipped


def _midi_of_xml(name: str, data: bytes, origin: Origin) -> tuple[bytes, Origin]:
    """A MIDI file of a MusicXML score. Voices without instruments get some, by the hash of the piece's name."""
    limits.check_size(len(data))
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            limits.check_size(sum(entry.file_size for entry in archive.infolist()))
    from music21 import converter, instrument

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, f"piece{PurePosixPath(name).suffix.lower()}")
        path.write_bytes(data)
        stream: Any = converter.parse(path, forceSource=True)
        parts = list(stream.parts)
        named = [part.getInstrument(returnDefault=False) for part in parts]
        if len(parts) == 4 and not any(found is not None and found.midiProgram for found in named):
            ensemble = sorted(_CHOIRS)[hashlib.sha256(origin.name.encode()).digest()[0] % len(_CHOIRS)]
            for part, program in zip(parts, _CHOIRS[ensemble], strict=True):
                part.removeByClass(instrument.Instrument)
                part.insert(0, instrument.instrumentFromMidiProgram(program))
        else:
            for part in parts:
                _let_sing(part, origin.name)
        midi = Path(scratch, "piece.mid")
        stream.write("midi", midi)
        stated = stream.metadata.copyright if stream.metadata else None
        credit = re.search(r"(?:©|\(c\)|[Cc]opyright)[^\n]{3,80}", str(stated) if stated else _credits(stream))
        licence = origin.licence if origin.licence != "unknown" or not credit else f"as the file says: {credit[0]}"
        return midi.read_bytes(), replace(origin, licence=licence)


def _let_sing(part: Any, name: str) -> None:
    """A part for a voice gets an instrument of its register, by the hash of the piece's name.

    Files give all the same.
    """
    from music21 import instrument

    pitches = sorted(pitch.midi for pitch in part.pitches)
    if not pitches or not _VOICE.search(str(part.partName or "")):
        return
    middle = pitches[len(pitches) // 2]
    choice = _SINGERS[max(low for low in _SINGERS if low <= middle)]
    program = choice[hashlib.sha256(f"{name}/{part.partName}".encode()).digest()[0] % len(choice)]
    for found in list(part.recurse().getElementsByClass(instrument.Instrument)):
        found.activeSite.remove(found)
    part.insert(0, instrument.instrumentFromMidiProgram(program))


def _credits(stream: Any) -> str:
    return "\n".join(str(box.content) for box in stream.getElementsByClass("TextBox"))


def _played(
    messages: Iterable[Any],
) -> tuple[list[_Struck], list[_Channel], list[tuple[int, float]], tuple[int, int]]:
    """Notes, channels with their past, tempi as (tick, quarters a minute) and the first metre."""
    channels = [_Channel() for _ in range(16)]
    struck: list[_Struck] = []
    tempi = [(0, 120.0)]
    metre: tuple[int, int] | None = None
    now = 0
    for message in messages:
        now += message.time
        if message.type == "set_tempo" and message.tempo > 0:
            bpm = min(1000.0, max(1.0, 6e7 / message.tempo))
            tempi = [*(tempi if tempi[-1][0] < now else tempi[:-1]), (now, bpm)]
        elif message.type == "time_signature" and metre is None:
            metre = (message.numerator, message.denominator)
        elif not message.is_meta and hasattr(message, "channel"):
            _heed(channels[message.channel], message, now, struck)
    for channel in channels:
        for note in [*channel.sounding.values(), *channel.held]:
            note.off = now
    joined = [tempi[0], *(tempo for before, tempo in zip(tempi, tempi[1:], strict=False) if tempo[1] != before[1])]
    return struck, channels, joined, metre if metre in _METRES else (4, 4)


def _heed(channel: _Channel, message: Any, now: int, struck: list[_Struck]) -> None:
    """One message to a channel."""
    if message.type == "note_on" and message.velocity > 0:
        _release(channel, message.note, now)
        _drop(channel, now, message.note)
        note = _Struck(message.channel, channel.program, message.note, message.velocity, now)
        channel.sounding[message.note] = note
        struck.append(note)
    elif message.type in ("note_on", "note_off"):
        _release(channel, message.note, now)
    elif message.type == "program_change":
        channel.program = message.program
    elif message.type == "pitchwheel":
        channel.bends.append((now, message.pitch / 8192 * channel.bend_range))
    elif message.type == "control_change":
        _control(channel, message.control, message.value, now)


def _control(channel: _Channel, control: int, value: int, now: int) -> None:
    """One controller: volume, expression, pedal, bend range, and what resets them."""
    if control == 7:
        channel.volume = value
    elif control == 11 or control == 121:
        channel.expression = value if control == 11 else 127
    if control in (101, 100):
        channel.registered[control == 100] = value
    elif control == 6 and channel.registered == [0, 0]:
        channel.bend_range = value
    elif control in (64, 120, 121, 123):
        channel.pedal = control == 64 and value >= 64
        if control in (120, 123):
            for pitch in list(channel.sounding):
                _release(channel, pitch, now)
        if not channel.pedal:
            _drop(channel, now)
    if control in (7, 11, 121):
        channel.gains.append((now, channel.volume * channel.expression / 127**2))
    if control == 121:
        channel.bends.append((now, 0.0))


def _release(channel: _Channel, pitch: int, now: int) -> None:
    note = channel.sounding.pop(pitch, None)
    if note is not None and channel.pedal:
        channel.held.append(note)
    elif note is not None:
        note.off = now


def _drop(channel: _Channel, now: int, pitch: int | None = None) -> None:
    """Ends what the pedal holds: all of it, or one pitch that is struck again."""
    for note in channel.held:
        if pitch is None or note.pitch == pitch:
            note.off = now
    channel.held = [note for note in channel.held if note.off < 0]


def _parts(struck: Sequence[_Struck], channels: Sequence[_Channel], ticks: int) -> tuple[Part, ...]:
    """A part an instrument, in order of their first notes.

    Its level is that of its loudest channel setting; the rest goes into velocities.
    """
    rows: dict[str, list[tuple[float, float, int, int, float]]] = {}
    for note in struck:
        channel = channels[note.channel]
        gain = sum(_at(channel.gains, note.on + (note.off - note.on) * k // 2) for k in range(3)) / 3
        pitch = note.pitch
        if note.channel == _DRUM_CHANNEL:
            if not 27 <= pitch <= 87:  # no drum of General MIDI
                continue
            name = _HANDS.get(pitch) or _KITS.get(note.program) or _KITS.get(note.program // 8 * 8) or _KITS[0]
        else:
            name = _PROGRAMS[note.program]
            pitch = min(127, max(0, pitch + round(_at(channel.bends, (note.on + note.off) // 2))))
        if gain > 0:
            length = max(note.off - note.on, ticks // 32, 1)
            rows.setdefault(name, []).append((note.on / ticks, length / ticks, pitch, note.velocity, gain))
    if not rows:
        raise ValueError("no notes that can be heard")
    return tuple(_part(name, played) for name, played in rows.items())


def _part(name: str, played: Sequence[tuple[float, float, int, int, float]]) -> Part:
    loudest = max(gain for *_, gain in played)
    notes = [
        Note(round(start, 4), round(length, 4), pitch, min(127, max(1, round(velocity * gain / loudest))))
        for start, length, pitch, velocity, gain in played
    ]
    return Part(
        role=_role(name, notes),
        instrument=name,
        notes=tuple(sorted(notes, key=lambda note: (note.start, note.pitch))),
        level_db=round(40 * math.log10(loudest), 2),
    )


def _role(name: str, notes: Sequence[Note]) -> Role:
    """What an instrument is for, where it can hardly be for anything else."""
    instrument = INSTRUMENTS[name]
    if instrument.family == "drums":
        return "drums"
    if name == "orchestra hit" or (not instrument.on_drum_channel and instrument.program >= 119):
        return "effects"
    if instrument.family == "percussion":
        return "percussion"
    low = sorted(note.pitch for note in notes)[len(notes) // 2] <= 55
    return "bass" if instrument.family == "bass" and low else "unknown"


def _at(curve: Sequence[tuple[int, float]], tick: int) -> float:
    return curve[bisect.bisect_right(curve, tick, key=lambda point: point[0]) - 1][1]


def _weights(parts: Sequence[Part]) -> np.ndarray:
    """How long each pitch class sounds, in quarters."""
    weight = np.zeros(12)
    for part in parts:
        if INSTRUMENTS[part.instrument].family not in ("drums", "percussion") and part.role != "effects":
            for note in part.notes:
                weight[note.pitch % 12] += min(note.duration, 4.0)
    return weight


def _without_silence(score: Score) -> Score:
    """Whole bars taken out before the first note and where all are silent for long."""
    bar = bar_quarters(score)
    spans = sorted((note.start, note.start + note.duration) for part in score.parts for note in part.notes)
    reached, places, removed = 0.0, [], [0.0]
    for start, end in spans:
        at, bars = math.ceil(reached / bar - 1e-6) * bar, 0
        if reached == 0.0:
            bars = int(start // bar)
        elif score.seconds_at(start) - score.seconds_at(reached) > GAP_S:
            bars = int((start - at) // bar)
        if bars > 0:
            places.append(at)
            removed.append(removed[-1] + bars * bar)
        reached = max(reached, end)

    def moved(place: float) -> float:
        before = bisect.bisect_left(places, place)  # cuts that begin before it: all of them but perhaps the last are
        inside = place - places[before - 1] if before else 0.0
        return round(place - min(removed[before], removed[before - 1] + inside if before else 0.0), 4)

    parts = tuple(
        replace(part, notes=tuple(replace(note, start=moved(note.start)) for note in part.notes))
        for part in score.parts
    )
    first, *changes = [(0.0, score.tempo_bpm), *((moved(place), bpm) for place, bpm in score.tempo_changes)]
    for place, bpm in list(changes):
        if place <= 0:
            first, changes = (0.0, bpm), changes[1:]
    return replace(
        score,
        parts=parts,
        tempo_bpm=first[1],
        tempo_changes=tuple(changes),
        duration=moved(max(end for _, end in spans)),
    )


def _cut_short(score: Score) -> Score:
    """What lasts longer than MOST_S, up to the last bar line before it."""
    if score.seconds <= MOST_S:
        return score
    bar = bar_quarters(score)
    bars = range(1, int(score.duration // bar) + 1)
    end = max(1, bisect.bisect_right(bars, MOST_S, key=lambda n: score.seconds_at(n * bar))) * bar
    parts = tuple(
        replace(
            part,
            notes=tuple(
                replace(note, duration=min(note.duration, end - note.start)) for note in part.notes if note.start < end
            ),
        )
        for part in score.parts
    )
    changes = tuple(change for change in score.tempo_changes if change[0] < end)
    return replace(score, parts=tuple(part for part in parts if part.notes), tempo_changes=changes, duration=end)
