"""One run of `musiclm bench`, put together and written: what is timed, in which order, on which machine."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musiclm import __version__
from musiclm.bench import speed
from musiclm.bench.loaded import LoadedConfig, loaded
from musiclm.bench.measure import machine
from musiclm.bench.peers import PeersConfig, load_transformers, peers
from musiclm.bench.presets import NOT_MEASURED, PresetsConfig, presets
from musiclm.bench.training import training
from musiclm.core.artifact import git_revision, write_atomic
from musiclm.core.bundle import open_bundle
from musiclm.core.threads import num_threads
from musiclm.generate.session import MusicLM
from musiclm.models.soundstream.model import SoundStream
from musiclm.train.recipes import load_preset

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is timed. The defaults take about twelve minutes on two cores, `quick` about two."""

    durations_s: tuple[float, ...] = (5.0, 30.0, 120.0)
    stages_s: float = 10.0  # of music on which each stage alone is timed
    repeats: int = 3
    threads: tuple[int, ...] = tuple(sorted({1, os.cpu_count() or 1}))  # the last one also for all but `threads_N`
    batches: tuple[int, ...] = (1, 4)
    precisions: tuple[str, ...] = ("fp32", "bf16")
    training_preset: str | None = "base"  # whose stages are trained; None leaves training out
    left_out: str = ""  # what a full run has and this one has not

    def __post_init__(self) -> None:
        if min((*self.durations_s, self.stages_s)) < 0.5 or min((*self.threads, *self.batches, self.repeats)) < 1:
            raise ValueError(
                "durations must be at least 0.5 s and threads, batches and repeats at least 1, got "
                f"{self.durations_s}, "
                f"{self.threads}, {self.batches}, {self.repeats}"
            )

    @classmethod
    def quick(cls) -> "BenchConfig":
        return cls(
            durations_s=(5.0, 10.0),
            repeats=2,
            threads=(os.cpu_count() or 1,),
            batches=(1, 2),
            precisions=("fp32",),
            training_preset=None,
            left_out="music of 30 and 120 s, one thread, batches of 4, bf16, training; medians of two runs, not three",
        )


def bench(bundle: str | Path, config: BenchConfig, device: str = "cpu", say: Say = print) -> dict[str, Any]:
    """All figures. Raises: ArtifactError if there is no such bundle."""
    folder = open_bundle(bundle).folder
    repeats, most = config.repeats, config.threads[-1]
    say("start-up and memory, each in a fresh process")
    figures: dict[str, Any] = {
        "start": speed.start_up(folder, repeats, device, most),
        "memory": speed.memory(folder, config.durations_s, device, most, whole=not config.left_out),
    }
    model = MusicLM.from_pretrained(folder, device)
    shortest = min(config.durations_s)
    for threads in config.threads:
        say(f"generating with {threads} thread{'s' if threads > 1 else ''}")
        with num_threads(threads):
            figures[f"threads_{threads}"] = {
                "generate": speed.generation(model, config.durations_s, repeats, device),
                "generate_ar": speed.autoregressive(model, shortest, device),
                "stages": speed.stages(model, repeats, device, config.stages_s),
            }
    with num_threads(most):
        say("batches")
        figures["batch"] = speed.batches(model, config.batches, shortest, repeats, device)
        if device == "cpu" and most > 1:
            say("two pieces at once, each by a process")
            figures["side_by_side"] = speed.side_by_side(model, 2, shortest, repeats)
        figures["precision"] = {}
        for precision in config.precisions:
            say(f"stages in {precision}")
            figures["precision"][precision] = (
                figures[f"threads_{most}"]["stages"]  # measured already
                if precision == "fp32"
                else speed.stages(model, repeats, device, config.stages_s, precision)
            )
        if config.training_preset is not None:
            preset = load_preset(config.training_preset)
            figures["training"] = {
                precision: training(preset, repeats, device, precision, say=say) for precision in config.precisions
            }
    return document(
        open_bundle(bundle).hash,
        device,
        figures,
        threads=list(config.threads),
        repeats=repeats,
        left_out=config.left_out,
    )


def bench_peers(
    bundle: str | Path,
    device: str = "cpu",
    threads: int | None = None,
    say: Say = print,
    config: PeersConfig | None = None,
) -> dict[str, Any]:
    """The other projects' models beside ours, on two threads unless told otherwise.

    Raises: ImportError without `transformers`; ArtifactError for no such bundle, or one without SoundStorm.
    """
    config = config or PeersConfig()
    threads = threads or min(2, os.cpu_count() or 1)
    library = load_transformers()
    model = MusicLM.from_pretrained(bundle, device)
    if not isinstance(model.soundstream, SoundStream):
        raise ValueError(f"the codec of {model.bundle.name} was made by others; compare a bundle with a codec of ours")
    figures = peers(model, config, device, threads, say)
    made = document(model.bundle.hash, device, figures, threads=[threads], settings=dataclasses.asdict(config))
    made["machine"]["transformers"] = library.__version__
    return made


def bench_loaded(bundle: str | Path, config: LoadedConfig, device: str = "cpu", say: Say = print) -> dict[str, Any]:
    """How much slower generation gets while another process keeps a core busy. Raises: ArtifactError for no bundle."""
    opened = open_bundle(bundle)
    figures = loaded(opened.folder, config, device, say)
    return document(opened.hash, device, figures, threads=[config.threads], settings=dataclasses.asdict(config))


def bench_presets(config: PresetsConfig, device: str, say: Say = print) -> dict[str, Any]:
    """The networks of presets with random weights: training of each stage, generation, codec.

    On a device that is not there every figure says `NOT_MEASURED`. Raises: ValueError for an unknown preset.
    """
    figures = presets(config, device, say)
    there = NOT_MEASURED not in figures["matrix_product"]
    return document(None, device if there else "cpu", figures, settings=dataclasses.asdict(config)) | {"device": device}


def document(bundle: str | None, device: str, figures: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Figures with what made them: hash of the bundle, machine, versions, revision, date and settings."""
    return {
        "bundle": bundle,
        "device": device,
        "machine": machine(device),
        "musiclm": __version__,
        "git_revision": git_revision(),
        "date": time.strftime("%Y-%m-%d"),
        **settings,
        "figures": figures,
    }


def save(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(result, indent=1) + "\n")
