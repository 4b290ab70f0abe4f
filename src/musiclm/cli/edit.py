"""`musiclm repaint`, `vary` and `loop`: music that is there, made anew in part."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musiclm.cli.music import (
    Acoustic,
    Beat,
    Place,
    Saving,
    Seed,
    Target,
    Wishes,
    check_length,
    free_paths,
    open_model,
    output_option,
    source_of,
    write_made,
)
from musiclm.cli.options import checked_by, grouped

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
    return output_option(f"wav, flac, ogg, opus or mp3. By default FILE-{suffix}.wav, if none is there.")


@grouped
def repaint(
    file: File,
    prompt: Prompt = None,
    start_s: From = 0.0,
    stop_s: Annotated[float | None, typer.Option("--to", help="Seconds; by default to the end.")] = None,
    drafts: NumDrafts = 4,
    seed: Seed = 0,
    *,
    wishes: Wishes,
    beat: Beat = None,
    acoustic: Acoustic = None,
    output: _output("repainted") = None,  # type: ignore[valid-type]
    saving: Saving,
    place: Place,
) -> None:
    """Make a span of a recording or a take anew, so that it fits both sides.

    Outside of the span every sample stays as it is, but for 50 ms that fade into it and 50 ms out of it.
    """
    from musiclm.generate.edit import check_span
    from musiclm.generate.edit import repaint as edited

    checked_by(lambda stop: check_span(start_s, stop))(stop_s)

    def ready(loaded: "MusicLM", config: "GenerateConfig | None") -> "Edit":
        return edited(loaded, file, start_s, stop_s, prompt, seed, config, drafts)

    def outline(about: "About") -> str:
        assert about.repaint is not None
        span, rate = about.repaint, about.sample_rate_hz
        first, last, total = (n / rate for n in (span.start_samples, span.stop_samples, span.total_samples))
        return f"repaints {first:.2f} to {last:.2f} s of {file}, which has {total:.2f} s"

    _run(file, "repainted", prompt, ready, outline, wishes.settings(acoustic, beat), output, saving, place)


@grouped
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
    *,
    wishes: Wishes,
    beat: Beat = None,
    acoustic: Acoustic = None,
    output: _output("varied") = None,  # type: ignore[valid-type]
    saving: Saving,
    place: Place,
) -> None:
    """Make a recording or a take again, more or less the same."""
    from musiclm.generate.edit import vary as edited

    def ready(loaded: "MusicLM", config: "GenerateConfig | None") -> "Edit":
        return edited(loaded, file, strength, prompt, seed, config)

    def outline(about: "About") -> str:
        return (
            f"varies {file}, {about.duration_s:.2f} s: each semantic code is drawn anew with probability {strength:g}"
        )

    _run(file, "varied", prompt, ready, outline, wishes.settings(acoustic, beat), output, saving, place)


@grouped
def loop(
    file: File,
    prompt: Prompt = None,
    duration: Annotated[
        float | None,
        typer.Option(
            help="Seconds, near which whole bars are; by default as many as there are.",
            callback=checked_by(check_length),
        ),
    ] = None,
    start_s: From = 0.0,
    beats: Annotated[int, typer.Option(help="Beats in a bar.", min=1, max=16)] = 4,
    drafts: NumDrafts = 4,
    seed: Seed = 0,
    *,
    wishes: Wishes,
    acoustic: Acoustic = None,
    output: _output("loop") = None,  # type: ignore[valid-type]
    saving: Saving,
    place: Place,
) -> None:
    """Make whole bars of a recording or a take that run into their own beginning.

    The end, at most a bar, is made anew to lead there; the rest stays as it is. The tempo is --tempo, that of the
    prompt, that of the take, or measured.
    """
    from musiclm.generate.edit import loop as edited

    def ready(loaded: "MusicLM", config: "GenerateConfig | None") -> "Edit":
        return edited(loaded, file, duration, start_s, wishes.tempo, prompt, seed, config, drafts, beats)

    def outline(about: "About") -> str:
        assert about.loop is not None
        whole = f"{about.loop.bars} bars of {about.loop.beats_per_bar} beats, {about.duration_s:.3f} s"
        redone_s = about.loop.redone_samples / about.sample_rate_hz
        return (
            f"tempo {about.loop.tempo_bpm:.2f} BPM ({about.loop.tempo_from}): {whole}, the last {redone_s:.2f} s anew"
        )

    _run(file, "loop", prompt, ready, outline, wishes.settings(acoustic), output, saving, place)


def _run(
    file: Path,
    suffix: str,
    prompt: str | None,
    ready: "Callable[[MusicLM, GenerateConfig | None], Edit]",
    outline: "Callable[[About], str]",
    settings: dict[str, Any],
    output: Path | None,
    saving: Saving,
    place: Place,
) -> None:
    """What the three commands share. ready: the edit, of a bundle and its settings; outline: a line about it."""
    from musiclm.generate.checks import check_prompt

    if prompt is not None:
        prompt = check_prompt(prompt)
    parent = source_of(file)
    (path,) = free_paths(output, 1, saving.take, file.with_name(f"{file.stem}-{suffix}.wav"), [file])
    said = prompt or (parent.prompt if parent else None)
    loaded, config = open_model(place, said, settings, base=parent.config if parent else None)
    edit = ready(loaded, config)
    print(outline(edit.about))
    made = write_made(edit.blocks, edit.about, Target(path, saving), ask_take=True)
    assert made is not None
    print(_outcome(made.about), end="")


def _outcome(about: "About") -> str:
    """What is known only after making it, as a line; empty if there is nothing."""
    if about.vary is not None:
        return f"{about.vary.kept:.0%} of the semantic codes are as they were\n"
    drafts = about.drafts
    if drafts is None or not drafts.scores:
        return "nothing follows what was made, so there was one draft\n"
    others = [score for place, score in enumerate(drafts.scores) if place != drafts.best]
    beside = f"; the others {min(others):.2f} to {max(others):.2f}" if others else ""
    best = drafts.scores[drafts.best]
    return f"draft {drafts.best + 1} of {drafts.num} fits what follows best: {best:.2f} nats a code{beside}\n"
