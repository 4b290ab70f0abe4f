"""The one training loop: steps, schedule, clipping, moving average, log, validation, checkpoints, resume.

It knows nothing of audio. A `Task` is composed, not inherited. Its batches are a pure function of (seed, step) and the
random state is set from (seed, step) before each step, so a run that was killed at any moment and started again ends
with the weights of one that never stopped.
"""

import contextlib
import copy
import itertools
import json
import math
import shutil
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from musiclm.core.artifact import Artifact, ArtifactError, git_revision, load_state, read_config, write_atomic
from musiclm.core.config import to_json
from musiclm.core.interrupt import Interrupted
from musiclm.core.tensors import load, reader, save
from musiclm.nn.block import blocks, recompute
from musiclm.nn.parts import WHOLE, BatchPart, Work, working
from musiclm.train.processes import (
    ALONE,
    Processes,
    fill,
    is_loss_of_a_process,
    load_shards,
    local,
    names_in_shards,
    save_shards,
    whole,
)

STATE_FILE = "state.safetensors"  # of one process
SHARDS = "state-"  # of several: a folder for each step, of which the newest whole one is kept
RUN_FILE = "run.json"
LOG_FILE = "log.jsonl"
AHEAD = 3  # batches that are loaded, that of the step among them


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where and why."""


@dataclass
class Update:
    """One optimiser step that a task asks for."""

    group: str  # which of task.groups moves
    loss: Tensor  # scalar
    log: dict[str, float | Tensor] = field(default_factory=dict)


@runtime_checkable
class Task(Protocol):
    """What the loop needs of a stage."""

    name: str
    groups: dict[str, nn.Module]  # trained modules by optimiser group
    ema_group: str  # the group whose moving average is validated and exported
    # optional, `whole_batch`: whether losses look across the batch, so that accumulation takes two passes
    baseline: dict[str, float]  # log name -> what a model that knows nothing scores, printed beside the value

    def batch(self, step: int, part: BatchPart = WHOLE) -> Any:
        """CPU tensors (any nest of dicts, lists, tuples): a pure function of the task's seed, `step` and `part`,
        whose rows it holds."""

    def updates(self, batch: Any, step: int) -> Iterator[Update]:
        """One Update per optimiser step, that of `ema_group` last; what follows a yield runs after that optimiser
        stepped, what follows the last one maybe never.

        Losses are means over examples, or use `musiclm.nn.parts`; networks that move are called by its `through`.
        """

    def start(self, device: torch.device) -> None:
        """Called once before step 0 of a fresh run."""

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Figures of `module` (the moving average, in eval mode, without gradients)."""

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes `module` as an artifact."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The recipe of one stage."""

    steps: int
    batch_size: int
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_fraction: float = 0.2  # the rate falls linearly to zero over this last share of the steps
    weight_decay: float = 0.01  # on matrices only
    beta1: float = 0.9
    beta2: float = 0.98
    clip_norm: float = 1.0  # per group
    ema_decay: float = 0.999  # rises from 0 as (1 + step) / (10 + step) until it gets there
    seed: int = 0
    log_every: int = 20
    validate_every: int = 500
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, got {self.steps} and {self.batch_size}")
        if not 0 <= self.decay_fraction <= 1:
            raise ValueError(f"decay_fraction must lie in [0, 1], got {self.decay_fraction}")


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, constant, linear decay to zero over the last `decay_fraction` of the steps."""
    rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
    decay_steps = config.decay_fraction * config.steps
    if decay_steps and step >= config.steps - decay_steps:
        rate *= (config.steps - step) / (decay_steps + 1)
    return rate


def pick_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of 'auto', 'fp32' or 'bf16'. 'auto' takes bf16 where the hardware multiplies it faster than
    fp32.
    """
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    if precision != "auto":
        raise ValueError(f"precision must be auto, fp32 or bf16, got {precision!r}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    if device.type == "cpu":
        return torch.bfloat16 if cpu_has_fast_bf16() else None
    return None


def cpu_has_fast_bf16() -> bool:
    """Whether this processor multiplies bf16 faster than fp32: by matrix units (AMX) or dot products (AVX-512 BF16).

    Measured per core: with AVX-512 BF16 (Zen 5) 390 GFLOP/s of matrix products, against 56 to 100 in fp32; with
    neither, bf16 was three times slower than fp32.
    """
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    return any(probe is not None and bool(probe()) for probe in probes)


def to_device(batch: Any, device: torch.device) -> Any:
    """Moves every tensor of a nest of dicts, lists and tuples; what is `pinned` on the way while others compute."""
    return _each_tensor(batch, lambda tensor: tensor.to(device, non_blocking=True))


def pinned(batch: Any) -> Any:
    """The nest in memory that a GPU copies from without the CPU's help."""
    return _each_tensor(batch, lambda tensor: tensor.pin_memory())


def _each_tensor(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, dict):
        return {key: _each_tensor(value, change) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_each_tensor(value, change) for value in batch)
    return batch


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices, none on vectors (norms, biases)."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    vectors = [p for p in parameters if p.ndim < 2]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in vectors if local(p) is p], "weight_decay": 0.0},
        # beside shards there may be whole vectors, and a kernel takes one kind
        {"params": [p for p in vectors if local(p) is not p], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=parameters[0].device.type == "cuda",
        foreach=parameters[0].device.type == "cpu",
    )


@dataclass(frozen=True, kw_only=True)
class Means:
    """How a training uses its machines; its result does not depend on it, up to rounding."""

    processes: Processes = ALONE
    accumulate: int = 1  # micro-batches of a step in each process
    recompute: bool = False  # layers keep only their input for the backward pass
    compiled: bool = False  # layers through torch.compile

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}; it must be at least 1")

    @property
    def parts(self) -> int:
        """How many parts a batch has."""
        return self.processes.size * self.accumulate

    def check(self, task: Task, config: TrainConfig) -> None:
        """Raises: ValueError where a batch does not divide, or the task's networks can't lie in shards."""
        if config.batch_size % self.parts:
            raise ValueError(
                f"batch_size {config.batch_size} does not divide into {self.parts} parts "
                f"({self.processes.size} processes, "
                f"--accumulate {self.accumulate}); change one of the three"
            )
        if self.processes.sharded and len(task.groups) > 1:
            raise ValueError(
                f"{task.name} trains {' and '.join(task.groups)} in turn, which can't lie in shards; leave --shard away"
            )


ONE_PROCESS = Means()


class Run:
    """Everything that changes while a stage trains, and its checkpoint."""

    def __init__(
        self, task: Task, config: TrainConfig, folder: Path, device: torch.device, means: Means = ONE_PROCESS
    ) -> None:
        self.task, self.config, self.folder, self.device, self.means = task, config, folder, device, means
        self.step = 0
        self.seconds = 0.0
        self.precision: str | None = None  # with which it began
        self.wrapped: dict[nn.Module, nn.Module] = {}
        self.unchecked: list[tuple[int, str, Tensor]] = []  # steps, and what must be finite there
        for module in task.groups.values():
            module.to(device)
        self.ema: nn.Module = copy.deepcopy(task.groups[task.ema_group]).eval().requires_grad_(False)
        self.average: dict[str, Tensor] = {}  # of a model in shards, whose `ema` is only filled where it is read
        if not means.processes.sharded:
            self._make_optimizers()

    def _make_optimizers(self) -> None:
        groups = self.task.groups
        self.optimizers = {name: make_optimizer(module, self.config) for name, module in groups.items()}
        # once: while one network learns from another, that one's parameters may be held for a time
        self.parameters = {name: in_order(module) for name, module in groups.items()}

    def prepare(self) -> None:
        """Wraps the networks, weights being there: in every process the leader's."""
        processes, groups = self.means.processes, self.task.groups
        for module in groups.values():
            processes.copy_from_leader([*module.parameters(), *module.buffers()])
            if self.means.recompute:
                recompute(module)
            for block in blocks(module) if self.means.compiled else ():
                block.compile()
        if processes.many:
            self.wrapped = {module: processes.wrap(module) for module in groups.values()}
        if processes.sharded:
            self._make_optimizers()
            state = groups[self.task.ema_group].state_dict()
            self.average = {name: value.detach().clone() for name, value in state.items()}
            self.ema.to("cpu")

    def look_later(self, what: str, number: Tensor) -> bool:
        """Whether a number is looked at by `check` alone, since to look at it at once would hold the device up."""
        if not runs_ahead(self.device):
            return False
        self.unchecked.append((self.step, what, number.detach()))
        return True

    def check(self) -> None:
        """Raises: TrainingError if a loss or gradient since the last call was not finite."""
        steps, self.unchecked = self.unchecked, []
        if not steps or bool(torch.stack([number.float() for *_, number in steps]).isfinite().all()):
            return
        step, what, number = next(found for found in steps if not bool(found[2].isfinite()))
        raise TrainingError(f"{self.task.name}: {what} is {float(number)} at step {step}; {_way_out(self)}")

    @torch.no_grad()
    def update_ema(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        model = self.task.groups[self.task.ema_group]
        if self.average:
            names = {name for name, _ in model.named_parameters()}
            for name, value in model.state_dict().items():
                mine, theirs = local(self.average[name]), local(value.detach())
                mine.lerp_(theirs, 1 - decay) if name in names else mine.copy_(theirs)
            return
        averages: list[Tensor] = list(self.ema.parameters())
        torch._foreach_lerp_(averages, [value.detach() for value in model.parameters()], 1 - decay)
        for average, value in zip(self.ema.buffers(), model.buffers(), strict=True):
            average.copy_(value)

    @torch.no_grad()
    def whole_average(self) -> nn.Module:
        """The moving average as a module; of a model in shards in the leader alone, where all have come here."""
        if self.average:
            own = self.ema.state_dict()
            for name, value in self.average.items():
                everything = whole(value)
                if self.means.processes.leads:
                    own[name].copy_(everything)
            if self.means.processes.leads:
                self.ema.to(self.device)
        return self.ema

    def tensors(self) -> dict[str, Tensor]:
        """The whole state by name; of a model in shards this process's."""
        found: dict[str, Tensor] = {}
        for group, module in self.task.groups.items():
            found |= {f"model.{group}.{name}": value for name, value in module.state_dict().items()}
            for index, parameter in enumerate(self.parameters[group]):
                values = self.optimizers[group].state.get(parameter, {})
                found |= {f"optimizer.{group}.{index}.{name}": value for name, value in values.items()}
        found |= {f"ema.{name}": value for name, value in (self.average or self.ema.state_dict()).items()}
        return {name: value.detach() for name, value in found.items()}

    def save(self) -> None:
        """Writes the whole state atomically: the checkpoint is the old one or the new one, never half of either."""
        scalars = {"step": self.step, "seconds": self.seconds, "precision": self.precision}
        processes, shards = self.means.processes, self.folder / f"{SHARDS}{self.step:08d}"
        old = [found for found in self.folder.glob(f"{SHARDS}*") if found != shards]
        if not processes.many:
            tensors = {name: value.cpu().clone().contiguous() for name, value in self.tensors().items()}
            save(tensors, self.folder / STATE_FILE, {"run": json.dumps(scalars)})
            old.append(shards)
        else:
            processes.by_leader(lambda: shutil.rmtree(shards, ignore_errors=True))
            save_shards(self.tensors(), shards, processes)
            processes.wait()
            if processes.leads:  # what is read begins with this file
                write_atomic(shards / RUN_FILE, json.dumps(scalars))
                (self.folder / STATE_FILE).unlink(missing_ok=True)
        if processes.leads:
            for folder in old:
                shutil.rmtree(folder, ignore_errors=True)

    def load(self) -> None:
        """Restores the newest that `save` wrote, in any number of processes. Raises ArtifactError if the checkpoint
        is of another model."""
        path = newest_checkpoint(self.folder)
        assert path is not None
        scalars = read_scalars(path)
        try:
            if path.is_dir():
                self._load_shards(path)
            else:
                # copied: in the file a tensor begins where its header happens to end, and the last bits of a step
                # may depend on where its arrays begin
                self._put({name: value.clone() for name, value in load(path).items()})
        except (RuntimeError, KeyError) as error:
            raise ArtifactError(
                f"{path} is the checkpoint of another configuration ({str(error).splitlines()[-1].strip()}); "
                "train into a new folder or restore the settings"
            ) from None
        self.step, self.seconds = int(scalars["step"]), float(scalars["seconds"])
        self.precision = scalars.get("precision")  # checkpoints of old do not say

    def _load_shards(self, path: Path) -> None:
        """Reads in place; optimizer states that are not there yet are made."""
        names = set(names_in_shards(path))
        self._make_optimizer_states(names)
        tensors = self.tensors()
        if set(tensors) != names:
            raise KeyError(f"its tensors are others: {sorted(set(tensors) ^ names)[0]}")
        load_shards(tensors, path, self.means.processes)

    def _make_optimizer_states(self, names: Iterable[str]) -> None:
        for name in names:
            kind, group, *rest = name.split(".")
            if kind == "optimizer":
                parameter = self.parameters[group][int(rest[0])]
                like = torch.zeros_like(parameter.detach()) if rest[1] != "step" else torch.tensor(0.0)
                fused = self.optimizers[group].defaults.get("fused")
                self.optimizers[group].state[parameter][rest[1]] = like.to(self.device) if fused else like

    def _put(self, tensors: dict[str, Tensor]) -> None:
        """Takes over a whole state by name."""
        if self.means.processes.sharded:
            self._make_optimizer_states(tensors)
            for name, mine in self.tensors().items():
                if mine.shape != tensors[name].shape:
                    raise RuntimeError(f"{name} is {tuple(tensors[name].shape)}, not {tuple(mine.shape)}")
                fill(mine, tensors[name])
            return
        for group, module in self.task.groups.items():
            prefix = f"model.{group}."
            module.load_state_dict({n[len(prefix) :]: v for n, v in tensors.items() if n.startswith(prefix)})
            state: dict[int, dict[str, Tensor]] = defaultdict(dict)
            prefix = f"optimizer.{group}."
            for name, value in tensors.items():
                if name.startswith(prefix):
                    index, key = name[len(prefix) :].split(".")
                    state[int(index)][key] = value
            optimizer = self.optimizers[group]
            optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(state)})
        self.ema.load_state_dict({n[4:]: v for n, v in tensors.items() if n.startswith("ema.")})


def runs_ahead(device: torch.device) -> bool:
    """Whether the CPU asks a device for work before earlier work is done, as long as it looks at no result."""
    return device.type != "cpu"


def in_order(module: nn.Module) -> list[nn.Parameter]:
    """Trained parameters as checkpoints number them: matrices, then vectors."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [p for p in parameters if p.ndim >= 2] + [p for p in parameters if p.ndim < 2]


def read_scalars(path: Path) -> dict[str, Any]:
    """Step, seconds and precision of a checkpoint. Raises: ArtifactError for a damaged one."""
    try:
        if path.is_dir():
            return dict(json.loads((path / RUN_FILE).read_text()))
        with reader(path) as file:
            return dict(json.loads(file.metadata()["run"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"the checkpoint {path} is damaged ({error}); put a copy in its place, or delete {path.parent} and train "
            "again from the start"
        ) from None


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that a run in `folder` goes on from: the file of one process, or the shards of several."""
    found = [path.parent for path in folder.glob(f"{SHARDS}*/{RUN_FILE}")]
    if (folder / STATE_FILE).exists():
        found.append(folder / STATE_FILE)
    if len(found) < 2:  # of one nothing is read: who has finished needs none
        return found[0] if found else None
    return max(found, key=lambda path: int(read_scalars(path)["step"]))


def exported_step(folder: Path) -> int:
    """Of which step the artifact in a run's folder is; -1 without one that can be read."""
    try:
        return int(read_config(folder / "artifact")["info"].get("step", 0))
    except ArtifactError:
        return -1


def _set_up(run: Run, begin: Artifact | None, new: Collection[str]) -> bool:
    """Weights and state for the next step, of the newest checkpoint or new ones; whether there is a checkpoint."""
    task, processes = run.task, run.means.processes
    found = newest_checkpoint(run.folder)
    processes.check_same({"checkpoint": "none" if found is None else found.name})
    if found is not None:
        if processes.sharded:
            run.prepare()
        run.load()
        if not processes.sharded:
            run.prepare()
        return True
    torch.manual_seed(run.config.seed)
    if processes.leads:
        task.start(run.device)
        if begin is not None:
            load_state(task.groups[task.ema_group], begin, new)
    run.prepare()
    if not processes.sharded:
        run.ema.load_state_dict(task.groups[task.ema_group].state_dict())
    return False


def train(
    task: Task,
    config: TrainConfig,
    folder: Path,
    *,
    device: str = "cpu",
    precision: str = "auto",
    max_minutes: float | None = None,
    info: dict[str, Any] | None = None,
    begin: Artifact | None = None,
    new: Collection[str] = (),
    quiet: bool = False,
    means: Means = ONE_PROCESS,
) -> Path | None:
    """Trains a task in `folder`, going on from the checkpoint there; returns the artifact's folder, or None if
    `max_minutes` were up first.

    begin: weights that a fresh run starts from instead of random ones, with a new optimizer. new: tensors that these
    may lack.
    means: processes, accumulation and the like. Every process calls this; the leader prints and writes.

    After `max_minutes`, or at SIGTERM or Ctrl-C, it saves a checkpoint and stops; started again it goes on as if never
    stopped. The artifact (moving average) is written at every validation, so a stopped run has a usable model. A second
    signal stops at once.

    Raises: Interrupted after a signal; TrainingError when a loss or gradient is not finite, naming the step, the
    group and the values, or when another process has gone; ArtifactError if the weights of `begin` are of another
    model; ValueError if the batch does not divide.
    """
    processes = means.processes
    means.check(task, config)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if processes.leads:
        write_atomic(folder / "train.json", json.dumps({"task": task.name, "train": to_json(config)}, indent=1))
    run = Run(task, config, folder, processes.device or torch.device(device), means)
    processes.wait()
    goes_on = _set_up(run, begin, new)
    autocast_type = _settle_precision(run, precision)
    # what a kill between a checkpoint and its artifact left undone
    due = run.step >= config.steps or run.step % config.validate_every == 0
    owed = bool(processes.agree(int(goes_on and due and exported_step(folder) < run.step))[0])
    log = _Log(task, config, folder, quiet, processes, run.step, owed)
    if run.step:
        log.say(f"{task.name}: going on from step {run.step}")
    course = _Course(run, log, {"git_revision": git_revision(), **(info or {})}, max_minutes)
    with _signals_caught() as caught, _losses_of_processes(run), _BatchesAhead(run) as ahead:
        if owed:
            course.validate()
        while not course.ends(caught):
            course.step(ahead.take(), autocast_type)
        ahead.cancel()
        if run.step < config.steps:
            course.stop_early()
            return None
    log.close()
    return folder / "artifact"


def _settle_precision(run: Run, wanted: str) -> torch.dtype | None:
    """The type for autocast; a run ends as it began, whatever this machine would choose."""
    if wanted == "auto" and run.precision is not None:
        wanted = run.precision
    autocast_type = pick_precision(wanted, run.device)
    run.precision = "fp32" if autocast_type is None else "bf16"
    return autocast_type


class _Course:
    """The steps of a run from where it is, with what is written on the way."""

    def __init__(self, run: Run, log: "_Log", info: dict[str, Any], max_minutes: float | None) -> None:
        self.run, self.log, self.info, self.max_minutes = run, log, info, max_minutes
        self.deadline = time.monotonic() + max_minutes * 60 if max_minutes is not None else math.inf
        self.started, self.trained_before = time.monotonic(), run.seconds
        self.stopping = 0  # the signal that stops it

    def ends(self, caught: list[int]) -> bool:
        """Whether all steps are done, or it is to stop before, by a signal or because time is up; of all processes."""
        signal_number, late = caught[0] if caught else 0, int(time.monotonic() >= self.deadline)
        self.stopping, late = self.run.means.processes.agree(signal_number, late)
        return bool(self.run.step >= self.run.config.steps or self.stopping or late)

    def step(self, parts: list[Any], autocast_type: torch.dtype | None) -> None:
        """One step, and what is due after it."""
        run, config = self.run, self.run.config
        rate = learning_rate(config, run.step)
        one_step(run, parts, rate, autocast_type, self.log)
        run.update_ema()
        run.step += 1
        run.seconds = self._seconds()
        if run.step % config.log_every == 0:
            run.check()
        self.log.step(run.step, rate, run.seconds)
        if run.step % config.save_every == 0 or run.step == config.steps:
            self.checkpoint()
        if run.step % config.validate_every == 0 or run.step == config.steps:
            self.validate()

    def _seconds(self) -> float:
        return self.trained_before + time.monotonic() - self.started

    def checkpoint(self) -> None:
        self.run.check()
        check_weights(self.run)
        self.run.seconds = self._seconds()
        self.run.save()

    def validate(self) -> None:
        """Figures and the artifact."""
        run, task, processes = self.run, self.run.task, self.run.means.processes
        run.check()
        check_weights(run)
        average = run.whole_average()
        if processes.leads:
            with torch.no_grad():
                figures = task.validate(average)
            self.log.validation(run.step, figures)
            facts = {"step": run.step, "steps": run.config.steps, "seconds": round(run.seconds, 1)}
            task.export(average, run.folder / "artifact", {**self.info, **facts, "metrics": figures})
        processes.wait()

    def stop_early(self) -> None:
        """Raises: Interrupted if a signal stops it."""
        run, name = self.run, self.run.task.name
        self.checkpoint()
        at = f"at step {run.step} of {run.config.steps}; the same command goes on from here"
        if not self.stopping:
            self.log.say(f"{name}: {self.max_minutes} minutes are up {at}")
        if run.step % run.config.validate_every:
            self.validate()
        if self.stopping:
            raise Interrupted(f"{name} stopped {at}", self.stopping)


class _BatchesAhead:
    """Loads the batches of the next steps while one is worked on."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.pool = ThreadPoolExecutor(1)
        self.queue: dict[int, Future[Any]] = {}

    def __enter__(self) -> "_BatchesAhead":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def take(self) -> list[Any]:
        """What this process works on in the step that the run is at, on its device."""
        run = self.run
        for step in range(run.step, min(run.step + AHEAD, run.config.steps)):
            if step not in self.queue:
                self.queue[step] = self.pool.submit(load_batches, run.task, step, run.means, run.device)
        return [to_device(part, run.device) for part in self.queue.pop(run.step).result()]

    def cancel(self) -> None:
        for future in self.queue.values():
            future.cancel()


def load_batches(task: Task, step: int, means: Means, device: torch.device) -> list[Any]:
    """What this process works on in a step, ready to be copied to the device."""
    found = batches(task, step, means)
    return pinned(found) if device.type == "cuda" else found  # type: ignore[no-any-return]


def batches(task: Task, step: int, means: Means) -> list[Any]:
    """What this process works on in a step: the whole batch, or its parts of it."""
    if means.parts == 1:
        return [task.batch(step)]
    first = means.processes.rank * means.accumulate
    return [task.batch(step, BatchPart(index=first + micro, count=means.parts)) for micro in range(means.accumulate)]


def one_step(run: Run, parts: list[Any], rate: float, autocast_type: torch.dtype | None, log: "_Log") -> None:
    """Every optimiser step that the task asks for, on what `batches` gave."""
    task, means = run.task, run.means
    for module in task.groups.values():
        module.train()
    seed = (run.config.seed * 1_000_003 + run.step) % 2**63

    def autocast() -> Any:
        if autocast_type is None:
            return contextlib.nullcontext()
        return torch.autocast(run.device.type, dtype=autocast_type)

    work = None
    if means.parts > 1:
        first = BatchPart(index=means.processes.rank * means.accumulate, count=means.parts)
        group = torch.distributed.group.WORLD if means.processes.many else None
        work = Work(first, 0, means.accumulate, seed, group, run.wrapped)
    if means.accumulate > 1:
        assert work is not None
        accumulated(run, parts, work, rate, autocast, log)
        return
    torch.manual_seed(seed)
    if work is not None:
        work.begin(0, own_seed(seed, work.part))
    with working(work):
        updates = task.updates(parts[0], run.step)
        while True:
            with autocast():
                update = next(updates, None)
            if update is None:
                return
            check_loss(run, update)
            run.optimizers[update.group].zero_grad(set_to_none=True)
            update.loss.backward()
            log.add(update, move(run, update.group, rate))


def accumulated(run: Run, parts: list[Any], work: Work, rate: float, autocast: Callable[[], Any], log: "_Log") -> None:
    """The same over micro-batches, whose gradients add up before an optimiser steps.

    An update is computed from the start of the step for each, so that one micro-batch is in memory at a time. Where
    losses look across the batch, a pass without gradients comes first (see `musiclm.nn.parts`).
    """

    def reach(micro: int, number: int, replay: bool) -> Update | None:
        """Update `number` of the step for a micro-batch."""
        work.begin(micro, own_seed(work.seed, work.at(micro)), replay)
        with autocast():
            return next(itertools.islice(run.task.updates(parts[micro], run.step), number, None), None)

    whole_batch, moving = getattr(run.task, "whole_batch", False), ""
    with working(work):
        for number in itertools.count():
            if whole_batch:
                with torch.no_grad(), run.means.processes.without_sync(run.wrapped.values()):
                    for micro in range(len(parts)):
                        reach(micro, number, False)
            for micro in range(len(parts)):
                last = micro == len(parts) - 1
                with contextlib.ExitStack() as stack:
                    # only the network that is to move averages its gradients over processes, and only once
                    quiet = [w for m, w in run.wrapped.items() if not last or m is not run.task.groups[moving]]
                    stack.enter_context(run.means.processes.without_sync(quiet))
                    update = reach(micro, number, whole_batch)
                    if update is None:
                        break
                    moving = update.group
                    check_loss(run, update)
                    if micro == 0:
                        run.optimizers[moving].zero_grad(set_to_none=True)
                    (update.loss / len(parts)).backward()
                    log.add(update)
            if update is None:
                break
            log.norm(moving, move(run, moving, rate))
            if moving == run.task.ema_group:
                break
        for finish in work.pending:
            finish()


def own_seed(seed: int, part: BatchPart) -> int:
    """Of what is drawn for one part alone; of the first, that of the whole batch."""
    return (seed + part.index * 1_000_000_007) % 2**63


def check_loss(run: Run, update: Update) -> None:
    """Raises: TrainingError if it is not finite; on a GPU `Run.check` does that later."""
    if run.look_later(f"the loss of {update.group!r}", update.loss):
        return
    if not bool(torch.isfinite(update.loss)):
        values = {name: float(torch.as_tensor(value).detach()) for name, value in update.log.items()}
        raise TrainingError(
            f"{run.task.name}: the loss of {update.group!r} is {float(update.loss.detach())} at step {run.step} "
            f"({values}); {_way_out(run)}"
        )


def check_weights(run: Run) -> None:
    """Raises: TrainingError if a weight is not finite: then no checkpoint and no artifact takes the place of a sound
    one."""
    for group, module in run.task.groups.items():
        wrong = [name for name, value in module.named_parameters() if not bool(local(value.detach()).isfinite().all())]
        if wrong:
            raise TrainingError(
                f"{run.task.name}: weights of {group!r} are not finite at step {run.step}, first {wrong[:3]}; "
                f"{_way_out(run)}"
            )


def _way_out(run: Run) -> str:
    return (
        f"any checkpoint in {run.folder} is from before, and the same command goes on from it; where it ends here "
        "again, train in another --runs folder with a lower learning_rate or clip_norm"
    )


def move(run: Run, name: str, rate: float) -> Tensor:
    """An optimiser's step with clipped gradients; their norm before.

    Raises: TrainingError if that is not finite; on a GPU `Run.check` does that later.
    """
    optimizer, module = run.optimizers[name], run.task.groups[name]
    norm = run.means.processes.clip(module, run.config.clip_norm)
    if not run.look_later(f"the gradient of {name!r}", norm) and not bool(torch.isfinite(norm)):
        worst = [n for n, p in module.named_parameters() if p.grad is not None and not local(p.grad).isfinite().all()]
        raise TrainingError(
            f"{run.task.name}: the gradient of {name!r} is not finite at step {run.step}, first in {worst[:3]}; "
            f"{_way_out(run)}"
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return norm


@contextlib.contextmanager
def _losses_of_processes(run: Run) -> Iterator[None]:
    """Says in a line what the end of another process brings this one to.

    Raises: TrainingError.
    """
    try:
        yield
    except RuntimeError as error:
        if not run.means.processes.many or not is_loss_of_a_process(error):
            raise
        raise TrainingError(
            f"{run.task.name}: another process of this training ended at step {run.step}; the "
            f"checkpoint in {run.folder} is from "
            "before, and the same command goes on from it"
        ) from None


@contextlib.contextmanager
def _signals_caught() -> Iterator[list[int]]:
    """A list that is empty until SIGTERM or SIGINT arrives, once; after that, and after the block, signals do what they
    did before.

    In the main thread only: elsewhere signals are the caller's, and the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def catch(number: int, _: Any) -> None:
        caught.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, catch) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        restore()


class _Log:
    """Means since the last line, to the terminal, `log.jsonl` and TensorBoard where it is installed."""

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        folder: Path,
        quiet: bool,
        processes: Processes,
        begin: int = 0,
        owed: bool = False,
    ) -> None:
        """begin: the step that training goes on from; lines of later ones, and if it is still owed those of its
        validation, are written again."""
        self.task, self.config, self.folder, self.processes = task, config, folder, processes
        self.quiet = quiet or not processes.leads
        self.values: dict[str, list[Tensor | float]] = defaultdict(list)
        self.clock, self.counted = time.monotonic(), 0
        self.board: Any = None
        if processes.leads:
            self._cut(begin, owed)
            with contextlib.suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(folder / "tensorboard"))

    def _cut(self, begin: int, owed: bool) -> None:
        """A run that was killed had come further than its checkpoint, and its last line may be torn."""
        path, kept = self.folder / LOG_FILE, []
        before = path.read_text().splitlines() if path.exists() else []
        for line in before:
            try:
                step, kind = int(json.loads(line)["step"]), json.loads(line)["kind"]
            except (ValueError, KeyError, TypeError):
                continue
            if step <= begin and not (owed and step == begin and kind == "validation"):
                kept.append(line)
        if kept != before:
            write_atomic(path, "".join(f"{line}\n" for line in kept))

    def add(self, update: Update, norm: Tensor | None = None) -> None:
        for name, value in {**update.log, self._name(update.group, "loss"): update.loss}.items():
            self.values[name].append(value.detach() if isinstance(value, Tensor) else value)
        if norm is not None:
            self.norm(update.group, norm)

    def norm(self, group: str, norm: Tensor) -> None:
        self.values[self._name(group, "grad_norm")].append(norm.detach())

    def _name(self, group: str, name: str) -> str:
        return name if len(self.task.groups) == 1 else f"{group}/{name}"

    def step(self, step: int, rate: float, seconds: float) -> None:
        self.counted += 1
        if step % self.config.log_every and step != self.config.steps:
            return
        means = {name: sum(float(v) for v in values) / len(values) for name, values in self.values.items()}
        self.values.clear()
        if self.processes.many:
            everyone = self.processes.everyones(means)
            found = {name: [own[name] for own in everyone if name in own] for name in means}
            means = {name: sum(values) / len(values) for name, values in found.items()}
        pace = (time.monotonic() - self.clock) / max(1, self.counted)
        self.clock, self.counted = time.monotonic(), 0
        left = pace * (self.config.steps - step)
        self._write("train", step, means, {"learning_rate": rate, "seconds": seconds})
        self.say(f"{self._line(step, means)}  {pace:.2f} s/step, {left / 60:.0f} min left")

    def validation(self, step: int, figures: dict[str, float]) -> None:
        self._write("validation", step, figures, {})
        self.say("  validation " + self._line(step, figures))
        self.clock, self.counted = time.monotonic(), 0

    def _line(self, step: int, figures: dict[str, float]) -> str:
        baseline = self.task.baseline
        parts = [
            f"{name} {value:.4g}" + (f" (baseline {baseline[name]:.4g})" if name in baseline else "")
            for name, value in figures.items()
        ]
        return f"{self.task.name} {step}/{self.config.steps}  " + "  ".join(parts)

    def _write(self, kind: str, step: int, figures: dict[str, float], more: dict[str, float]) -> None:
        if not self.processes.leads:
            return
        with open(self.folder / LOG_FILE, "a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **figures, **more}) + "\n")
        if self.board is not None:
            for name, value in {**figures, **more}.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
