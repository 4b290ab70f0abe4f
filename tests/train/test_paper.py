"""The papers' sizes train: every stage takes a few real steps, as wide as published and less deep."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from musiclm.bench.training import make_up
from musiclm.core.artifact import load_artifact
from musiclm.core.streams import STAGES
from musiclm.train.pipeline import train_stage
from musiclm.train.recipes import Preset, configure

pytestmark = pytest.mark.slow

# as wide as published; of 24 or 12 layers two, one row or two, no more validation than there must be
SHALLOW = {
    "soundstream": ["task.eval_clips=2", "task.eval_clip_s=0.96", "task.kmeans_batches=4", "train.batch_size=2"],
    "w2vbert": [
        *("task.model.conformer.num_layers=2", "task.model.contrastive_layers=1", "task.layer=2", "task.crop_s=10"),
        *("task.num_fit_clips=8", "train.batch_size=2"),
    ],
    "mulan": [
        *("task.text_from=scratch", "task.model.text.num_layers=2", "task.model.text_trained_layers=2"),
        *("task.model.audio.num_layers=2", "task.stretch_s=0", "train.batch_size=4"),
    ],
    "semantic": ["task.model.transformer.num_layers=2", "task.num_validation=2", "train.batch_size=2"],
    "coarse": ["task.model.transformer.num_layers=2", "task.num_validation=2", "train.batch_size=1"],
    "fine": ["task.model.transformer.num_layers=2", "task.num_validation=2", "train.batch_size=1"],
    "storm": ["task.model.conformer.num_layers=2", "task.num_validation=2", "train.batch_size=1"],
}


def shallow(stage: str, steps: int = 3) -> Preset:
    settings = [f"{stage}.{setting}" for setting in SHALLOW[stage]]
    loop = {"steps": steps, "warmup_steps": 1, "validate_every": steps, "save_every": steps, "log_every": 1}
    return configure("paper", stage, [*settings, *(f"{stage}.train.{name}={value}" for name, value in loop.items())])


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    torch.manual_seed(0)
    return make_up(tmp_path_factory.mktemp("music"), shallow("storm"))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_takes_real_steps(stage: str, music: tuple[Path, Path]) -> None:
    data, runs = music
    folder = train_stage(stage, shallow(stage), data, runs, precision="fp32", quiet=True)
    assert folder is not None
    lines = [json.loads(line) for line in (runs / stage / "log.jsonl").read_text().splitlines()]
    name = "generator/loss" if stage == "soundstream" else "loss"
    losses = [line[name] for line in lines if line["kind"] == "train"]
    assert len(losses) == 3 and all(0 < loss < 1000 for loss in losses)
    kind = {"w2vbert": "semantic", "semantic": "lm", "coarse": "lm", "fine": "lm"}.get(stage, stage)
    artifact: Any = load_artifact(folder, kind)
    assert artifact.info["step"] == 3


def test_full_width_is_the_papers(music: tuple[Path, Path]) -> None:
    changed, paper = shallow("semantic"), configure("paper", "semantic", [])
    layers = paper.semantic.task.model.transformer.num_layers
    deep = replace(changed.semantic.task.model.transformer, num_layers=layers)
    assert deep == paper.semantic.task.model.transformer
