"""`musiclm generate`."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from musiclm.cli.options import Device, Model, Threads, checked_by, progress_bar, use_threads

if TYPE_CHECKING:
    from musiclm.generate.config import GenerateConfig
    from musiclm.generate.session import MusicLM

MOST_PIECES = 10_000  # of one command


def _setting(name: str) -> Callable[[Any], Any]:
    """A callback of an option: `GenerateConfig` must take its value for the setting `name`, whatever the bundle."""

    def check(value: Any) -> None:
        from musiclm.core.config import override
        from musiclm.generate.config import GenerateConfig

        override(GenerateConfig(), [f"{name}={json.dumps(value)}"])

    return checked_by(check)


def _check_duration(duration_s: float) -> None:
    from musiclm.generate.checks import check_duration

    check_duration(duration_s)


def _check_seed(seed: int) -> None:
    from musiclm.generate.checks import check_seed

    check_seed(seed)


def _check_num(num: int) -> None:
    if num > MOST_PIECES:
        raise ValueError(f"{num} pieces; there may be 1 to {MOST_PIECES}")


def generate(
    prompt: Annotated[str, typer.Argument(help="What the music is like, in English.")],
    duration: Annotated[float, typer.Option(help="Seconds, 0.5 to 600.", callback=checked_by(_check_duration))] = 10.0,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same bytes.", callback=checked_by(_check_seed))
    ] = 0,
    num: Annotated[
        int, typer.Option(help="How many; item i has the seed SEED + i.", min=1, callback=checked_by(_check_num))
    ] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(help="Of the semantic stage; 0 is greedy.", callback=_setting("semantic.temperature")),
    ] = None,
    coarse_temperature: Annotated[
        float | None,
        typer.Option(
            help="Of the coarse stage (--acoustic ar); 0.95 by default.", callback=_setting("coarse.temperature")
        ),
    ] = None,
    fine_temperature: Annotated[
        float | None,
        typer.Option(help="Of the fine stage (--acoustic ar); 0.4 by default.", callback=_setting("fine.temperature")),
    ] = None,
    storm_temperature: Annotated[
        float | None, typer.Option(help="Of SoundStorm (--acoustic storm).", callback=_setting("storm.temperature"))
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Of the semantic stage: draw from the k likeliest.", callback=_setting("semantic.top_k")),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Of the semantic stage: draw from this probability.", callback=_setting("semantic.top_p")),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How hard the prompt pulls; 1 is none.", callback=_setting("semantic.guidance"))
    ] = None,
    tempo: Annotated[
        float | None,
        typer.Option(
            help="Beats a minute, 30 to 300; else what the prompt says in numbers.",
            callback=_setting("steer.tempo_bpm"),
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Such as 'D minor' or 'Bb major'; else what the prompt says.", callback=_setting("steer.key_name")
        ),
    ] = None,
    beat: Annotated[
        float | None,
        typer.Option(
            help="How firmly music without a given tempo keeps its own; 0 leaves it alone.",
            callback=_setting("steer.beat"),
        ),
    ] = None,
    acoustic: Annotated[
        str | None,
        typer.Option(
            help="storm (fast) or ar (coarse and fine stages); the bundle's choice by default.",
            callback=_setting("acoustic"),
        ),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Acoustic levels that become sound; the bundle's choice by default.",
            callback=_setting("levels"),
        ),
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
    from musiclm.generate.checks import check_prompt
    from musiclm.generate.session import MusicLM

    prompt = check_prompt(prompt)
    checked_by(_check_seed)(seed + num - 1)
    paths = _free_paths(output, num)
    use_threads(threads)
    started = time.perf_counter()
    loaded = MusicLM.from_pretrained(model, device)
    wishes: dict[str, Any] = {
        **{"acoustic": acoustic, "levels": levels},
        **{"semantic.temperature": temperature, "semantic.top_k": top_k, "semantic.top_p": top_p},
        **{"semantic.guidance": guidance, "steer.tempo_bpm": tempo, "steer.key_name": key, "steer.beat": beat},
    }
    config = configure(loaded, prompt, wishes)
    config = loaded.with_temperatures(config, coarse_temperature, fine_temperature, storm_temperature)
    loaded.acoustic_decoder(config)
    print(f"loaded {loaded.bundle.name} ({loaded.bundle.hash}) in {time.perf_counter() - started:.1f} s")
    print(f"understood: {loaded.understood(config.steer, prompt)}")
    console = Console(stderr=True)
    for index, path in enumerate(paths):
        with progress_bar(console, progress) as bars:
            line = _make(loaded, prompt, duration, seed + index, config, path, bars)
        print(line)


def _free_paths(output: Path | None, num: int) -> list[Path]:
    """The files that the music goes to. Raises: AudioError if one can't be written, or was not named and is there."""
    from musiclm.core.audio import check_writable
    from musiclm.generate.music import output_paths

    paths = output_paths(output or Path("music.wav"), num)
    for path in paths:
        check_writable(path, new=output is None or num > 1, option="another -o")
    return paths


def configure(model: "MusicLM", prompt: str, wishes: Mapping[str, Any]) -> "GenerateConfig":
    """How a bundle is to draw codes: its own choice, but for what is wished for.

    wishes: values by settings of `GenerateConfig`, such as "semantic.temperature"; None leaves the bundle's choice.

    Raises: ValueError for a value that a setting can't have, or that does nothing with this bundle.
    """
    from musiclm.core.config import override

    said = {name: value for name, value in wishes.items() if value is not None}
    assignments = [f"{name}={json.dumps(value)}" for name, value in said.items()]
    config = override(model.default_config(), assignments)
    if not model.steering(config.steer, prompt) and "steer.beat" in said:
        raise ValueError(f"--beat does nothing with the bundle {model.bundle.name}: its tokens tell nothing of onsets")
    return config


def _make(
    model: "MusicLM", prompt: str, duration_s: float, seed: int, config: "GenerateConfig", path: Path, bars: Progress
) -> str:
    """Writes a piece of music, block by block as it is made; a line about it."""
    from musiclm.core.audio import write_blocks
    from musiclm.generate.music import tags_of

    started, first_s = time.perf_counter(), 0.0
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage)
        bars.update(tasks[stage], completed=done, total=total)

    def blocks() -> Iterator[Any]:
        nonlocal first_s
        for block in model.stream(prompt, duration_s, seed, config, report):
            first_s = first_s or time.perf_counter() - started
            yield block[None]

    write_blocks(path, blocks(), model.sample_rate_hz, tags_of(prompt, seed, model.bundle.hash))
    taken = time.perf_counter() - started
    return (
        f"{path}: {duration_s:g} s of music in {taken:.1f} s (real-time factor {taken / duration_s:.2f}, "
        f"first sound after {first_s:.1f} s), seed {seed}"
    )
