"""`musiclm train`, `label`, `tokenize` and `bundle`: from a corpus to a bundle."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from rich.console import Console

from musiclm.cli.options import (
    Address,
    DataDir,
    Device,
    EngineName,
    Jobs,
    RunsDir,
    Threads,
    grouped,
    progress_bar,
    use_threads,
)

if TYPE_CHECKING:
    from musiclm.train.loop import Means


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """How the work of a step is done; what is trained does not depend on it."""

    panel: ClassVar[str] = "Memory and speed"

    accumulate: Annotated[
        int, typer.Option(min=1, help="Cut each process's batch into so many, for less memory; the result is the same.")
    ] = 1
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute layers again in the backward pass, for less memory.")
    ] = False
    compiled: Annotated[bool, typer.Option("--compile", help="Layers through torch.compile.")] = False
    shard: Annotated[
        bool, typer.Option("--shard", help="In several processes: weights and optimizer in shards (FSDP2).")
    ] = False

    def means(self, device: str) -> "Means":
        """With the processes that train together, which this one joins."""
        from musiclm.train.loop import Means
        from musiclm.train.processes import join

        processes = join(device, self.shard)
        return Means(processes=processes, accumulate=self.accumulate, recompute=self.recompute, compiled=self.compiled)


@grouped
def train(
    stage: Annotated[
        str,
        typer.Argument(
            help="soundstream, w2vbert, mulan, semantic, storm, coarse, fine, or all; melody, soundstream-decoder or "
            "mulan-text."
        ),
    ],
    data: Annotated[
        Path, typer.Option(help="A corpus (musiclm corpus build); of `melody`, melodies (corpus melodies).")
    ],
    runs: RunsDir,
    preset: Annotated[str, typer.Option(help="tiny, base, large or paper.")] = "base",
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
    max_minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command goes on.", min=0.0)
    ] = None,
    threads: Threads = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle that `all` makes; 'mine' by default.")] = None,
    *,
    work: WorkOptions,
) -> None:
    """Train a stage, or all of them; stopped or killed at any moment, the same command goes on.

    Started by torchrun or `accelerate launch` (with --no-python), several processes train together.
    """
    from musiclm.generate.checks import check_device
    from musiclm.train.pipeline import train_all, train_stage
    from musiclm.train.recipes import configure

    check_device(device)
    use_threads(threads)
    chosen = configure(preset, stage, settings or [])
    if stage == "all" and start is not None:
        raise ValueError("--from is for one stage at a time; name the stage")
    if stage != "all" and name is not None:
        raise ValueError(f"--name does nothing here: `train {stage}` makes no bundle")
    means = work.means(device)
    how: dict[str, Any] = {"device": device, "precision": precision, "max_minutes": max_minutes, "means": means}
    if stage == "all":
        bundle = train_all(chosen, data, runs, name=name or "mine", **how)
        outcome = f"bundle {bundle.hash} in {bundle.folder}" if bundle else "the time is up; the same command goes on"
    else:
        artifact = train_stage(stage, chosen, data, runs, start=start, **how)
        outcome = f"{stage}: {artifact}" if artifact else f"{stage}: stopped early; the same command goes on"
    if means.processes.leads:
        print(outcome)
    means.processes.leave()


def label(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus.")],
    windows_per_track: Annotated[int, typer.Option(min=1, help="At most so many 10 s windows of a track.")] = 6,
    jobs: Jobs = None,
    engine: EngineName = "local",
    address: Address = None,
) -> None:
    """Write weak labels (tags, tempo, key, level) of a corpus, from which MuLan's training captions are made."""
    from musiclm.core.engines import open_engine
    from musiclm.train.pipeline import label as label_data

    with open_engine(engine, jobs, address) or contextlib.nullcontext() as chosen:
        label_data(data, print, windows_per_track, chosen)


def tokenize(
    data: DataDir,
    runs: RunsDir,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this one: mulan, semantic, acoustic or melody. May be repeated; all but melody by default."
        ),
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
    jobs: Jobs = None,
    engine: EngineName = "local",
    address: Address = None,
    tracks_per_shard: Annotated[
        int, typer.Option(min=1, help="Of a file of tokens; more for corpora of a million tracks.")
    ] = 16,
) -> None:
    """Fill RUNS/tokens with the tokens of the trained encoders."""
    from musiclm.core.engines import open_engine
    from musiclm.core.streams import STREAMS
    from musiclm.train.pipeline import tokenize as fill

    console = Console(stderr=True)
    with (
        open_engine(engine, jobs, address, device) or contextlib.nullcontext() as chosen,
        progress_bar(console, True) as bars,
    ):
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
            engine=chosen,
            tracks_per_shard=tracks_per_shard,
        )
    print(store)


def bundle(
    runs: RunsDir,
    out: Annotated[Path, typer.Option(help="The bundle's folder.")],
    name: Annotated[str, typer.Option(help="Its name.")] = "mine",
    start: Annotated[str | None, typer.Option("--from", help="A bundle that has the stages which RUNS lacks.")] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="A stage of --from that is not wanted: storm, coarse, fine or melody. May be repeated."),
    ] = None,
    notes: Annotated[Path | None, typer.Option(help="Markdown for the head of the model card.")] = None,
    sampling: Annotated[
        str | None,
        typer.Option(
            help='Default sampling, JSON: {"acoustic": "ar", "semantic": {"guidance": 2}}; else that of --from.'
        ),
    ] = None,
) -> None:
    """Put the trained stages of a run together into one folder that `musiclm generate --model` takes."""
    from musiclm.core.config import from_json
    from musiclm.generate.config import GenerateConfig
    from musiclm.train.pipeline import make_bundle

    try:
        chosen = None if sampling is None else json.loads(sampling)
    except json.JSONDecodeError as error:
        raise ValueError(f"--sampling is no JSON ({error})") from None
    if chosen is not None:
        from_json(GenerateConfig, chosen)  # what generation would refuse later is refused now
    try:
        text = notes.read_text(encoding="utf-8") if notes else ""
    except UnicodeDecodeError:
        raise ValueError(f"--notes {notes}: no text in UTF-8") from None
    made = make_bundle(runs, out, name, start=start, leave_out=leave_out or (), notes=text, sampling=chosen)
    print(f"bundle {made.name} ({made.hash}) in {made.folder}: {', '.join(made.parts)}")
