"""`musiclm generate`."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from musiclm.cli.options import Device, Model, Threads, progress_bar, use_threads


def generate(
    prompt: Annotated[str, typer.Argument(help="What the music is like, in English.")],
    duration: Annotated[float, typer.Option(help="Seconds, 0.5 to 600.")] = 10.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    num: Annotated[int, typer.Option(help="How many; item i has the seed SEED + i.", min=1)] = 1,
    temperature: Annotated[float | None, typer.Option(help="Of the semantic stage; 0 is greedy.")] = None,
    coarse_temperature: Annotated[
        float | None, typer.Option(help="Of the coarse stage (--acoustic ar); 0.95 by default.")
    ] = None,
    fine_temperature: Annotated[
        float | None, typer.Option(help="Of the fine stage (--acoustic ar); 0.4 by default.")
    ] = None,
    storm_temperature: Annotated[float | None, typer.Option(help="Of SoundStorm (--acoustic storm).")] = None,
    top_k: Annotated[int | None, typer.Option(help="Of the semantic stage: draw from the k likeliest.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of the semantic stage: draw from this probability.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How hard the prompt pulls; 1 is none.")] = None,
    tempo: Annotated[
        float | None, typer.Option(help="Beats a minute, 30 to 300; else what the prompt says in numbers.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Such as 'D minor' or 'Bb major'; else what the prompt says.")] = None,
    beat: Annotated[
        float | None, typer.Option(help="How firmly music without a given tempo keeps its own; 0 leaves it alone.")
    ] = None,
    acoustic: Annotated[
        str | None, typer.Option(help="storm (fast) or ar (coarse and fine stages); the bundle's choice by default.")
    ] = None,
    levels: Annotated[
        int | None, typer.Option(min=1, help="Acoustic levels that become sound; the bundle's choice by default.")
    ] = None,
    model: Model = "base",
    device: Device = "cpu",
    threads: Threads = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="wav, flac, ogg, opus or mp3; several are numbered. By default music.wav, if none is there.",
        ),
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Make music from a sentence."""
    from musiclm.core.audio import check_writable, write_blocks
    from musiclm.generate.checks import check_duration, check_prompt, check_seed
    from musiclm.generate.config import GenerateConfig
    from musiclm.generate.music import Music, output_paths
    from musiclm.generate.session import MusicLM

    prompt = check_prompt(prompt)
    check_duration(duration)
    check_seed(seed + num - 1 if seed >= 0 else seed)
    if acoustic not in (None, "storm", "ar"):
        raise ValueError(f"--acoustic must be storm or ar, got {acoustic!r}")
    paths = output_paths(output or Path("music.wav"), num)
    for path in paths:
        check_writable(path, new=output is None or num > 1, option="another -o")
    use_threads(threads)
    started = time.perf_counter()
    loaded = MusicLM.from_pretrained(model, device)
    config: GenerateConfig = loaded.default_config(acoustic)  # type: ignore[arg-type]
    wishes: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance}
    config = replace(
        config,
        semantic=replace(config.semantic, **{name: value for name, value in wishes.items() if value is not None}),
        levels=levels or config.levels,
        steer=replace(config.steer, tempo_bpm=tempo, key_name=key, beat=config.steer.beat if beat is None else beat),
    )
    if not loaded.steering(config.steer, prompt) and beat is not None:
        raise ValueError(f"--beat does nothing with the bundle {loaded.bundle.name}: its tokens tell nothing of onsets")
    config = loaded.with_temperatures(config, coarse_temperature, fine_temperature, storm_temperature)
    loaded.acoustic_decoder(config)
    print(f"loaded {loaded.bundle.name} ({loaded.bundle.hash}) in {time.perf_counter() - started:.1f} s")
    print(f"understood: {loaded.understood(config.steer, prompt)}")
    console = Console(stderr=True)
    for index, path in enumerate(paths):
        started = time.perf_counter()
        first: list[float] = []
        tasks: dict[str, Any] = {}
        with progress_bar(console, progress) as bars:

            def report(stage: str, done: int, total: int) -> None:
                if stage not in tasks:  # noqa: B023
                    tasks[stage] = bars.add_task(stage)  # noqa: B023
                bars.update(tasks[stage], completed=done, total=total)  # noqa: B023

            def blocks() -> Any:
                for block in loaded.stream(prompt, duration, seed + index, config, report):  # noqa: B023
                    first.append(time.perf_counter() - started)  # noqa: B023
                    yield block[None]

            about = Music(None, loaded.sample_rate_hz, (prompt,), (seed + index,), loaded.bundle.hash)  # type: ignore[arg-type]
            write_blocks(path, blocks(), loaded.sample_rate_hz, about.tags())
        taken = time.perf_counter() - started
        print(
            f"{path}: {duration:g} s of music in {taken:.1f} s (real-time factor {taken / duration:.2f}, first sound after "
            f"{first[0]:.1f} s), seed {seed + index}"
        )
