"""Text from outside: names of files, which are bytes, and what people type, which may hold what no character is.

Python keeps bytes of a name or an argument that are no UTF-8 as lone surrogates (U+DC80 to U+DCFF), which can be opened
but not written down. Here they become something that can.
"""

import json
import os
import re
from pathlib import PurePath
from typing import Any

_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_CONTROLS = "\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # all but tab and line ends
# lone surrogates, and the 66 code points that are never characters
_NO_CHARACTERS = "\ud800-\udfff\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17)
)
_CONTROL, _NO_CHARACTER = re.compile(f"[{_CONTROLS}]"), re.compile(f"[{_NO_CHARACTERS}]")
UNSAFE = re.compile(f"[{_CONTROLS}{_NO_CHARACTERS}]")


def name_text(name: str | PurePath) -> str:
    r"""A file's name as text that can be written down: bytes that are no UTF-8 become \xe9 and the like."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def name_bytes(name: str | PurePath) -> str | bytes:
    """A file's name for libraries that would encode it themselves, and fail: its bytes; on Windows names are text."""
    return str(name) if os.name == "nt" else os.fsencode(name)


def typed_text(text: str, what: str) -> str:
    """What was typed, bytes that are no UTF-8 read as Windows-1252, which old terminals and files write, and controls
    as spaces.

    Raises: ValueError for code points that are no characters (U+FFFF, lone surrogates): some libraries crash on them.
    """

    def read(match: "re.Match[str]") -> str:
        byte = bytes([ord(match[0]) - 0xDC00])
        try:
            return byte.decode("cp1252")
        except UnicodeDecodeError:
            return byte.decode("latin-1")

    text = _CONTROL.sub(" ", _ESCAPED_BYTE.sub(read, text))
    if found := _NO_CHARACTER.search(text):
        raise ValueError(
            f"{what} holds U+{ord(found[0]):04X} at place {found.start() + 1}, which is no character; take it out"
        )
    return text


def escaped_json(value: Any) -> str:
    """The value as JSON, readable and safe to store: all languages' letters as they are, what is unsafe escaped."""
    return UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """The text with U+FFFD for each code point that is unsafe to store: some libraries crash on them."""
    return UNSAFE.sub("\ufffd", text)
