"""`musiclm generate`, and what `musiclm continue`, `story` and `play` have of it."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from typer.core import TyperCommand

from musiclm.cli.options import Device, Model, Threads, checked, checked_by, progress_bar, use_threads

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

MOST_PIECES = 10_000  # of one command


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


def _check_seed(seed: int) -> None:
    from musiclm.generate.checks import check_seed

    check_seed(seed)


def _check_blend(blend_s: float) -> None:
    from musiclm.generate.story import check_blend

    check_blend(blend_s)


def _check_changes(lines: list[str]) -> None:
    from musiclm.generate.story import Section

    for line in lines:
        Section.parse(line)


def _check_num(num: int) -> None:
    if num > MOST_PIECES:
        raise ValueError(f"{num} pieces; there may be 1 to {MOST_PIECES}")


Duration = Annotated[float, typer.Option(help="Seconds, 0.5 to 600.", callback=checked_by(check_length))]
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
Raw = Annotated[bool, typer.Option("--raw", help="With -o -: 16-bit little-endian samples, without a header.")]
Bars = Annotated[bool, typer.Option(help="Show progress bars.")]


class Generate(TyperCommand):
    """Takes `--at TIME PROMPT`: an option of two words that may be given again, which typer has no type for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, joined(args))


def joined(words: Sequence[str]) -> list[str]:
    """Command line words with the two words after each `--at` made one, such as "0:30 heavy metal"."""
    left, found = list(words), []
    while left:
        word = left.pop(0)
        found.append(word)
        if word == "--":
            return found + left
        if word == "--at" and len(left) > 1 and " " not in left[0] and not left[1].startswith("-"):
            found.append(f"{left.pop(0)} {left.pop(0)}")
    return found


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What the music is like, in English; none: whatever the models make.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TIME PROMPT",
            help="Another prompt from a time on, such as --at 0:30 'heavy metal with drums'; may be given again.",
            callback=checked_by(_check_changes),
        ),
    ] = None,
    blend: Blend = 0.0,
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
            help="wav, flac, ogg, opus or mp3; several are numbered. - sends WAV to standard output. "
            "By default music.wav, if none is there.",
        ),
    ] = None,
    raw: Raw = False,
    melody: Tune = None,
    take: KeepTake = False,
    progress: Bars = True,
) -> None:
    """Make music from a sentence, or from none."""
    from musiclm.generate.checks import check_prompt
    from musiclm.generate.makers import New
    from musiclm.generate.story import of_prompts
    from musiclm.generate.wishes import wished

    if prompt is not None:
        prompt = check_prompt(prompt)
    elif guidance is not None:
        raise typer.BadParameter("--guidance does nothing without a prompt")
    checked_by(_check_seed)(seed + num - 1)
    told: str | Story | None = prompt
    if at:
        if prompt is None:
            raise typer.BadParameter("--at needs a prompt to begin with")
        told = checked(of_prompts, prompt, at, blend)
        checked(told.check_duration, duration)
    elif blend:
        raise typer.BadParameter("--blend does nothing without --at")
    check_pipe(output, raw, num, take)
    paths = free_paths(output, num, take, inputs=check_melody(melody))
    use_threads(threads)
    wishes = wished(acoustic, levels, temperature, guidance, tempo, key, beat)
    wishes |= {"semantic.top_k": top_k, "semantic.top_p": top_p}
    with piped(output) as out:
        temperatures = (coarse_temperature, fine_temperature, storm_temperature)
        loaded, config = open_model(model, device, told, wishes, *temperatures)
        tell_understood(loaded, config, told)
        tune = followed(loaded, melody, duration)
        if len(paths) > 1:
            pieces = [New(told, duration, seed + index, config, tune) for index in range(num)]
            make_several(loaded, pieces, paths, take, progress)
            return
        with progress_bar(Console(stderr=True), progress) as bars:
            line = make(
                loaded, told, duration, seed, config, paths[0], bars, keep_take=take, out=out, raw=raw, melody=tune
            )
        print(line)


def tell_understood(model: "MusicLM", config: "GenerateConfig", prompt: "str | Story | None") -> None:
    """Says to which tempo and key the music is steered."""
    for line in model.understood(config.steer, prompt or "").splitlines():
        print(f"understood: {'' if prompt else 'no prompt, '}{line}")


def check_melody(melody: Path | None) -> list[Path]:
    """The file of a melody, if there is one, as a list. Raises: AudioError for one that is neither sound nor MIDI."""
    from musiclm.generate.melody import check_melody_file

    if melody is None:
        return []
    check_melody_file(melody)
    return [melody]


def followed(model: "MusicLM", melody: Path | None, duration_s: float) -> "Melody | None":
    """The melody of a file, if there is one; says so in a line. Raises: as `MusicLM.melody`."""
    if melody is None:
        return None
    told = model.melody(melody)
    print(f"follows {melody}: {min(told.seconds, duration_s):.1f} s of it")
    return told


def check_pipe(output: Path | None, raw: bool, num: int = 1, take: bool = False) -> None:
    """Raises: BadParameter for options that do not fit `-o -`, or that need it."""
    if str(output) != "-":
        if raw:
            raise typer.BadParameter("--raw does nothing without -o -")
    elif num > 1 or take:
        raise typer.BadParameter("-o - sends one piece of music and nothing else; leave --num and --take out")


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


def open_model(
    model: str,
    device: str,
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

    started = time.perf_counter()
    loaded = MusicLM.from_pretrained(model, device)
    config = configure(loaded, prompt, wishes, *temperatures, base=base)
    loaded.acoustic_decoder(config)
    print(f"loaded {loaded.bundle.name} ({loaded.bundle.hash}) in {time.perf_counter() - started:.1f} s")
    return loaded, config


def make(
    model: "MusicLM",
    prompt: "str | Story | None",
    duration_s: float,
    seed: int,
    config: "GenerateConfig",
    path: Path,
    bars: Progress,
    given: "Given | None" = None,
    new_only: bool = False,
    keep_take: bool = False,
    out: BinaryIO | None = None,
    raw: bool = False,
    melody: "Melody | None" = None,
) -> str:
    """Writes a piece of music, block by block as it is made, and its take if it is to be kept; a line about it.

    out, raw: as of `write_made`.
    """

    def run(report: "OnProgress", on_take: "OnTake | None") -> "Blocks":
        return model.stream(prompt, duration_s, seed, config, report, given, new_only, on_take, melody)

    about = model.about(prompt, duration_s, seed, config, given, new_only, melody)
    return write_made(run, about, path, bars, keep_take, out=out, raw=raw)[0]


def make_several(
    model: "MusicLM", pieces: "Sequence[New]", paths: Sequence[Path], keep_take: bool, progress: bool
) -> None:
    """Writes pieces of the same length, and their takes if they are to be kept, side by side where that pays; says a
    line about each, in their order."""
    from musiclm.generate.makers import num_makers, side_by_side

    lock, lines, said = threading.Lock(), dict[int, str](), 0
    makers = num_makers(model, len(pieces), pieces[0].duration_s)
    with progress_bar(Console(stderr=True), progress) as bars:

        def take_in(index: int, run: "Run") -> None:
            nonlocal said
            piece, path = pieces[index], paths[index]
            about = model.about(piece.prompt, piece.duration_s, piece.seed, piece.config, melody=piece.melody)
            line, _ = write_made(run, about, path, bars, keep_take, name=f"{path.name} ")
            with lock:
                lines[index] = line
                bars.stop()  # it would take what is printed for its own
                while said in lines:
                    print(lines[said], flush=True)
                    said += 1
                bars.start()

        side_by_side(model, pieces, makers, take_in)


def write_made(
    run: "Callable[[OnProgress, OnTake | None], Blocks]",
    about: "About",
    path: Path,
    bars: Progress,
    keep_take: bool,
    ask_take: bool = False,
    out: BinaryIO | None = None,
    raw: bool = False,
    name: str = "",
) -> "tuple[str, Take | None]":
    """Writes what `run` makes, block by block, with a bar for each stage, and its take beside it if it is to be kept.

    out: where it goes in place of the file, as WAV or, `raw`, its samples alone. name: before those of the stages.

    Returns a line about it, and the take if it is to be kept or is asked for.
    """
    from musiclm.core.audio import write_blocks
    from musiclm.core.speakers import Pipe
    from musiclm.generate.music import tags_of
    from musiclm.generate.take import SUFFIX

    started, first_s = time.perf_counter(), 0.0
    tasks: dict[str, TaskID] = {}
    takes: list["Take"] = []

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(name + stage)
        bars.update(tasks[stage], completed=done, total=total)

    def blocks() -> Iterator[Any]:
        nonlocal first_s
        for block in run(report, takes.append if keep_take or ask_take else None):
            first_s = first_s or time.perf_counter() - started
            yield block

    if out is None:
        write_blocks(path, (block[None] for block in blocks()), about.sample_rate_hz, tags_of(about))
    else:
        Pipe(out, about.sample_rate_hz, raw, about.sound_samples).write_all(blocks())
    for task in tasks.values():
        bars.remove_task(task)
    taken, duration_s = time.perf_counter() - started, about.duration_s
    told = f", {takes[0].save(path.with_suffix(SUFFIX))}" if keep_take else ""
    line = (
        f"{path}{told}: {duration_s:g} s of music in {taken:.1f} s (real-time factor {taken / duration_s:.2f}, "
        f"first sound after {first_s:.1f} s), seed {about.seed}"
    )
    return line, takes[0] if takes else None
