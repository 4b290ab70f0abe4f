"""`musiclm repaint`, `vary` and `loop`: music that is there, made anew in part."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from musiclm.cli.generate import (
    Acoustic,
    Bars,
    Beat,
    Guidance,
    KeepTake,
    Key,
    Levels,
    Seed,
    Temperature,
    Tempo,
    free_paths,
    open_model,
    write_made,
)
from musiclm.cli.options import Device, Model, Threads, checked_by, progress_bar, use_threads

if TYPE_CHECKING:
    from musiclm.generate.config import GenerateConfig
    from musiclm.generate.edit import Edit
    from musiclm.generate.session import MusicLM
    from musiclm.generate.take import About


def _check_drafts(drafts: int) -> None:
    from musiclm.generate.edit import check_drafts

    check_drafts(drafts)


def _check_strength(strength: float) -> None:
    from musiclm.generate.edit import check_strength

    check_strength(strength)


def _check_start(start_s: float) -> None:
    from musiclm.generate.edit import check_span

    check_span(start_s, None)


def _check_duration(duration_s: float) -> None:
    from musiclm.generate.checks import check_duration

    check_duration(duration_s)


File = Annotated[Path, typer.Argument(help="Any audio file, or a take (FILE.take).")]
Prompt = Annotated[
    str | None, typer.Argument(help="What is made anew is to be like; by default as the take was asked for, or is.")
]
From = Annotated[float, typer.Option("--from", help="Seconds.", callback=checked_by(_check_start))]
NumDrafts = Annotated[
    int,
    typer.Option(
        "--drafts",
        help="How often the codes are drawn, of which those stay that what follows fits best; up to 64.",
        callback=checked_by(_check_drafts),
    ),
]


def _output(suffix: str) -> Any:
    text = f"wav, flac, ogg, opus or mp3. By default FILE-{suffix}.wav, if none is there."
    return Annotated[Path | None, typer.Option("--output", "-o", help=text)]


def repaint(
    file: File,
    prompt: Prompt = None,
    start_s: From = 0.0,
    stop_s: Annotated[float | None, typer.Option("--to", help="Seconds; by default to the end.")] = None,
    drafts: NumDrafts = 4,
    seed: Seed = 0,
    temperature: Temperature = None,
    guidance: Guidance = None,
    tempo: Tempo = None,
    key: Key = None,
    beat: Beat = None,
    acoustic: Acoustic = None,
    levels: Levels = None,
    model: Model = "base",
    device: Device = "cpu",
    threads: Threads = None,
    output: _output("repainted") = None,  # type: ignore[valid-type]
    take: KeepTake = False,
    progress: Bars = True,
) -> None:
    """Make a span of a recording or a take anew, so that it fits both sides.

    Outside of the span every sample stays as it is, but for 50 ms that fade into it and 50 ms out of it.
    """
    from musiclm.generate.edit import check_span
    from musiclm.generate.edit import repaint as edited
    from musiclm.generate.wishes import wished

    checked_by(lambda stop: check_span(start_s, stop))(stop_s)

    def ready(loaded: "MusicLM", config: "GenerateConfig | None") -> "Edit":
        return edited(loaded, file, start_s, stop_s, prompt, seed, config, drafts)

    def told(about: "About") -> str:
        assert about.repaint is not None
        span, rate = about.repaint, about.sample_rate_hz
        first, last, total = (n / rate for n in (span.start_samples, span.stop_samples, span.total_samples))
        return f"repaints {first:.2f} to {last:.2f} s of {file}, which has {total:.2f} s"

    wishes = wished(acoustic, levels, temperature, guidance, tempo, key, beat)
    _run(file, "repainted", prompt, ready, told, wishes, model, device, threads, output, take, progress)


def vary(
    file: File,
    prompt: Prompt = None,
    strength: Annotated[
        float,
        typer.Option(
            help="0: the same codes in another sound; 1: a piece of the same conditions.",
            callback=checked_by(_check_strength),
        ),
    ] = 0.3,
    seed: Seed = 0,
    temperature: Temperature = None,
    guidance: Guidance = None,
    tempo: Tempo = None,
    key: Key = None,
    beat: Beat = None,
    acoustic: Acoustic = None,
    levels: Levels = None,
    model: Model = "base",
    device: Device = "cpu",
    threads: Threads = None,
    output: _output("varied") = None,  # type: ignore[valid-type]
    take: KeepTake = False,
    progress: Bars = True,
) -> None:
    """Make a recording or a take again, more or less the same."""
    from musiclm.generate.edit import vary as edited
    from musiclm.generate.wishes import wished

    def ready(loaded: "MusicLM", config: "GenerateConfig | None") -> "Edit":
        return edited(loaded, file, strength, prompt, seed, config)

    def told(about: "About") -> str:
        return (
            f"varies {file}, {about.duration_s:.2f} s: each semantic code is drawn anew with probability {strength:g}"
        )

    wishes = wished(acoustic, levels, temperature, guidance, tempo, key, beat)
    _run(file, "varied", prompt, ready, told, wishes, model, device, threads, output, take, progress)


def loop(
    file: File,
    prompt: Prompt = None,
    duration: Annotated[
        float | None,
        typer.Option(
            help="Seconds, near which whole bars are; by default as many as there are.",
            callback=checked_by(_check_duration),
        ),
    ] = None,
    start_s: From = 0.0,
    tempo: Tempo = None,
    beats: Annotated[int, typer.Option(help="Beats in a bar.", min=1, max=16)] = 4,
    drafts: NumDrafts = 4,
    seed: Seed = 0,
    temperature: Temperature = None,
    guidance: Guidance = None,
    key: Key = None,
    acoustic: Acoustic = None,
    levels: Levels = None,
    model: Model = "base",
    device: Device = "cpu",
    threads: Threads = None,
    output: _output("loop") = None,  # type: ignore[valid-type]
    take: KeepTake = False,
    progress: Bars = True,
) -> None:
    """Make whole bars of a recording or a take that run into their own beginning.

    The end, at most a bar, is made anew to lead there; the rest stays as it is. The tempo is --tempo, that of the
    prompt, that of the take, or measured.
    """
    from musiclm.generate.edit import loop as edited
    from musiclm.generate.wishes import wished

    def ready(loaded: "MusicLM", config: "GenerateConfig | None") -> "Edit":
        return edited(loaded, file, duration, start_s, tempo, prompt, seed, config, drafts, beats)

    def told(about: "About") -> str:
        assert about.loop is not None
        whole = f"{about.loop.bars} bars of {about.loop.beats_per_bar} beats, {about.duration_s:.3f} s"
        redone_s = about.loop.redone_samples / about.sample_rate_hz
        return (
            f"tempo {about.loop.tempo_bpm:.2f} BPM ({about.loop.tempo_from}): {whole}, the last {redone_s:.2f} s anew"
        )

    wishes = wished(acoustic, levels, temperature, guidance, tempo, key, None)
    _run(file, "loop", prompt, ready, told, wishes, model, device, threads, output, take, progress)


def _run(
    file: Path,
    suffix: str,
    prompt: str | None,
    ready: "Callable[[MusicLM, GenerateConfig | None], Edit]",
    told: "Callable[[About], str]",
    wishes: dict[str, Any],
    model: str,
    device: str,
    threads: int | None,
    output: Path | None,
    keep_take: bool,
    progress: bool,
) -> None:
    """What the three commands have in common. ready: the edit, of a bundle and its settings; told: a line about it."""
    from musiclm.core.audio import probe
    from musiclm.generate.checks import check_prompt
    from musiclm.generate.take import SUFFIX, check_current, load_take

    if prompt is not None:
        prompt = check_prompt(prompt)
    parent = None
    if file.suffix == SUFFIX:
        take = load_take(file)
        check_current(take)
        parent = take.about
    else:
        probe(file)
    (path,) = free_paths(output, 1, keep_take, file.with_name(f"{file.stem}-{suffix}.wav"), [file])
    use_threads(threads)
    said = prompt or (parent.prompt if parent else None)
    loaded, config = open_model(model, device, said, wishes, base=parent.config if parent else None)
    edit = ready(loaded, config)
    print(told(edit.about))
    with progress_bar(Console(stderr=True), progress) as bars:
        line, made = write_made(edit.blocks, edit.about, path, bars, keep_take, ask_take=True)
    print(line)
    assert made is not None
    print(_outcome(made.about), end="")


def _outcome(about: "About") -> str:
    """What only making it told, as a line; empty if there is nothing to tell."""
    if about.vary is not None:
        return f"{about.vary.kept:.0%} of the semantic codes are as they were\n"
    drafts = about.drafts
    if drafts is None or not drafts.scores:
        return "nothing follows what was made, so there was one draft\n"
    others = [score for place, score in enumerate(drafts.scores) if place != drafts.best]
    beside = f"; the others {min(others):.2f} to {max(others):.2f}" if others else ""
    best = drafts.scores[drafts.best]
    return f"draft {drafts.best + 1} of {drafts.num} fits what follows best: {best:.2f} nats a code{beside}\n"
