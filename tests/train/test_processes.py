"""Training in several processes, with accumulation and in shards comes to what one process comes to; any number of
them goes on.

Tolerance: after three steps the weights of every stage differ from the single run's by at most a hundredth of what they
moved (root mean square), and its losses by at most a thousandth. Sums in another order are all that may differ, and
Adam turns the sign of a gradient that is zero but for rounding into a whole step.
"""

import functools
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from musiclm.train.loop import Means, train
from musiclm.train.processes import join
from tests.train.together import STAGES, build, config, make_up_music, state, together, train_stages

pytest.importorskip("accelerate")

QUICK = ("soundstream", "mulan-words", "semantic")
IN_TURN = ("waveform", "soundstream-decoder")  # networks that move in turn are not cut into shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("together")
    make_up_music(found)
    return found


def runs(folder: Path, out: str, size: int, stages: tuple[str, ...], **how: Any) -> None:
    ended = together(size, functools.partial(train_stages, folder, out, stages, **how), folder=folder)
    assert [(one.value, one.error) for one in ended] == [(size, "")] * size


def moved(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Root mean square of the difference of all weights, codebooks and averages."""
    names = [name for name in a if not name.startswith("optimizer.") and a[name].is_floating_point()]
    return float(
        torch.cat([(a[name] - b[name].view_as(a[name])).flatten().double() for name in names]).square().mean().sqrt()
    )


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [v for line in lines if line["kind"] == "train" for k, v in sorted(line.items()) if k.endswith("loss")]


def check_same(folder: Path, stage: str, out: str) -> None:
    one, other, start = (state(folder / name / stage) for name in ("alone", out, "start"))
    assert one.keys() == other.keys()
    difference, way = moved(one, other), moved(one, start)
    assert way > 0 and difference <= 0.01 * way, f"{stage} differs by {difference / way:.2g} of the way"
    assert losses(folder / out / stage) == pytest.approx(losses(folder / "alone" / stage), rel=1e-3, abs=1e-5)


@pytest.fixture(scope="module")
def quick(folder: Path) -> Path:
    runs(folder, "alone", 1, QUICK)
    runs(folder, "start", 1, QUICK, steps=1)
    runs(folder, "two", 2, QUICK)
    return folder


@pytest.mark.parametrize("stage", QUICK)
def test_two_processes_are_as_one(quick: Path, stage: str) -> None:
    check_same(quick, stage, "two")


def test_one_writes_and_validates(quick: Path) -> None:
    """The others leave nothing behind: one log, one artifact, a checkpoint in a shard from each."""
    for stage in QUICK:
        lines = [json.loads(line) for line in (quick / "two" / stage / "log.jsonl").read_text().splitlines()]
        assert [(line["kind"], line["step"]) for line in lines] == [
            ("train", 1), ("train", 2), ("train", 3), ("validation", 3),
        ]  # fmt: skip
        shards = sorted(path.name for path in (quick / "two" / stage).glob("state*/*"))
        assert shards == [
            "run.json", "shard-00001-model-00001-of-00001.safetensors", "shard-00002-model-00001-of-00001.safetensors",
        ]  # fmt: skip
        assert (quick / "two" / stage / "artifact" / "config.json").exists()


def test_layers_that_are_computed_again_come_to_the_same(quick: Path) -> None:
    runs(quick, "again", 1, ("semantic",), recompute=True)
    assert moved(state(quick / "alone" / "semantic"), state(quick / "again" / "semantic")) == 0


@pytest.mark.slow
def test_compiled_layers_come_to_the_same(quick: Path) -> None:
    runs(quick, "compiled", 1, ("semantic",), compiled=True)
    check_same(quick, "semantic", "compiled")


def go_on(folder: Path, out: str, shard: bool, steps: int) -> None:
    """Goes on, or begins, as `train_stages`, with a schedule that does not end there."""
    processes = join("cpu", shard)
    task = build("semantic", folder)
    means = Means(processes=processes)
    task.batch = stop_at(steps, task.batch)  # type: ignore[method-assign]
    try:
        train(task, config(6), folder / out, precision="fp32", quiet=True, means=means)
    except KeyboardInterrupt:
        processes.wait()
    processes.leave()


def stop_at(step: int, batch: Any) -> Any:
    """A signal for one process when it makes the batch of a step."""

    def made(number: int, *part: Any) -> Any:
        if number == step and os.environ.get("RANK", "0") == "0":
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(number, *part)

    return made


def test_any_number_of_processes_goes_on(folder: Path) -> None:
    """Two begin, one goes on, two in shards end it: the weights are those of a run that never stopped. A signal to
    one stops all."""
    whole = together(1, go_on, folder, "never stopped", False, 99, folder=folder)
    assert [one.error for one in whole] == [""]
    for size, shard, stop in ((2, False, 3), (1, False, 5), (2, True, 99)):
        ended = together(size, go_on, folder, "stopped", shard, stop, folder=folder)
        told = [one.error for one in ended]
        if stop < 99:
            assert all(error.startswith("Interrupted: semantic stopped at step") for error in told), told
            files = {path.name.split("-")[0].split(".")[0] for path in (folder / "stopped").glob("state*")}
            assert len(list((folder / "stopped").glob("state*"))) == 1 and files == {"state"}
        else:
            assert told == [""] * size
    one, other = state(folder / "never stopped"), state(folder / "stopped")
    torch.testing.assert_close(
        other, {name: value.view_as(other[name]) for name, value in one.items()}, atol=1e-4, rtol=1e-3
    )


def dies(folder: Path, out: str) -> str:
    """One of two processes is killed when it makes the batch of step 3."""
    processes = join("cpu")
    task = build("semantic", folder)
    batch = task.batch

    def made(step: int, *part: Any) -> Any:
        if step == 3 and processes.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(step, *part)

    task.batch = made  # type: ignore[method-assign]
    train(task, config(4), folder / out, precision="fp32", quiet=True, means=Means(processes=processes))
    return "never here"


def test_a_killed_process_stops_all_and_the_same_command_goes_on(folder: Path) -> None:
    first, second = together(2, dies, folder, "killed", folder=folder)
    assert second.code == -signal.SIGKILL and first.code == 1
    assert first.error.startswith("TrainingError: semantic: another process of this training ended at step")
    assert "the same command goes on" in first.error and "\n" not in first.error
    runs(folder, "killed again", 2, ("semantic",), steps=4)
    (folder / "killed again" / "semantic").rename(folder / "whole")
    (folder / "killed again" / "semantic").symlink_to(folder / "killed")
    runs(folder, "killed again", 2, ("semantic",), steps=4)
    assert moved(state(folder / "killed"), state(folder / "whole")) == 0


def differs(folder: Path) -> None:
    processes = join("cpu")
    processes.check_same({"data": "same", "code": f"code of {min(processes.rank, 1)}"})


def does_not_divide(folder: Path) -> None:
    processes = join("cpu")
    train(build("semantic", folder), config(batch_size=5), folder / "odd", means=Means(processes=processes))


def in_turn(folder: Path) -> None:
    processes = join("cpu", True)
    train(build("soundstream-decoder", folder), config(), folder / "odd", means=Means(processes=processes))


def poisoned(folder: Path) -> None:
    """A loss that is no number in one process."""
    processes = join("cpu")
    task = build("semantic", folder)
    updates = task.updates

    def bad(batch: Any, step: int) -> Any:
        for update in updates(batch, step):
            update.loss = update.loss * (float("nan") if processes.rank == 1 else 1.0)
            yield update

    task.updates = bad  # type: ignore[method-assign]
    train(task, config(), folder / "poisoned", quiet=True, means=Means(processes=processes))


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (differs, "process 1 has another code than process 0"),
        (does_not_divide, "batch_size 5 does not divide into 2 parts"),
        (in_turn, "soundstream-decoder trains generator and discriminator in turn"),
    ],
)
def test_what_can_not_be_is_said_by_all(folder: Path, work: Any, said: str) -> None:
    for one in together(2, work, folder, folder=folder):
        assert one.code == 1 and one.error.startswith(f"ValueError: {said}"), one.error


def test_a_loss_that_is_no_number_ends_all(folder: Path) -> None:
    first, second = together(2, poisoned, folder, folder=folder)
    assert "the loss of 'model' is nan at step 0" in second.error and first.code == second.code == 1
    assert "another process of this training ended" in first.error or "is nan" in first.error


@pytest.fixture(scope="module")
def every(folder: Path) -> Path:
    runs(folder, "alone", 1, STAGES)
    runs(folder, "start", 1, STAGES, steps=1)
    runs(folder, "accumulated", 1, STAGES, accumulate=2)
    runs(folder, "two", 2, STAGES)
    runs(folder, "two accumulated", 2, STAGES, accumulate=2)
    runs(folder, "four", 4, STAGES)
    runs(folder, "shards", 2, tuple(stage for stage in STAGES if stage not in IN_TURN), shard=True, recompute=True)
    runs(folder, "shards accumulated", 2, ("w2vbert", "mulan", "storm"), shard=True, accumulate=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("out", ["accumulated", "two", "two accumulated", "four", "shards", "shards accumulated"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_in_every_way_is_as_one_process(every: Path, stage: str, out: str) -> None:
    if not (every / out / stage).exists():
        pytest.skip("not trained so")
    check_same(every, stage, out)
