"""What of a file is audio, where headers are wrong and libsndfile believes them.

- WAV: programs that write to a pipe leave sizes of 0, and some miscount their own header. The `data` chunk decides, or
  the end of the file.
- Ogg, FLAC and MP3 files may be several streams one after another (joined files, recorded broadcasts). libsndfile reads
  the first.
- MP3, also in a WAV file: without a Xing frame libsndfile guesses the length from the first frame's bitrate and stops
  there, a Xing frame may count too few, and after a frame that is cut off libsndfile may stop without a word. Here
  frames are counted, each row of whole ones is a stream, and it goes through a pipe, of which nobody can guess the
  length.
"""

import io
import mmap
import os
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_UNKNOWN = 0x7FFFF000  # sizes from here on are what programs write that don't know them
_MISCOUNTED = 64  # bytes by which a WAV's `data` chunk may pass the end: a header counted in, not lost music
_OGG_BEGINS = re.compile(rb"OggS\0[\x02\x03\x06\x07]")
_FLAC_BEGINS = re.compile(rb"fLaC[\x00\x80]\0\0\x22")
_FEWEST_FRAMES = 4  # of MPEG audio in a row; fewer are coincidence
_LOST_FRAMES = 20  # half a second that a damaged file may lack
_FLAC_TOTAL = 8 + 13  # where the 36 bits of the number of samples begin, four bits late

# MPEG audio, layer III: kbit/s and Hz by index
_RATES_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_RATES_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


class Truncated(ValueError):
    """A file ends before its own structure does; the message says by how much."""


@dataclass(frozen=True)
class Stream:
    """The bytes [start, stop) of a file, read as if `patches`, by position in the file, stood there."""

    start: int
    stop: int
    patches: Mapping[int, bytes] = field(default_factory=dict)
    promised: int | None = None  # samples a channel that there must be, whatever libsndfile takes from the header

    def covers(self, size: int) -> bool:
        """Whether this is the whole file as it is."""
        return self.start == 0 and self.stop == size and not self.patches


def streams(path: Path, kind: str) -> list[Stream]:
    """The streams of a file, one at least. `kind` is libsndfile's name of its format, "MP3" for that in a WAV file too.

    Raises: Truncated if the file is cut short, OSError if it can't be read.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size == 0:
            return [Stream(0, 0)]
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
                whole = _wav(data)
                return _mp3(data, _samples_of_wav(data)) if kind == "MP3" else [whole]
            if data[:4] == b"OggS":
                return _ogg(data)
            if kind == "FLAC":
                return _flac(data)
            if kind == "MP3":
                return _mp3(data)
    return [Stream(0, size)]


class FilePart(io.RawIOBase):
    """A stream of a file as a file of its own, for libsndfile."""

    def __init__(self, path: Path, stream: Stream) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 (closed with this)
        self._stream = stream
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._stream.stop - self._stream.start}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Into anything with a length whose bytes can be set; libsndfile brings a kind of its own."""
        begin = self._stream.start + self._at
        self._file.seek(begin)
        data = bytearray(self._file.read(max(0, min(len(buffer), self._stream.stop - begin))))
        for place, new in self._stream.patches.items():
            first, last = max(place, begin), min(place + len(new), begin + len(data))
            if first < last:
                data[first - begin : last - begin] = new[first - place : last - place]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def pipe(part: FilePart) -> int:
    """A file descriptor from which all of `part` can be read, but not where it ends.

    Who reads closes it, at any moment.
    """
    read_end, write_end = os.pipe()

    def feed() -> None:
        with part:
            try:
                with os.fdopen(write_end, "wb", buffering=0) as out:
                    while block := part.read(1 << 16):
                        rest = memoryview(block)
                        while rest:
                            rest = rest[out.write(rest) or 0 :]
            except BrokenPipeError:
                pass  # nobody wants the rest

    threading.Thread(target=feed, daemon=True).start()
    return read_end


def _wav(data: mmap.mmap) -> Stream:
    """A WAV file with the size of its samples put right."""
    size, at = len(data), _samples_of_wav(data) - 8
    if at + 8 > size:
        return Stream(0, size)
    length, there = struct.unpack_from("<I", data, at + 4)[0], size - at - 8
    if _UNKNOWN <= length < 0xFFFFFFFF or (length == 0 and there and not _are_chunks(data, at + 8)):
        known = struct.pack("<I", min(there, 0xFFFFFFFF))
        return Stream(0, size, {4: struct.pack("<I", min(size - 8, 0xFFFFFFFF)), at + 4: known})
    if length < _UNKNOWN and length > there + _MISCOUNTED:
        raise Truncated(f"truncated, {there} of {length} bytes of samples are there")
    return Stream(0, size)


def _samples_of_wav(data: mmap.mmap) -> int:
    """Where the samples of a WAV file begin; past the end of a file that has none."""
    size, at = len(data), 12
    while at + 8 <= size and data[at : at + 4] != b"data":
        length = struct.unpack_from("<I", data, at + 4)[0]
        at += 8 + length + length % 2
    return at + 8


def _are_chunks(data: mmap.mmap, at: int) -> bool:
    """Whether RIFF chunks, and nothing else, stand from here to the end."""
    while at + 8 <= len(data):
        if not all(32 <= byte < 127 for byte in data[at : at + 4]):
            return False
        length = struct.unpack_from("<I", data, at + 4)[0]
        at += 8 + length + length % 2
    return at in (len(data), len(data) + 1)


def _ogg(data: mmap.mmap) -> list[Stream]:
    """Where a page that begins a stream follows one that does not, another stream begins."""
    last = data.rfind(b"OggS")
    if _ogg_page_end(data, last) > len(data):
        raise Truncated("truncated, its last Ogg page is cut off")
    starts, reached = [0], 0
    for found in _OGG_BEGINS.finditer(data):
        if found.start() not in (0, reached):  # several streams side by side begin with a page each, in a row
            starts.append(found.start())
        reached = _ogg_page_end(data, found.start())
    return [Stream(*ends) for ends in zip(starts, [*starts[1:], len(data)], strict=True)]


def _ogg_page_end(data: mmap.mmap, at: int) -> int:
    """Where a page ends; past the end of the file if that is not there."""
    head = data[at : at + 27]
    if len(head) < 27 or at + 27 + head[26] > len(data):
        return len(data) + 1
    return at + 27 + int(head[26]) + sum(data[at + 27 : at + 27 + head[26]])


def _flac(data: mmap.mmap) -> list[Stream]:
    """Streams whose headers tell no length, so that each is read to its end."""
    found = [match.start() for match in _FLAC_BEGINS.finditer(data)]
    starts = [0, *found[1:]]
    ends = [*starts[1:], len(data)]
    made = []
    for place, start, stop in zip(found, starts, ends, strict=False):
        total = data[place + _FLAC_TOTAL : place + _FLAC_TOTAL + 5]
        patches = {place + _FLAC_TOTAL: bytes([total[0] & 0xF0]) + bytes(4)}
        promised = int.from_bytes(total, "big") & 0xFFFFFFFFF
        made.append(Stream(start, stop, patches, promised or None))
    return made or [Stream(0, len(data))]


@dataclass
class _Row:
    """Frames of MPEG audio, one right behind the other."""

    start: int
    # place of the count in a first frame that describes the others; -1: it holds no count; None: no such frame
    count_at: int | None
    num: int = 0  # of music


def _mp3(data: mmap.mmap, begin: int = 0) -> list[Stream]:
    """Streams begin at frames that tell of a whole one (Xing, Info, VBRI), and where frames go on after something else.

    Counts of frames that are too low, or that count what goes on later, are put right.
    """
    size = len(data)
    rows: list[_Row] = []
    for at, follows in _mpeg_frames(data, begin):
        count_at = _place_of_count(data, at)
        if count_at is not None or not follows:
            rows.append(_Row(at, count_at))
        rows[-1].num += count_at is None
    rows = [row for row in rows if row.count_at is not None or row.num >= _FEWEST_FRAMES] or rows[:1]
    if not rows:
        return [Stream(begin, size)]
    made: list[Stream] = []
    stop, later = size, 0  # where the next stream begins, and frames of later rows that tell nothing of their own
    for row in reversed(rows):
        start = begin if row is rows[0] and data[begin : begin + 3] == b"ID3" else row.start
        place, patches = row.count_at or 0, {}
        count = int.from_bytes(data[place : place + 4], "big") if place > 0 else 0
        if 0 < count < row.num or (later and row.num < count <= row.num + later + _LOST_FRAMES):
            patches = {place: row.num.to_bytes(4, "big")}
        samples = 1152 if data[row.start + 1] >> 3 & 3 == 3 else 576
        made.append(Stream(start, stop, patches, row.num * samples))
        stop, later = start, later + row.num if row.count_at is None else 0
    return made[::-1]


def _mpeg_frames(data: mmap.mmap, at: int) -> Iterator[tuple[int, bool]]:
    """Where the frames of layer III begin, and whether each stands right behind another.

    Tags are passed over, and what is none of both as far as to two frames in a row.
    """
    size, sure = len(data), False
    while at + 4 <= size:
        length = _frame_length(data, at)
        if length and (sure or at + length >= size or _frame_length(data, at + length)):
            yield at, sure
            at, sure = at + length, True
            continue
        sure = False
        if data[at : at + 3] == b"ID3" and at + 10 <= size:
            a, b, c, d = data[at + 6 : at + 10]
            at += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if data[at + 5] & 0x10 else 0)
        else:
            found = data.find(b"\xff", at + 1)
            tag = data.find(b"ID3", at + 1, found if found > 0 else size)
            at = tag if tag > 0 else found if found > 0 else size


def _frame_length(data: mmap.mmap, at: int) -> int:
    """Bytes of the frame that begins here; 0 if none does, or one of no stated length."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return 0
    version, index, hz = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or index in (0, 15) or hz == 3:
        return 0
    rate = (_RATES_V1 if version == 3 else _RATES_V2)[index]
    return (144 if version == 3 else 72) * rate * 1000 // _HZ[version][hz] + (data[at + 2] >> 1 & 1)


def _place_of_count(data: mmap.mmap, at: int) -> int | None:
    """Where the frame at `at` says how many frames follow: -1 if it tells of a stream but not that; None if it is of
    music.
    """
    mono, version = data[at + 3] >> 6 == 3, data[at + 1] >> 3 & 3
    tag = at + 4 + ((17 if mono else 32) if version == 3 else (9 if mono else 17))
    if data[tag : tag + 4] in (b"Xing", b"Info") and not any(data[at + 4 : tag]):
        return tag + 8 if data[tag + 7 : tag + 8] and data[tag + 7] & 1 else -1
    if data[at + 36 : at + 40] == b"VBRI":
        return at + 36 + 14
    return None
