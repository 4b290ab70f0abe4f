"""Writing files: whole or not at all, with the mode that the umask gives, and nothing over what was not meant.

A file is made beside its place and takes its name when it is whole. Its place is where symbolic links lead, a file that
it replaces hands its mode on, and what is no regular file (a device, a pipe) is written into, not replaced.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

PART_SUFFIX = ".part"  # of files and folders in the making
OLD_SUFFIX = ".old"  # after that, of a folder that is being replaced


class OutputError(ValueError):
    """A place that can't be written to, or must not be. The message is one line: where, what is wrong, what to do."""


def check_output(
    path: str | Path, *, inputs: Iterable[str | Path] = (), new: bool = False, option: str = "another name"
) -> Path:
    """The path, if it may be written: long work should not end on a wrong name.

    inputs: files that the work reads, and folders; none of them, and no file in them, may be written over, by whatever
    name. new: only if nothing is there
    yet, for a name that nobody gave. option: what to give in its place, for the message.

    Raises: OutputError.
    """
    path = Path(path)
    real = Path(os.path.realpath(path))
    parent = real.parent if path.is_symlink() else path.parent
    if not path.name:
        raise OutputError(f"{path}: is a folder; give a file name")
    if not parent.is_dir():
        raise OutputError(f"{path}: the folder {parent} does not exist; create it first")
    if real.is_dir():
        raise OutputError(f"{path}: is a folder; give a file name")
    for source in inputs:
        inside = path.exists() and Path(os.path.realpath(source)) in real.parents
        if inside or _same(path, Path(source)):
            raise OutputError(f"{path}: is the file that is read and would be written over; give {option}")
    if new and (path.exists() or path.is_symlink()):
        raise OutputError(f"{path}: is there already and was not named; name it to write over it, or give {option}")
    if path.exists() and not _writable(real):
        raise OutputError(f"{path}: is write-protected; give {option}, or allow writing to it (chmod u+w)")
    if not _is_special(real) and not os.access(real.parent, os.W_OK):
        raise OutputError(f"{path}: the folder {real.parent} is not writable; choose another or change its permissions")
    return path


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def _writable(path: Path) -> bool:
    """Root may write everywhere; the mode says what is meant."""
    return bool(path.stat().st_mode & 0o222) and os.access(path, os.W_OK)


def _is_special(path: Path) -> bool:
    """Whether it is there and neither a file nor a folder: a device, a pipe, a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """An empty file to be written; it becomes `path` when the block ends without an error, and else leaves no trace.

    Raises: OSError.
    """
    path = Path(path)
    real = Path(os.path.realpath(path))
    if _is_special(real):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder, f"file{real.suffix}")
            temporary.touch()
            yield temporary
            with open(temporary, "rb") as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
        return
    temporary = _part_of(real)
    sweep(real)
    try:
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = stat.S_IMODE((real if real.is_file() else temporary).stat().st_mode)
        yield temporary
        handle = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.chmod(temporary, mode)  # some libraries make files that only their owner may read
        os.replace(temporary, real)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Writes a file so that it is whole under its name or not there at all. Raises: OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def _part_of(path: Path) -> Path:
    """What becomes `path`, beside it. A name of its own, since one made of `path`'s may be too long."""
    return path.with_name(f".{os.getpid()}-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}{PART_SUFFIX}")


def sweep(path: Path) -> None:
    """Removes what killed processes left of a file or folder in the making.

    Between two renamings there may be no such folder: then what was to be replaced is put back.
    """
    mine = _part_of(path).name.split("-")[-1]
    for left in sorted(path.parent.glob(f".*-{mine}*"), reverse=True):  # an old folder before the new one
        found = re.fullmatch(rf"\.(\d+)-{re.escape(mine)}({re.escape(OLD_SUFFIX)})?", left.name)
        if found is None or _lives(int(found[1])):
            continue
        if found[2] and not path.exists():
            os.replace(left, path)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    """Whether another process of that number is there."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to be filled; without an error it becomes `folder` at the end, in place of what was there."""
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = _part_of(folder)
    old = work.with_name(f"{work.name}{OLD_SUFFIX}")
    sweep(folder)
    for left in (work, old):
        shutil.rmtree(left, ignore_errors=True)
    work.mkdir()  # like any folder, for tempfile's are closed to others
    try:
        yield work
        if folder.exists():
            os.replace(folder, old)
        os.replace(work, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
