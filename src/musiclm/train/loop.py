"""The one training loop: steps, schedule, clipping, moving average, log, validation, checkpoints, resume.

It knows nothing of audio. A `Task` is composed, not inherited. Its batches are a pure function of (seed, step) and the
random state is set from (seed, step) before each step, so a run that was killed at any moment and started again ends
with the weights of one that never stopped.
"""

import contextlib
import copy
import json
import math
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from musiclm.core.artifact import Artifact, ArtifactError, git_revision, load_state, write_atomic
from musiclm.core.config import to_json
from musiclm.core.interrupt import Interrupted
from musiclm.core.tensors import load, reader, save

STATE_FILE = "state.safetensors"


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
    baseline: dict[str, float]  # log name -> what a model that knows nothing scores, printed beside the value

    def batch(self, step: int) -> Any:
        """CPU tensors (any nest of dicts, lists, tuples): a pure function of the task's seed and `step`."""

    def updates(self, batch: Any, step: int) -> Iterator[Update]:
        """One Update per optimiser step; what follows a yield runs after that optimiser stepped."""

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
    """Moves every tensor of a nest of dicts, lists and tuples."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices, none on vectors (norms, biases)."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=parameters[0].device.type == "cuda",
        foreach=parameters[0].device.type == "cpu",
    )


class Run:
    """Everything that changes while a stage trains, and its checkpoint."""

    def __init__(self, task: Task, config: TrainConfig, folder: Path, device: torch.device) -> None:
        self.task, self.config, self.folder, self.device = task, config, folder, device
        self.step = 0
        self.seconds = 0.0
        self.precision: str | None = None  # with which it began
        for module in task.groups.values():
            module.to(device)
        self.optimizers = {name: make_optimizer(module, config) for name, module in task.groups.items()}
        self.ema: nn.Module = copy.deepcopy(task.groups[task.ema_group]).eval().requires_grad_(False)

    @torch.no_grad()
    def update_ema(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        model = self.task.groups[self.task.ema_group]
        averages: list[Tensor] = list(self.ema.parameters())
        torch._foreach_lerp_(averages, [value.detach() for value in model.parameters()], 1 - decay)
        for average, value in zip(self.ema.buffers(), model.buffers(), strict=True):
            average.copy_(value)

    def save(self) -> None:
        """Writes the whole state atomically: the checkpoint is the old one or the new one, never half of either."""
        tensors: dict[str, Tensor] = {}
        scalars: dict[str, Any] = {}
        for group, module in self.task.groups.items():
            tensors |= {f"model.{group}.{name}": value for name, value in module.state_dict().items()}
            state = self.optimizers[group].state_dict()["state"]
            for index, values in state.items():
                tensors |= {f"optimizer.{group}.{index}.{name}": value for name, value in values.items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        scalars = {"step": self.step, "seconds": self.seconds, "precision": self.precision}
        save(tensors, self.folder / STATE_FILE, {"run": json.dumps(scalars)})

    def load(self) -> None:
        """Restores what `save` wrote. Raises ArtifactError if the checkpoint is of another model."""
        path = self.folder / STATE_FILE
        with reader(path) as file:
            scalars = json.loads(file.metadata()["run"])
        # copied: in the file a tensor begins where its header happens to end, and the last bits of a step may depend on
        # where its arrays begin
        tensors = {name: value.clone() for name, value in load(path).items()}
        try:
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
        except RuntimeError as error:
            raise ArtifactError(
                f"{path} is the checkpoint of another configuration ({str(error).splitlines()[-1].strip()}); "
                "train into a new folder or restore the settings"
            ) from None
        self.step, self.seconds = int(scalars["step"]), float(scalars["seconds"])
        self.precision = scalars.get("precision")  # checkpoints of old do not say


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
) -> Path | None:
    """Trains a task in `folder`, going on from the checkpoint there; returns the artifact's folder, or None if
    `max_minutes` were up first.

    begin: weights that a fresh run starts from instead of random ones, with a new optimizer. new: tensors that these
    may lack.

    After `max_minutes`, or at SIGTERM or Ctrl-C, it saves a checkpoint and stops; started again it goes on as if never
    stopped. The artifact (moving average) is written at every validation, so a stopped run has a usable model. A second
    signal stops at once.

    Raises: Interrupted after a signal; TrainingError when a loss or gradient is not finite, naming the step, the group
    and the values; ArtifactError if the weights of `begin` are of another model.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "train.json", json.dumps({"task": task.name, "train": to_json(config)}, indent=1))
    torch_device = torch.device(device)
    run = Run(task, config, folder, torch_device)
    if (folder / STATE_FILE).exists():
        run.load()
    else:
        torch.manual_seed(config.seed)
        task.start(torch_device)
        if begin is not None:
            load_state(task.groups[task.ema_group], begin, new)
        run.ema.load_state_dict(task.groups[task.ema_group].state_dict())
    if precision == "auto" and run.precision is not None:
        precision = run.precision  # what this machine would choose is no matter: a run ends as it began
    autocast_type = pick_precision(precision, torch_device)
    run.precision = "fp32" if autocast_type is None else "bf16"
    info = {"git_revision": git_revision(), **(info or {})}
    log = _Log(task, config, folder, quiet)
    if run.step:
        log.say(f"{task.name}: going on from step {run.step}")
    deadline = time.monotonic() + max_minutes * 60 if max_minutes is not None else math.inf
    started, trained_before = time.monotonic(), run.seconds

    def checkpoint() -> None:
        run.seconds = trained_before + time.monotonic() - started
        run.save()

    def validate() -> None:
        with torch.no_grad():
            figures = task.validate(run.ema)
        log.validation(run.step, figures)
        facts = {"step": run.step, "steps": config.steps, "seconds": round(run.seconds, 1)}
        task.export(run.ema, folder / "artifact", {**info, **facts, "metrics": figures})

    with _signals_caught() as caught, ThreadPoolExecutor(1) as pool:
        queue: dict[int, Future[Any]] = {}
        while run.step < config.steps and time.monotonic() < deadline and not caught:
            for ahead in range(run.step, min(run.step + 3, config.steps)):
                if ahead not in queue:
                    queue[ahead] = pool.submit(task.batch, ahead)
            batch = to_device(queue.pop(run.step).result(), torch_device)
            torch.manual_seed((config.seed * 1_000_003 + run.step) % 2**63)
            rate = learning_rate(config, run.step)
            one_step(run, batch, rate, autocast_type, log)
            run.update_ema()
            run.step += 1
            run.seconds = trained_before + time.monotonic() - started
            log.step(run.step, rate, run.seconds)
            if run.step % config.save_every == 0 or run.step == config.steps:
                checkpoint()
            if run.step % config.validate_every == 0 or run.step == config.steps:
                validate()
        for future in queue.values():
            future.cancel()
        if run.step < config.steps:
            checkpoint()
            at = f"at step {run.step} of {config.steps}; the same command goes on from here"
            if not caught:
                log.say(f"{task.name}: {max_minutes} minutes are up {at}")
            if run.step % config.validate_every:
                validate()
            if caught:
                raise Interrupted(f"{task.name} stopped {at}", caught[0])
            return None
    if not (folder / "artifact" / "config.json").exists():
        validate()
    log.close()
    return folder / "artifact"


def one_step(run: Run, batch: Any, rate: float, autocast_type: torch.dtype | None, log: "_Log") -> None:
    task, config = run.task, run.config
    for module in task.groups.values():
        module.train()
    context: Any = contextlib.nullcontext()
    if autocast_type is not None:
        context = torch.autocast(run.device.type, dtype=autocast_type)
    with context:
        for update in task.updates(batch, run.step):
            optimizer, module = run.optimizers[update.group], task.groups[update.group]
            if not bool(torch.isfinite(update.loss)):
                values = {name: float(torch.as_tensor(value).detach()) for name, value in update.log.items()}
                raise TrainingError(
                    f"{task.name}: the loss of {update.group!r} is {float(update.loss.detach())} at step {run.step} "
                    f"({values}); "
                    f"the checkpoint in {run.folder} is from before: lower learning_rate or clip_norm and start again"
                )
            optimizer.zero_grad(set_to_none=True)
            update.loss.backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
            if not bool(torch.isfinite(norm)):
                worst = [n for n, p in module.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
                raise TrainingError(
                    f"{task.name}: the gradient of {update.group!r} is not finite at step {run.step}, first in "
                    f"{worst[:3]}; the checkpoint in {run.folder} is from before"
                )
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            log.add(update, norm)


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

    def __init__(self, task: Task, config: TrainConfig, folder: Path, quiet: bool) -> None:
        self.task, self.config, self.folder, self.quiet = task, config, folder, quiet
        self.values: dict[str, list[Tensor | float]] = defaultdict(list)
        self.clock, self.counted = time.monotonic(), 0
        self.board: Any = None
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"))

    def add(self, update: Update, norm: Tensor) -> None:
        prefix = "" if len(self.task.groups) == 1 else f"{update.group}/"
        for name, value in {**update.log, prefix + "loss": update.loss, prefix + "grad_norm": norm}.items():
            self.values[name].append(value.detach() if isinstance(value, Tensor) else value)

    def step(self, step: int, rate: float, seconds: float) -> None:
        self.counted += 1
        if step % self.config.log_every and step != self.config.steps:
            return
        means = {name: sum(float(v) for v in values) / len(values) for name, values in self.values.items()}
        self.values.clear()
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
        with open(self.folder / "log.jsonl", "a") as file:
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
