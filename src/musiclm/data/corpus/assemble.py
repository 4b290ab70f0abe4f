"""From finished originals to a manifest: duplicates out, every piece into one split. A pure function of its input."""

import base64
import functools
import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from musiclm.data.corpus.manifest import SPLITS, Split, Track
from musiclm.data.corpus.sources import Item

TEST_SHARE = 0.05
VALIDATION_SHARE = 0.05
# Encodings of one recording agree to this in length and level curve: 0.01 to 0.26 dB were measured for Vorbis, Opus and
# MP3 down to 64 kbps. Different pieces of equal length in debian-games are at least 0.5 dB apart, most several dB.
NEAR_SECONDS = 0.3
NEAR_DB = 0.4
_HADAMARD = functools.reduce(np.kron, [np.array([[1, 1], [1, -1]], np.float32)] * 4)
# signs over a fingerprint's 64 segments (15, 64), those that change seldom first: halves, quarters, ...
_PATTERNS = np.repeat(_HADAMARD[np.argsort((np.diff(_HADAMARD) != 0).sum(1))][1:], 4, axis=1)
_FAR = 2 * _PATTERNS.shape[1] * NEAR_DB + 0.01  # and what rounding may add


def assemble(
    items: list[Item], records: Mapping[str, Mapping[str, Any]], *, final: bool
) -> tuple[list[Track], list[dict[str, str]]]:
    """The manifest and the list of skipped originals, for the items that have a record.

    Of equal or nearly equal audio the first origin in order of (source, package, origin) stays. A corpus of few pieces
    that the hash leaves without two pieces (one, of under ten) for some split gives it some of the largest, if `final`.
    """
    skipped: list[tuple[Item, str]] = []
    kept: list[tuple[Item, Mapping[str, Any]]] = []
    for item in sorted(items, key=lambda item: (item.source, item.package, item.origin, item.key)):
        record = records.get(item.key)
        if record is not None and "skipped" in record:
            skipped.append((item, record["skipped"]))
        elif item.use != "music":
            skipped.append((item, f"not music ({item.use})"))
        elif record is not None:
            kept.append((item, record))
    kept, duplicates = _drop_duplicates(kept)
    splits = _splits(sorted({item.piece for item, _ in kept if not item.held_out}), fill=final)
    tracks = [_track(item, record, "test" if item.held_out else splits[item.piece]) for item, record in kept]
    skipped = sorted(skipped + duplicates, key=lambda pair: (pair[0].source, pair[0].package, pair[0].origin))
    return tracks, [
        {"source": item.source, "package": item.package, "origin": item.origin, "reason": reason}
        for item, reason in skipped
    ]


def piece_share(piece: str) -> float:
    """A number in [0, 1) that depends on the piece's name alone: below TEST_SHARE it is tested on, and so on."""
    return int.from_bytes(hashlib.sha256(f"musiclm split {piece}".encode()).digest()[:8], "big") / 2**64


def _splits(pieces: list[str], *, fill: bool) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for piece in pieces:
        share = piece_share(piece)
        in_train = share >= TEST_SHARE + VALIDATION_SHARE
        splits[piece] = "train" if in_train else "validation" if share >= TEST_SHARE else "test"
    least = 2 if len(pieces) >= 10 else 1  # a figure over one piece says little, and swapped conditions take two
    for split in [split for split in SPLITS for _ in range(least)] if fill else ():
        if list(splits.values()).count(split) < least:
            largest = max(SPLITS, key=lambda name: list(splits.values()).count(name))
            others = sorted((piece for piece in pieces if splits[piece] == largest), key=piece_share)
            if len(others) > 1:
                splits[others[-1] if split == "train" else others[0]] = split
    return splits


def _drop_duplicates(
    kept: list[tuple[Item, Mapping[str, Any]]],
) -> tuple[list[tuple[Item, Mapping[str, Any]]], list[tuple[Item, str]]]:
    unique: list[tuple[Item, Mapping[str, Any]]] = []
    dropped: list[tuple[Item, str]] = []
    first_of: dict[str, Item] = {}
    steps = [np.frombuffer(base64.b64decode(record["fingerprint"]), np.uint8) for _, record in kept]
    prints = np.stack(steps) if steps else np.zeros((0, 2 * _PATTERNS.shape[1]), np.uint8)
    seconds = np.array([record["seconds"] for _, record in kept])
    by_length = np.argsort(seconds, kind="stable")
    lengths, outlines = seconds[by_length], _outlines(prints[by_length])
    place_of = np.argsort(by_length)
    taken = np.zeros(len(kept), bool)  # unique so far, in the order of length
    for index, (item, record) in enumerate(kept):
        same = first_of.get(record["sha256"])
        if same is not None:
            dropped.append((item, f"same audio as {_name(same)}"))
            continue
        place = place_of[index]
        low = np.searchsorted(lengths, seconds[index] - NEAR_SECONDS, "left")
        high = np.searchsorted(lengths, seconds[index] + NEAR_SECONDS, "right")
        close = low + np.flatnonzero(taken[low:high] & (np.abs(outlines[low:high, 0] - outlines[place, 0]) < _FAR))
        close = close[(np.abs(outlines[close] - outlines[place]) < _FAR).all(1)]
        mine = prints[index].astype(np.float32) * 0.375
        near = next(
            (other for other in sorted(by_length[close]) if is_near(mine, prints[other].astype(np.float32) * 0.375)),
            None,
        )
        if near is not None:
            dropped.append((item, f"nearly the same audio as {_name(kept[near][0])}"))
            continue
        first_of[record["sha256"]] = item
        taken[place] = True
        unique.append((item, record))
    return unique, dropped


def _outlines(prints: np.ndarray) -> np.ndarray:
    """A few numbers of each fingerprint (n, 128) that differ by less than _FAR where two are near; in dB.

    A sum of differences with weights of 1 and -1 that add up to 0 does not know their median, and is at most the sum of
    their distances from it. So among a million tracks of one length few need to be compared as a whole.
    """
    outlines = np.empty((len(prints), 2 * len(_PATTERNS)), np.float32)
    for first in range(0, len(prints), 1 << 16):
        rows = prints[first : first + (1 << 16)].astype(np.float32) * 0.375
        outlines[first : first + len(rows)] = (rows.reshape(-1, _PATTERNS.shape[1]) @ _PATTERNS.T).reshape(
            len(rows), -1
        )
    return outlines


def is_near(one_db: np.ndarray, other_db: np.ndarray) -> bool:
    """Whether two fingerprints in dB are the same but for the gain and for how bright the encoder left the sound."""
    difference = (one_db - other_db).reshape(2, -1)
    return float(np.abs(difference - np.median(difference, axis=1, keepdims=True)).mean()) < NEAR_DB


def _name(item: Item) -> str:
    return f"{item.package}/{item.origin}" if item.package and not item.origin.startswith(item.package) else item.origin


def _track(item: Item, record: Mapping[str, Any], split: Split) -> Track:
    tags = record.get("tags", {})
    return Track(
        id=record["id"],
        path=f"audio/{record['id']}.flac",
        source=item.source,
        package=item.package,
        origin=item.origin,
        title=item.title or tags.get("title") or PurePosixPath(item.origin).stem,
        artist=item.artist or tags.get("artist", ""),
        genre=item.genre or tags.get("genre", ""),
        licence=item.licence or tags.get("license") or tags.get("copyright") or "unknown",
        seconds=round(record["seconds"], 4),
        sha256=record["sha256"],
        split=split,
        piece=item.piece,
        held_out=item.held_out,
    )
