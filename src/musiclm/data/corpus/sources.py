"""Where music comes from: any folder of audio, a URL or tar shards (fetch.py), or the named source `debian-games`.

`debian-games` is the music of free games in Debian's main section. Its table (debian_games.tsv) is ours: package, path,
piece, title, artist, genre, licence (matched against each package's debian/copyright by file name), and what kind of
sound it is. Paths that begin with `pk/` lie in a zip or pk3 archive inside the package; paths joined by `|` are stems
of one piece and are added up. Packages are fetched by `apt-get download` and read by `dpkg-deb`; nothing is installed.
"""

import csv
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

from musiclm.core.audio import AUDIO_SUFFIXES
from musiclm.core.unicode import name_text
from musiclm.data.corpus.manifest import CorpusError

DEBIAN_GAMES = "debian-games"
SHARD = "shard"  # the use of an item that stands for all originals in a tar archive (fetch.py)
SHARD_SUFFIX = ".tar"
# Whole packages kept for testing: orchestral and metal, electronic, ambient, and hours nobody trains on.
HELD_OUT_PACKAGES = frozenset({"marsshooter-data", "hyperrogue-music", "zaz-data", "asc-music"})

# A piece and its variants share a split. Only words that name a variant are cut, and numbers after a word for a part or
# a copy: "song_2" may well be another song, while "song (2)" and "song_fast" are not.
_VARIANT = re.compile(
    r"[ ._-]+\(?(?:fast|slow|faster|slower|loop|looped|looping|remix|remixed|remake|remaster(?:ed)?|intro|outro|ending|"
    r"short|long|extended|enhanced|edit|alt|alternate|old|new|version|reprise|instrumental|karaoke|acoustic|live|demo|"
    r"hq|lq|high|low|mono|stereo|copy|(?:v|pt|part|ver|take|mix)[ ._]?\d+)\)?$|[ ._-]*\(\d+\)$"
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One piece of audio to decode: where its files are, and what its track will say."""

    source: str
    package: str
    origin: str
    parts: tuple[str, ...]  # relative to `root`; more than one are stems to be added
    root: Path | str  # the folder, or where the package is unpacked; a URL
    stamp: str  # changes when the original does: then it is decoded again
    title: str = ""
    artist: str = ""
    genre: str = ""
    licence: str = ""
    piece: str
    held_out: bool = False
    use: str = "music"  # anything else is listed as skipped, with this reason
    span: tuple[int, int] | None = None  # of the one part: offset and bytes, where the original is not all of it

    @property
    def key(self) -> str:
        """The item's name in the journal: survives moving the corpus, not the source."""
        return f"{self.source}:{name_text(self.root) if self.source != DEBIAN_GAMES else self.package}:{self.origin}"


def file_item(source: str, root: Path | str, part: str, origin: str, stamp: str) -> Item:
    """A file of a folder or URL as an item: audio, or a shard."""
    path = PurePosixPath(origin)
    return Item(
        source=source,
        package=origin.split("/")[0] if "/" in origin else "",
        origin=origin,
        parts=(part,),
        root=root,
        stamp=stamp,
        piece=f"{source}/{path.parent}/{piece_name(path.stem)}".replace("/./", "/"),
        use=SHARD if part.lower().endswith(SHARD_SUFFIX) else "music",
    )


def piece_name(name: str) -> str:
    """A file's name without suffix and without what makes it a variant: "Celtic_fast" -> "celtic"."""
    stem = re.sub(r"[ ._-]+$", "", name.lower())
    while (cut := _VARIANT.search(stem)) and cut.start() > 0:
        stem = stem[: cut.start()]
    return re.sub(r"[ ._-]+", " ", stem).strip() or name.lower()


def folder_items(root: Path, leave_out: Path | None = None) -> list[Item]:
    """Every file below `root` whose suffix says audio or shard, sorted, but none below `leave_out`; or the one shard
    that `root` is.

    Raises: CorpusError if there is no folder or no audio.
    """
    one = root.name if root.is_file() and root.suffix.lower() == SHARD_SUFFIX else None
    root = root.parent if one else root
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder; give a folder of audio files or '{DEBIAN_GAMES}'")
    items = []
    seen: set[str] = set()
    source = name_text(root.resolve().name)
    for part in [one] if one else _files(root, leave_out):
        origin = name_text(part)
        while origin in seen:  # two names that are written alike, one of them no UTF-8
            origin += "'"
        seen.add(origin)
        try:
            stat = (root / part).stat()
            stamp = f"{stat.st_size}:{stat.st_mtime_ns}"
        except OSError:  # a dangling link: decoding says what is wrong with it
            stamp = "unreadable"
        items.append(file_item(source, root.resolve(), part, origin, stamp))
    if not items:
        kinds = "wav, flac, ogg, opus, mp3, trackers, ..."
        raise CorpusError(f"{root}: no audio files in this folder ({kinds}); give another")
    return items


def _files(root: Path, leave_out: Path | None) -> Iterator[str]:
    """Paths of audio and shards below a folder, relative to it."""
    for parent, folders, names in os.walk(root, onerror=None):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (leave_out is None or Path(parent, name).resolve() != leave_out.resolve())
        )
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in {*AUDIO_SUFFIXES, SHARD_SUFFIX}:
                yield path.relative_to(root).as_posix()


def debian_items(cache: Path, packages: Iterable[str] | None = None) -> list[Item]:
    """The rows of the shipped table, for all packages or the given ones; nothing is fetched yet."""
    table = resources.files("musiclm.data.corpus").joinpath("debian_games.tsv").read_text(encoding="utf-8")
    wanted = None if packages is None else set(packages)
    items = []
    for row in csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        package = row["package"]
        if wanted is not None and package not in wanted:
            continue
        parts = tuple(row["path"].split("|"))
        stem = PurePosixPath(parts[0]).stem
        piece = row["piece"] or piece_name(stem)
        items.append(
            Item(
                source=DEBIAN_GAMES,
                package=package,
                origin=" + ".join(parts),
                parts=parts,
                root=cache / "unpacked" / package,
                stamp=row["md5"],
                title=row["title"] or re.sub(r"[_-]+", " ", stem).strip(),
                artist=row["artist"],
                genre=row["genre"],
                licence=row["licence"],
                piece=piece.lstrip("/") if piece.startswith("/") else f"{package}/{piece}",
                held_out=package in HELD_OUT_PACKAGES,
                use=row["use"],
            )
        )
    return items


def check_tools(cache: Path) -> None:
    """Raises CorpusError if this machine can't read Debian packages."""
    if shutil.which("dpkg-deb") is None:
        raise CorpusError(f"{DEBIAN_GAMES} needs dpkg-deb, which is not here: use Debian or Ubuntu, or give a folder")
    if shutil.which("apt-get") is None and not any(cache.glob("*.deb")):
        raise CorpusError(
            f"{DEBIAN_GAMES} needs apt-get, which is not here: use Debian or Ubuntu, or --cache with the .deb files "
            "in it"
        )


def unpack(package: str, parts: Iterable[str], cache: Path) -> str:
    """Puts the wanted files of a package under `cache/unpacked/package`; fetches the package if it is not in `cache`.

    Returns "" or, in one line, why there is nothing; a file that the package lacks is found missing when it is decoded.
    """
    target = cache / "unpacked" / package
    wanted = set(parts)
    if all((target / part).is_file() for part in wanted):  # left by a build that was stopped
        return ""
    try:
        deb = find_deb(package, cache) or _download(package, cache)
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as scratch:
            files, archives = Path(scratch, "files"), Path(scratch, "archives")
            files.mkdir()
            archives.mkdir()
            for archive in _extract(deb, wanted, files, archives):
                _extract_zip(archive, wanted, files)
            shutil.rmtree(target, ignore_errors=True)
            files.rename(target)
    except (CorpusError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        return f"package {package}: {' '.join(str(error).split())}"
    return ""


def find_deb(package: str, cache: Path) -> Path | None:
    """The newest whole .deb of a package in the cache: one that is cut short, or still arriving, doesn't count."""
    found = sorted(cache.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path for path in found if _is_whole_deb(path)), None)


def _is_whole_deb(path: Path) -> bool:
    """Walks the ar archive's headers: its members must end exactly where the file does."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if file.read(8) != b"!<arch>\n":
            return False
        at, names = 8, []
        while at < size:
            file.seek(at)
            header = file.read(60)
            if len(header) < 60 or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
                return False
            names.append(header[:16].strip())
            length = int(header[48:58])
            at += 60 + length + length % 2
    return at <= size + 1 and any(name.startswith(b"data.tar") for name in names) and at - size in (0, 1)


def _download(package: str, cache: Path) -> Path:
    if shutil.which("apt-get") is None:
        raise CorpusError(f"not in {cache}, and apt-get is not here to fetch it")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
        done = subprocess.run(
            ["apt-get", "-q", "-o", "APT::Sandbox::User=", "download", package],
            cwd=scratch,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        debs = list(Path(scratch).glob("*.deb"))
        if done.returncode != 0 or not debs:
            said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["apt-get failed"]
            raise CorpusError(f"not fetched ({said[0]}); try `apt-get update`, or build again when online")
        if not _is_whole_deb(debs[0]):
            raise CorpusError("fetched only in part; build again")
        return Path(shutil.move(debs[0], cache / debs[0].name))


def _extract(deb: Path, wanted: set[str], target: Path, scratch: Path) -> list[Path]:
    """Streams the package's tar once, keeping wanted files and, if something lies in them, nested archives."""
    nested: list[Path] = []
    missing = {part for part in wanted if not part.startswith("pk/")}
    inside = len(missing) < len(wanted)
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for member in tar:
                if not missing and not inside:  # the rest of the package is pictures and the like
                    break
                name = member.name.removeprefix("./")
                missing.discard(name)
                if not member.isfile():
                    continue
                if name in wanted:
                    path = target / name
                elif inside and name.lower().endswith((".zip", ".pk3")):
                    path = scratch / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.zip"
                    nested.append(path)
                else:
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                data = tar.extractfile(member)
                assert data is not None
                with data, open(path, "wb") as out:
                    shutil.copyfileobj(data, out, 1 << 20)
    finally:
        process.kill()
        process.communicate()
    return nested


def _extract_zip(archive: Path, wanted: set[str], target: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            if f"pk/{name}" in wanted:
                path = target / "pk" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with file.open(name) as data, open(path, "wb") as out:
                    shutil.copyfileobj(data, out, 1 << 20)
