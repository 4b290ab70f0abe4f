"""Training throughput: all seven stages by their own tasks, operations counted as by hand."""

import pytest
import torch
from torch.nn import functional as F

from musiclm.bench.training import count_flop, crop_s, rows, training
from musiclm.train.recipes import STAGES, load_preset


def test_every_stage_has_its_row() -> None:
    preset = load_preset("tiny")
    found = training(preset, repeats=1, device="cpu", num_batches=1)
    assert set(found) == {"matrix_gflop_per_s", *STAGES}
    for stage in STAGES:
        row = found[stage]
        batch_size = getattr(preset, stage).train.batch_size
        assert row["steps_per_s"] > 0 and row["gflop_per_step"] > 0.01 and 0 < row["flop_utilisation"] < 1.5
        assert row["examples_per_s"] == pytest.approx(row["steps_per_s"] * batch_size)
        assert row["audio_s_per_s"] == pytest.approx(row["examples_per_s"] * crop_s(stage, preset))
        rate = found["matrix_gflop_per_s"]
        assert row["flop_utilisation"] == pytest.approx(row["gflop_per_step"] * row["steps_per_s"] / rate)


def test_bf16_has_figures_or_says_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from musiclm.models.storm.task import StormTask

    def broken(*_: object) -> None:
        raise RuntimeError("no such operation in this type\nand a long tail")

    monkeypatch.setattr(StormTask, "updates", broken)
    stages = ("w2vbert", "semantic", "storm")
    found = training(load_preset("tiny"), 1, "cpu", "bf16", stages, num_batches=1)
    assert found["storm"] == {"error": "no such operation in this type"}
    assert found["w2vbert"]["steps_per_s"] > 0 and found["semantic"]["steps_per_s"] > 0


def test_operations_are_counted_as_by_hand() -> None:
    x, w = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    assert count_flop(lambda: (x @ w).sum().backward()) == 3 * 2 * 3 * 5 * 7
    # attention on the CPU, which torch's counter does not know: two products forward, five backward
    q, k, v = (torch.randn(1, 2, 8, 4, requires_grad=True) for _ in range(3))
    product = 2 * 2 * 8 * 8 * 4
    forward = count_flop(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    both = count_flop(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward())
    assert forward == 2 * product and both == 7 * product


def test_a_codec_that_has_its_adversary_from_the_start_has_one_row() -> None:
    assert rows("soundstream", load_preset("paper")) == {"soundstream_adversarial": 0}
    assert rows("soundstream", load_preset("base")) == {"soundstream": 100}, "the bands codec learns without one"
    assert rows("storm", load_preset("base")) == {"storm": 0}
