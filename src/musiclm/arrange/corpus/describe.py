"""Writes the captions of a rendered corpus: `captions.jsonl`, a line a window, and `pieces.jsonl`, a line a piece."""

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from musiclm.arrange.facts.recording import read_journal, setup_of
from musiclm.arrange.facts.window import WINDOW_S, facts_of, facts_of_piece
from musiclm.arrange.render.render import Setup, loudness_lufs
from musiclm.arrange.score import Score, from_json
from musiclm.data.captions.facts import Facts
from musiclm.data.captions.sentences import captions
from musiclm.data.corpus.captions import CAPTIONS_FILE
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import CorpusError, Track, load_manifest

SCORES = "scores"  # folder of a corpus: <id>.json, a Score
PIECES_FILE = "pieces.jsonl"


def load_score(corpus_dir: Path, track: str) -> Score:
    """The score a track was rendered from. Raises: CorpusError if it is missing or damaged."""
    path = Path(corpus_dir) / SCORES / f"{track}.json"
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: no score here ({error}); render the corpus again") from error


def write_captions(corpus_dir: Path, every_s: float = WINDOW_S, seed: int = 0) -> None:
    """Captions of every window of the tracks that have a score. Stopped at any time, it goes on with the next track.

    Tracks outside the training split have captions in held-out wording as well. Raises: CorpusError if no track has a
    score.
    """
    corpus_dir = Path(corpus_dir)
    tracks = [t for t in load_manifest(corpus_dir) if (corpus_dir / SCORES / f"{t.id}.json").is_file()]
    if not tracks:
        raise CorpusError(f"{corpus_dir}: no track has a score; render a corpus first (musiclm corpus render)")
    for name, describe in ((PIECES_FILE, _piece_line), (CAPTIONS_FILE, _window_lines)):
        _write(corpus_dir, name, tracks, describe, every_s, seed)


def window_starts(seconds: float, every_s: float = WINDOW_S) -> list[float]:
    """Starts of the windows that lie wholly in a piece; the last one ends with it. A shorter piece is one window."""
    last = max(0.0, seconds - WINDOW_S)
    starts = [round(k * every_s, 3) for k in range(int(last / every_s) + 1)]
    return starts if last - starts[-1] < every_s / 2 else [*starts, round(last, 3)]


def _window_lines(
    corpus_dir: Path, score: Score, setup: Setup | None, track: Track, every_s: float, seed: int
) -> Iterator[dict[str, Any]]:
    for start_s in window_starts(min(track.seconds, score.seconds), every_s):
        lufs = loudness_lufs(read_clip(corpus_dir, track, start_s, WINDOW_S)) if setup else None
        facts = facts_of(score, start_s, setup=setup, lufs=lufs)
        yield {"start_s": start_s, **_texts(facts, track, f"{seed} {track.id} {start_s}")}


def _piece_line(
    corpus_dir: Path, score: Score, setup: Setup | None, track: Track, every_s: float, seed: int
) -> Iterator[dict[str, Any]]:
    form = [section.name for section in score.sections]
    yield {"form": form, **_texts(facts_of_piece(score, setup), track, f"{seed} {track.id}")}


def _texts(facts: Facts, track: Track, seed: str) -> dict[str, Any]:
    texts = {"captions": [caption.text for caption in captions(facts, random.Random(seed))]}
    if track.split != "train":
        unseen = captions(facts, random.Random(f"{seed} unseen"), each=1, held_out=True)
        texts["unseen"] = [caption.text for caption in unseen]
    return {**texts, "facts": {name: value for name, value in asdict(facts).items() if value not in ("", None, ())}}


def _write(
    corpus_dir: Path,
    name: str,
    tracks: list[Track],
    describe: Callable[[Path, Score, Setup | None, Track, float, int], Iterator[dict[str, Any]]],
    every_s: float,
    seed: int,
) -> None:
    """Lines go to a file beside it, all of a track at once, which takes the name when it holds all tracks."""
    partial = corpus_dir / f".{name}.part"
    kept, done = _finished(partial)
    journal = read_journal(corpus_dir)
    try:
        partial.write_bytes(kept)
        with open(partial, "a", encoding="utf-8") as file:
            for track in tracks:
                if track.id in done:
                    continue
                score = load_score(corpus_dir, track.id)
                setup = setup_of(score, journal.get(track.id, {}))
                lines = [
                    {"track": track.id, **line} for line in describe(corpus_dir, score, setup, track, every_s, seed)
                ]
                lines[-1]["last"] = True
                file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
                file.flush()
        os.replace(partial, corpus_dir / name)
    except OSError as error:
        raise CorpusError(f"{corpus_dir / name}: can't be written ({error.strerror})") from error


def _finished(partial: Path) -> tuple[bytes, set[str]]:
    """What a stopped run has written of tracks that it had finished, and which those are."""
    kept, waiting, done = b"", b"", set()
    for line in partial.read_bytes().splitlines(keepends=True) if partial.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            break
        waiting += line
        if record.get("last"):
            kept, waiting = kept + waiting, b""
            done.add(record["track"])
    return kept, done
