"""How fast the networks of presets train and make music, with random weights: what `runs/gpu.sh` measures on one GPU.

Training: real tasks and steps on made-up music and tokens, as many rows at a time as `musiclm plan` says fit.
Operations are those that `musiclm plan` counts, and utilisation is their share of what the device is said to do
(`tflops`), or of the rate of a large matrix product where nothing is said. Generation: the semantic model, SoundStorm
and the codec in a row, a batch at a time; MuLan's one look at the prompt is left out.

Each figure that is missing says why: `NOT_MEASURED` and a reason.
"""

import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musiclm.bench.measure import matrix_rate, precision_context, seconds_of, timed
from musiclm.bench.training import crop_s, make_task, make_up, rows, step_of
from musiclm.core.streams import STAGES, Pace
from musiclm.generate.acoustic import SemanticSource
from musiclm.generate.autoregressive import generate_semantic, stream_semantic
from musiclm.generate.checks import check_device
from musiclm.generate.config import item_generator
from musiclm.generate.storm import StormAcoustic, StormSampling
from musiclm.models.lm.model import TokenLM
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.storm.model import SoundStorm
from musiclm.nn.rvq import ResidualVQ
from musiclm.nn.sampling import Sampling
from musiclm.train.loop import Means, Run, pick_precision
from musiclm.train.plan import GIGA, Machine, plan_stage
from musiclm.train.recipes import Preset, load_preset

NOT_MEASURED = "not measured"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class PresetsConfig:
    """What is measured. The defaults are meant for twelve minutes of one H100."""

    presets: tuple[str, ...] = ("paper", "large")
    stages: tuple[str, ...] = STAGES  # that are trained
    compiled: tuple[str, ...] = ("semantic",)  # that are trained once more, layers through torch.compile
    batches: tuple[int, ...] = (1, 8, 32)  # of generation
    duration_s: float = 30.0  # of music
    repeats: int = 3  # of two steps of training
    minutes: float = 12.0  # what has not begun by then is not measured
    precision: str = "auto"  # of training, and of SoundStorm
    tflops: float | None = None  # a second, dense bf16; None: what a large matrix product reaches

    def __post_init__(self) -> None:
        if min(self.duration_s, self.minutes) <= 0 or min((self.repeats, *self.batches)) < 1:
            raise ValueError(
                f"durations and minutes must be above 0, repeats and batches at least 1, got {self.duration_s}, "
                f"{self.minutes}, {self.repeats} and {self.batches}"
            )


def presets(config: PresetsConfig, device: str, say: Say = print) -> dict[str, Any]:
    """Figures of each preset. On a device that is not there everything is `NOT_MEASURED`.

    Raises: ValueError for an unknown preset.
    """
    chosen = {name: load_preset(name) for name in config.presets}
    attempt = _Attempts(config.minutes, say)
    try:
        check_device(device)
    except ValueError as error:
        attempt.refused = str(error)
        say(f"{NOT_MEASURED}: {error}")
    precision = attempt.precision(config.precision, device)
    rate = attempt("rate of matrix products", lambda: {"tflop_per_s": matrix_rate(device, precision) / 1e12})
    peak = 1e12 * (config.tflops or (rate["tflop_per_s"] if "tflop_per_s" in rate else float("nan")))
    figures: dict[str, Any] = {"matrix_product": rate}
    for name, preset in chosen.items():
        figures[name] = {
            "generation": generation(preset, config, precision, device, attempt.within(name)),
            "training": training(preset, config, precision, device, peak, attempt.within(name)),
        }
    return figures


class _Attempts:
    """Runs what is to be measured, within a time; errors and lack of time become `NOT_MEASURED` and the reason."""

    def __init__(self, minutes: float, say: Say) -> None:
        self.until, self.say, self.refused, self.place = time.monotonic() + minutes * 60, say, "", ""

    def within(self, place: str) -> "_Attempts":
        inner = _Attempts(0, self.say)
        inner.until, inner.refused, inner.place = self.until, self.refused, f"{place}: "
        return inner

    def precision(self, wanted: str, device: str) -> str:
        """fp32 or bf16, as the loop would choose."""
        if self.refused:
            return "fp32"
        return "fp32" if pick_precision(wanted, torch.device(device)) is None else "bf16"

    def __call__(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if not self.refused and time.monotonic() > self.until:
            return {NOT_MEASURED: "no time was left"}
        if self.refused:
            return {NOT_MEASURED: self.refused}
        self.say(f"{self.place}{name}")
        try:
            return work()
        except RuntimeError as error:  # memory that is not there, a kernel that does not take a type
            return {NOT_MEASURED: (str(error).strip() or type(error).__name__).splitlines()[0]}
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


# -- training


def training(
    preset: Preset, config: PresetsConfig, precision: str, device: str, peak: float, attempt: _Attempts
) -> dict[str, Any]:
    """A row for each stage; of the codec with its discriminators, if it has them."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        made: list[tuple[Path, Path]] = []

        def row(stage: str, compiled: bool) -> dict[str, Any]:
            if not made:
                made.append(make_up(Path(folder), preset))
            return _train(stage, preset, *made[0], config, precision, device, peak, compiled)

        for stage in config.stages:
            found[stage] = attempt(f"training {stage}", lambda stage=stage: row(stage, False))  # type: ignore[misc]
        for stage in config.compiled:
            name = f"{stage}_compiled"
            found[name] = attempt(f"training {name}", lambda stage=stage: row(stage, True))  # type: ignore[misc]
    return found


def _train(
    stage: str,
    preset: Preset,
    data: Path,
    runs: Path,
    config: PresetsConfig,
    precision: str,
    device: str,
    peak: float,
    compiled: bool,
) -> dict[str, Any]:
    recipe, where = preset.recipe(stage), torch.device(device)
    on_gpu = where.type == "cuda"
    memory_gb = torch.cuda.get_device_properties(where).total_memory / GIGA if on_gpu else Machine.memory_gb
    planned = plan_stage(stage, recipe.task, recipe.train, Machine(memory_gb=memory_gb))
    num_rows = planned.batch_size // planned.accumulate
    fitting = replace(recipe, train=replace(recipe.train, batch_size=num_rows))
    preset = replace(preset, **{stage: fitting})
    task, loop = make_task(stage, preset, data, runs)
    run = Run(task, loop, runs, where, Means(recompute=planned.recompute, compiled=compiled))
    run.prepare()
    steps = step_of(run, list(rows(stage, preset).values())[-1], precision, num_batches=2)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(steps, config.repeats, device) / 2
    run.check()
    counted, again = planned.counted, {}
    if on_gpu:
        again = {"device_memory_mb": torch.cuda.max_memory_allocated(where) / 1024**2}
    return {
        "parameters": counted.parameters,
        "rows": num_rows,
        "recompute": int(planned.recompute),
        "step_s": seconds,
        "tokens_per_s": counted.places * num_rows / seconds,
        "audio_s_per_s": crop_s(stage, preset) * num_rows / seconds,
        "tflop_per_s": counted.row_flop * num_rows / seconds / 1e12,
        "flop_utilisation": counted.row_flop * num_rows / seconds / peak,
        **again,
        "planned_gb": sum(planned.memory_gb.values()),
    }


# -- generation


@dataclass(frozen=True)
class Chain:
    """The networks that make music."""

    semantic: TokenLM
    storm: SoundStorm
    codec: SoundStream
    sampling: StormSampling
    device: torch.device
    precision: str

    @classmethod
    def of(cls, preset: Preset, duration_s: float, device: str, precision: str) -> "Chain":
        """Those of a preset with random weights. SoundStorm decodes in windows of its crops, in the paper's 16
        rounds."""
        torch.manual_seed(0)
        with torch.device(device):
            semantic = TokenLM(preset.semantic.task.model)
            storm, codec = SoundStorm(preset.storm.task.model), SoundStream(preset.soundstream.task.model)
        for module in codec.modules():
            if isinstance(module, ResidualVQ):
                module.codebooks.normal_()
        window_s = min(preset.storm.task.crop_s, max(duration_s, 1.0))
        sampling = StormSampling(
            rounds=(16,), window_s=window_s, prompt_s=window_s / 4, first_window_s=min(2.0, window_s)
        )
        for network in (semantic, storm, codec):
            network.to(device).eval().requires_grad_(False)
        return cls(semantic, storm, codec, sampling, torch.device(device), precision)

    def mulan(self, batch: int) -> Tensor:
        spec = self.semantic.layout.specs[0]
        return torch.randint(0, spec.codebook_size, (batch, spec.levels, 1), device=self.device)

    def frames(self, duration_s: float) -> int:
        """Semantic frames of so much music, in whole units."""
        unit = Pace.of(self.codec.spec, self.semantic.layout.target_spec).semantic
        return max(1, round(duration_s * (self.semantic.layout.target_spec.frame_rate_hz or 0) / unit)) * unit

    def make_semantic(self, batch: int, frames: int, mulan: Tensor) -> Tensor:
        return generate_semantic(self.semantic, mulan, frames, Sampling(), self.generators(batch))

    def make_acoustic(self, batch: int, codes: Tensor, mulan: Tensor) -> Tensor:
        sampling = replace(self.sampling, first_window_s=None)
        with precision_context(self.precision, str(self.device)):
            return StormAcoustic(self.storm, sampling).generate(codes, mulan, self.generators(batch))

    def generators(self, batch: int) -> list[torch.Generator]:
        return [item_generator(item, "bench") for item in range(batch)]

    @torch.inference_mode()
    def first_sound(self, duration_s: float) -> Tensor:
        """The first block of a stream, all in fp32: SoundStorm begins as soon as its first window has semantic
        codes."""
        frames, mulan = self.frames(duration_s), self.mulan(1)
        pieces = stream_semantic(self.semantic, mulan, frames, Sampling(), self.generators(1))
        decoder = StormAcoustic(self.storm, self.sampling)
        return self.codec.decode(
            next(iter(decoder.stream(SemanticSource(pieces, 1, frames), mulan, self.generators(1))))
        )


def generation(
    preset: Preset, config: PresetsConfig, precision: str, device: str, attempt: _Attempts
) -> dict[str, Any]:
    """By batch: seconds of work per second of music of an item, whole and by stage. First sound. The codec alone."""
    built: list[Chain] = []

    def chain() -> Chain:
        if not built:
            built.append(Chain.of(preset, config.duration_s, device, precision))
            _made(built[0], 1, min(4.0, config.duration_s), device)  # warms up
        return built[0]

    found: dict[str, Any] = {}
    for batch in config.batches:
        name = f"batch_{batch}"
        found[name] = attempt(f"generation, {name}", lambda n=batch: _made(chain(), n, config.duration_s, device))  # type: ignore[misc]

    def first_sound() -> dict[str, Any]:
        return {"first_sound_s": timed(lambda: chain().first_sound(config.duration_s), config.repeats, device)}

    found["first_sound"] = attempt("first sound", first_sound)
    found["codec"] = attempt("codec", lambda: _codec(chain().codec, config, device))
    return found


@torch.inference_mode()
def _made(chain: Chain, batch: int, duration_s: float, device: str) -> dict[str, Any]:
    frames, mulan = chain.frames(duration_s), chain.mulan(batch)
    kept: dict[str, Tensor] = {}

    def keep(name: str, work: Callable[[], Tensor]) -> float:
        def run() -> None:
            kept[name] = work()

        return seconds_of(run, device)

    took = {
        "semantic": keep("semantic", lambda: chain.make_semantic(batch, frames, mulan)),
        "storm": keep("storm", lambda: chain.make_acoustic(batch, kept["semantic"], mulan)),
        "codec_decode": keep("audio", lambda: chain.codec.decode(kept["storm"])),
    }
    music_s, total = duration_s * batch, sum(took.values())
    return {
        "real_time_factor": total / music_s,
        "music_s_per_s": music_s / total,
        "all_done_s": total,
        "semantic_tokens_per_s": kept["semantic"].numel() / took["semantic"],
        "storm_tokens_per_s": kept["storm"].numel() / took["storm"],
        **{f"{name}_real_time_factor": seconds / music_s for name, seconds in took.items()},
    }


@torch.inference_mode()
def _codec(codec: SoundStream, config: PresetsConfig, device: str) -> dict[str, Any]:
    audio = 0.1 * torch.randn(1, 1, round(config.duration_s * codec.sample_rate_hz), device=device)
    codes = codec.encode(audio)
    return {
        "encode_real_time_factor": timed(lambda: codec.encode(audio), config.repeats, device) / config.duration_s,
        "decode_real_time_factor": timed(lambda: codec.decode(codes), config.repeats, device) / config.duration_s,
    }
