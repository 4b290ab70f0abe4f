"""Two results by ratio: what is better, what is worse, and what can't be compared."""

import copy
import json
from pathlib import Path

import pytest

from musiclm.bench.compare import Row, ratios, table
from tests.cli.test_cli import run

A = {
    "bundle": "aa",
    "device": "cpu",
    "threads": [1, 2],
    "machine": {"processor": "x", "cores": 2},
    "figures": {
        "start": {"load_s": 2.0, "import_s": 1.0},
        "memory": {"5_s": {"stream_memory_mb": 100.0}},
        "threads_2": {"stages": {"semantic_tokens_per_s": 100.0, "storm_real_time_factor": 0.5}},
        "training": {"storm": {"gflop_per_step": 5.0, "parameters": 10, "flop_utilisation": 0.5}},
    },
}


@pytest.mark.parametrize(
    ("name", "a", "b", "verdict"),
    [
        ("start.load_s", 1.0, 2.0, "2.00 x slower"),
        ("start.load_s", 1.0, 1.04, "same"),
        ("stages.semantic_tokens_per_s", 100.0, 150.0, "1.50 x faster"),
        ("stages.semantic_real_time_factor", 0.2, 0.1, "2.00 x faster"),
        ("memory.5_s.stream_memory_mb", 100.0, 150.0, "1.50 x more memory"),
        ("training.storm.flop_utilisation", 0.5, 0.25, "2.00 x slower"),
        ("mimi.times_faster.ours.encode_real_time_factor", 2.0, 4.0, "2.00 x faster"),
        ("batch.4.music_s_per_s", 4.0, 2.0, "2.00 x slower"),
        ("training.storm.gflop_per_step", 5.0, 6.0, ""),
        ("training.storm.parameters", 5.0, 6.0, ""),
    ],
)
def test_which_way_is_better(name: str, a: float, b: float, verdict: str) -> None:
    assert Row(name, a, b).verdict == verdict


def test_the_table_lines_up_and_says_what_differs() -> None:
    b = copy.deepcopy(A)
    b["figures"]["start"]["load_s"] = 1.0
    b["machine"]["processor"] = "y"
    b["figures"]["threads_1"] = b["figures"].pop("threads_2")
    lines = table(A, b)
    assert any("processor differs: A x, B y" in line for line in lines)
    assert "note: only A has threads_2" in lines and "note: only B has threads_1" in lines
    rows = [line for line in lines if not line.startswith("note")]
    header = rows[0]
    load = next(line for line in rows if line.startswith("start.load_s"))
    assert load.endswith("2.00 x faster") and load.index("2.00 x faster") == header.index("B is")
    assert not any("stages" in line for line in rows)


def test_like_with_like_has_no_notes() -> None:
    assert not any(line.startswith("note") for line in table(A, A))
    assert all(row.ratio == 1 for row in ratios(A, A))


def test_a_file_without_figures() -> None:
    with pytest.raises(ValueError, match="no figures"):
        ratios(A, {})


def test_the_command_prints_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(A))
    assert run(monkeypatch, "bench", "--compare", tmp_path / "a.json", tmp_path / "a.json") == 0
    assert capsys.readouterr().out.splitlines() == table(A, A)
