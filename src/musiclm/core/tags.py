"""What libsndfile does not do with tags: it writes Ogg streams with a random serial number and MP3 tags in the wrong
alphabet, and reads no tag of a WAV that is longer than 2 kB."""

import struct
from collections.abc import Mapping
from pathlib import Path

_ID3_FRAMES = {
    "title": b"TIT2",
    "artist": b"TPE1",
    "album": b"TALB",
    "genre": b"TCON",
    "copyright": b"TCOP",
    "date": b"TDRC",
    "tracknumber": b"TRCK",
    "software": b"TSSE",
    "comment": b"COMM",
    "license": b"TXXX",
}


_INFO_NAMES = {
    b"INAM": "title",
    b"IART": "artist",
    b"IPRD": "album",
    b"IGNR": "genre",
    b"ICOP": "copyright",
    b"ICRD": "date",
    b"ITRK": "tracknumber",
    b"ISFT": "software",
    b"ICMT": "comment",
}
_LONGEST_INFO = 1 << 20  # bytes of a list of tags; what is longer is none


def read_info(path: Path) -> dict[str, str]:
    """Tags of a WAV file, from the list that RIFF has for them; {} of any other file."""
    found: dict[str, str] = {}
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return found
        while len(head := file.read(8)) == 8:
            length = struct.unpack_from("<I", head, 4)[0]
            at = file.tell()
            if head[:4] == b"LIST" and length <= _LONGEST_INFO and file.read(4) == b"INFO":
                found |= _info_of(file.read(length - 4))
            file.seek(at + length + length % 2)
    return found


def _info_of(data: bytes) -> dict[str, str]:
    found, at = {}, 0
    while at + 8 <= len(data):
        length = struct.unpack_from("<I", data, at + 4)[0]
        text = data[at + 8 : at + 8 + length].split(b"\0")[0]
        name = _INFO_NAMES.get(data[at : at + 4])
        if name and text:
            try:
                found[name] = text.decode()
            except UnicodeDecodeError:
                found[name] = text.decode("cp1252", "replace")
        at += 8 + length + length % 2
    return found


def prepend_id3(path: Path, tags: Mapping[str, str]) -> None:
    """Puts an ID3v2.4 tag in UTF-8 before an MP3 that has none."""
    frames = b""
    for name, value in tags.items():
        # Comments have a language and an (empty) description, user-defined text its name.
        prefix = {"comment": b"eng\0", "license": b"LICENSE\0"}.get(name, b"")
        body = b"\x03" + prefix + value.encode()
        frames += _ID3_FRAMES[name] + _syncsafe(len(body)) + b"\0\0" + body
    if frames:
        path.write_bytes(b"ID3\x04\0\0" + _syncsafe(len(frames)) + frames + path.read_bytes())


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (0x104C11DB7 if crc & 0x80000000 else 0)
        table.append(crc)
    return table


_CRC_TABLE = _crc_table()


def fix_ogg_serial(path: Path) -> None:
    """Gives an Ogg stream the serial number 1 in place of libsndfile's random one: the same audio, the same bytes."""
    path.write_bytes(with_ogg_serial(path.read_bytes()))


def with_ogg_serial(pages: bytes) -> bytes:
    """Whole Ogg pages, with the serial number 1 in place of libsndfile's random one."""
    data = bytearray(pages)
    at = 0
    while at < len(data):
        assert data[at : at + 4] == b"OggS", f"no Ogg page at byte {at}"
        num_segments = data[at + 26]
        end = at + 27 + num_segments + sum(data[at + 27 : at + 27 + num_segments])
        data[at + 14 : at + 18] = struct.pack("<I", 1)
        data[at + 22 : at + 26] = bytes(4)
        crc = 0
        for byte in data[at:end]:
            crc = (crc << 8) & 0xFFFFFFFF ^ _CRC_TABLE[crc >> 24 ^ byte]
        data[at + 22 : at + 26] = struct.pack("<I", crc)
        at = end
    return bytes(data)
