"""What `runs/gpu.sh` measures is complete and agrees with itself; what is not measured says so."""

import json
from pathlib import Path

import pytest
import torch

from musiclm.bench import presets as module
from musiclm.bench.compare import table
from musiclm.bench.presets import NOT_MEASURED, PresetsConfig, presets
from musiclm.bench.run import bench_presets, save
from musiclm.core.streams import STAGES
from musiclm.train.plan import count
from musiclm.train.recipes import load_preset

SMALL = PresetsConfig(
    presets=("tiny",), stages=("storm",), compiled=(), batches=(1, 2), duration_s=1.0, repeats=1, tflops=0.5
)


def test_every_figure_is_there_and_they_agree(tmp_path: Path) -> None:
    result = bench_presets(SMALL, "cpu", lambda _: None)
    save(result, tmp_path / "a.json")
    assert NOT_MEASURED not in (tmp_path / "a.json").read_text()
    found = result["figures"]["tiny"]
    row, recipe = found["training"]["storm"], load_preset("tiny").storm
    counted = count(recipe.task)
    assert row["rows"] == recipe.train.batch_size
    assert row["tokens_per_s"] * row["step_s"] == pytest.approx(counted.places * row["rows"])
    assert row["flop_utilisation"] * row["step_s"] * 0.5e12 == pytest.approx(counted.row_flop * row["rows"])
    assert row["tflop_per_s"] / 0.5 == pytest.approx(row["flop_utilisation"])
    assert set(found["generation"]) == {"batch_1", "batch_2", "first_sound", "codec"}
    for batch in (1, 2):
        made = found["generation"][f"batch_{batch}"]
        stages = sum(made[f"{name}_real_time_factor"] for name in ("semantic", "storm", "codec_decode"))
        assert made["real_time_factor"] == pytest.approx(stages) == pytest.approx(made["all_done_s"] / batch)
    # 4 x 12.5 semantic and 12 x 12.5 acoustic tokens in a second of music, in whole frames
    assert made["semantic_tokens_per_s"] * made["semantic_real_time_factor"] == pytest.approx(48)
    lines = table(result, json.loads((tmp_path / "a.json").read_text()))
    assert any("tiny.training.storm.flop_utilisation" in line and line.endswith("same") for line in lines)


def test_a_device_that_is_not_there_measures_nothing() -> None:
    said: list[str] = []
    result = bench_presets(PresetsConfig(presets=("paper", "large")), "cuda:77", said.append)
    assert len(said) == 1 and "not available" in said[0] and result["device"] == "cuda:77"
    for name in ("paper", "large"):
        found = result["figures"][name]
        assert set(found["training"]) == {*STAGES, "semantic_compiled"}
        rows = [*found["training"].values(), *(found["generation"][f"batch_{n}"] for n in (1, 8, 32))]
        assert all("not available" in row[NOT_MEASURED] for row in rows)


def test_no_time_and_no_memory_are_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    late = presets(PresetsConfig(presets=("tiny",), minutes=1e-9), "cpu", lambda _: None)
    assert late["matrix_product"][NOT_MEASURED] == "no time was left"
    assert {row[NOT_MEASURED] for row in late["tiny"]["training"].values()} == {"no time was left"}

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried much\nand a long tail")

    monkeypatch.setattr(module, "make_up", full)
    monkeypatch.setattr(module.Chain, "of", full)
    found = presets(SMALL, "cpu", lambda _: None)["tiny"]
    assert found["training"]["storm"] == {NOT_MEASURED: "CUDA out of memory. Tried much"}
    assert found["generation"]["batch_1"] == found["training"]["storm"]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PresetsConfig(repeats=0)
    with pytest.raises(ValueError, match="preset"):
        presets(PresetsConfig(presets=("huge",)), "cpu", lambda _: None)
