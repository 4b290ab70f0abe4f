"""Plans: what they count is what networks hold and do; what they choose fits; what they warn of would not."""

from dataclasses import asdict, replace

import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from musiclm.bench.training import count_flop
from musiclm.cli import app
from musiclm.core.streams import STAGES
from musiclm.models.lm.model import TokenLM
from musiclm.models.storm.model import SoundStorm
from musiclm.train.plan import Counted, Machine, _as_deep, _count, _Kept, _least, count, memory, plan_stage, sketch
from musiclm.train.recipes import load_preset

TINY = load_preset("tiny")
LOOP = replace(TINY.semantic.train, batch_size=256, steps=1000)
BIG = Counted(
    parameters=400_000_000, trained=400_000_000, largest_block=17_000_000, outside_blocks=15_000_000, row_bytes=1.2e9,
    recomputed_row_bytes=1.4e8, row_flop=2e12, places=763, audio_s=30.0,
)  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_counted(stage: str) -> None:
    found = count(TINY.recipe(stage).task)
    assert found.parameters >= found.trained > 0 and found.row_flop > 0
    assert 0 < found.recomputed_row_bytes <= found.row_bytes
    assert found.outside_blocks + found.largest_block <= found.parameters


def test_parameters_and_operations_are_those_of_real_networks() -> None:
    found = count(TINY.semantic.task)
    model = TokenLM(TINY.semantic.task.model)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    drawn = sketch(TINY.coarse.task)
    real = count_flop(lambda: drawn.losses(2)[0].backward()) / 2
    # the CPU's attention kernel makes weights again in the backward pass, as counted here too
    assert count(TINY.coarse.task).row_flop == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize(("stage", "depths"), [("semantic", [4]), ("w2vbert", [3]), ("mulan", [3, 2])])
def test_two_layers_tell_of_all(stage: str, depths: list[int]) -> None:
    deep = _as_deep(TINY.recipe(stage).task, depths)
    found, whole = asdict(count(deep)), asdict(_least(_count(deep)))  # every layer
    assert {name: pytest.approx(value, rel=1e-6) for name, value in whole.items()} == found


def test_what_is_kept_is_what_autograd_keeps() -> None:
    """Two linear layers and a ReLU: their inputs, and the ReLU's output once."""
    first, second = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)
    kept = _Kept([*first.parameters(), *second.parameters()])
    x = torch.randn(32, 8)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        F.relu(first(x)) @ second.weight.T
    assert kept.total == 4 * (32 * 8 + 32 * 16)


def test_a_storm_is_drawn_as_it_trains() -> None:
    drawn = sketch(TINY.storm.task)
    assert isinstance(drawn.groups["model"], SoundStorm) and drawn.places == 50
    assert all(bool(loss.isfinite()) for loss in drawn.losses(2))


def test_it_takes_the_first_way_that_fits() -> None:
    roomy = plan_stage("semantic", None, LOOP, Machine(gpus=64, memory_gb=80), BIG)
    assert (roomy.accumulate, roomy.recompute, roomy.shard, roomy.flags, roomy.warnings) == (1, False, False, "", [])
    few = plan_stage("semantic", None, LOOP, Machine(gpus=2, memory_gb=80), BIG)
    assert few.accumulate > 1 and not few.shard and not few.warnings and "--accumulate" in few.flags
    narrow = plan_stage("semantic", None, LOOP, Machine(gpus=64, memory_gb=3), BIG)
    assert narrow.shard and narrow.recompute and "--shard" in narrow.flags and not narrow.warnings
    for found, limit in ((roomy, 80), (few, 80), (narrow, 3)):
        assert sum(found.memory_gb.values()) <= limit * 0.9


def test_what_does_not_fit_is_said_with_what_would() -> None:
    found = plan_stage("semantic", None, LOOP, Machine(gpus=1, memory_gb=8), BIG)
    assert "more --gpus" in found.warnings[0] and "GB" in found.warnings[0]
    odd = plan_stage("semantic", None, LOOP, Machine(gpus=48, memory_gb=80), BIG)
    assert "does not divide into 48 processes" in odd.warnings[0] and "a multiple of 48" in odd.warnings[0]
    assert LOOP.batch_size % odd.gpus == 0 and odd.gpus < 48
    assert plan_stage("semantic", None, LOOP, Machine(gpus=10**30, memory_gb=80), BIG).gpus == LOOP.batch_size


def test_shards_share_out_all_but_a_layer() -> None:
    one = memory(BIG, Machine(gpus=64), 1, False, False)
    cut = memory(BIG, Machine(gpus=64), 1, False, True)
    assert one["Adam"] == pytest.approx(64 * cut["Adam"]) and cut["weights"] < 0.2 * one["weights"]
    assert one["activations"] == cut["activations"]


def test_days_follow_from_operations() -> None:
    found = plan_stage("semantic", None, LOOP, Machine(gpus=64, tflops=1000, utilisation=0.5), BIG)
    assert found.step_s == pytest.approx(2e12 * 256 / (64 * 0.5e15))
    assert found.days == pytest.approx(found.step_s * 1000 / 86_400)


def test_the_command_shows_it() -> None:
    shown = CliRunner().invoke(app, ["plan", "semantic", "--preset", "tiny", "--gpus", "2"])
    assert shown.exit_code == 0 and "M parameters" in shown.stdout and "assumed: 35% of the TFLOP/s" in shown.stdout
    assert CliRunner().invoke(app, ["plan", "semantic", "--preset", "huge"]).exit_code != 0


@pytest.mark.slow
def test_the_papers_sizes_have_a_plan() -> None:
    """On 64 GPUs of 80 GB every stage fits."""
    paper = load_preset("paper")
    for stage in STAGES:
        found = plan_stage(stage, paper.recipe(stage).task, paper.recipe(stage).train, Machine(gpus=64))
        assert not found.warnings and sum(found.memory_gb.values()) < 72 and found.days > 0, stage


@pytest.mark.slow
def test_large_is_a_day_of_one_gpu() -> None:
    large = load_preset("large")
    plans = [plan_stage(s, large.recipe(s).task, large.recipe(s).train, Machine()) for s in STAGES]
    assert not [warning for one in plans for warning in one.warnings]
    assert 0.4 < sum(one.days for one in plans) < 1.0
