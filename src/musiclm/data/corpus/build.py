"""Builds a corpus: sources -> decoded, trimmed, deduplicated tracks, split by piece.

A build may be killed at any moment. What is finished stands in DIR/journal.jsonl, a line per original, written after
its audio is in place; a new run decodes only what is not in the journal (or has changed since). The manifest is
computed from the journal and the sources alone, never from the order in which tracks were finished, and is rewritten
while the build goes on, so training can start on what is there.
"""

import fcntl
import heapq
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from musiclm.core.audio import AudioError
from musiclm.core.engines import UNITS_PER_PROCESS, Engine, LocalEngine, jobs_for, run_in_order
from musiclm.core.unicode import name_text
from musiclm.data.corpus.assemble import assemble
from musiclm.data.corpus.fetch import Unreachable, is_url, list_shard, on_this_machine, shard_items, url_items
from musiclm.data.corpus.ingest import FORMAT_VERSION, Silent, ingest
from musiclm.data.corpus.manifest import RENDERED, CorpusError, Track, load_manifest, save_manifest
from musiclm.data.corpus.sources import (
    DEBIAN_GAMES,
    SHARD,
    Item,
    check_tools,
    debian_items,
    find_deb,
    folder_items,
    unpack,
)

_MANIFEST_EVERY_S = 20.0
_TRACK_PART = re.compile(r"\.\d+-[0-9a-f]{12}\.flac")  # names of tracks and packages in the making
_PACKAGE_PART = re.compile(r"\.part-.*")


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    out: Path
    num_tracks: int
    num_skipped: int
    num_decoded: int  # in this run; the rest was there already
    hours: float
    hours_by_split: dict[str, float] = field(default_factory=dict)
    elapsed_s: float


def default_cache() -> Path:
    """Where packages are kept: $XDG_CACHE_HOME/musiclm/debian, or the same below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "musiclm" / "debian"


def build_corpus(
    sources: list[str],
    out: Path,
    jobs: int | None = None,
    cache: Path | None = None,
    progress: bool = True,
    engine: Engine | None = None,
) -> BuildReport:
    """Builds (or goes on building) the corpus `out` from folders, URLs, tar shards and named sources.

    Files that can't be used are listed with their reason in out/skipped.jsonl and never stop the build. The manifest
    holds exactly what the given sources hold.

    jobs: processes that decode; with 1 it all happens in this one. By default one a core, if there is enough to do.
    engine: where it is done instead; the files are the same. Of a cluster every machine has to see `out`, and folders
    and `cache`, under the same names.

    Raises: CorpusError if a source is missing, `out` can't be written or is being built by another process, or nothing
    at all could be used.
    """
    if not sources:
        raise CorpusError(f"no source given; name a folder of audio, or '{DEBIAN_GAMES}'")
    if jobs is not None and jobs < 1:
        raise CorpusError(f"jobs is {jobs}; it must be at least 1")
    started_s = time.monotonic()
    # machines of a cluster have working folders of their own
    out, cache = Path(out).absolute(), Path(cache).absolute() if cache else default_cache()
    items = _collect(sources, cache, out)
    with ExitStack() as locks:
        locks.enter_context(locked(out, "--out"))
        _check_own(out)
        _sweep(out / "audio", _TRACK_PART)
        if any(item.source == DEBIAN_GAMES for item in items):
            locks.enter_context(locked(cache, "--cache"))
            _sweep(cache / "unpacked", _PACKAGE_PART)
        journal = Journal(out)

        def engine_for(num_units: int) -> Engine:
            return engine or locks.enter_context(LocalEngine(jobs or jobs_for(num_units)))

        items = _open_shards(items, journal, engine_for)
        todo = [item for item in items if item.use == "music" and not journal.has(item)]
        _decode_into(journal, items, todo, out, cache, engine_for, progress)
        tracks, skipped = assemble(items, journal.records, final=True)
        save_manifest(out, tracks, skipped)
    if not tracks:
        reasons = (
            f"; the first of {len(skipped)} reasons: {skipped[0]['origin']}: {skipped[0]['reason']}" if skipped else ""
        )
        raise CorpusError(f"{', '.join(sources)}: no usable audio{reasons}")
    return _report(out, tracks, len(skipped), len(todo), time.monotonic() - started_s)


def _decode_into(
    journal: "Journal",
    items: list[Item],
    todo: list[Item],
    out: Path,
    cache: Path,
    engine_for: Callable[[int], Engine],
    progress: bool,
) -> None:
    """Decodes what is to do, with a line in the journal for each, and now and then the manifest of what is there."""
    done = set(items).difference(todo)
    hours = sum(journal.records.get(item.key, {}).get("seconds", 0.0) for item in done) / 3600
    saved_s = time.monotonic()
    # closed with the block: an error or Ctrl-C in it ends the processes too
    with (
        _progress(progress) as bar,
        closing(_decode_all(todo, out / "audio", cache, engine_for(len(todo)))) as decoded,
    ):
        task = bar.add_task("decoding", total=len(items), completed=len(done), hours=hours)
        for item, record in decoded:
            journal.add(item, record)
            hours += record.get("seconds", 0.0) / 3600
            bar.update(task, advance=1, hours=hours)
            # Rewriting takes longer as the corpus grows; it never takes more than a tenth of the time.
            if time.monotonic() - saved_s > _MANIFEST_EVERY_S:
                began_s = time.monotonic()
                save_manifest(out, *assemble(items, journal.records, final=False))
                saved_s = time.monotonic() + 10 * (time.monotonic() - began_s)


def _report(out: Path, tracks: list[Track], num_skipped: int, num_decoded: int, elapsed_s: float) -> BuildReport:
    hours_by_split: dict[str, float] = {}
    for track in tracks:
        hours_by_split[track.split] = hours_by_split.get(track.split, 0.0) + track.seconds / 3600
    return BuildReport(
        out=out,
        num_tracks=len(tracks),
        num_skipped=num_skipped,
        num_decoded=num_decoded,
        hours=sum(hours_by_split.values()),
        hours_by_split=hours_by_split,
        elapsed_s=elapsed_s,
    )


class Journal:
    """Append-only record of finished originals. A line cut short by a kill is ignored: that original is done again."""

    def __init__(self, out: Path) -> None:
        self.path = out / "journal.jsonl"
        self.audio_dir = out / "audio"
        self.records: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            with open(self.path, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        record = json.loads(line)
                        self.records[record["key"]] = record
                    except (ValueError, KeyError, TypeError):
                        continue
        try:
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (open as long as the journal)
            self._file.write(b"\n")  # ends a line that a kill may have cut
        except OSError as error:
            raise CorpusError(f"{self.path}: can't be written ({error.strerror}); choose another --out") from error

    def has(self, item: Item) -> bool:
        record = self.records.get(item.key)
        if record is None or record["stamp"] != _stamp(item):
            return False
        # A package or an original that could not be fetched may be there today.
        if "id" not in record:
            return not record.get("again", False)
        return (self.audio_dir / f"{record['id']}.flac").is_file()

    def add(self, item: Item, record: dict[str, Any]) -> None:
        record = {"key": item.key, "stamp": _stamp(item), **record}
        try:
            self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise CorpusError(
                f"{self.path}: can't be written ({error.strerror}); free some space and start again"
            ) from error
        self.records[item.key] = record


def _stamp(item: Item) -> str:
    return f"{FORMAT_VERSION}:{item.stamp}"


def _collect(sources: list[str], cache: Path, out: Path) -> list[Item]:
    items: dict[str, Item] = {}
    for source in sources:
        if source == DEBIAN_GAMES:
            check_tools(cache)
            found = debian_items(cache)
        elif is_url(source):
            found = url_items(source)
        else:
            if Path(source).resolve() == out.resolve():
                raise CorpusError(f"{out}: is one of the sources; choose another --out")
            found = folder_items(Path(source), leave_out=out)
        items.update((item.key, item) for item in found)
    return sorted(items.values(), key=_place)


def _open_shards(items: list[Item], journal: Journal, engine_for: Callable[[int], Engine]) -> list[Item]:
    """The items with those in shards in place of the shards; of a shard that was listed before nothing is read."""
    shards = [item for item in items if item.use == SHARD]
    new = [shard for shard in shards if not journal.has(shard)]
    engine = engine_for(UNITS_PER_PROCESS * len(new))
    for shard, record in run_in_order(engine, list_shard, new, lambda shard: shard.origin):
        journal.add(shard, record)
    opened = [item for item in items if item.use != SHARD]
    for shard in shards:
        record = journal.records[shard.key]
        opened += shard_items(shard, record["members"])
        if "skipped" in record:  # it stays, to be listed with its reason
            opened.append(shard)
    return sorted({item.key: item for item in opened}.values(), key=_place)


def _place(item: Item) -> tuple[str, ...]:
    return (item.source, item.package, item.origin, item.key)


@contextmanager
def locked(folder: Path, option: str) -> Iterator[None]:
    """Creates the folder and keeps other builds out of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise CorpusError(f"{folder}: can't be written ({error.strerror}); choose another {option}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise CorpusError(
            f"{folder}: another build is at work there; wait for it or choose another {option}"
        ) from error
    finally:
        os.close(handle)


def _check_own(out: Path) -> None:
    """Raises: CorpusError if `out` holds a corpus of another kind, whose list this build would replace."""
    if (out / "manifest.jsonl").is_file() and not (out / "journal.jsonl").is_file():
        raise CorpusError(f"{out}: holds a corpus that `musiclm corpus build` did not make; choose another --out")
    try:
        rendered = any(track.source == RENDERED for track in load_manifest(out))
    except CorpusError:  # none there, or a damaged one, which a build makes anew
        return
    if rendered:
        raise CorpusError(f"{out}: holds a rendered corpus; choose another --out")


def _sweep(folder: Path, names: "re.Pattern[str]") -> None:
    """Removes what a killed build left half done."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if not names.fullmatch(left.name):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink()


def _progress(visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[hours]:.1f} h"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not visible,
    )


def _decode_item(item: Item, audio_dir: Path) -> dict[str, Any]:
    """A journal record: what was made, or the reason why nothing was."""
    files: list[Path] = []
    if isinstance(item.root, Path) and not item.root.is_dir():
        raise CorpusError(f"{item.root}: not there on {socket.gethostname()}; all machines must see it, or give a URL")
    try:
        with on_this_machine(item) as files:
            return asdict(ingest(files, audio_dir))
    except CorpusError:
        raise
    except Unreachable as error:
        return {"skipped": name_text(str(error)), "again": True}
    except (AudioError, Silent) as error:
        reason = str(error)
        for path in files:
            reason = reason.removeprefix(f"{path}: ")
            if item.source == DEBIAN_GAMES and not path.exists():
                return {"skipped": "not in the package"}
        return {"skipped": name_text(reason)}
    except Exception as error:  # whatever one odd file does to a decoder, the others go on
        return {
            "skipped": f"failed to decode ({type(error).__name__}: {name_text(' '.join(str(error).split())[:200])})"
        }


def _decode_all(
    todo: list[Item], audio_dir: Path, cache: Path, engine: Engine
) -> Generator[tuple[Item, dict[str, Any]], None, None]:
    """Yields each item with its record, in the order of finishing.

    Packages are taken in turns, a track of each per round, so that an unfinished corpus is already a varied one.
    A package is unpacked just before its first track and removed after its last.
    """
    packages: dict[str, list[Item]] = {}
    for each in todo:
        packages.setdefault(f"{each.source}:{each.package}", []).append(each)
    jobs = engine.slots
    remaining = {name: len(items) for name, items in packages.items()}
    # Entries are (round, place, ...): an entry of an earlier round goes first. Small packages come first, and one is
    # opened per round, or the first tracks would wait until everything is unpacked.
    places = {
        name: place for place, name in enumerate(sorted(packages, key=lambda name: _unpack_cost(packages[name], cache)))
    }
    queue: list[tuple[int, int, int, str, Item | None]] = []
    for name, items in packages.items():
        if items[0].source == DEBIAN_GAMES:
            heapq.heappush(queue, (places[name] // jobs, places[name], 0, name, None))
        else:
            for number, each in enumerate(items):
                heapq.heappush(queue, (number, places[name], number, name, each))

    def finished(name: str) -> None:
        remaining[name] -= 1
        first = packages[name][0]
        if remaining[name] == 0 and first.source == DEBIAN_GAMES:
            shutil.rmtree(first.root, ignore_errors=True)

    while queue or engine.num_pending:
        while queue and engine.num_pending < 2 * engine.slots:
            _, _, _, name, item = heapq.heappop(queue)
            if item is None:
                parts = sorted({part for each in packages[name] for part in each.parts})
                engine.submit((name, None), unpack, packages[name][0].package, parts, cache)
            else:
                engine.submit((name, item), _decode_item, item, audio_dir)
        for (name, item), result, crash in engine.wait():
            if item is not None:
                yield item, {"skipped": "the decoder crashed on it; convert it to wav"} if crash else result
                finished(name)
            elif crash or result:
                for each in packages[name]:
                    yield each, {"skipped": crash or result, "again": True}
                    finished(name)
            else:
                for number, each in enumerate(packages[name]):
                    heapq.heappush(queue, (places[name] // jobs + number, places[name], 1 + number, name, each))


def _unpack_cost(items: list[Item], cache: Path) -> int:
    """Bytes to read before a package's first track: 0 for a folder, a guess for what is not here yet."""
    if items[0].source != DEBIAN_GAMES:
        return 0
    deb = find_deb(items[0].package, cache)
    return deb.stat().st_size if deb else 3_000_000 * len(items)
