"""Training throughput of all seven stages: the real tasks and the real step of the loop, on made-up music and tokens of
the right shapes.

A row is some batches stepped through again and again: forward, backward, clipping, optimiser, moving average. Making
batches is left out; the loop does it in another thread. The published codec has two rows, before its discriminators
begin and with discriminators and adversary at work; that of bands, which has none, has one.

Operations are counted by torch's FlopCounterMode, in forward and backward: matrix products, convolutions (transposed
ones too) and fused attention (the CPU's kernel is added here; torch counts the GPU's alone), causal attention as if it
were whole, as published figures do. FFTs, look-ups, norms, softmax and everything elementwise count nothing, the
optimiser included. Utilisation: operations counted / seconds / the rate of a large matrix product with the same threads
and precision.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from tokenizers import Tokenizer
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

from musiclm.bench.measure import matrix_rate, num_parameters, timed
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.streams import TokenSpec
from musiclm.data.corpus.manifest import Track, save_manifest
from musiclm.data.labels import LABELS_FILE, Labels
from musiclm.data.store import MULAN_WINDOW_S, StreamHeader, StreamWriter
from musiclm.models.mulan.task import MuLanTask
from musiclm.models.mulan.text import END, PAD, START, UNKNOWN, PretrainedBert, TextConfig, TextEncoder
from musiclm.models.soundstream.bands_task import BandsTaskConfig
from musiclm.nn.rvq import ResidualVQ
from musiclm.train.loop import Run, Task, TrainConfig, one_step, pick_precision, to_device
from musiclm.train.pipeline import build_task
from musiclm.train.recipes import STAGES, Preset

TRACK_S = 40  # longer than any crop
EMBEDDING_DIM = 16  # of the vectors behind the codes; only quantizing MuLan's, between steps, costs by it
SPLITS = ("train", "train", "validation")
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop(grad, q, k, v)
    ),
}


class _NoLog:
    """The loop's log, unwritten."""

    def add(self, update: Any, norm: Any) -> None: ...


def training(
    preset: Preset,
    repeats: int,
    device: str,
    precision: str = "fp32",
    stages: Sequence[str] = STAGES,
    num_batches: int = 2,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """A row for each stage, the published codec with two: medians over `repeats` passes through `num_batches` batches,
    after one that warms up.

    A stage that can't take a step in this precision has its error for a row.
    """
    rate = matrix_rate(device, precision)
    found: dict[str, Any] = {"matrix_gflop_per_s": rate / 1e9}
    with tempfile.TemporaryDirectory() as folder:
        data, runs = make_up(Path(folder), preset)
        for stage in stages:
            say(f"training {stage}, {precision}")
            task, loop = make_task(stage, preset, data, runs)
            run = Run(task, loop, runs, torch.device(device))
            for row, first_step in rows(stage, preset).items():
                try:
                    found[row] = _row(run, first_step, repeats, device, precision, num_batches, rate)
                    found[row]["audio_s_per_s"] = found[row]["examples_per_s"] * crop_s(stage, preset)
                except RuntimeError as error:  # autocast does not reach every operation
                    found[row] = {"error": str(error).splitlines()[0]}
    return found


def _row(
    run: Run, first_step: int, repeats: int, device: str, precision: str, num_batches: int, rate: float
) -> dict[str, float]:
    task, loop = run.task, run.config
    steps = step_of(run, first_step, precision, num_batches)
    flop = count_flop(steps) / num_batches  # and so the warm-up
    seconds = timed(steps, repeats, device, warm_up=False) / num_batches
    return {
        "parameters": num_parameters(*task.groups.values()),
        "steps_per_s": 1 / seconds,
        "examples_per_s": loop.batch_size / seconds,
        "gflop_per_step": flop / 1e9,
        "flop_utilisation": flop / seconds / rate,
    }


def step_of(run: Run, first_step: int, precision: str, num_batches: int) -> Callable[[], None]:
    """What is timed: so many steps of the loop, on batches that lie on the device."""
    dtype = pick_precision(precision, run.device)
    batches = [to_device(run.task.batch(first_step + i), run.device) for i in range(num_batches)]
    run.step = first_step

    def steps() -> None:
        for batch in batches:
            one_step(run, [batch], run.config.learning_rate, dtype, _NoLog())  # type: ignore[arg-type]
            run.update_ema()

    return steps


def count_flop(work: Callable[[], Any]) -> int:
    """Floating-point operations of `work`, as far as they are counted (see above)."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        work()
    return counter.get_total_flops()


def rows(stage: str, preset: Preset) -> dict[str, int]:
    """The rows of a stage, and the step at which each begins."""
    if stage != "soundstream":
        return {stage: 0}
    task = preset.soundstream.task
    if isinstance(task, BandsTaskConfig):
        return {stage: task.quantize_from_step}
    found = {"soundstream_adversarial": max(task.adversary_from_step, task.quantize_from_step)}
    if task.quantize_from_step < task.discriminator_from_step:
        found = {"soundstream": task.quantize_from_step, **found}
    return found


def crop_s(stage: str, preset: Preset) -> float:
    """Seconds of music in one example."""
    task: Any = getattr(preset, stage).task
    if stage == "mulan":
        return float(task.seconds_per_clip)
    return float(task.crop_s if hasattr(task, "crop_s") else task.model.layout.stage.crop_s)


def make_task(stage: str, preset: Preset, data: Path, runs: Path) -> tuple[Task, TrainConfig]:
    """The task of a stage, as `musiclm train` builds it; random text encoder (MuLan) and codebooks (codec)."""
    if stage == "mulan":
        loop = preset.mulan.train
        text = random_text_encoder(preset.mulan.task.model.text)
        return MuLanTask(
            preset.mulan.task, data, batch_size=loop.batch_size, pretrained=text, cache_dir=runs / "cache"
        ), loop
    task, loop = build_task(stage, preset, data, runs)
    if stage == "soundstream":
        for module in task.groups["generator"].modules():
            if isinstance(module, ResidualVQ):
                module.codebooks.normal_()
                module.sums.copy_(module.codebooks)
                module.started.fill_(True)  # k-means comes once in a run
    return task, loop


def make_up(folder: Path, preset: Preset) -> tuple[Path, Path]:
    """A corpus of noise with labels, and a token store of random codes: (corpus, runs)."""
    random = np.random.default_rng(0)
    data, runs = folder / "corpus", folder / "runs"
    (data / "audio").mkdir(parents=True)
    tracks = [_track(index, split) for index, split in enumerate(SPLITS)]
    for track in tracks:
        soundfile.write(data / track.path, 0.1 * random.standard_normal(TRACK_S * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    save_manifest(data, tracks, [])
    labels = [Labels(track=track.id, start_s=start, level_db=-20.0) for track in tracks for start in (2.0, 20.0)]
    (data / LABELS_FILE).write_text("".join(json.dumps(dataclasses.asdict(label)) + "\n" for label in labels))
    model = preset.storm.task.model
    for spec in (model.mulan, model.semantic, model.acoustic):
        codebooks = torch.randn(spec.levels, spec.codebook_size, EMBEDDING_DIM)
        writer = StreamWriter(runs / "tokens", StreamHeader(spec=spec, encoder=spec.name), codebooks)
        for track in tracks:
            writer.add(track.id, track.split, 0.0, float(TRACK_S), _tokens(spec, random))
        writer.flush()
    return data, runs


def _tokens(spec: TokenSpec, random: np.random.Generator) -> np.ndarray:
    """What a track's stream holds: codes, or for MuLan an embedding for each window."""
    if spec.frame_rate_hz is None:
        return random.standard_normal((TRACK_S - MULAN_WINDOW_S + 1, EMBEDDING_DIM))
    return random.integers(0, spec.codebook_size, (spec.levels, round(TRACK_S * spec.frame_rate_hz)))


def _track(index: int, split: Any) -> Track:
    name = f"{index:016x}"
    return Track(
        id=name,
        path=f"audio/{name}.wav",
        source="noise",
        package="",
        origin=name,
        title="",
        artist="",
        genre="",
        licence="CC0-1.0",
        seconds=float(TRACK_S),
        sha256=name * 4,
        split=split,
        piece=name,
        held_out=False,
    )


def random_text_encoder(config: TextConfig) -> PretrainedBert:
    """A text encoder of these sizes with random weights, whose tokenizer takes every word for the same one."""
    special = {PAD: 0, UNKNOWN: 1, START: 2, END: 3}
    document = {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": w, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False}
            for w, i in special.items()
        ],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": [END, special[END]], "cls": [START, special[START]]},
        "model": {"type": "WordLevel", "unk_token": "word", "vocab": {**special, "word": 4}},
    }  # fmt: skip
    tokenizer = Tokenizer.from_str(json.dumps(document))
    return PretrainedBert(config=config, state=TextEncoder(config).state_dict(), tokenizer_json=tokenizer.to_str())
