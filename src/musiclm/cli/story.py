"""`musiclm story`: music that follows prompts by time, from a file."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from musiclm.cli.generate import (
    Acoustic,
    Bars,
    Beat,
    Blend,
    Guidance,
    KeepTake,
    Key,
    Levels,
    Raw,
    Seed,
    Temperature,
    Tempo,
    Tune,
    check_length,
    check_melody,
    check_pipe,
    followed,
    free_paths,
    make,
    open_model,
    piped,
    tell_understood,
)
from musiclm.cli.options import Device, Model, Threads, checked_by, progress_bar, use_threads

LAST_S = 30.0  # of the last section, where no duration is given


def story(
    file: Annotated[
        Path,
        typer.Argument(help="A section a line: 0:30 heavy metal with drums. There may be tempo=150 and key=Am in it."),
    ],
    duration: Annotated[
        float | None,
        typer.Option(
            help="Seconds, 0.5 to 600; by default 30 from the beginning of the last section.",
            callback=checked_by(check_length),
        ),
    ] = None,
    blend: Blend = 0.0,
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
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="wav, flac, ogg, opus or mp3, or - for a pipe. By default FILE.wav, if none is there.",
        ),
    ] = None,
    raw: Raw = False,
    melody: Tune = None,
    take: KeepTake = False,
    progress: Bars = True,
) -> None:
    """Make music that follows prompts by time."""
    from musiclm.generate.checks import MAX_DURATION_S
    from musiclm.generate.story import load_story
    from musiclm.generate.wishes import wished

    told = load_story(file, blend)
    duration = duration or min(told.sections[-1].at_s + LAST_S, MAX_DURATION_S)
    told.check_duration(duration)
    check_pipe(output, raw, take=take)
    (path,) = free_paths(output, 1, take, file.with_suffix(".wav"), [file, *check_melody(melody)])
    use_threads(threads)
    wishes = wished(acoustic, levels, temperature, guidance, tempo, key, beat)
    with piped(output) as out:
        loaded, config = open_model(model, device, told, wishes)
        tell_understood(loaded, config, told)
        tune = followed(loaded, melody, duration)
        with progress_bar(Console(stderr=True), progress) as bars:
            line = make(loaded, told, duration, seed, config, path, bars, keep_take=take, out=out, raw=raw, melody=tune)
        print(line)
