"""Training in several processes, with accumulation and in shards comes to what one process comes to; any number of them goes on.

Tolerance: after three steps the weights of every stage differ from the single run's by at most a hundredth of what they
moved (root mean square), and its losses by at most a thousandth. Sums in another order are all that may differ, and
Adam turns the sign of a gradient that is zero but for rounding into a whole step.
"""

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

QUICK = ("soundstream", "mulan-words", "semantic")
IN_TURN = ("waveform", "spectrogram", "decoder", "bands-decoder")  # networks that move in turn are not cut into shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("together")
    make_up_music(found)
    return found


def runs(folder: Path, out: str, size: int, stages: tuple[str, ...], **how: Any) -> None:
    ended = together(size, train_stages, folder, out, stages, how.pop("shard", False), how.pop("steps", 3), how, folder=folder)
    assert [(one.value, one.error) for one in ended] == [(size, "")] * size


def moved(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Root mean square of the difference of all weights, codebooks and averages."""
    assert a.keys() == b.keys()
    names = [name for name in a if not name.startswith("optimizer.") and a[name].is_floating_point()]
    return float(torch.cat([(a[name] - b[name].view_as(a[name])).flatten().double() for name in names]).square().mean().sqrt())


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [v for line in lines if line["kind"] == "train" for k, v in sorted(line.items()) if k.endswith("loss")]


def check_same(folder: Path, stage: str, out: str) -> None:
    one, other, start = (state(folder / name / stage) for name in ("alone", out, "start"))
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
