"""Results come in the order of units, whatever the engine; what is in flight is bounded; the base needs no cluster."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from musiclm import cli
from musiclm.core.engines import AHEAD, EngineError, LocalEngine, jobs_for, num_cores, open_engine, run_in_order


class Disorderly:
    """Ends units at random, one or several at a time."""

    def __init__(self, slots: int, crashes: tuple[int, ...] = ()) -> None:
        self.slots, self.crashes, self.most = slots, crashes, 0
        self.pending: list[tuple[Any, Callable[..., Any], tuple[Any, ...]]] = []
        self.random = np.random.default_rng(0)

    def __enter__(self) -> "Disorderly":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @property
    def num_pending(self) -> int:
        return len(self.pending)

    def submit(self, name: Any, function: Callable[..., Any], *arguments: Any) -> None:
        self.pending.append((name, function, arguments))
        self.most = max(self.most, len(self.pending))

    def wait(self) -> list[tuple[Any, Any, str]]:
        ended = []
        for _ in range(self.random.integers(1, len(self.pending) + 1)):
            name, function, arguments = self.pending.pop(self.random.integers(len(self.pending)))
            crashed = name in self.crashes
            ended.append((name, None if crashed else function(*arguments), "it died" if crashed else ""))
        return ended


def square(number: int) -> int:
    return number**2


@pytest.mark.parametrize("slots", [1, 3])
def test_results_come_in_the_order_of_units(slots: int) -> None:
    engine = Disorderly(slots)
    assert list(run_in_order(engine, square, range(100))) == [(number, number**2) for number in range(100)]
    assert engine.most <= AHEAD * slots and engine.num_pending == 0
    assert list(run_in_order(engine, square, [])) == []


def test_units_are_taken_as_there_is_room() -> None:
    """So memory does not grow with their number: an endless list of them does."""
    engine, taken = Disorderly(2), itertools.count()
    for place, (unit, _) in zip(range(1000), run_in_order(engine, square, taken), strict=False):
        assert unit == place
    assert next(taken) <= 1000 + AHEAD * 2


def test_a_unit_that_kills_its_process_is_named() -> None:
    with pytest.raises(EngineError, match=r"^unit 5: it died$"):
        list(run_in_order(Disorderly(1, crashes=(5,)), square, range(9), lambda unit: f"unit {unit}"))


def test_this_process_does_one_unit_at_a_time() -> None:
    """What is done is handed on before the next begins, so that little is lost when it is stopped."""
    begun: list[int] = []
    with LocalEngine(1) as engine:
        for unit, _ in run_in_order(engine, begun.append, range(5)):
            assert begun == list(range(unit + 1))


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three is bad")
    return number


def die_once(path: str) -> str:
    """Kills its process the first time."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return path
    os.kill(os.getpid(), 9)
    return ""


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_come_as_they_are(jobs: int) -> None:
    with pytest.raises(ValueError, match="^three is bad$"), LocalEngine(jobs) as engine:
        list(run_in_order(engine, fail_at_three, range(8)))


def test_units_of_a_killed_process_are_done_again(tmp_path) -> None:
    paths = [str(tmp_path / name) for name in "ab"]
    with LocalEngine(2) as engine:
        assert [result for _, result in run_in_order(engine, die_once, paths)] == paths


def test_few_units_are_done_in_this_process() -> None:
    assert jobs_for(0) == jobs_for(31) == 1
    assert jobs_for(10**6) == num_cores() >= 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("spark", None, None), "no engine 'spark'"),
        (("local", None, "auto"), "give --engine ray"),
        (("local", 99999, None), "99999"),
    ],
)
def test_wrong_engines(arguments: tuple[Any, ...], what: str, monkeypatch, capsys, tmp_path) -> None:
    with pytest.raises(ValueError, match=what):
        open_engine(*arguments)
    kind, jobs, address = arguments
    options = ["--engine", kind, *(["--jobs", str(jobs)] if jobs else []), *(["--address", address] if address else [])]
    for command in (["corpus", "build", "x", "--out", "y"], ["label", "x"], ["tokenize", "--data", "x", "--runs", "y"]):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["musiclm", *command, *options])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr().err
        assert stop.value.code == 1 and said.startswith("error: ") and what in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_base_imports_no_cluster() -> None:
    code = (
        "import sys, musiclm.cli, musiclm.core.engines, musiclm.core.cluster, musiclm.data.corpus.build\n"
        "assert not {'ray', 'fsspec', 'accelerate'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": "src"})
