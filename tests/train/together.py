"""Trainings in several processes for the tests: a server that has imported everything forks them, so that a group
starts in a moment.

Each process runs a function of a module and hands back what it returned or raised. Nothing but the environment tells it
of the others, as a launcher would.
"""

import json
import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from musiclm.bench.training import make_task, make_up
from musiclm.core.artifact import save_artifact
from musiclm.core.streams import MELODY
from musiclm.data.corpus.captions import CAPTIONS_FILE
from musiclm.data.corpus.manifest import load_manifest
from musiclm.data.store import StreamHeader, StreamWriter
from musiclm.models.mulan.model import MuLan
from musiclm.models.mulan.task import MuLanTask
from musiclm.models.soundstream.config import Band, SoundStreamConfig
from musiclm.models.soundstream.discriminator import DiscriminatorConfig
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.soundstream.task import SoundStreamTaskConfig
from musiclm.nn.rvq import training_state
from musiclm.train.loop import Means, Task, TrainConfig, newest_checkpoint, train
from musiclm.train.pipeline import build_task
from musiclm.train.processes import ALONE, join, load_shards
from musiclm.train.recipes import Preset, Recipe, load_preset
from tests.models.melody.toy import write_melodies

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["accelerate", "torch.distributed.fsdp", "torch.utils.tensorboard", __name__])


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    value: Any = None
    error: str = ""  # type and message of what was raised
    code: int = 0


def together(
    size: int, work: Callable[..., Any], *arguments: Any, folder: Path, patience_s: float = 1800
) -> list[Ended]:
    """`work(*arguments)` in `size` processes, by rank."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    answers = [folder / f".answer-{rank}" for rank in range(size)]
    processes = [
        CONTEXT.Process(target=_entry, args=(rank, size, port, work, arguments, answers[rank])) for rank in range(size)
    ]
    for process in processes:
        process.start()
    found = []
    for process, answer in zip(processes, answers, strict=True):
        process.join(patience_s)
        if process.exitcode is None:
            process.kill()
        value, error = pickle.loads(answer.read_bytes()) if answer.exists() else (None, "")
        answer.unlink(missing_ok=True)
        found.append(Ended(value, error, -1 if process.exitcode is None else process.exitcode))
    return found


def _entry(rank: int, size: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...], answer: Path) -> None:
    if size > 1:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": size, "LOCAL_RANK": rank}
        os.environ |= {name: str(value) for name, value in {**address, "WORLD_SIZE": size, "RANK": rank}.items()}
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    try:
        found = (work(*arguments), "")
    except BaseException as error:
        traceback.print_exc()
        found = (None, f"{type(error).__name__}: {error}")
    answer.write_bytes(pickle.dumps(found))
    os._exit(1 if found[1] else 0)


BATCH = 4
SMALL_BANDS = SoundStreamConfig(
    network="bands",
    bands=(
        Band(n_fft=1920, hop=480, low_hz=20, high_hz=480, fold=4, groups=2, decimation=15, rounds=4),
        Band(n_fft=960, hop=480, low_hz=480, high_hz=12000, fold=2, groups=2, num_pooled=40, rounds=2),
    ),
    levels=12,
    codebook_size=8,
    group_dim=12,
    latent_dim=72,
    group_width=16,
    group_blocks=1,
    trunk_width=32,
    trunk_blocks=1,
)
ADVERSARY = {
    "crop_s": 0.96,
    "adversary_crop_s": 0.48,
    "eval_clips": 2,
    "eval_clip_s": 0.96,
    "discriminator_from_step": 1,
    "adversary_from_step": 1,
}
# so few codes that none dies: what is drawn after one has died is other numbers with accumulation
WAVEFORM = SoundStreamConfig(network="waveform", channels=4, latent_dim=16, levels=1, codebook_size=2)
WAVES = DiscriminatorConfig(
    waveform_scales=1, waveform_channels=2, waveform_max_channels=8, stft_windows=(256,), stft_channels=2
)


def small(stage: str) -> Preset:
    """`tiny`, smaller still, without dropout, whose masks are not the same in any number of parts."""
    tiny = load_preset("tiny")
    bands = replace(
        tiny.soundstream.task,
        model=SMALL_BANDS,
        crop_s=0.96,
        eval_clips=2,
        eval_clip_s=0.96,
        quantize_from_step=1,
        kmeans_batches=3,
    )  # type: ignore[arg-type]
    quiet = {"quantize_from_step": 1, "kmeans_batches": 3}
    judged: dict[str, Any] = {**ADVERSARY, **quiet}
    codecs: dict[str, Any] = {
        "soundstream": bands,
        "waveform": SoundStreamTaskConfig(model=WAVEFORM, discriminator=WAVES, **judged),
    }
    mulan = tiny.mulan.task
    audio = replace(mulan.model.audio, dropout=0.0)
    text = replace(mulan.model.text, width=32, num_heads=2, num_layers=2, feed_forward=64, vocab_size=40)
    trained = 1 if stage == "mulan-words" else 0
    model = replace(mulan.model, audio=audio, text=text, dropout=0.0, text_trained_layers=trained)
    storm = tiny.storm.task
    if stage == "storm-levels":
        storm = replace(storm, model=replace(storm.model, depth_width=0, code_width=0, series=()))
    decoder = replace(
        tiny.soundstream_decoder.task,  # type: ignore[union-attr]
        crop_s=0.96, adversary_crop_s=0.48, eval_clips=2, eval_clip_s=0.96, adversary_from_step=1,
    )  # fmt: skip
    semantic = replace(tiny.semantic.task, context_noise=0.3, mulan_noise=0.3)
    if stage == "told":
        semantic = replace(semantic, model=replace(semantic.model, melody_levels=2))
    changed = replace(
        tiny,
        soundstream=Recipe(task=codecs.get(stage, bands), train=tiny.soundstream.train),
        mulan=replace(tiny.mulan, task=replace(mulan, model=model, stretch_s=0)),
        semantic=replace(tiny.semantic, task=semantic),
        storm=replace(tiny.storm, task=storm),
        soundstream_decoder=Recipe(task=decoder, train=tiny.soundstream.train),
    )
    return changed


STAGES = (
    *(
        "soundstream",
        "waveform",
        "soundstream-decoder",
        "w2vbert",
        "mulan",
        "mulan-words",
        "mulan-text",
    ),
    *("semantic", "told", "storm", "storm-levels", "coarse", "fine", "melody"),
)
NAMES = {
    "waveform": "soundstream", "mulan-words": "mulan", "storm-levels": "storm", "told": "semantic",
}  # fmt: skip


def build(stage: str, folder: Path) -> Task:
    """The task of a stage on the music of `make_up_music`."""
    name, preset = NAMES.get(stage, stage), small(stage)
    recipe = preset.recipe(name)
    recipe = replace(recipe, train=replace(recipe.train, batch_size=BATCH))
    preset = replace(preset, **{name.replace("-", "_"): recipe})
    data, runs = folder / ("melodies" if name == "melody" else "corpus"), folder / "runs"
    torch.manual_seed(0)  # of the text encoder, which is none of the task's
    if name == "mulan":
        task, _ = make_task("mulan", preset, data, folder / "caches" / stage)
        return task
    task, _ = build_task(name, preset, data, runs, folder / "starts" / stage)
    return task


def make_up_music(folder: Path) -> None:
    """A corpus and tokens of nothing but noise, and models to begin with."""
    torch.manual_seed(0)
    data, runs = make_up(folder, small(""))
    write_melodies(folder / "melodies", num=7, renditions=2)
    header = StreamHeader(spec=MELODY, encoder=MELODY.name)
    melodies = StreamWriter(runs / "tokens", header, torch.randn(MELODY.levels, MELODY.codebook_size, 4))
    for track in load_manifest(data):
        melodies.add(track.id, track.split, 0.0, track.seconds, torch.randint(0, 256, (4, 100)).numpy())
    melodies.flush()
    told = {"track": f"{0:016x}", "captions": ["piano at 120 BPM", "a sad piano"]}
    # windows of a track with captions have no labels to learn from
    lines = [json.dumps({**told, "start_s": start}) + "\n" for start in (1.0, 12.0, 25.0)]
    (data / CAPTIONS_FILE).write_text("".join(lines))
    codec, start = SoundStream(SMALL_BANDS), folder / "starts" / "soundstream-decoder"
    for name, buffer in codec.named_buffers():
        if name.endswith(("codebooks", "started")):
            buffer.copy_(torch.randn(buffer.shape) if buffer.ndim else torch.tensor(True))
    save_artifact(start, "soundstream", SMALL_BANDS, codec, {}, skip=training_state(codec))
    preset = small("mulan")
    task, _ = make_task("mulan", preset, data, folder / "caches" / "mulan-text")
    assert isinstance(task, MuLanTask)
    model: MuLan = task.model.mulan
    model.save(folder / "starts" / "mulan-text", {})


def config(steps: int = 3, **changes: Any) -> TrainConfig:
    return TrainConfig(
        **{
            "steps": steps, "batch_size": BATCH, "learning_rate": 1e-3, "warmup_steps": 1, "log_every": 1,
            "validate_every": steps, "save_every": 1, **changes,
        }
    )  # fmt: skip


def train_stages(
    folder: Path, out: str, stages: tuple[str, ...], shard: bool = False, steps: int = 3, **how: Any
) -> int:
    """Trains each stage for some steps in OUT/STAGE; how many processes there were."""
    processes = join("cpu", shard)
    means = Means(processes=processes, **how)
    for stage in stages:
        with processes.leader_first():
            task = build(stage, folder)
        train(task, config(steps), folder / out / stage, precision="fp32", quiet=True, means=means)
    processes.leave()
    return processes.size


def state(folder: Path) -> dict[str, Tensor]:
    """The whole state of a run, whatever wrote it."""
    path = newest_checkpoint(folder)
    assert path is not None
    if path.is_file():
        return load_file(path)
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    found = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    sizes: dict[str, Any] = dict(found)
    tensors = {name: torch.zeros(one.size, dtype=one.properties.dtype) for name, one in sizes.items()}
    load_shards(tensors, path, ALONE)
    return tensors
