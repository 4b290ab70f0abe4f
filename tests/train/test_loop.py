"""The loop: a stopped and resumed run ends with the weights of one that never stopped; NaN stops it; the baseline is
printed.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from musiclm.core.artifact import ArtifactError, load_artifact, save_artifact
from musiclm.core.interrupt import Interrupted
from musiclm.train import loop
from musiclm.train.loop import (
    LOG_FILE,
    ONE_PROCESS,
    Run,
    TrainConfig,
    TrainingError,
    Update,
    check_weights,
    learning_rate,
    make_optimizer,
    pick_precision,
    train,
)


class Fit:
    """Learns y = 3 x with dropout, from batches that depend on the step alone."""

    name = "fit"
    ema_group = "model"
    baseline: ClassVar = {"error": 9.0}

    def __init__(self, width: int = 4, poison_at: int = -1, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(1, width), nn.Dropout(0.2), nn.BatchNorm1d(width), nn.Linear(width, 1))
        self.groups: dict[str, nn.Module] = {"model": self.model}
        self.poison_at = poison_at
        self.started = 0

    def start(self, device: torch.device) -> None:
        self.started += 1

    def batch(self, step: int) -> Tensor:
        return torch.randn(16, 1, generator=torch.Generator().manual_seed(step))

    def updates(self, batch: Tensor, step: int) -> Iterator[Update]:
        error = (self.model(batch) - 3 * batch).square().mean()
        yield Update("model", error * (float("nan") if step == self.poison_at else 1.0), {"error": error})

    def validate(self, module: nn.Module) -> dict[str, float]:
        x = torch.linspace(-1, 1, 9)[:, None]
        return {"error": float((module(x) - 3 * x).square().mean())}

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        save_artifact(folder, "fit", CONFIG, module, info)


CONFIG = TrainConfig(
    steps=60, batch_size=16, learning_rate=0.05, warmup_steps=5, log_every=7, validate_every=25, save_every=10
)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "state.safetensors")


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_and_exports_the_average(tmp_path: Path) -> None:
    task = Fit(width=16)
    artifact = train(task, CONFIG, tmp_path / "run", quiet=True)
    assert artifact is not None and task.started == 1
    info = load_artifact(artifact, "fit").info
    assert info["step"] == 60 and info["metrics"]["error"] < 0.5
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [25, 50, 60]


def test_matrices_decay_and_vectors_do_not() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    decayed = {
        id(parameter): group["weight_decay"]
        for group in make_optimizer(module, CONFIG).param_groups
        for parameter in group["params"]
    }
    assert {name: decayed[id(p)] for name, p in module.named_parameters()} == {
        "0.weight": CONFIG.weight_decay, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0,
    }  # fmt: skip


def test_the_average_follows_weights_slowly_and_takes_buffers_as_they_are(tmp_path: Path) -> None:
    task = Fit()
    run = Run(task, CONFIG, tmp_path, torch.device("cpu"))
    with torch.no_grad():
        for value in [*run.ema.parameters(), *run.ema.buffers()]:
            value.zero_()
        for value in [*task.model.parameters(), *task.model.buffers()]:
            value.fill_(1)
    run.update_ema()  # step 0: a tenth of the average stays
    run.step = 1
    run.update_ema()  # step 1: two elevenths
    for value in run.ema.parameters():
        torch.testing.assert_close(value, torch.full_like(value, 0.9 * 2 / 11 + 9 / 11))
    assert all(bool((value == 1).all()) for value in run.ema.buffers()) and list(run.ema.buffers())


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    train(Fit(), CONFIG, tmp_path / "whole", quiet=True)
    for seed in range(8):  # stopped again and again; only the first one's weights may count
        train(Fit(seed=seed), CONFIG, tmp_path / "parts", max_minutes=0.02 / 60, quiet=True)
    train(Fit(seed=9), CONFIG, tmp_path / "parts", quiet=True)
    assert same(tmp_path / "whole", tmp_path / "parts")


SCRIPT = """
import sys, time, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from test_loop import CONFIG, Fit
from musiclm.train.loop import train
from pathlib import Path
task = Fit()
plain = task.batch
task.batch = lambda step: (time.sleep(0.02), plain(step))[1]
print("ready", flush=True)
train(task, CONFIG, Path({folder!r}), quiet=True)
"""


def start_run(folder: Path) -> subprocess.Popen[bytes]:
    """A training run in a process of its own, as a user's is: other tests' libraries change how this one computes."""
    script = textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder)))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def test_killed_at_any_moment(tmp_path: Path) -> None:
    assert start_run(tmp_path / "whole").wait(120) == 0
    process = start_run(tmp_path / "killed")
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert start_run(tmp_path / "killed").wait(120) == 0
    assert same(tmp_path / "whole", tmp_path / "killed")


def test_a_signal_stops_it_with_a_checkpoint_and_an_error(tmp_path: Path) -> None:
    """Who calls it must not go on as if it were done; afterwards signals do what they did before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    task = Fit()
    plain = task.batch
    task.batch = lambda step: (os.kill(os.getpid(), signal.SIGTERM) if step == 21 else None, plain(step))[1]  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="fit stopped at step .* of 60; the same command goes on") as stopped:
        train(task, CONFIG, tmp_path / "run", quiet=True)
    assert stopped.value.exit_code == 143
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    train(Fit(seed=3), CONFIG, tmp_path / "run", quiet=True)
    train(Fit(), CONFIG, tmp_path / "whole", quiet=True)
    assert same(tmp_path / "whole", tmp_path / "run")


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    task = Fit()
    plain = task.batch
    task.batch = lambda step: (os.kill(os.getpid(), signal.SIGINT) if step == 3 else None, plain(step))[1]  # type: ignore[method-assign]
    task.validate = lambda module: os.kill(os.getpid(), signal.SIGINT)  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(KeyboardInterrupt):
        train(task, CONFIG, tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "state.safetensors").exists() and not (tmp_path / "run" / "artifact").exists()


def test_a_loaded_state_lies_where_a_fresh_one_does(tmp_path: Path) -> None:
    """Kernels may treat an array's first elements otherwise when it begins off a cache line."""
    train(Fit(), CONFIG, tmp_path, quiet=True)
    run = Run(Fit(), CONFIG, tmp_path, torch.device("cpu"))
    run.load()
    states = [value for one in run.optimizers.values() for state in one.state.values() for value in state.values()]
    assert len(states) >= 6 and all(value.data_ptr() % 64 == 0 for value in states)


def test_nan_stops_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"fit: the loss of 'model' is nan at step 33 .*checkpoint .* from before"):
        train(Fit(poison_at=33), CONFIG, tmp_path / "run", quiet=True)
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_a_device_that_runs_ahead_is_looked_at_before_anything_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are looked at when a line is logged or a state saved: the checkpoint is from before the first bad one."""
    train(Fit(), CONFIG, tmp_path / "whole", quiet=True)
    monkeypatch.setattr(loop, "runs_ahead", lambda device: True)
    for poison_at, log_every in ((33, 7), (33, 100), (59, 100)):
        config, run = replace(CONFIG, log_every=log_every), tmp_path / f"{poison_at}_{log_every}"
        with pytest.raises(TrainingError, match=f"the loss of 'model' is nan at step {poison_at}; .* from before"):
            train(Fit(poison_at=poison_at), config, run, quiet=True)
        assert all(value.isfinite().all() for value in weights(run).values())
        train(Fit(), config, run, quiet=True)
        assert same(run, tmp_path / "whole")


def test_batches_for_a_gpu_are_pinned_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor + 100)
    task = Fit()
    task.batch = lambda step: {"x": torch.ones(2), "rest": [torch.zeros(1), None, "name", True]}  # type: ignore[method-assign,assignment,return-value]
    (on_cpu,) = loop.load_batches(task, 0, ONE_PROCESS, torch.device("cpu"))
    (ahead,) = loop.load_batches(task, 0, ONE_PROCESS, torch.device("cuda"))
    assert on_cpu["x"].tolist() == [1, 1] and ahead["x"].tolist() == [101, 101]
    assert ahead["rest"][0].tolist() == [100] and ahead["rest"][1:] == [None, "name", True]


def test_another_configuration_is_noticed(tmp_path: Path) -> None:
    train(Fit(width=4), CONFIG, tmp_path / "run", max_minutes=0.0001, quiet=True)
    with pytest.raises(ArtifactError, match="another configuration"):
        train(Fit(width=8), CONFIG, tmp_path / "run", quiet=True)


def test_the_baseline_stands_beside_the_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(Fit(), CONFIG, tmp_path / "run")
    assert "(baseline 9)" in capsys.readouterr().err


def test_the_schedule() -> None:
    config = TrainConfig(steps=100, batch_size=1, learning_rate=1.0, warmup_steps=10, decay_fraction=0.2)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[10:80] == [1.0] * 70
    assert all(a > b for a, b in itertools.pairwise(rates[80:])) and 0 < rates[-1] < 0.1


@pytest.mark.parametrize(("amx", "avx512"), [(False, False), (True, False), (False, True), (True, True)])
def test_auto_takes_bf16_where_the_processor_multiplies_it_fast(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert pick_precision("auto", torch.device("cpu")) is (torch.bfloat16 if amx or avx512 else None)


def test_auto_takes_fp32_where_torch_can_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert pick_precision("auto", torch.device("cpu")) is None


def test_a_resumed_run_keeps_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine, or another version, may choose otherwise."""
    monkeypatch.setattr("musiclm.train.loop.cpu_has_fast_bf16", lambda: False)
    train(Fit(), CONFIG, tmp_path / "whole", quiet=True)
    train(Fit(), CONFIG, tmp_path / "parts", max_minutes=0, quiet=True)
    monkeypatch.setattr("musiclm.train.loop.cpu_has_fast_bf16", lambda: True)
    train(Fit(), CONFIG, tmp_path / "parts", quiet=True)
    assert same(tmp_path / "whole", tmp_path / "parts")
    train(Fit(), CONFIG, tmp_path / "other", quiet=True)
    assert not same(tmp_path / "whole", tmp_path / "other")


def test_precision_names() -> None:
    cpu = torch.device("cpu")
    assert pick_precision("fp32", cpu) is None and pick_precision("bf16", cpu) is torch.bfloat16
    with pytest.raises(ValueError, match="auto, fp32 or bf16"):
        pick_precision("fp8", cpu)


class InTurn(Fit):
    """Two networks, of which one is held while the other learns, until the step after."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = nn.Linear(1, 1)
        self.groups["judge"] = self.judge

    def updates(self, batch: Tensor, step: int) -> Iterator[Update]:
        self.judge.requires_grad_(True)
        yield Update("judge", self.judge(batch).square().mean())
        self.judge.requires_grad_(False)
        yield from super().updates(batch, step)


def test_a_checkpoint_has_the_optimizer_of_a_network_that_is_held(tmp_path: Path) -> None:
    train(InTurn(), CONFIG, tmp_path / "whole", quiet=True)
    names = [name for name in weights(tmp_path / "whole") if name.startswith("optimizer.judge.")]
    assert sorted(names) == [
        f"optimizer.judge.{i}.{kind}" for i in (0, 1) for kind in ("exp_avg", "exp_avg_sq", "step")
    ]
    train(InTurn(), CONFIG, tmp_path / "parts", max_minutes=0.02 / 60, quiet=True)
    train(InTurn(), CONFIG, tmp_path / "parts", quiet=True)
    assert same(tmp_path / "whole", tmp_path / "parts")


def steps_logged(folder: Path, kind: str) -> list[int]:
    lines = [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]
    return [line["step"] for line in lines if line["kind"] == kind]


class Killed(BaseException):
    """As a kill: nothing is put away."""


@pytest.mark.parametrize("after", [25, 50, 60])
def test_killed_between_a_checkpoint_and_its_artifact(tmp_path: Path, after: int) -> None:
    """The artifact of an earlier validation must not pass for the one that is due."""
    config = replace(CONFIG, save_every=5)
    train(Fit(), config, tmp_path / "whole", quiet=True)
    task, plain = Fit(), Fit.export

    def export(module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        if info["step"] == after:
            raise Killed
        plain(task, module, folder, info)

    task.export = export  # type: ignore[method-assign]
    with pytest.raises(Killed):
        train(task, config, tmp_path / "killed", quiet=True)
    train(Fit(), config, tmp_path / "killed", quiet=True)
    assert same(tmp_path / "whole", tmp_path / "killed")
    ended = [load_artifact(tmp_path / name / "artifact", "fit") for name in ("whole", "killed")]
    assert ended[0].hash == ended[1].hash and ended[1].info["step"] == 60
    for kind in ("train", "validation"):
        assert steps_logged(tmp_path / "killed", kind) == steps_logged(tmp_path / "whole", kind)


def test_the_log_of_a_killed_run_has_each_step_once(tmp_path: Path) -> None:
    train(Fit(), CONFIG, tmp_path / "whole", quiet=True)
    train(Fit(), replace(CONFIG, steps=20), tmp_path / "killed", quiet=True)  # to its checkpoint
    with open(tmp_path / "killed" / LOG_FILE, "a") as file:
        file.write(json.dumps({"kind": "train", "step": 21, "error": 1.0}) + '\n{"kind": "tra')
    train(Fit(), CONFIG, tmp_path / "killed", quiet=True)
    found = steps_logged(tmp_path / "killed", "train")
    assert found == sorted(set(found)) and set(steps_logged(tmp_path / "whole", "train")) <= set(found)


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_a_torn_checkpoint_says_what_to_do(tmp_path: Path, keep: int) -> None:
    train(Fit(), CONFIG, tmp_path / "run", max_minutes=0.0001, quiet=True)
    path = tmp_path / "run" / "state.safetensors"
    with open(path, "r+b") as file:
        file.truncate(keep % path.stat().st_size)
    with pytest.raises(ArtifactError, match=f"checkpoint {path} is damaged .* delete {path.parent} and train again"):
        train(Fit(), CONFIG, tmp_path / "run", quiet=True)


def test_weights_that_are_no_numbers_replace_nothing(tmp_path: Path) -> None:
    """A learning rate far too high: the step itself ruins the weights, and only the next loss would tell."""
    train(Fit(), replace(CONFIG, steps=20), tmp_path / "run", quiet=True)
    before = weights(tmp_path / "run")
    task, plain = Fit(), Fit.updates

    def updates(batch: Tensor, step: int) -> Iterator[Update]:
        yield from plain(task, batch, step)

    task.updates = updates  # type: ignore[method-assign]
    task.batch = lambda step: (ruin(task.model) if step == 29 else None, Fit.batch(task, step))[1]  # type: ignore[method-assign]

    def ruin(model: nn.Sequential) -> None:
        with torch.no_grad():
            model[3].bias.fill_(float("inf"))

    with pytest.raises(TrainingError, match="at step .*checkpoint .* from before, and the same command goes on"):
        train(task, CONFIG, tmp_path / "run", quiet=True)
    now = weights(tmp_path / "run")
    assert all(value.isfinite().all() for value in now.values()) and before.keys() == now.keys()
    run = Run(task, CONFIG, tmp_path / "other", torch.device("cpu"))
    with pytest.raises(TrainingError, match=r"weights of 'model' are not finite at step 0, first \['3.bias'\]"):
        check_weights(run)
