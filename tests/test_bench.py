"""What `musiclm bench` says is complete and right in kind; how fast anything is, is not tested."""

import json
import time
from pathlib import Path

import pytest

from musiclm.bench import BenchConfig, bench, ratios, save, timed, training
from musiclm.bundle import Bundle


@pytest.fixture(scope="module")
def result(bundle: Bundle) -> dict:
    config = BenchConfig(durations_s=(1.0, 2.0), repeats=1, threads=(1,), training=False)
    return bench(bundle.folder, config, say=lambda _: None)


def test_every_figure_is_there(result: dict) -> None:
    figures = result["figures"]
    generated = figures["threads_1"]["generate"]
    assert set(generated) == {"1_s", "2_s", "first_sound_s", "ar"}
    assert set(figures["start"]) == {"import_s", "load_s", "first_generate_10_s", "peak_memory_mb"}
    assert figures["start"]["peak_memory_mb"] > 50  # torch alone takes more
    stages = figures["threads_1"]["stages"]
    assert {"semantic_tokens_per_s", "acoustic_tokens_per_s", "codec_encode_real_time_factor"} <= set(stages)
    assert all(value > 0 for value in stages.values())
    # 25 tokens a second of music: the two ways of saying it agree
    assert stages["semantic_tokens_per_s"] * stages["semantic_real_time_factor"] == pytest.approx(25)
    assert result["machine"]["torch"] and result["bundle"]


def test_the_first_run_warms_up_and_the_median_counts() -> None:
    pauses = iter([0.2, 0.01, 0.01, 0.1])
    assert timed(lambda: time.sleep(next(pauses)), 3) == pytest.approx(0.01, abs=0.02)


def test_ratios_of_two_files(result: dict, tmp_path: Path) -> None:
    save(result, tmp_path / "out" / "a.json")
    a = json.loads((tmp_path / "out" / "a.json").read_text())
    b = json.loads(json.dumps(a))
    b["figures"]["start"]["load_s"] *= 2
    found = {name: ratio for name, _, _, ratio in ratios(a, b)}
    assert found["start.load_s"] == 2 and found["start.import_s"] == 1
    with pytest.raises(ValueError, match="no figures"):
        ratios(a, {})


@pytest.mark.slow
def test_training_figures() -> None:
    found = training(repeats=1, device="cpu", steps=1)
    assert set(found) == {"matrix_gflops", "soundstream", "semantic", "storm", "coarse", "fine"}
    for stage, row in found.items():
        if stage != "matrix_gflops":
            assert row["steps_per_s"] > 0 and 0 < row["flop_utilisation"] < 1.5 and row["gflop_per_step"] > 1
