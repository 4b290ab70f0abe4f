"""What `musiclm bench` says is complete and right in kind; how fast anything is, is not tested."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from musiclm.bench import measure
from musiclm.bench.fresh import peak_memory_mb
from musiclm.bench.measure import matrix_rate, timed
from musiclm.bench.run import BenchConfig, bench, save
from musiclm.bench.speed import in_fresh_process, side_by_side, stages
from musiclm.core.bundle import Bundle
from musiclm.generate.session import MusicLM
from tests.away import AWAY, AwayDevice


@pytest.fixture(scope="module")
def result(bundle: Bundle) -> dict:
    config = BenchConfig(
        durations_s=(1.0,), stages_s=1.0, repeats=1, threads=(1,), batches=(1, 2), precisions=("fp32", "bf16"),
        training_preset=None
    )  # fmt: skip
    return bench(bundle.folder, config, say=lambda _: None)


def test_every_figure_is_there(result: dict) -> None:
    figures = result["figures"]
    assert set(figures) == {"start", "memory", "threads_1", "batch", "precision"}
    assert set(figures["start"]) == {"import_s", "load_s", "first_sound_s", "loaded_memory_mb"}
    assert set(figures["threads_1"]["generate"]) == {"1_s", "first_sound_s"}
    assert set(figures["threads_1"]["generate_ar"]) == {"real_time_factor"}
    for row in (figures["threads_1"]["stages"], *figures["precision"].values()):
        assert set(row) == {
            "text_s",
            *(f"{name}_tokens_per_s" for name in ("semantic", "storm", "coarse", "fine")),
            *(f"{name}_real_time_factor" for name in ("semantic", "storm", "codec_decode", "codec_encode")),
        }
        assert all(value > 0 for value in row.values())
    assert set(figures["precision"]) == {"fp32", "bf16"}


def test_the_figures_agree_with_one_another(result: dict) -> None:
    stages = result["figures"]["threads_1"]["stages"]
    # 25 semantic tokens and 12 x 50 acoustic ones a second of music: the two ways of saying it agree
    assert stages["semantic_tokens_per_s"] * stages["semantic_real_time_factor"] == pytest.approx(25)
    assert stages["storm_tokens_per_s"] * stages["storm_real_time_factor"] == pytest.approx(600)
    for size, row in result["figures"]["batch"].items():
        assert row["real_time_factor"] * row["music_s_per_s"] == pytest.approx(1)
        assert row["all_done_s"] == pytest.approx(row["real_time_factor"] * int(size) * 1.0)


@pytest.mark.slow  # a process starts
def test_two_pieces_at_once_beside_one(bundle: Bundle) -> None:
    found = side_by_side(MusicLM.from_pretrained(bundle.folder), 2, 1.0, 1)
    assert set(found) == {"one_s", "all_s", "times_longer"} and min(found.values()) > 0
    assert found["times_longer"] == found["all_s"] / found["one_s"]


def test_memory_is_of_a_fresh_process(result: dict) -> None:
    figures = result["figures"]
    memory = figures["memory"]
    assert set(memory) == {"1_s"} and set(memory["1_s"]) == {"stream_memory_mb", "generate_memory_mb"}
    # torch alone takes more than 100; the peak of loading comes before that of generating
    assert memory["1_s"]["stream_memory_mb"] >= 0.9 * figures["start"]["loaded_memory_mb"] > 100
    script = "from musiclm.bench.fresh import peak_memory_mb; print(peak_memory_mb())"
    alone = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(alone.stdout) < 100 < peak_memory_mb(), "what the parent held does not count"


def test_what_made_the_figures_is_said(result: dict, bundle: Bundle, tmp_path: Path) -> None:
    assert result["machine"]["torch"] == torch.__version__ and result["machine"]["cores"] == os.cpu_count()
    assert result["bundle"] == bundle.hash and result["threads"] == [1]
    save(result, tmp_path / "out" / "a.json")
    assert json.loads((tmp_path / "out" / "a.json").read_text()) == json.loads(json.dumps(result))


def test_quick_says_what_it_leaves_out() -> None:
    quick, whole = BenchConfig.quick(), BenchConfig()
    assert "training" in quick.left_out and quick.training_preset is None
    assert not whole.left_out and set(whole.durations_s) == {5, 30, 120} and whole.training_preset == "base"
    with pytest.raises(ValueError, match="at least 1"):
        BenchConfig(repeats=0)


def test_the_first_run_warms_up_and_the_median_counts() -> None:
    pauses = iter([0.2, 0.01, 0.01, 0.1])
    assert timed(lambda: time.sleep(next(pauses)), 3) == pytest.approx(0.01, abs=0.02)
    runs: list[int] = []
    timed(lambda: runs.append(1), 2, warm_up=False)
    assert len(runs) == 2


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_matrix_rate_counts_multiplications_and_additions(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    """By a clock that says a product took half a second: 64 x 64 sums of 64 products are 2 * 64^3 operations."""
    products: list[torch.Tensor] = []

    def half_a_second(work: Callable[[], torch.Tensor], repeats: int, device: str) -> float:
        products.append(work())
        return 0.5

    monkeypatch.setattr(measure, "timed", half_a_second)
    assert matrix_rate("cpu", precision, 64) == 2 * 64**3 / 0.5
    (product,) = products
    assert product.shape == (64, 64) and product.dtype == dtype and float(product.float().std()) > 1


def test_another_device(bundle: Bundle) -> None:
    with AwayDevice():
        model = MusicLM.from_pretrained(bundle.folder, str(AWAY))
        assert all(value > 0 for value in stages(model, 1, str(AWAY), 0.5).values())
        assert matrix_rate(str(AWAY), size=64) > 0


def test_a_fresh_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no bundle"):
        in_fresh_process(tmp_path, 1.0, "cpu", 1)
