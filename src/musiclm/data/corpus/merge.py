"""Several corpora as one, to train on together. Audio is linked, not copied; the originals stay as they are."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from musiclm.core.output import replacing
from musiclm.data.corpus.captions import CAPTIONS_FILE
from musiclm.data.corpus.manifest import SPLITS, CorpusError, Track, load_manifest, load_skipped, save_manifest

LINES = ("labels.jsonl", CAPTIONS_FILE)  # files with a line per window, which names its track
BESIDE = ("scores", "midi")  # folders with a file per track, named by its id
LICENCES = ("LICENCES", "LICENSES")  # beginnings of the names of files that say whose work it is


def merge_corpora(folders: Sequence[str | Path], out: str | Path) -> list[Track]:
    """Makes `out` of the tracks of all `folders`, with their labels, captions, scores and licences; the tracks of the
    new manifest.

    The same audio in two corpora is one track, in the split that is kept furthest from training. A merge that was cut
    short is made whole by the same command. Raises: CorpusError if fewer than two corpora are given, one of them is
    none, or is `out` itself.
    """
    sources = [Path(folder) for folder in folders]
    out = Path(out)
    if len(sources) < 2:
        raise CorpusError(f"{len(sources)} corpus given; name two or more to merge")
    if len({source.resolve() for source in sources}) < len(sources):
        raise CorpusError("one corpus is named twice; name each once")
    if any(source.resolve() == out.resolve() for source in sources):
        raise CorpusError(f"{out} is one of the corpora to merge; choose another --out")
    if (out / "journal.jsonl").is_file():
        raise CorpusError(f"{out} holds a corpus that was built or rendered there; choose another --out")
    owner: dict[str, Path] = {}
    tracks: dict[str, Track] = {}
    for source in sources:
        for track in load_manifest(source):
            if not (source / track.path).is_file():
                raise CorpusError(f"{source / track.path} is missing; build or render {source} again")
            if track.id not in tracks:
                owner[track.id], tracks[track.id] = source, track
            elif SPLITS.index(track.split) > SPLITS.index(tracks[track.id].split):
                held_out = track.held_out or tracks[track.id].held_out
                tracks[track.id] = replace(tracks[track.id], split=track.split, held_out=held_out)
    tracks = _one_split_each(tracks)
    try:
        for name, track in tracks.items():
            _link(owner[name] / track.path, out / track.path)
        for folder in BESIDE:
            for name, source in owner.items():
                for path in (source / folder).glob(f"{name}.*"):
                    _link(path, out / folder / path.name)
        for file_name in LINES:
            _join_lines(file_name, sources, owner, out)
        for number, source in enumerate(sources):
            for path in (path for path in source.iterdir() if path.name.upper().startswith(LICENCES)):
                _link(path, out / f"{path.stem}-{number + 1}-{source.name}{path.suffix}")
    except OSError as error:
        raise CorpusError(f"{out}: can't be written ({error.strerror}); check free space and permissions") from error
    merged = sorted(tracks.values(), key=lambda track: (track.source, track.package, track.origin))
    save_manifest(out, merged, [record for source in sources for record in load_skipped(source)])
    return merged


def _one_split_each(tracks: dict[str, Track]) -> dict[str, Track]:
    """Variants of a piece stay on one side, also where two corpora had put them on two."""
    furthest: dict[tuple[str, str], int] = {}
    for track in tracks.values():
        key = (track.source, track.piece)
        furthest[key] = max(furthest.get(key, 0), SPLITS.index(track.split))
    return {name: replace(track, split=SPLITS[furthest[track.source, track.piece]]) for name, track in tracks.items()}


def _link(source: Path, target: Path) -> None:
    """A hard link, or, across file systems, a symbolic one; where none can be made, a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() or target.is_symlink():
        if target.exists() and os.path.samefile(source, target):
            return
        target.unlink()
    try:
        os.link(source.resolve(), target)
    except OSError:
        try:
            target.symlink_to(source.resolve())
        except OSError:
            shutil.copyfile(source, target)


def _join_lines(name: str, sources: Sequence[Path], owner: dict[str, Path], out: Path) -> None:
    """The lines of each corpus that speak of a track taken from it."""
    if not any((source / name).is_file() for source in sources):
        return
    with replacing(out / name) as temporary, open(temporary, "w", encoding="utf-8") as target:
        for source in sources:
            if not (source / name).is_file():
                continue
            with open(source / name, encoding="utf-8") as lines:
                for line in lines:
                    try:
                        track = json.loads(line)["track"]
                    except (ValueError, KeyError, TypeError):
                        continue  # a line cut short; who reads the file leaves it out too
                    if owner.get(track) == source:
                        target.write(line.rstrip("\n") + "\n")
