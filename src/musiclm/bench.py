"""`musiclm bench`: how fast a bundle is on this machine. Medians over repeats after a warm-up, in one process, with one JSON to compare.

- generate: real-time factor (seconds of work per second of music, below 1 is faster than real time) and time to the first sound, by duration.
- stages: tokens a second of the semantic stage and of the acoustic decoder, real-time factors of the codec both ways.
- start: time to import the package and to load the bundle, each in a process of its own; peak memory of a run.
- train: steps a second of every stage's task on made-up data, and the share of the machine's measured matrix-product rate that the model's own
  operations reach (model-FLOP utilisation).

Absolute times of a busy machine are noise: measure two bundles in turn and compare by ratio.
"""

import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from musiclm import __version__
from musiclm.acoustic import SemanticSource
from musiclm.artifact import git_revision
from musiclm.bundle import open_bundle
from musiclm.generate import MusicLM, item_generator
from musiclm.lm.sample import generate_semantic

PROMPT = "a fast arcade theme with electric guitar and drums"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is timed. `quick` ends in about two minutes on two cores."""

    durations_s: tuple[float, ...] = (5.0, 30.0, 120.0)
    repeats: int = 3
    threads: tuple[int, ...] = (1, 2)
    training: bool = True

    @classmethod
    def quick(cls) -> "BenchConfig":
        return cls(durations_s=(5.0, 10.0), repeats=2, threads=(os.cpu_count() or 1,), training=False)


def bench(bundle: str | Path, config: BenchConfig, device: str = "cpu", say: Say = print) -> dict[str, Any]:
    """All figures. Raises: ArtifactError if there is no such bundle."""
    opened = open_bundle(bundle)
    figures: dict[str, Any] = {"start": start_up(opened.folder)}
    before = torch.get_num_threads()
    try:
        for threads in config.threads:
            torch.set_num_threads(threads)
            say(f"generating with {threads} thread{'s' if threads > 1 else ''}")
            figures[f"threads_{threads}"] = {
                "generate": generation(opened.folder, config, device),
                "stages": stages(opened.folder, config.repeats, device),
            }
        if config.training:
            say("training")
            figures["train"] = training(config.repeats, device)
    finally:
        torch.set_num_threads(before)
    return {
        "bundle": opened.hash,
        "device": device,
        "machine": machine(device),
        "musiclm": __version__,
        "git_revision": git_revision(),
        "date": time.strftime("%Y-%m-%d"),
        "repeats": config.repeats,
        "figures": figures,
    }


def timed(work: Callable[[], Any], repeats: int, device: str = "cpu") -> float:
    """Median seconds of `repeats` runs after one that warms up."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def generation(bundle: Path, config: BenchConfig, device: str) -> dict[str, Any]:
    """Real-time factor and time to first sound of the default decoder, by duration, and of the other one at the shortest."""
    model = MusicLM.from_pretrained(bundle, device)
    found: dict[str, Any] = {}

    def first_sound(duration_s: float) -> float:
        started = time.perf_counter()
        next(iter(model.stream(PROMPT, duration_s)))
        return time.perf_counter() - started

    for duration_s in config.durations_s:
        repeats = config.repeats if duration_s <= 30 else 1
        seconds = timed(lambda d=duration_s: model.generate(PROMPT, d), repeats, device)  # type: ignore[misc]
        found[f"{duration_s:g}_s"] = {"real_time_factor": seconds / duration_s}
    first_sound(5.0)
    found["first_sound_s"] = statistics.median(first_sound(10.0) for _ in range(config.repeats))
    shortest = min(config.durations_s)
    if {"coarse", "fine"} <= set(model.bundle.parts):
        ar = model.default_config("ar")
        seconds = timed(lambda: model.generate(PROMPT, shortest, config=ar), 1, device)
        found["ar"] = {"real_time_factor": seconds / shortest}
    return found


def stages(bundle: Path, repeats: int, device: str, seconds: float = 10.0) -> dict[str, Any]:
    """Each part of the chain alone, on `seconds` of music."""
    model = MusicLM.from_pretrained(bundle, device)
    config = model.default_config()
    rate = model.semantic.layout.target_spec.frame_rate_hz
    assert rate is not None
    frames = round(seconds * rate)
    mulan = model.text_codes(PROMPT)

    def semantic() -> torch.Tensor:
        return generate_semantic(model.semantic, mulan, frames, config.semantic, [item_generator(0, "semantic")])

    codes = semantic()

    def acoustic() -> torch.Tensor:
        source = SemanticSource(iter([codes]), 1, frames)
        pieces = model.acoustic_decoder(config).stream(source, mulan, [item_generator(0, config.acoustic)])
        return torch.cat(list(pieces), 2)

    made = acoustic()
    audio = model.soundstream.decode(made[:, : config.levels])
    took = {
        "text": timed(lambda: model.text_codes(PROMPT), repeats, device),
        "semantic": timed(semantic, repeats, device),
        "acoustic": timed(acoustic, repeats, device),
        "codec_decode": timed(lambda: model.soundstream.decode(made[:, : config.levels]), repeats, device),
        "codec_encode": timed(lambda: model.soundstream.encode(audio), repeats, device),
    }
    return {
        "text_s": took["text"],
        "semantic_tokens_per_s": frames / took["semantic"],
        "acoustic_tokens_per_s": made[0].numel() / took["acoustic"],
        **{
            f"{name}_real_time_factor": took[name] / seconds
            for name in ("semantic", "acoustic", "codec_decode", "codec_encode")
        },
    }


def start_up(bundle: Path) -> dict[str, float]:
    """Import, load and peak memory, each measured in a fresh process."""
    script = (
        "import time; a = time.perf_counter(); from musiclm.generate import MusicLM; b = time.perf_counter(); "
        "import sys, resource; model = MusicLM.from_pretrained(sys.argv[1]); c = time.perf_counter(); "
        "model.generate('a calm piano piece', 10.0); d = time.perf_counter(); "
        "print(b - a, c - b, d - c, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(bundle)], capture_output=True, text=True, check=True
    )
    imported, loaded, generated, peak = map(float, done.stdout.split())
    per_mb = 1024 if platform.system() != "Darwin" else 1024 * 1024  # kilobytes, on a Mac bytes
    return {"import_s": imported, "load_s": loaded, "first_generate_10_s": generated, "peak_memory_mb": peak / per_mb}


def training(repeats: int, device: str, steps: int = 3) -> dict[str, Any]:
    """Steps a second of the stages of preset `base` that learn from tokens, and of the codec, on random data of the right shapes."""
    from torch.utils.flop_counter import FlopCounterMode

    from musiclm.lm.model import TokenLM
    from musiclm.presets import load_preset
    from musiclm.soundstream.model import SoundStream
    from musiclm.storm.model import SoundStorm
    from musiclm.storm.task import whole_frame_losses

    preset = load_preset("base")
    peak = matrix_rate(device)
    generator = torch.Generator().manual_seed(0)

    def codes(batch: int, levels: int, frames: int) -> torch.Tensor:
        return torch.randint(0, 1024, (batch, levels, frames), generator=generator).to(device)

    def lm(stage: str) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
        recipe = getattr(preset, stage)
        model = TokenLM(recipe.task.model).to(device)
        crop_s, batch = model.layout.stage.crop_s, recipe.train.batch_size
        streams = {
            "mulan": codes(batch, 12, 1),
            "semantic": codes(batch, 1, round(crop_s * 25)),
            "acoustic": codes(batch, 12, round(crop_s * 50)),
        }
        needed = {part.stream for part in model.layout.parts}
        streams = {name: value for name, value in streams.items() if name in needed}
        frames = {
            name: torch.full((batch,), value.shape[2], device=device)
            for name, value in streams.items()
            if name != "mulan"
        }
        target = model.layout.target_codes(streams)
        return model, lambda: model.loss(streams, target, frames, None).total

    def storm() -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
        recipe = preset.storm
        model = SoundStorm(recipe.task.model).to(device)
        batch, frames = recipe.train.batch_size, round(recipe.task.crop_s * 50)
        streams = {
            "semantic": codes(batch, 1, frames // 2),
            "acoustic": codes(batch, 12, frames),
            "mulan": codes(batch, 12, 1),
        }
        masked = (torch.rand(batch, frames, generator=generator) < 0.5).to(device)
        num_frames = torch.full((batch,), frames, device=device)
        return model, lambda: whole_frame_losses(model, streams, num_frames, masked).mean()

    def codec() -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
        recipe = preset.soundstream
        model = SoundStream(recipe.task.model).to(device)
        model.rvq.started.fill_(True)
        samples = round(recipe.task.crop_s * 24000)
        audio = (0.1 * torch.randn(recipe.train.batch_size, 1, samples, generator=generator)).to(device)
        return model, lambda: model(audio)[0].square().mean()

    found: dict[str, Any] = {"matrix_gflops": peak / 1e9}
    makers = {
        "soundstream": codec,
        "semantic": lambda: lm("semantic"),
        "storm": storm,
        "coarse": lambda: lm("coarse"),
        "fine": lambda: lm("fine"),
    }
    for name, make in makers.items():
        model, loss = make()

        def run(num: int, model: torch.nn.Module = model, loss: Callable[[], torch.Tensor] = loss) -> None:
            for _ in range(num):
                model.zero_grad(set_to_none=True)
                loss().backward()

        with FlopCounterMode(display=False) as counter:
            run(1)
        seconds = timed(functools.partial(run, steps), repeats, device) / steps
        found[name] = {
            "steps_per_s": 1 / seconds,
            "gflop_per_step": counter.get_total_flops() / 1e9,
            "flop_utilisation": counter.get_total_flops() / seconds / peak,
        }
    return found


def matrix_rate(device: str, size: int = 1536) -> float:
    """Floating-point operations a second of a float32 matrix product: what utilisation is a share of."""
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    return 2 * size**3 / timed(lambda: a @ b, 5, device)


def machine(device: str) -> dict[str, Any]:
    """Processor and versions, as far as the system tells."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    if device.startswith("cuda"):
        name = f"{torch.cuda.get_device_name(device)}, {name}"
    return {"processor": name, "cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}


def ratios(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Every figure that both files have: (name, a, b, b / a). Raises: ValueError for files that are no results of `bench`."""
    one, other = _flat(a.get("figures")), _flat(b.get("figures"))
    if not one or not other:
        raise ValueError("no figures in the file; give two that `musiclm bench --out` wrote")
    return [(name, one[name], other[name], other[name] / one[name]) for name in one if name in other and one[name]]


def _flat(node: Any, path: str = "") -> dict[str, float]:
    if isinstance(node, dict):
        found: dict[str, float] = {}
        for key, value in node.items():
            found |= _flat(value, f"{path}.{key}" if path else key)
        return found
    return {path: float(node)} if isinstance(node, int | float) else {}


def save(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
