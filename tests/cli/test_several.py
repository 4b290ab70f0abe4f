"""`musiclm generate --num`: pieces side by side are those of the single runs, whatever becomes of a process."""

import os
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from musiclm.core.bundle import Bundle
from musiclm.core.workers import Worker, WorkerEnded
from musiclm.generate import makers
from musiclm.generate.session import MusicLM
from tests.cli.test_cli import run

KILLED = "a process that worked for this one was killed by SIGKILL"


@pytest.fixture(autouse=True)
def _two_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However short the pieces are, and whatever `--threads` leaves behind."""
    monkeypatch.setattr(makers, "START_S", 0.1)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What this process waits for before it makes anything itself."""
    event, make = threading.Event(), makers.New.made_by

    def patient(piece: makers.New, model: MusicLM, *rest: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread() or event.wait(300)
        return make(piece, model, *rest)

    monkeypatch.setattr(makers.New, "made_by", patient)
    return event


def generate(monkeypatch: pytest.MonkeyPatch, bundle: Bundle, *options: str, prompt: str = "slow piano") -> int:
    line = [prompt, "--duration", "1", "--seed", "4", "--model", bundle.folder, "--no-progress"]
    return run(monkeypatch, "generate", *line, *options)


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """Files that were told of, in order, and complaints."""
    said = capsys.readouterr()
    return re.findall(r"^(\S+?): 1 s of music", said.out, re.M), said.err


def test_each_is_the_single_run(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    bundle: Bundle,
    tmp_path: Path,
    here: threading.Event,
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere, make = list[int](), makers.New.made_in

    def noted(piece: makers.New, maker: Any, *rest: Any) -> Any:
        elsewhere.append(piece.seed)
        assert maker.pid != os.getpid()
        for block in make(piece, maker, *rest):
            here.set()
            yield block

    monkeypatch.setattr(makers.New, "made_in", noted)
    options = ["--at", "0:00.5", "fast music", "--tempo", "120", "--take"]
    odd = "Ж Ш Щ Ю"
    line = ["--num", "4", "--threads", "2", "-o", "a.flac", *options]
    assert generate(monkeypatch, bundle, *line, prompt=odd) == 0
    said = capfd.readouterr()
    assert "note: most of 'Ж" in said.err and "UserWarning" not in said.err, "nobody speaks but the one that was asked"
    told = re.findall(r"^(\S+), (\S+): 1 s of music", said.out, re.M)
    assert told == [(f"a-{i}.flac", f"a-{i}.take") for i in (1, 2, 3, 4)], "in order"
    assert elsewhere[0] == 5 and 1 <= len(elsewhere) < 4
    for i in range(4):
        assert generate(monkeypatch, bundle, "-o", f"b-{i}.flac", *options, "--seed", str(4 + i), prompt=odd) == 0
        for suffix in ("flac", "take"):
            assert Path(f"a-{i + 1}.{suffix}").read_bytes() == Path(f"b-{i}.{suffix}").read_bytes()


def test_as_many_as_there_are_cores_and_work_for(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    model = MusicLM.from_pretrained(bundle.folder)
    torch.set_num_threads(4)
    asked = ((1, 600.0), (2, 10.0), (2, 30.0), (4, 10.0), (4, 30.0), (100, 10.0))
    assert [makers.num_makers(model, num, duration_s) for num, duration_s in asked] == [1, 1, 2, 2, 4, 4]
    torch.set_num_threads(100)
    assert makers.num_makers(model, 100, 10.0) == makers.MOST_MAKERS
    torch.set_num_threads(1)
    assert makers.num_makers(model, 100, 10.0) == 1


# -- what may happen to a process, with threads in their place


class Threaded(Worker):
    """One that is no process: what it is asked for is done here."""

    def __init__(self, model: MusicLM, fault: Callable[[int, "Threaded"], None]) -> None:
        self.model, self.fault, self.stopped = model, fault, threading.Event()

    def wait(self) -> None:
        self.fault(-1, self)

    def run(self, task: Callable[..., Any], *arguments: Any) -> Generator[Any, None, None]:
        words: list[Any] = []
        task(self.model, words.append, *arguments)
        for i, word in enumerate(words):
            self.fault(i, self)
            yield word

    def stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, Threaded], None]], None]:
    """Has workers do something odd before they tell their i-th word (-1: while they load)."""

    def set_fault(fault: Callable[[int, Threaded], None]) -> None:
        def new(model: MusicLM) -> Threaded:
            return Threaded(MusicLM.from_pretrained(model.bundle.folder), fault)

        monkeypatch.setattr(makers, "new_maker", new)

    return set_fault


@pytest.mark.parametrize("at", [-1, 3])
def test_a_process_that_is_killed_costs_time_alone(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bundle: Bundle,
    tmp_path: Path,
    faulty: Any,
    here: threading.Event,
    at: int,
) -> None:
    def dies(i: int, _: Threaded) -> None:
        if i == at:
            here.set()
            raise WorkerEnded(KILLED)

    faulty(dies)
    out = tmp_path / "a.wav"
    assert generate(monkeypatch, bundle, "--num", "3", "--threads", "2", "-o", str(out)) == 0
    found, complaints = lines(capsys)
    assert found == [str(tmp_path / f"a-{i}.wav") for i in (1, 2, 3)]
    assert complaints == f"note: {KILLED}; fewer pieces were made at a time\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.wav", "a-2.wav", "a-3.wav"]


def test_an_error_there_is_one_here(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bundle: Bundle,
    tmp_path: Path,
    faulty: Any,
    here: threading.Event,
) -> None:
    def fails(i: int, _: Threaded) -> None:
        if i == 3:
            here.set()
            raise ValueError("the take is damaged; make it again")

    faulty(fails)
    line = ["--num", "30", "--threads", "2", "-o", str(tmp_path / "a.wav")]
    assert generate(monkeypatch, bundle, *line) == 1
    found, complaints = lines(capsys)
    assert len(found) <= 1 and complaints == "error: the take is damaged; make it again\n"
    assert {path.name for path in tmp_path.iterdir()} <= {"a-1.wav"}


def test_ctrl_c_ends_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bundle: Bundle,
    tmp_path: Path,
    faulty: Any,
    here: threading.Event,
) -> None:
    """Both are in the middle of a file."""

    def interrupts(i: int, worker: Threaded) -> None:
        if i == 3:
            os.kill(os.getpid(), signal.SIGINT)
            assert worker.stopped.wait(60)
            raise WorkerEnded("a process that worked for this one was killed by SIGTERM")

    faulty(interrupts)
    assert generate(monkeypatch, bundle, "--num", "3", "--threads", "2", "-o", str(tmp_path / "a.wav")) == 130
    assert lines(capsys) == ([], "stopped\n") and not list(tmp_path.iterdir())
