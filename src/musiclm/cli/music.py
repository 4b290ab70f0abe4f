"""What the commands that make music have in common: groups of options, and the steps from a bundle to a sound file."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, ClassVar

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from musiclm.cli.options import Device, Model, Threads, checked_by, progress_bar, use_threads

if TYPE_CHECKING:
    from musiclm.generate.config import GenerateConfig
    from musiclm.generate.edit import OnTake
    from musiclm.generate.given import Given
    from musiclm.generate.makers import New, Run
    from musiclm.generate.melody import Melody
    from musiclm.generate.session import MusicLM
    from musiclm.generate.session import Progress as OnProgress
    from musiclm.generate.splice import Blocks
    from musiclm.generate.story import Story
    from musiclm.generate.take import About, Take

# -- options


def setting(name: str) -> Callable[[Any], Any]:
    """A callback of an option: `GenerateConfig` must take its value for the setting `name`, whatever the bundle."""

    def check(value: Any) -> None:
        from musiclm.generate.wishes import check_setting

        check_setting(name, value)

    return checked_by(check)


def check_length(duration_s: float) -> None:
    """Raises: ValueError unless music may have this duration."""
    from musiclm.generate.checks import check_duration

    check_duration(duration_s)


def check_first_seed(seed: int) -> None:
    """Raises: ValueError for what is no seed."""
    from musiclm.generate.checks import check_seed

    check_seed(seed)


def _check_blend(blend_s: float) -> None:
    from musiclm.generate.story import check_blend

    check_blend(blend_s)


Duration = Annotated[float, typer.Option(help="Seconds, 0.5 to 600.", callback=checked_by(check_length))]
Seed = Annotated[int, typer.Option(help="The same seed gives the same bytes.", callback=checked_by(check_first_seed))]
Blend = Annotated[
    float,
    typer.Option(help="Seconds that a change of prompt takes; 0 is at once.", callback=checked_by(_check_blend)),
]
Tune = Annotated[
    Path | None,
    typer.Option(
        "--melody", help="A sound file, hummed, whistled or played, or a MIDI file: the melody that the music follows."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How codes are drawn. None leaves a bundle's choice."""

    panel: ClassVar[str] = "How the music is drawn"

    temperature: Annotated[
        float | None, typer.Option(help="Of the semantic stage; 0 is greedy.", callback=setting("semantic.temperature"))
    ] = None
    guidance: Annotated[
        float | None, typer.Option(help="How hard the prompt pulls; 1 is none.", callback=setting("semantic.guidance"))
    ] = None
    tempo: Annotated[
        float | None,
        typer.Option(
            help="Beats a minute, 30 to 300; else what the prompt says in numbers.", callback=setting("steer.tempo_bpm")
        ),
    ] = None
    key: Annotated[
        str | None,
        typer.Option(
            help="Such as 'D minor' or 'Bb major'; else what the prompt says.", callback=setting("steer.key_name")
        ),
    ] = None
    again: Annotated[
        float | None,
        typer.Option(
            help="How firmly music of more than some 16 s comes back to what it played; 0 leaves it alone.",
            callback=setting("steer.again"),
        ),
    ] = None
    levels: Annotated[
        int | None,
        typer.Option(
            min=1, help="Acoustic levels that become sound; the bundle's choice by default.", callback=setting("levels")
        ),
    ] = None

    def settings(self, acoustic: str | None = None, beat: float | None = None) -> dict[str, Any]:
        """By settings of `GenerateConfig`."""
        from musiclm.generate.wishes import wished

        drawn = (acoustic, self.levels, self.temperature, self.guidance)
        return wished(*drawn, self.tempo, self.key, beat, self.again)


Beat = Annotated[
    float | None,
    typer.Option(
        help="How firmly music without a given tempo keeps its own; 0 leaves it alone.",
        callback=setting("steer.beat"),
        rich_help_panel=Wishes.panel,
    ),
]
Acoustic = Annotated[
    str | None,
    typer.Option(
        help="storm (fast) or ar (coarse and fine stages); the bundle's choice by default.",
        callback=setting("acoustic"),
        rich_help_panel=Wishes.panel,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which models make the music, and where they run."""

    panel: ClassVar[str] = "Model and machine"

    model: Model = "base"
    device: Device = "cpu"
    threads: Threads = None


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What is written and shown beside the sound."""

    panel: ClassVar[str] = "Files"

    take: Annotated[
        bool,
        typer.Option("--take", help="Write the take beside the sound too, NAME.take: its codes and what made them."),
    ] = False
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True


Raw = Annotated[
    bool,
    typer.Option(
        "--raw", help="With -o -: 16-bit little-endian samples, without a header.", rich_help_panel=Saving.panel
    ),
]


def output_option(text: str) -> Any:
    """The type of `--output`, of which `text` says what it may be."""
    return Annotated[Path | None, typer.Option("--output", "-o", help=text, rich_help_panel=Saving.panel)]


# -- before anything is loaded


def check_melody(melody: Path | None) -> list[Path]:
    """The file of a melody, if there is one, as a list. Raises: AudioError for one that is neither sound nor MIDI."""
    from musiclm.generate.melody import check_melody_file

    if melody is None:
        return []
    check_melody_file(melody)
    return [melody]


def source_of(file: Path) -> "About | None":
    """What a take tells of its music; None for a file of sound.

    Raises: AudioError for what is no sound, TakeError for what is no take that can be gone on from.
    """
    from musiclm.core.audio import probe
    from musiclm.generate.take import SUFFIX, check_current, load_take

    if file.suffix != SUFFIX:
        probe(file)
        return None
    take = load_take(file)
    check_current(take)
    return take.about


def check_pipe(output: Path | None, raw: bool, num: int = 1, take: bool = False) -> None:
    """Raises: BadParameter for options that do not fit `-o -`, or that need it."""
    if str(output) != "-":
        if raw:
            raise typer.BadParameter("--raw does nothing without -o -")
    elif num > 1 or take:
        raise typer.BadParameter("-o - sends one piece of music and nothing else; leave --num and --take out")


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

    if str(output) == "-":
        return [Path("-")]
    paths = output_paths(output or default, num)
    for path in paths:
        check_writable(path, inputs=inputs, new=output is None or num > 1, option="another -o")
        if take:
            check_output(path.with_suffix(SUFFIX), new=True, option="another -o")
    return paths


@contextlib.contextmanager
def piped(output: Path | None) -> Iterator[BinaryIO | None]:
    """Standard output, if music is to go there; what is printed meanwhile goes to standard error."""
    if str(output) != "-":
        yield None
        return
    if sys.stdout.isatty():
        raise typer.BadParameter("-o - would write sound to the terminal; send it into a pipe or a file")
    out: Any = sys.stdout.buffer
    with contextlib.redirect_stdout(sys.stderr):
        yield out


# -- from a bundle to sound


def open_model(
    place: Place,
    prompt: "str | Story | None",
    wishes: Mapping[str, Any],
    *temperatures: float | None,
    base: "GenerateConfig | None" = None,
) -> "tuple[MusicLM, GenerateConfig]":
    """A bundle with what it needs to make music, and how it is to draw codes; says so in a line.

    temperatures: of the coarse stage, the fine one and SoundStorm. base: as in `configure`. Raises: as
    `musiclm.generate.wishes.configure`.
    """
    from musiclm.generate.session import MusicLM
    from musiclm.generate.wishes import configure

    use_threads(place.threads)
    started = time.perf_counter()
    loaded = MusicLM.from_pretrained(place.model, place.device)
    config = configure(loaded, prompt, wishes, *temperatures, base=base)
    loaded.acoustic_decoder(config)
    print(f"loaded {loaded.bundle.name} ({loaded.bundle.hash}) in {time.perf_counter() - started:.1f} s")
    return loaded, config


def tell_understood(model: "MusicLM", config: "GenerateConfig", prompt: "str | Story | None") -> None:
    """Says to which tempo and key the music is steered."""
    for line in model.understood(config.steer, prompt or "").splitlines():
        print(f"understood: {'' if prompt else 'no prompt, '}{line}")


def followed(model: "MusicLM", melody: Path | None, duration_s: float) -> "Melody | None":
    """The melody of a file, if there is one; says so in a line. Raises: as `MusicLM.melody`."""
    if melody is None:
        return None
    followed = model.melody(melody)
    print(f"follows {melody}: {min(followed.seconds, duration_s):.1f} s of it")
    return followed


@dataclass(frozen=True)
class Target:
    """Where a piece of music goes: to a file, or to `out` as WAV or, `raw`, its samples alone."""

    path: Path
    saving: Saving
    out: BinaryIO | None = None
    raw: bool = False


def make(
    model: "MusicLM",
    prompt: "str | Story | None",
    duration_s: float,
    seed: int,
    config: "GenerateConfig",
    target: Target,
    *,
    given: "Given | None" = None,
    new_only: bool = False,
    melody: "Melody | None" = None,
) -> None:
    """Writes a piece of music and its take if that is to be kept; prints a line about it."""

    def run(report: "OnProgress", on_take: "OnTake | None") -> "Blocks":
        return model.stream(prompt, duration_s, seed, config, report, given, new_only, on_take, melody)

    write_made(run, model.about(prompt, duration_s, seed, config, given, new_only, melody), target)


def make_several(model: "MusicLM", pieces: "Sequence[New]", paths: Sequence[Path], saving: Saving) -> None:
    """Writes pieces of the same length, and their takes if they are to be kept, side by side where that pays; prints a
    line about each, in their order."""
    from musiclm.generate.makers import num_makers, side_by_side

    lock, lines, said = threading.Lock(), dict[int, str](), 0
    makers = num_makers(model, len(pieces), pieces[0].duration_s)
    with progress_bar(Console(stderr=True), saving.progress) as bars:

        def take_in(index: int, run: "Run") -> None:
            nonlocal said
            piece, target = pieces[index], Target(paths[index], saving)
            about = model.about(piece.prompt, piece.duration_s, piece.seed, piece.config, melody=piece.melody)
            line, _ = _written(run, about, target, bars, name=f"{target.path.name} ")
            with lock:
                lines[index] = line
                bars.stop()  # it would take what is printed for its own
                while said in lines:
                    print(lines[said], flush=True)
                    said += 1
                bars.start()

        side_by_side(model, pieces, makers, take_in)


def write_made(run: "Run", about: "About", target: Target, ask_take: bool = False) -> "Take | None":
    """Writes what `run` makes, block by block, with a bar for each stage, and its take beside it if that is to be kept;
    prints a line about it.

    Returns the take if it is to be kept or is asked for.
    """
    with progress_bar(Console(stderr=True), target.saving.progress) as bars:
        line, take = _written(run, about, target, bars, ask_take)
    print(line)
    return take


def _written(
    run: "Run", about: "About", target: Target, bars: Progress, ask_take: bool = False, name: str = ""
) -> "tuple[str, Take | None]":
    """`write_made`, which returns the line. name: in bars, before those of the stages."""
    from musiclm.core.audio import write_blocks
    from musiclm.core.speakers import Pipe
    from musiclm.generate.music import tags_of
    from musiclm.generate.take import SUFFIX

    started, first_s = time.perf_counter(), 0.0
    tasks: dict[str, TaskID] = {}
    takes: list["Take"] = []
    keep, path = target.saving.take, target.path

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(name + stage)
        bars.update(tasks[stage], completed=done, total=total)

    def blocks() -> Iterator[Any]:
        nonlocal first_s
        for block in run(report, takes.append if keep or ask_take else None):
            first_s = first_s or time.perf_counter() - started
            yield block

    if target.out is None:
        write_blocks(path, (block[None] for block in blocks()), about.sample_rate_hz, tags_of(about))
    else:
        Pipe(target.out, about.sample_rate_hz, target.raw, about.sound_samples).write_all(blocks())
    for task in tasks.values():
        bars.remove_task(task)
    taken, duration_s = time.perf_counter() - started, about.duration_s
    take_name = f", {takes[0].save(path.with_suffix(SUFFIX))}" if keep else ""
    line = (
        f"{path}{take_name}: {duration_s:g} s of music in {taken:.1f} s (real-time factor {taken / duration_s:.2f}, "
        f"first sound after {first_s:.1f} s), seed {about.seed}"
    )
    return line, takes[0] if takes else None
