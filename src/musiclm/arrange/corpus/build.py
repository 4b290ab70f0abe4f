"""`musiclm corpus render`: pieces without end, rendered until there are enough hours; a corpus like any other, with
scores beside it.

DIR/audio/<id>.flac     mono, 24 kHz, 16 bit; starts where the score starts
DIR/scores/<id>.json    the score (`score.from_json`)
DIR/midi/<id>.mid       the same for other programs
DIR/journal.jsonl       a line per finished piece: a run that was stopped goes on
DIR/sources.json        what was read from --sources
DIR/works.json          the finished pieces read from there, with --works

Pieces are numbered. The corpus is the shortest run of numbers from 0 that holds the hours asked for, whatever the
number of processes and however often the work was interrupted; more hours with the same seed add pieces and change
none. With a share of finished works, these take the places of some numbers, evenly spread; the pieces at the other
numbers stay what they are without works. A share of pieces for bands of Musical MIDI Accompaniment takes numbers that
works leave free, likewise.
"""

import concurrent.futures
import hashlib
import json
import os
import random
import re
import time
from collections.abc import Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from musiclm.arrange import limits
from musiclm.arrange.compose.arrange import arrange
from musiclm.arrange.compose.bands import arrange_for_band, playable_bands
from musiclm.arrange.corpus.describe import write_captions
from musiclm.arrange.facts.recording import JOURNAL
from musiclm.arrange.read.mma import Mma, MmaError, digest, find_mma
from musiclm.arrange.read.sources import NO_SOURCES, Sources, from_dict, load_sources
from musiclm.arrange.read.works import Works, cached_works, load_works
from musiclm.arrange.render.drumkits import KIT_FOLDERS, DrumKit, find_kits
from musiclm.arrange.render.midi import save_midi
from musiclm.arrange.render.render import FORMAT_VERSION, choose_setup, render
from musiclm.arrange.render.soundfonts import FOLDERS, PieceError, Soundfont, check_renderers, find_soundfonts
from musiclm.arrange.score import Score, from_json, to_json
from musiclm.arrange.styles import STYLES
from musiclm.arrange.styles.bands import find_style
from musiclm.core.audio import SAMPLE_RATE_HZ
from musiclm.core.unicode import name_bytes
from musiclm.core.workers import pool
from musiclm.data.corpus.assemble import assemble
from musiclm.data.corpus.build import locked
from musiclm.data.corpus.ingest import Envelope
from musiclm.data.corpus.manifest import RENDERED, CorpusError, Track, load_manifest, save_manifest
from musiclm.data.corpus.sources import Item

SOURCE = RENDERED
RENDERERS = ("symusic", "fluidsynth")
_MANIFEST_EVERY_S = 60.0
_OURS = re.compile(r"(\.\d+-)?[0-9a-f]{16}\.(flac|json|mid)")  # pieces by id, and such in the making


@dataclass(frozen=True, kw_only=True)
class RenderReport:
    out: Path
    num_tracks: int
    num_rendered: int  # in this run; the rest was there already
    hours: float
    times_real_time: float  # seconds of music a second of this run; 0 if nothing was left to do
    skipped_sources: int


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """All that decides what a piece sounds like, but its number."""

    seed: int
    out: Path
    styles: tuple[str, ...]
    soundfonts: tuple[Soundfont, ...]
    renderers: tuple[str, ...]
    sources: Path | None  # the cache that `load_sources` wrote
    works: Path | None = None  # the cache that `load_works` wrote
    works_share: float = 0.0  # of the numbers
    mma: Mma | None = None  # the program whose bands play
    bands_share: float = 0.0  # of the numbers
    kits: tuple[DrumKit, ...] = ()

    @property
    def stamp(self) -> str:
        fonts = ",".join(font.package for font in self.soundfonts)
        known = json.loads(self.sources.read_text(encoding="utf-8"))["stamp"][:16] if self.sources else "own"
        more = f":{self.works_share}:{cached_works(self.works).stamp[:16]}" if self.works else ""
        more += f":bands {self.bands_share} {digest(self.mma.library)}" if self.mma else ""
        more += f":kits {','.join(kit.name for kit in self.kits)}" if self.kits else ""
        return f"{FORMAT_VERSION}:{self.seed}:{fonts}:{','.join(self.renderers)}:{known}:{len(self.styles)}{more}"

    def style_of(self, number: int) -> str:
        """Every style once, shuffled, then again."""
        order = list(self.styles)
        random.Random(f"{self.seed}/order/{number // len(order)}").shuffle(order)
        return order[number % len(order)]

    def work_of(self, number: int) -> tuple[int, int] | None:
        """Which finished work a number stands for, and in which cycle: every work once, shuffled, then again.

        None for other numbers.
        """
        place = int(number * self.works_share)
        if self.works is None or int((number + 1) * self.works_share) == place:
            return None
        cycle, place = divmod(place, len(cached_works(self.works).scores))
        order = list(range(len(cached_works(self.works).scores)))
        random.Random(f"{self.seed}/works/{cycle}").shuffle(order)
        return order[place], cycle

    def band_of(self, number: int) -> int | None:
        """Which band of `playable_bands` plays at a number: each once, shuffled, then again. None for other numbers."""
        if self.mma is None or self.work_of(number) is not None:
            return None
        works = int(number * self.works_share) if self.works else 0
        share = min(1.0, self.bands_share / (1 - self.works_share)) if self.works_share < 1 else 0.0
        place = int((number - works) * share)
        if int((number - works + 1) * share) == place:
            return None
        order = list(range(len(playable_bands(self.mma))))
        cycle, place = divmod(place, len(order))
        random.Random(f"{self.seed}/bands/{cycle}").shuffle(order)
        return order[place]


def render_corpus(
    hours: float,
    seed: int,
    out: Path,
    jobs: int = 1,
    sources: Path | None = None,
    styles: Sequence[str] = (),
    soundfont_folders: Sequence[Path] = FOLDERS,
    renderers: Sequence[str] = RENDERERS,
    progress: bool = True,
    works: float = 0.0,
    bands: float = 0.0,
    mma: Path | None = None,
    drum_kit_folders: Sequence[Path] = KIT_FOLDERS,
) -> RenderReport:
    """Renders (or goes on rendering) at least `hours` hours of music into `out`, then writes manifest and captions.

    `works` is the share of the pieces that are finished ones from `sources`, played as written; `bands` that of pieces
    in grooves of the program `mma`, which is in the folder of that name or on PATH.

    Raises: CorpusError for settings that make no sense or a folder that can't be written, RenderError if a soundfont or
    renderer is missing (it names the package), ValueError if `sources` holds nothing.
    """
    _check(hours, jobs, styles, works, sources, bands)
    program = _program(mma) if bands else None
    started_s = time.monotonic()
    check_renderers(renderers)
    fonts = find_soundfonts(soundfont_folders)
    out = Path(out)
    with locked(out, "--out"):
        _check_own(out)
        cache, works_cache = (out / "sources.json" if sources and works < 1 else None), out / "works.json"
        known = load_sources(Path(sources), cache, jobs, needed=not works) if sources and cache else NO_SOURCES
        finished = load_works(Path(sources), works_cache, jobs) if sources and works else Works()
        for name in ("audio", "scores", "midi"):
            (out / name).mkdir(exist_ok=True)
        job = RenderJob(
            seed=seed,
            out=out,
            styles=tuple(styles) or tuple(STYLES),
            soundfonts=tuple(fonts),
            renderers=tuple(renderers),
            sources=cache,
            works=works_cache if works else None,
            works_share=works,
            mma=program,
            bands_share=bands,
            kits=tuple(find_kits(drum_kit_folders)),
        )
        skipped = known.skipped + finished.skipped
        tracks, made_s = _rendered(hours * 3600, job, jobs, progress, skipped)
    return RenderReport(
        out=out,
        num_tracks=len(tracks),
        num_rendered=len(made_s),
        hours=sum(track.seconds for track in tracks) / 3600,
        times_real_time=sum(made_s) / max(1e-3, time.monotonic() - started_s),
        skipped_sources=len(skipped),
    )


def _rendered(
    seconds: float, job: RenderJob, jobs: int, progress: bool, skipped: Sequence[tuple[str, str]]
) -> tuple[list[Track], list[float]]:
    """Renders what is missing of so many seconds; the corpus then holds the tracks that are returned, and no other.

    Returns: the tracks, and the seconds of each piece that was rendered now.
    """
    records = _finished(job)
    there = set(records)
    _render_until(seconds, job, records, jobs, progress)
    tracks = _save(job.out, _enough(records, seconds), skipped)
    _drop_others(job.out, {track.id for track in tracks})
    write_captions(job.out)
    return tracks, [record["seconds"] for number, record in records.items() if number not in there and "id" in record]


def make_piece(number: int, job: RenderJob) -> dict[str, Any]:
    """Arranges, renders and writes one piece; returns its record for the journal. Of a finished work that can't be
    rendered, or not in reasonable time, the record holds the reason, and no music."""
    seed = job.seed * 1_000_003 + number
    work, band = job.work_of(number), job.band_of(number)
    score: Score | None = None
    if band is not None and job.mma is not None:
        score = _for_band(band, job.mma, seed, job)
    if score is not None:
        return _render(number, job, score, job.soundfonts)
    if work is None or job.works is None:
        return _render(number, job, arrange(job.style_of(number), seed, _sources(job.sources)), job.soundfonts)
    score = replace(from_json(cached_works(job.works).scores[work[0]]), seed=seed)
    try:
        with limits.within(limits.RENDER_S):
            return _render(number, job, score, _soundfont_of_cycle(score, *work, job))
    except (PieceError, TimeoutError) as error:
        name = f"{score.origins[0].source}/{score.origins[0].name}"
        return {"number": number, "stamp": job.stamp, "seconds": 0.0, "name": name, "skipped": str(error)}


def _render(number: int, job: RenderJob, score: Score, soundfonts: Sequence[Soundfont]) -> dict[str, Any]:
    """Renders and writes a piece; its record."""
    setup = choose_setup(score, soundfonts, job.renderers, job.kits)
    audio = render(score, setup)
    samples = np.rint(np.clip(audio, -1.0, 1.0) * 32767.0).astype(np.int16)
    envelope = Envelope()
    envelope.add(samples)
    sha256 = _sha256(samples)
    _write(job.out, sha256[:16], samples, score)
    font = setup.soundfont
    licences = {f"{font.package}: {font.licence}", *(f"{item.source}: {item.licence}" for item in score.origins)}
    if setup.kit:
        licences.add(f"{setup.kit.package}/{setup.kit.name}: {setup.kit.licence}")
    groove = next((item.name for item in score.origins if item.source == "mma"), "")
    style = find_style(score.style)
    return {
        "number": number,
        "stamp": job.stamp,
        "id": sha256[:16],
        "sha256": sha256,
        "seconds": len(samples) / SAMPLE_RATE_HZ,
        "fingerprint": envelope.fingerprint(),
        "style": score.style,
        "title": score.origins[0].name if score.as_written else f"{score.style} {number}",
        "soundfont": font.package,
        "renderer": setup.renderer,
        **({"drum_kit": setup.kit.name} if setup.kit else {}),
        **({"groove": groove} if groove else {}),
        "licence": "; ".join(sorted(licences)),
        "held_out": font.held_out or (style is not None and style.held_out),
        "piece": _piece_name(score),
    }


def _for_band(band: int, program: Mma, seed: int, job: RenderJob) -> Score | None:
    """A piece for the band; None where the program fails on it, and the arranger has the number instead."""
    try:
        return arrange_for_band(playable_bands(program)[band], program, seed, _sources(job.sources))
    except MmaError:
        return None


def _program(folder: Path | None) -> Mma:
    try:
        found = find_mma(folder)
    except MmaError as error:
        raise CorpusError(str(error)) from error
    if found is None:
        raise CorpusError(
            "--bands needs the program mma, which is not on PATH; "
            "install the Debian package mma, or unpack it and name its folder: --mma DIR"
        )
    if not playable_bands(found):
        raise CorpusError(
            f"{found.library}: none of its style files is known; the known ones are in musiclm/arrange/styles/bands.py"
        )
    return found


def _soundfont_of_cycle(score: Score, index: int, cycle: int, job: RenderJob) -> list[Soundfont]:
    """The one for this cycle of a work: each that can play it, in an order of its own, then again. Held-out ones stay
    out, for a work that is trained on in one sound must not be tested on in another."""
    trained = [font for font in job.soundfonts if not font.held_out]
    trained = [font for font in trained if "fluidsynth" in job.renderers or not font.fluidsynth_only] or trained
    fonts = [font for font in trained if font.can_play(score)] or trained
    rng = random.Random(f"{job.seed}/works/{index}/soundfonts")
    fonts.sort(key=lambda font: rng.random() ** (1 / font.weight), reverse=True)
    return [fonts[cycle % len(fonts)]]


def _check(
    hours: float, jobs: int, styles: Sequence[str], works: float, sources: Path | None, bands: float = 0.0
) -> None:
    if not 0 < hours <= 100_000:
        raise CorpusError(f"--hours is {hours}; it must be above 0 and at most 100000")
    if jobs < 1:
        raise CorpusError(f"--jobs is {jobs}; it must be at least 1")
    if not 0 <= works <= 1:
        raise CorpusError(f"--works is {works}; it is a share, from 0 to 1")
    if not 0 <= bands <= 1 or works + bands > 1:
        raise CorpusError(f"--bands is {bands} and --works {works}; they are shares of the pieces, together at most 1")
    if works and not sources:
        raise CorpusError("--works needs --sources, the folder that holds the finished pieces")
    for style in styles:
        if style not in STYLES:
            raise CorpusError(f"no style {style!r}; there are {', '.join(sorted(STYLES))}")


def _check_own(out: Path) -> None:
    """Raises: CorpusError if `out` holds recordings, which a rendered corpus would push out of the manifest."""
    if (out / "manifest.jsonl").is_file() and any(track.source != SOURCE for track in load_manifest(out)):
        raise CorpusError(f"{out}: holds a corpus of recordings; choose another --out")


def _piece_name(score: Score) -> str:
    """Pieces on the same traditional tune are one piece to the split, and so is a work in several sounds."""
    if score.as_written:
        return f"{SOURCE}/{score.origins[0].source}/{score.origins[0].name}"
    tune = next((item for item in score.origins if item.what == "melody"), None)
    return f"{SOURCE}/{tune.source}/{tune.name}" if tune else f"{SOURCE}/{score.style}/{score.seed}"


@lru_cache(maxsize=1)
def _sources(cache: Path | None) -> Sources:
    return from_dict(json.loads(cache.read_text(encoding="utf-8"))) if cache else NO_SOURCES


def _sha256(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


def _write(out: Path, name: str, samples: np.ndarray, score: Score) -> None:
    """Score and MIDI first, audio last, each by renaming: audio that is there is complete."""
    targets = [out / "scores" / f"{name}.json", out / "midi" / f"{name}.mid", out / "audio" / f"{name}.flac"]
    temporary = [path.with_name(f".{os.getpid()}-{path.name}") for path in targets]
    try:
        temporary[0].write_text(to_json(score), encoding="utf-8")
        save_midi(score, temporary[1])
        soundfile.write(name_bytes(temporary[2]), samples, SAMPLE_RATE_HZ, "PCM_16", format="FLAC")
        for path, target in zip(temporary, targets, strict=True):
            os.replace(path, target)
    except (OSError, soundfile.LibsndfileError) as error:
        raise CorpusError(f"{out}: can't be written ({error}); make room or choose another --out") from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _finished(job: RenderJob) -> dict[int, dict[str, Any]]:
    """Records of this job's pieces whose audio is there, by number; a line cut short by a kill is ignored."""
    path = job.out / JOURNAL
    records: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
            there = "skipped" in record or (job.out / "audio" / f"{record['id']}.flac").is_file()
            if record["stamp"] == job.stamp and there:
                records[record["number"]] = record
        except (ValueError, KeyError, TypeError):
            continue
    return records


def _enough(records: dict[int, dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """Records 0, 1, 2, ... until their music is long enough, or a number is missing."""
    kept: list[dict[str, Any]] = []
    total = 0.0
    while total < seconds and len(kept) in records:
        kept.append(records[len(kept)])
        total += kept[-1]["seconds"]
    return kept


def _render_until(
    seconds: float, job: RenderJob, records: dict[int, dict[str, Any]], jobs: int, progress: bool
) -> None:
    """Renders missing numbers in order until the first ones hold `seconds`; adds them to `records` and the journal."""
    bar = Progress(
        TextColumn("rendering"), BarColumn(), TextColumn("{task.fields[hours]:.2f} h"), TimeElapsedColumn(),
        TimeRemainingColumn(), disable=not progress,
    )  # fmt: skip
    saved_s = time.monotonic()
    making = closing(_make_all(seconds, job, records, jobs))  # an error or Ctrl-C here ends the processes too
    with open(job.out / JOURNAL, "ab", buffering=0) as journal, bar, making as made:
        journal.write(b"\n")  # ends a line that a kill may have cut
        task = bar.add_task("", total=seconds, hours=0.0)
        for record in made:
            journal.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            records[record["number"]] = record
            _check_any(records, job)
            done = sum(item["seconds"] for item in _enough(records, seconds))
            bar.update(task, completed=min(done, seconds), hours=done / 3600)
            if time.monotonic() - saved_s > _MANIFEST_EVERY_S:
                _save(job.out, _enough(records, seconds), ())
                saved_s = time.monotonic()


def _check_any(records: dict[int, dict[str, Any]], job: RenderJob) -> None:
    """Raises: CorpusError if every work was tried and none could be rendered; it would go on for ever."""
    left = [record for record in records.values() if "skipped" in record]
    if job.works and len(left) == len(records) >= len(cached_works(job.works).scores):
        raise CorpusError(f"none of {len(left)} pieces could be rendered; {left[0]['name']}: {left[0]['skipped']}")


def _make_all(
    seconds: float, job: RenderJob, records: dict[int, dict[str, Any]], jobs: int
) -> Generator[dict[str, Any], None, None]:
    number = 0

    def wanted() -> bool:
        return sum(item["seconds"] for item in _enough(records, seconds)) < seconds

    if jobs == 1:
        while wanted():
            if number not in records:
                yield make_piece(number, job)
            number += 1
        return
    running: set[concurrent.futures.Future[dict[str, Any]]] = set()
    with pool(jobs) as processes:
        try:
            while wanted():
                while len(running) < jobs + 1:
                    if number not in records:
                        running.add(processes.submit(make_piece, number, job))
                    number += 1
                done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise CorpusError(
                "a rendering process was killed (out of memory?); start again with fewer --jobs"
            ) from error
        finally:
            for future in running:
                future.cancel()


def _save(out: Path, records: Sequence[dict[str, Any]], left: Sequence[tuple[str, str]]) -> list[Track]:
    """The manifest by the same rules as of any corpus: no duplicates, pieces split whole, held-out ones tested on."""
    left = [*left, *sorted({(record["name"], record["skipped"]) for record in records if "skipped" in record})]
    records = [record for record in records if "id" in record]
    items = {f"{record['number']:06d}": record for record in records}
    listed = [
        Item(
            source=SOURCE,
            package=record["style"],
            origin=name,
            parts=(),
            root=Path(SOURCE),
            stamp="",
            title=record.get("title", f"{record['style']} {record['number']}"),
            artist="musiclm",
            genre=record["style"],
            licence=record["licence"],
            piece=record["piece"],
            held_out=record["held_out"],
        )
        for name, record in items.items()
    ]
    tracks, skipped = assemble(listed, {item.key: items[item.origin] for item in listed}, final=True)
    left_out = [{"source": "sources", "package": "", "origin": name, "reason": reason} for name, reason in left]
    save_manifest(out, tracks, [*skipped, *left_out])
    return tracks


def _drop_others(out: Path, ids: set[str]) -> None:
    """Removes what a longer or interrupted run, or one with another seed, left; other names are not ours."""
    for folder in ("audio", "scores", "midi"):
        for path in (out / folder).iterdir():
            if _OURS.fullmatch(path.name) and path.stem not in ids:
                path.unlink()
