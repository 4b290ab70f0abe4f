"""Originals that are no files of this machine: below a URL (fsspec: s3://, gs://, https://, ...), or in tar shards.

A shard is a tar archive as WebDataset has them: `NAME.flac`, and beside it perhaps `NAME.json` with title, artist,
genre and license. Its headers are read once, then each original is a range of bytes: nothing is fetched twice, and a
shard's originals can be decoded on many machines. At any time a process holds one original on its disk.
"""

import contextlib
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from musiclm.core.audio import AUDIO_SUFFIXES
from musiclm.core.unicode import name_text, printable
from musiclm.data.corpus.manifest import CorpusError
from musiclm.data.corpus.sources import SHARD_SUFFIX, Item, file_item, piece_name

_COPY_BYTES = 1 << 23  # of a remote file: what one request asks for
_LARGEST_FACTS = 1 << 16  # bytes of a JSON file beside an original
_FACTS = ("title", "artist", "genre", "license")


class Unreachable(Exception):
    """An original that can't be had now; it may be there another time. The message is one line."""


def is_url(source: str) -> bool:
    return "://" in source


def url_items(url: str) -> list[Item]:
    """Every audio file and shard below a URL, or the one that it names, sorted as those of a folder.

    Raises: CorpusError if it can't be listed or holds neither.
    """
    root = url.rstrip("/")
    try:
        system, path = _file_system(root)
        if PurePosixPath(path).suffix.lower() in {*AUDIO_SUFFIXES, SHARD_SUFFIX}:
            found, root, path = {path: system.info(path)}, root.rpartition("/")[0], path.rpartition("/")[0]
        else:
            found = system.find(path, detail=True)
    except Exception as error:  # each file system has its own
        raise CorpusError(f"{_shown(url)}: can't be listed ({_line(error)}); check the URL and your access") from None
    source = name_text(PurePosixPath(path).name or root.partition("://")[2])
    items = []
    for name, about in sorted(found.items()):
        part = name.removeprefix(path.rstrip("/")).lstrip("/")
        hidden = any(piece.startswith(".") for piece in part.split("/"))
        if hidden or PurePosixPath(part).suffix.lower() not in {*AUDIO_SUFFIXES, SHARD_SUFFIX}:
            continue
        changed = next(
            (str(about[key]) for key in ("ETag", "etag", "mtime", "LastModified", "created") if key in about), ""
        )
        items.append(file_item(source, root, part, name_text(part), f"{about.get('size')}:{changed}"))
    if not items:
        raise CorpusError(
            f"{_shown(url)}: no audio files there (wav, flac, ogg, opus, mp3, ..., or .tar); give another"
        )
    return items


def list_shard(shard: Item) -> dict[str, Any]:
    """What a shard holds, a record for the journal: `members`, each [name, offset, bytes, facts].

    A damaged shard's record also has `skipped`, the reason, beside the members before the damage; one that can't be
    reached has `again`.
    """
    sounds: dict[str, tuple[int, int]] = {}
    facts: dict[str, dict[str, str]] = {}
    damage = ""
    try:
        with _opened(shard) as file:
            try:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    while (member := tar.next()) is not None:
                        tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                        name = member.name.removeprefix("./")
                        suffix = PurePosixPath(name).suffix.lower()
                        if not member.isfile() or member.issparse() or PurePosixPath(name).name.startswith("."):
                            continue
                        if suffix in AUDIO_SUFFIXES:
                            sounds[name] = (member.offset_data, member.size)
                        elif suffix == ".json" and member.size <= _LARGEST_FACTS:
                            beside = tar.extractfile(member)
                            facts[_key(name)] = _read_facts(beside.read() if beside else b"")
                    file.seek(tar.offset)  # a header that is none ends an archive just as its end does
                    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                        damage = "damaged"
            except (tarfile.TarError, EOFError) as error:
                damage = "no tar archive" if not sounds else _line(error)
    except Unreachable as error:
        return {"members": [], "skipped": str(error), "again": True}
    except Exception as error:
        return {"members": [], "skipped": f"can't be read ({_line(error)})", "again": True}
    members = [[name, *place, facts.get(_key(name), {})] for name, place in sounds.items()]
    if damage:
        return {"members": members, "skipped": f"{damage}, after {len(members)} files; make it again"}
    return {"members": members} if members else {"members": [], "skipped": "no audio in it"}


def shard_items(shard: Item, members: list[Any]) -> list[Item]:
    """The originals in a shard, as `list_shard` found them."""
    items = []
    for name, offset, size, facts in members:
        inside = PurePosixPath(name_text(name))
        items.append(
            replace(
                shard,
                use="music",
                package=shard.origin.split("/")[0],
                origin=f"{shard.origin}/{inside}",
                span=(offset, size),
                # shards are shuffled: a piece's variants may lie in several
                piece=f"{shard.source}/{inside.parent}/{piece_name(inside.stem)}".replace("/./", "/"),
                title=facts.get("title", ""),
                artist=facts.get("artist", ""),
                genre=facts.get("genre", ""),
                licence=facts.get("license", ""),
            )
        )
    return items


@contextlib.contextmanager
def on_this_machine(item: Item) -> Iterator[list[Path]]:
    """The item's files; what does not lie in a folder is copied for as long as the block runs.

    Raises: Unreachable.
    """
    if isinstance(item.root, Path) and item.span is None:
        yield [item.root / part for part in item.parts]
        return
    with tempfile.TemporaryDirectory(prefix="musiclm-") as folder:
        path = Path(folder, f"original{PurePosixPath(item.origin).suffix}")
        try:
            with _opened(item) as source, open(path, "wb") as target:
                if item.span is None:
                    shutil.copyfileobj(source, target, _COPY_BYTES)
                else:
                    source.seek(item.span[0])
                    left = item.span[1]
                    while left and (data := source.read(min(left, _COPY_BYTES))):
                        target.write(data)
                        left -= len(data)
        except Unreachable:
            raise
        except Exception as error:
            raise Unreachable(f"can't be fetched ({_line(error)}); build again") from error
        yield [path]


def _opened(item: Item) -> contextlib.AbstractContextManager[BinaryIO]:
    """The file that an item lies in. Of a remote one only what is read is fetched."""
    if isinstance(item.root, Path):
        return open(item.root / item.parts[0], "rb")
    system, path = _file_system(item.root)
    opened: contextlib.AbstractContextManager[BinaryIO] = system.open(
        f"{path.rstrip('/')}/{item.parts[0]}", cache_type="none"
    )
    return opened


def _file_system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise Unreachable("needs fsspec; run: pip install 'musiclm[cluster]'") from None
    system, path = url_to_fs(url)
    return system, path


def _key(name: str) -> str:
    """What files of one example share: the name up to the first dot."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}"


def _read_facts(data: bytes) -> dict[str, str]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    found.setdefault("license", found.get("licence"))
    return {key: printable(found[key].strip()) for key in _FACTS if isinstance(found.get(key), str)}


def _shown(url: str) -> str:
    """Without a name and password."""
    return re.sub(r"//[^/@]*@", "//", url)


def _line(error: BaseException) -> str:
    return _shown(" ".join(str(error).split())[:200]) or type(error).__name__
