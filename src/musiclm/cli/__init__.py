"""`musiclm`: a thin command line over the package. Heavy modules are imported by the command that needs them."""

import contextlib
import io
import json
import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from musiclm import __version__
from musiclm.cli.corpus import app as corpus_app
from musiclm.cli.render import render as render_corpus_command
from musiclm.core.interrupt import Interrupted

app = typer.Typer(
    help="Music from text, and the training of every part of it.", no_args_is_help=True, pretty_exceptions_enable=False
)
codec_app = typer.Typer(help="The SoundStream codec on its own.", no_args_is_help=True)
corpus_app.command("render")(render_corpus_command)
app.add_typer(corpus_app, name="corpus")
app.add_typer(codec_app, name="codec")

Model = Annotated[str, typer.Option(help="A bundle: a shipped name, a folder, or a Hugging Face id.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores by default.", min=1)]


def main() -> None:
    """Runs the command line. It ends with 0, with 1 for an error, 2 for wrong usage, 130 for Ctrl-C, 143 for SIGTERM; all but 0 say why in a line."""
    warnings.showwarning = lambda message, *_: _say(f"note: {message}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names of files go out as the bytes they are
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    code = _run()
    if code:
        sys.exit(code)


def _terminated(number: int, _: Any) -> None:
    raise Interrupted("terminated", number)


def _run() -> int:
    """The exit code of the command that `sys.argv` names."""
    try:
        # typer returns the code of an Exit, and from 0.16 on 130 for Ctrl-C; before that it raises Abort
        code = app(prog_name="musiclm", standalone_mode=False)
        sys.stdout.flush()
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Interrupted as stop:
        _say(f"stopped: {stop}")
        return stop.exit_code
    except BrokenPipeError:  # who reads our output has left: `musiclm inspect base | head`
        _close_stdout()
        return 1
    except Exception as error:
        return _complain(error)
    if code == 130:
        _say("stopped")
    return code if isinstance(code, int) else 0


def _complain(error: Exception) -> int:
    """Says in one line what was wrong; the exit code. What no user can cause is raised on: its traceback is wanted."""
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # wrong usage; typer brings a click of its own
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
            print(context.get_help() or "")  # typer prints it itself where it has rich
        else:
            where = "" if context is None else f" (see {context.command_path} --help)"
            _say(f"error: {error.format_message()}{where}")
        return int(error.exit_code)
    # a failed training exists only where the loop was imported, which takes a second
    training_error = getattr(sys.modules.get("musiclm.train.loop"), "TrainingError", ImportError)
    if isinstance(error, MemoryError):
        _say("error: there is not enough memory; ask for less at once, or choose smaller models")
    elif isinstance(error, ValueError | OSError | training_error | ImportError):
        _say(f"error: {error}")
        if isinstance(error, OSError):
            _close_stdout()
    else:
        raise error
    return 1


def _say(text: str) -> None:
    """One line on standard error, which may be closed, full or unable to write all letters."""
    text, encoding = " ".join(text.split()), sys.stderr.encoding or "utf-8"
    try:
        line = text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        line = text.encode(encoding, "backslashreplace")
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        sys.stderr.buffer.write(line + b"\n")
        sys.stderr.flush()


def _close_stdout() -> None:
    """Lets go of an output that takes nothing any more: Python would complain of it once more at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _progress_bar(console: Console, visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not visible or not console.is_terminal,
        transient=True,
    )


@app.command()
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
    from musiclm.generate.session import (
        GenerateConfig,
        Music,
        MusicLM,
        check_duration,
        check_prompt,
        check_seed,
        output_paths,
    )

    prompt = check_prompt(prompt)
    check_duration(duration)
    check_seed(seed + num - 1 if seed >= 0 else seed)
    if acoustic not in (None, "storm", "ar"):
        raise ValueError(f"--acoustic must be storm or ar, got {acoustic!r}")
    paths = output_paths(output or Path("music.wav"), num)
    for path in paths:
        check_writable(path, new=output is None or num > 1, option="another -o")
    _use_threads(threads)
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
        with _progress_bar(console, progress) as bars:

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


def _codec_of(model: str) -> Any:
    from musiclm.core.bundle import BUNDLED, INDEX_FILE, open_bundle
    from musiclm.models.soundstream.model import SoundStream

    folder = BUNDLED / SHIPPED_CODEC if model == SHIPPED_CODEC else Path(model)
    if folder.is_dir() and not (folder / INDEX_FILE).exists():
        return SoundStream.from_artifact(folder)
    return SoundStream.from_artifact(open_bundle(model).part("soundstream"))


SHIPPED_CODEC = "codec"  # comes with the package, apart from the bundle: the next one will have it
Levels = Annotated[
    int | None, typer.Option(help="Codes a frame; all by default. Fewer are fewer bits: 48 are 6 kbps, 24 are 3.")
]
CodecModel = Annotated[str, typer.Option(help="codec, a bundle (base has version 7's), or a trained codec's folder.")]
CODES_SUFFIX = ".codes"


@codec_app.command("encode")
def codec_encode(
    file: Annotated[Path, typer.Argument(help="Any audio file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default FILE.codes, if none is there.")
    ] = None,
    levels: Levels = None,
    model: CodecModel = SHIPPED_CODEC,
) -> None:
    """Turn audio into codes, in constant memory."""
    from musiclm.core.output import check_output
    from musiclm.data.codes import encode_file, save_codes

    target = check_output(
        output or file.with_suffix(CODES_SUFFIX), inputs=[file], new=output is None, option="another -o"
    )
    codec = _codec_of(model)
    encoded = encode_file(codec, file, levels)
    save_codes(target, encoded)
    bits = encoded.bits_per_second(codec.config)
    print(f"{target}: {encoded.codes.shape[1]} frames, {encoded.codes.shape[0]} levels, {bits / 1000:.2f} kbit/s")


@codec_app.command("decode")
def codec_decode(
    file: Annotated[Path, typer.Argument(help="What `codec encode` wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default FILE.wav, if none is there.")
    ] = None,
    levels: Levels = None,
    model: CodecModel = SHIPPED_CODEC,
) -> None:
    """Turn codes back into audio, in constant memory."""
    from musiclm.core.audio import check_writable, write_blocks
    from musiclm.data.codes import decode_blocks, load_codes

    target = output or file.with_suffix(".wav")
    check_writable(target, inputs=[file], new=output is None, option="another -o")
    codec = _codec_of(model)
    encoded = load_codes(file, codec, levels)
    write_blocks(target, decode_blocks(codec, encoded), codec.config.sample_rate_hz)
    print(f"{target}: {encoded.num_samples / codec.config.sample_rate_hz:.2f} s")


@codec_app.command("roundtrip")
def codec_roundtrip(
    file: Annotated[Path, typer.Argument(help="Any audio file.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The audio after the codec; by default roundtrip.wav, if none is there."),
    ] = None,
    levels: Levels = None,
    model: CodecModel = SHIPPED_CODEC,
) -> None:
    """Encode and decode: what the codec does to a file."""
    from musiclm.core.audio import check_writable, write_blocks
    from musiclm.data.codes import decode_blocks, encode_file

    target = output or Path("roundtrip.wav")
    check_writable(target, inputs=[file], new=output is None, option="another -o")
    codec = _codec_of(model)
    started = time.perf_counter()
    encoded = encode_file(codec, file, levels)
    between = time.perf_counter()
    write_blocks(target, decode_blocks(codec, encoded), codec.config.sample_rate_hz)
    seconds = encoded.num_samples / codec.config.sample_rate_hz
    print(
        f"{target}: {seconds:.2f} s at {encoded.bits_per_second(codec.config) / 1000:.2f} kbit/s, real-time factor "
        f"{(between - started) / seconds:.3f} encoding, {(time.perf_counter() - between) / seconds:.3f} decoding"
    )


DataDir = Annotated[Path, typer.Option(help="A corpus (musiclm corpus build).")]
RunsDir = Annotated[Path, typer.Option(help="Where runs, tokens and the bundle lie.")]


@app.command("train")
def train_command(
    stage: Annotated[
        str,
        typer.Argument(
            help="soundstream, w2vbert, mulan, semantic, storm, coarse, fine, or all; soundstream-decoder or mulan-text."
        ),
    ],
    data: DataDir,
    runs: RunsDir,
    preset: Annotated[str, typer.Option(help="tiny, base, bands or paper.")] = "base",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: storm.train.steps=500 (repeatable).")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Begin with this bundle's model: fine-tuning, and soundstream-decoder and mulan-text need it.",
        ),
    ] = None,
    device: Device = "cpu",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    max_minutes: Annotated[float | None, typer.Option(help="Stop after so long; the same command goes on.")] = None,
    threads: Threads = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle that `all` makes; 'mine' by default.")] = None,
) -> None:
    """Train a stage, or all of them; stopped or killed at any moment, the same command goes on."""
    from musiclm.generate.session import check_device
    from musiclm.train.pipeline import train_all, train_stage
    from musiclm.train.recipes import configure

    check_device(device)
    _use_threads(threads)
    chosen = configure(preset, stage, settings or [])
    if stage == "all" and start is not None:
        raise ValueError("--from is for one stage at a time; name the stage")
    if stage != "all" and name is not None:
        raise ValueError(f"--name does nothing here: `train {stage}` makes no bundle")
    if stage == "all":
        bundle = train_all(
            chosen, data, runs, name=name or "mine", device=device, precision=precision, max_minutes=max_minutes
        )
        print(f"bundle {bundle.hash} in {bundle.folder}" if bundle else "the time is up; the same command goes on")
        return
    artifact = train_stage(
        stage, chosen, data, runs, start=start, device=device, precision=precision, max_minutes=max_minutes
    )
    print(f"{stage}: {artifact}" if artifact else f"{stage}: stopped early; the same command goes on")


@app.command()
def label(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus.")],
    windows_per_track: Annotated[int, typer.Option(min=1, help="At most so many 10 s windows of a track.")] = 6,
    threads: Threads = None,
) -> None:
    """Write weak labels (tags, tempo, key, level) of a corpus, from which MuLan's training captions are made."""
    from musiclm.train.pipeline import label as label_data

    _use_threads(threads)
    label_data(data, print, windows_per_track)


@app.command()
def tokenize(
    data: DataDir,
    runs: RunsDir,
    stream: Annotated[
        list[str] | None, typer.Option(help="Only this one: mulan, semantic or acoustic. May be repeated.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="A bundle whose encoders are used where RUNS has none.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=1.0, help="Of longer tracks only the middle; whole tracks by default.")
    ] = None,
    speed: Annotated[
        list[float] | None,
        typer.Option(
            min=0.5,
            max=2.0,
            help="Training tracks at this speed as well, pitch and tempo altered together. May be repeated.",
        ),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Fill RUNS/tokens with the tokens of the trained encoders."""
    from musiclm.core.streams import STREAMS
    from musiclm.train.pipeline import tokenize as fill

    _use_threads(threads)
    console = Console(stderr=True)
    with _progress_bar(console, True) as bars:
        tasks = {name: bars.add_task(f"{name} tokens") for name in stream or STREAMS}
        store = fill(
            data,
            runs,
            start=start,
            streams=tuple(tasks),
            max_seconds_per_track=max_seconds,
            speeds=tuple(speed or ()),
            device=device,
            on_progress=lambda name, done, total: bars.update(tasks[name], completed=done, total=total),
        )
    print(store)


@app.command()
def bundle(
    runs: RunsDir,
    out: Annotated[Path, typer.Option(help="The bundle's folder.")],
    name: Annotated[str, typer.Option(help="Its name.")] = "mine",
    start: Annotated[str | None, typer.Option("--from", help="A bundle that has the stages which RUNS lacks.")] = None,
    notes: Annotated[Path | None, typer.Option(help="Markdown for the head of the model card.")] = None,
    sampling: Annotated[
        str | None,
        typer.Option(
            help='Default sampling, JSON: {"acoustic": "ar", "semantic": {"guidance": 2}}; else that of --from.'
        ),
    ] = None,
) -> None:
    """Put the trained stages of a run together into one folder that `musiclm generate --model` takes."""
    from musiclm.train.pipeline import make_bundle

    try:
        chosen = None if sampling is None else json.loads(sampling)
    except json.JSONDecodeError as error:
        raise ValueError(f"--sampling is no JSON ({error})") from None
    text = notes.read_text() if notes else ""
    made = make_bundle(runs, out, name, start=start, notes=text, sampling=chosen)
    print(f"bundle {made.name} ({made.hash}) in {made.folder}: {', '.join(made.parts)}")


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A shipped bundle's name, a folder, or a hub id.")
    ] = "base",
    report: Annotated[Path | None, typer.Option(help="Folder of the report; begun before, it goes on there.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A corpus: real music to compare with. Without one, less is measured.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="CSV with a column 'prompt', if wanted 'concepts' (a;b), 'tempo_bpm', 'key'.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A quarter of the prompts and fewer clips: about ten minutes.")
    ] = False,
    embedder: Annotated[
        list[str] | None,
        typer.Option(
            help="Distances by its embeddings too: aisfx, or an audio model of transformers by folder or hub name (repeatable)."
        ),
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(help="Beside Opus: EnCodec, DAC or Mimi of transformers by folder or hub name (repeatable)."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.json B.json", help="Show what moved between two reports instead."),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Measure a bundle: quality, adherence to prompts, music, codec, memorisation, beside controls."""
    if compare is not None:
        from musiclm.evaluate.report import compare as what_moved

        a, b = (read_report(path) for path in compare)
        for row in what_moved(a, b):
            if row["moved"] != "no":
                print(f"{row['figure']:60} {row['a']:10.4g} {row['b']:10.4g}  {row['moved']}")
        return
    from musiclm.evaluate.report import write_html
    from musiclm.evaluate.run import EvaluateConfig, Study
    from musiclm.generate.session import check_device

    if report is None:
        raise ValueError("--report is missing; name a folder for the report")
    check_device(device)
    _use_threads(threads)
    config = EvaluateConfig.quick() if quick else EvaluateConfig()
    if quick:
        print(
            f"quick: {config.num_prompts} prompts, {config.num_real} real clips, {config.num_long} long ones, {config.num_codec} for the codec, "
            f"{config.num_memorisation} for memorisation; the full run has two to four times as many of each, and narrower intervals"
        )
    study = Study(
        model,
        report,
        corpus=data,
        prompts=prompts,
        embedders=embedder or ["aisfx"],
        codecs=codec or [],
        config=config,
        device=device,
    )
    print(write_html(report, study.run()))


@app.command()
def match(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MULAN...", help="Artifacts of trained MuLans, or bundles: folder, shipped name, hub id."
        ),
    ],
    data: Annotated[Path, typer.Option(help="A corpus with real music.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="CSV with a column 'caption', or as for evaluate; the package's prompts by default."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Whose music is ranked: validation to choose by, test to report.")
    ] = "validation",
    per_track: Annotated[int, typer.Option(help="Clips of each track.", min=1)] = 2,
    heard: Annotated[Path | None, typer.Option(help="JSON file that keeps what the listeners said.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
    threads: Threads = None,
) -> None:
    """Compare MuLans: does each rank real music by a text as listeners hear it, who had no part in training?"""
    from musiclm.core.artifact import CONFIG_FILE, git_revision, write_atomic
    from musiclm.core.bundle import open_bundle
    from musiclm.core.output import check_output
    from musiclm.data.corpus.manifest import SPLITS
    from musiclm.evaluate.adherence import load_prompts
    from musiclm.evaluate.match import listen, match_model, read_texts, table
    from musiclm.models.mulan.model import MuLan

    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    for target in (path for path in (out, heard) if path is not None):
        others = [path for path in (out, heard, prompts) if path is not None and path is not target]
        check_output(target, inputs=others, option="another file")
    _use_threads(threads)
    texts = read_texts(prompts) if prompts else load_prompts()
    folders = {
        name: Path(name) if (Path(name) / CONFIG_FILE).exists() else open_bundle(name).part("mulan") for name in models
    }
    mulans = {name: MuLan.from_artifact(folder).eval() for name, folder in folders.items()}
    clips = listen(data, split, per_track, heard)
    rows = {name: match_model(model, clips, texts) for name, model in mulans.items()}
    print(f"rank correlation with what listeners hear, {len(texts)} texts, {len(clips.audio)} clips of split {split}")
    for name, row in rows.items():
        print(f"{name}: {row.mean_agreement} (texts that do not name the concept {row.other_texts:.3f})")
    if out:
        report = {"git_revision": git_revision(), "split": split, "texts": len(texts), "clips": len(clips.audio)}
        write_atomic(out, json.dumps({**report, "models": table(rows)}, indent=1) + "\n")


@corpus_app.command("captions")
def corpus_captions(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A rendered corpus.")]) -> None:
    """Write the captions of a rendered corpus again from its scores."""
    from musiclm.arrange.corpus.describe import write_captions
    from musiclm.data.corpus.build import locked
    from musiclm.data.corpus.manifest import load_manifest

    load_manifest(folder)  # refuses a folder that is no corpus before a lock is made in it
    with locked(folder, "corpus"):
        write_captions(folder)


def _files_of(folder: Path, *more: Path | None) -> list[Path]:
    """The files of a corpus that lie in its folder itself, and others that a command reads."""
    here = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return [*here, *(path for path in more if path is not None)]


@corpus_app.command("audit")
def corpus_audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus with captions.")],
    out: Annotated[Path, typer.Option(help="Write the report there, JSON.")],
    clips: Annotated[int, typer.Option(min=10, help="So many clips are measured.")] = 500,
    reference: Annotated[
        Path | None, typer.Option(help="CSV with a column 'caption': captions that people wrote.")
    ] = None,
) -> None:
    """Measure tempo, key, tags and wording of a captioned corpus with tools that do not know its scores."""
    from musiclm.core.artifact import write_atomic
    from musiclm.core.output import check_output
    from musiclm.evaluate.audit import audit

    check_output(out, inputs=_files_of(folder, reference), option="another --out")
    report = audit(folder, clips, reference, say=lambda text: print(text, file=sys.stderr))
    write_atomic(out, json.dumps(report, indent=1))
    heard = report["agreement"]
    for name in ("tempo", "key", "mean_auc"):
        if heard[name]:
            print(f"{name:9} {heard[name]['value']:.3f}, shuffled {heard[f'{name}_shuffled']:.3f}")
    print(out)


@corpus_app.command("page")
def corpus_page(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A rendered corpus.")],
    out: Annotated[Path, typer.Option(help="The HTML file.")],
    num: Annotated[int, typer.Option(min=1, help="Clips on it.")] = 40,
) -> None:
    """Make a page to listen to a rendered corpus: players, spectrograms, piano rolls, captions."""
    from musiclm.core.output import check_output
    from musiclm.evaluate.page import write_page

    check_output(out, inputs=_files_of(folder), option="another --out")
    print(write_page(folder, out, num))


@app.command()
def bench(
    model: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A shipped bundle's name, a folder, or a hub id.")
    ] = "base",
    out: Annotated[Path | None, typer.Option(help="Write the figures there, JSON.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short music, all threads, no training: about two minutes.")
    ] = False,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="MusicGen, EnCodec, DAC and Mimi beside ours instead, random weights, in turn."),
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A.json B.json", help="Show two results by ratio instead.")
    ] = None,
    device: Device = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="This many threads only; by default one and all.")] = None,
) -> None:
    """Time a bundle on this machine: generation, every stage, start-up, memory, training."""
    from musiclm.bench.compare import table
    from musiclm.bench.run import BenchConfig, bench_peers, save
    from musiclm.bench.run import bench as measure
    from musiclm.core.output import check_output
    from musiclm.generate.session import check_device

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    if compare is not None:
        print("\n".join(table(*(json.loads(path.read_text()) for path in compare))))
        return
    if peers and quick:
        raise ValueError("--peers has no quick form; give one of --peers and --quick")
    check_device(device)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        check_output(out, option="another --out")
    if peers:
        result = bench_peers(model, device, threads, say)
    else:
        config = BenchConfig.quick() if quick else BenchConfig()
        if threads is not None:
            config = replace(config, threads=(threads,))
        if config.left_out:
            say(f"quick: without {config.left_out}")
        result = measure(model, config, device, say)
    if out is not None:
        save(result, out)
    print(json.dumps(result["figures"], indent=1))


@app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(help="A bundle (a shipped one by name), model, token store, codes or generated file.")
    ],
) -> None:
    """Print what a file or folder says of itself."""
    from musiclm.core.artifact import CONFIG_FILE, ArtifactError, read_config
    from musiclm.core.bundle import BUNDLED, INDEX_FILE, open_bundle
    from musiclm.generate.session import read_tags

    if not path.exists() and len(path.parts) == 1 and (BUNDLED / path / INDEX_FILE).exists():
        path = BUNDLED / path
    if not path.exists():
        raise ArtifactError(f"{path} does not exist")
    if (path / INDEX_FILE).exists():
        bundle = open_bundle(path)
        print(json.dumps({**bundle.document, "hash": bundle.hash}, indent=1))
    elif (path / CONFIG_FILE).exists():
        print(json.dumps(read_config(path), indent=1))
    elif headers := sorted(path.glob("*/header.json")):
        print(json.dumps({header.parent.name: json.loads(header.read_text()) for header in headers}, indent=1))
    elif path.suffix == CODES_SUFFIX:
        from musiclm.data.codes import describe_codes

        print(json.dumps(describe_codes(path), indent=1))
    elif path.is_file():
        print(json.dumps(read_tags(path) or {"generated": "not by musiclm, as far as the file says"}, indent=1))
    else:
        raise ArtifactError(f"{path} is no bundle, model, token store, codes or audio file")


def read_report(path: Path) -> dict[str, Any]:
    """A report of `evaluate`. Raises: ValueError if it is none."""
    try:
        document = json.loads(path.read_text())
        document["settings"], document["sections"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no report of `musiclm evaluate` ({type(error).__name__}: {error})") from None
    return document
