"""`musiclm generate`, and what `musiclm continue` has of it."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from musiclm.cli.options import Device, Model, Threads, checked_by, progress_bar, use_threads

if TYPE_CHECKING:
    from musiclm.generate.config import GenerateConfig
    from musiclm.generate.given import Given
    from musiclm.generate.melody import Melody
    from musiclm.generate.session import MusicLM

MOST_PIECES = 10_000  # of one command


def setting(name: str) -> Callable[[Any], Any]:
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


Duration = Annotated[float, typer.Option(help="Seconds, 0.5 to 600.", callback=checked_by(_check_duration))]
Seed = Annotated[int, typer.Option(help="The same seed gives the same bytes.", callback=checked_by(_check_seed))]
Temperature = Annotated[
    float | None, typer.Option(help="Of the semantic stage; 0 is greedy.", callback=setting("semantic.temperature"))
]
Guidance = Annotated[
    float | None, typer.Option(help="How hard the prompt pulls; 1 is none.", callback=setting("semantic.guidance"))
]
Tempo = Annotated[
    float | None,
    typer.Option(
        help="Beats a minute, 30 to 300; else what the prompt says in numbers.", callback=setting("steer.tempo_bpm")
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        help="Such as 'D minor' or 'Bb major'; else what the prompt says.", callback=setting("steer.key_name")
    ),
]
Beat = Annotated[
    float | None,
    typer.Option(
        help="How firmly music without a given tempo keeps its own; 0 leaves it alone.", callback=setting("steer.beat")
    ),
]
Acoustic = Annotated[
    str | None,
    typer.Option(
        help="storm (fast) or ar (coarse and fine stages); the bundle's choice by default.",
        callback=setting("acoustic"),
    ),
]
Levels = Annotated[
    int | None,
    typer.Option(
        min=1, help="Acoustic levels that become sound; the bundle's choice by default.", callback=setting("levels")
    ),
]
KeepTake = Annotated[
    bool, typer.Option("--take", help="Write the take beside the sound too, NAME.take: its codes and what made them.")
]
Bars = Annotated[bool, typer.Option(help="Show progress bars.")]


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What the music is like, in English; none: whatever the models make.")
    ] = None,
    duration: Duration = 10.0,
    seed: Seed = 0,
    num: Annotated[
        int, typer.Option(help="How many; item i has the seed SEED + i.", min=1, callback=checked_by(_check_num))
    ] = 1,
    temperature: Temperature = None,
    coarse_temperature: Annotated[
        float | None,
        typer.Option(
            help="Of the coarse stage (--acoustic ar); 0.95 by default.", callback=setting("coarse.temperature")
        ),
    ] = None,
    fine_temperature: Annotated[
        float | None,
        typer.Option(help="Of the fine stage (--acoustic ar); 0.4 by default.", callback=setting("fine.temperature")),
    ] = None,
    storm_temperature: Annotated[
        float | None, typer.Option(help="Of SoundStorm (--acoustic storm).", callback=setting("storm.temperature"))
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Of the semantic stage: draw from the k likeliest.", callback=setting("semantic.top_k")),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Of the semantic stage: draw from this probability.", callback=setting("semantic.top_p")),
    ] = None,
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
            help="wav, flac, ogg, opus or mp3; several are numbered. By default music.wav, if none is there.",
        ),
    ] = None,
    melody: Annotated[
        Path | None,
        typer.Option(
            help="A sound file, hummed, whistled or played, or a MIDI file: the melody that the music follows."
        ),
    ] = None,
    take: KeepTake = False,
    progress: Bars = True,
) -> None:
    """Make music from a sentence, or from none."""
    from musiclm.generate.checks import check_prompt
    from musiclm.generate.melody import check_melody_file

    if prompt is not None:
        prompt = check_prompt(prompt)
    elif guidance is not None:
        raise typer.BadParameter("--guidance does nothing without a prompt")
    checked_by(_check_seed)(seed + num - 1)
    if melody is not None:
        check_melody_file(melody)
    paths = free_paths(output, num, take, inputs=[] if melody is None else [melody])
    use_threads(threads)
    wishes = wished(acoustic, levels, temperature, guidance, tempo, key, beat)
    wishes |= {"semantic.top_k": top_k, "semantic.top_p": top_p}
    loaded, config = open_model(model, device, prompt, wishes, coarse_temperature, fine_temperature, storm_temperature)
    print(f"understood: {'' if prompt else 'no prompt, '}{loaded.understood(config.steer, prompt or '')}")
    told = None
    if melody is not None:
        told = loaded.melody(melody)
        print(f"follows {melody}: {min(told.seconds, duration):.1f} s of it")
    console = Console(stderr=True)
    for index, path in enumerate(paths):
        with progress_bar(console, progress) as bars:
            line = make(loaded, prompt, duration, seed + index, config, path, bars, keep_take=take, melody=told)
        print(line)


def free_paths(
    output: Path | None, num: int, take: bool, default: Path = Path("music.wav"), inputs: Sequence[Path] = ()
) -> list[Path]:
    """The files that the music goes to.

    Raises: AudioError if one can't be written, is one of `inputs`, or was not named and is there; OutputError if its
    take can't be written or is there.
    """
    from musiclm.core.audio import check_writable
    from musiclm.core.output import check_output
    from musiclm.generate.music import output_paths
    from musiclm.generate.take import SUFFIX

    paths = output_paths(output or default, num)
    for path in paths:
        check_writable(path, inputs=inputs, new=output is None or num > 1, option="another -o")
        if take:
            check_output(path.with_suffix(SUFFIX), new=True, option="another -o")
    return paths


def wished(
    acoustic: str | None,
    levels: int | None,
    temperature: float | None,
    guidance: float | None,
    tempo_bpm: float | None,
    key: str | None,
    beat: float | None,
) -> dict[str, Any]:
    """Values of options that several commands have, by settings of `GenerateConfig`."""
    return {
        **{"acoustic": acoustic, "levels": levels, "semantic.temperature": temperature, "semantic.guidance": guidance},
        **{"steer.tempo_bpm": tempo_bpm, "steer.key_name": key, "steer.beat": beat},
    }


def open_model(
    model: str, device: str, prompt: str | None, wishes: Mapping[str, Any], *temperatures: float | None
) -> "tuple[MusicLM, GenerateConfig]":
    """A bundle with what it needs to make music, and how it is to draw codes; says so in a line.

    temperatures: of the coarse stage, the fine one and SoundStorm. Raises: as `configure`.
    """
    from musiclm.generate.session import MusicLM

    started = time.perf_counter()
    loaded = MusicLM.from_pretrained(model, device)
    config = loaded.with_temperatures(configure(loaded, prompt, wishes), *temperatures)
    loaded.acoustic_decoder(config)
    print(f"loaded {loaded.bundle.name} ({loaded.bundle.hash}) in {time.perf_counter() - started:.1f} s")
    return loaded, config


def configure(model: "MusicLM", prompt: str | None, wishes: Mapping[str, Any]) -> "GenerateConfig":
    """How a bundle is to draw codes: its own choice, but for what is wished for.

    wishes: values by settings of `GenerateConfig`, such as "semantic.temperature"; None leaves the bundle's choice.

    Raises: ValueError for a value that a setting can't have, or that does nothing with this bundle.
    """
    from musiclm.core.config import override

    said = {name: value for name, value in wishes.items() if value is not None}
    assignments = [f"{name}={json.dumps(value)}" for name, value in said.items()]
    config = override(model.default_config(), assignments)
    if not model.steering(config.steer, prompt or "") and "steer.beat" in said:
        raise ValueError(f"--beat does nothing with the bundle {model.bundle.name}: its tokens tell nothing of onsets")
    return config


def make(
    model: "MusicLM",
    prompt: str | None,
    duration_s: float,
    seed: int,
    config: "GenerateConfig",
    path: Path,
    bars: Progress,
    given: "Given | None" = None,
    new_only: bool = False,
    keep_take: bool = False,
    melody: "Melody | None" = None,
) -> str:
    """Writes a piece of music, block by block as it is made, and its take if it is to be kept; a line about it."""
    from musiclm.core.audio import write_blocks
    from musiclm.generate.music import tags_of
    from musiclm.generate.take import SUFFIX, Take

    started, first_s = time.perf_counter(), 0.0
    tasks: dict[str, TaskID] = {}
    takes: list[Take] = []

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage)
        bars.update(tasks[stage], completed=done, total=total)

    def blocks() -> Iterator[Any]:
        nonlocal first_s
        on_take = takes.append if keep_take else None
        for block in model.stream(prompt, duration_s, seed, config, report, given, new_only, on_take, melody):
            first_s = first_s or time.perf_counter() - started
            yield block[None]

    about = model.about(prompt, duration_s, seed, config, given, new_only, melody)
    write_blocks(path, blocks(), model.sample_rate_hz, tags_of(about))
    taken = time.perf_counter() - started
    told = f", {takes[0].save(path.with_suffix(SUFFIX))}" if takes else ""
    return (
        f"{path}{told}: {duration_s:g} s of music in {taken:.1f} s (real-time factor {taken / duration_s:.2f}, "
        f"first sound after {first_s:.1f} s), seed {seed}"
    )
