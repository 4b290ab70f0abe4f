"""The processes that train one model together, as `accelerate launch` or torchrun starts them, and what they do in
common.

accelerate finds out who there is, opens their group, places each on its device and wraps models in DDP. Models that are
to lie in shards are wrapped by PyTorch's own FSDP2 (`fully_shard`), a unit a layer. One process leads: it alone prints,
validates and writes artifacts. A single process needs none of this and is `ALONE`.
"""

import contextlib
import datetime
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from musiclm.nn.block import blocks
from musiclm.nn.parts import Through

Result = TypeVar("Result")

# others wait that long while one validates, writes an artifact or makes tokens
PATIENCE = datetime.timedelta(hours=12)
LOST = ("peer", "gloo", "NCCL", "socket", "Broken pipe", "Timed out", "TCPStore")


@dataclass(frozen=True)
class Processes:
    """All processes of a training, seen from one of them."""

    rank: int = 0
    size: int = 1
    device: torch.device | None = None  # this one's; None: whatever is asked for
    sharded: bool = False  # weights, gradients and optimizer states in shards (FSDP2), not whole in every process
    accelerator: Any = None
    control: Any = None  # a group on the CPU, for everything but gradients

    @property
    def many(self) -> bool:
        return self.size > 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def agree(self, *values: int) -> list[int]:
        """The largest that any process says, of each value."""
        if not self.many:
            return list(values)
        found = torch.tensor(values)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control)
        return [int(value) for value in found]

    def wait(self) -> None:
        """Until all processes are here."""
        self.agree(0)

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader goes through the block, then the others, who find what it made."""
        if self.leads:
            yield
        self.wait()
        if not self.leads:
            yield

    def by_leader(self, work: Callable[[], Result]) -> Result | None:
        """`work()` in the leader while the others wait; None there."""
        found = work() if self.leads else None
        self.wait()
        return found

    def everyones(self, value: Result) -> list[Result]:
        """What each process says, by rank."""
        if not self.many:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def check_same(self, facts: dict[str, str]) -> None:
        """Raises: ValueError naming the first fact that is another in some process than in the leader."""
        everyone = self.everyones(facts)
        for rank, other in enumerate(everyone):
            for name, value in everyone[0].items():
                if other[name] != value:
                    raise ValueError(
                        f"process {rank} has another {name} than process 0 ({other[name][:12]}, {value[:12]}); "
                        "give all machines the same"
                    )

    def copy_from_leader(self, tensors: Iterable[Tensor]) -> None:
        """Writes the leader's values into the tensors of all."""
        if self.many:
            for tensor in tensors:
                value = tensor.data.contiguous()
                dist.broadcast(value, 0)
                tensor.data.copy_(value)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module for `musiclm.nn.parts.through`: its gradients will be means over processes."""
        whole = Through(module)
        if not self.sharded:
            with warnings.catch_warnings():  # newer versions of PyTorch have another name for `broadcast_buffers`
                warnings.simplefilter("ignore", FutureWarning)
                return self.accelerator.prepare_model(whole)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        assert self.device is not None
        mesh = init_device_mesh(self.device.type, (self.size,))
        scalars = single_numbers(module)
        for block in blocks(module):
            fully_shard(block, mesh=mesh)
        fully_shard(whole, mesh=mesh, ignored_params=scalars)
        return whole

    @contextlib.contextmanager
    def without_sync(self, wrapped: Iterable[nn.Module]) -> Iterator[None]:
        """Gradients of the block stay with their process and add up."""
        with contextlib.ExitStack() as stack:
            for one in wrapped:
                if self.sharded:
                    one.set_requires_gradient_sync(False)  # type: ignore[operator]
                    stack.callback(one.set_requires_gradient_sync, True)  # type: ignore[arg-type]
                else:
                    stack.enter_context(one.no_sync())  # type: ignore[operator]
            yield

    def clip(self, module: nn.Module, longest: float) -> Tensor:
        """Clips gradients to a common norm; the norm before."""
        if not self.sharded:
            return nn.utils.clip_grad_norm_(module.parameters(), longest)
        for scalar in single_numbers(module):  # FSDP2 leaves them alone
            if scalar.grad is not None:
                dist.all_reduce(scalar.grad)
                scalar.grad /= self.size
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        mine = [local(gradient) for gradient in gradients]
        # what is whole in every process counts once
        shares = [1 if part is not one else 1 / self.size for part, one in zip(mine, gradients, strict=True)]
        square = torch.stack([g.square().sum() * share for g, share in zip(mine, shares, strict=True)]).sum()
        dist.all_reduce(square)
        norm = square.sqrt()
        scale = (longest / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(mine, scale)
        return norm

    def leave(self) -> None:
        """The end of the group."""
        if self.many and dist.is_initialized():
            self.wait()
            dist.destroy_process_group()


ALONE = Processes()
_joined = ALONE


def local(tensor: Tensor) -> Tensor:
    """This process's shard of a tensor that lies in shards; others as they are."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def single_numbers(module: nn.Module) -> set[nn.Parameter]:
    """Parameters without an axis, which FSDP2 can't cut."""
    return {parameter for parameter in module.parameters() if parameter.ndim == 0}


def started_by_launcher() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: str = "cpu", shard: bool = False) -> Processes:
    """The processes that the launcher started; `ALONE` without one.

    Raises: ValueError for a device that can't be shared out, or shards in one process; ImportError without accelerate.
    """
    global _joined
    shard = shard or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    if not started_by_launcher():
        if shard:
            raise ValueError("one process has nothing to share out: leave --shard away, or start several with torchrun")
        return ALONE
    if ":" in device or device == "mps":
        raise ValueError(f"--device is {device}, but there are several processes; say cuda (a GPU for each) or cpu")
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError:
        raise ImportError(
            "training in several processes needs accelerate; run: pip install 'musiclm[cluster]'"
        ) from None
    if torch.device(device).type == "cpu":
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # accelerate would choose otherwise
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # of no consequence here
    accelerator = Accelerator(
        cpu=torch.device(device).type == "cpu",
        mixed_precision="no",  # the loop has its own
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=PATIENCE),
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
        ],
    )
    control = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=PATIENCE)
    _joined = Processes(
        rank=accelerator.process_index,
        size=accelerator.num_processes,
        device=torch.device("cpu") if accelerator.device.type == "cpu" else accelerator.device,
        sharded=shard,
        accelerator=accelerator,
        control=control,
    )
    return _joined


def has_the_word() -> bool:
    """Whether this process is the one to say why all end: the first of them that asks."""
    if not started_by_launcher():
        return True
    if not dist.is_initialized():
        return os.environ.get("RANK", "0") == "0"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        return dist.distributed_c10d._get_default_store().add(f"musiclm/said/{attempt}", 1) == 1
    except RuntimeError:  # the store ended with its process
        return _joined.leads


def is_loss_of_a_process(error: BaseException) -> bool:
    """Whether an error says that another process has gone."""
    return isinstance(error, RuntimeError) and (
        isinstance(error, dist.DistError) or any(word in str(error) for word in LOST)
    )


def fill(tensor: Any, value: Tensor) -> None:
    """Writes a whole value into a tensor that may lie in shards; every process calls this."""
    value = value.to(tensor.device)
    if hasattr(tensor, "placements"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value, tensor.device_mesh, tensor.placements)
    local(tensor).copy_(local(value))


def save_shards(tensors: dict[str, Tensor], folder: Path, processes: Processes) -> None:
    """Writes tensors, each process its part, as safetensors in a new folder (torch.distributed.checkpoint)."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    dcp.save(_with_axes(tensors), storage_writer=writer, process_group=processes.control, no_dist=not processes.many)


def names_in_shards(folder: Path) -> list[str]:
    """Names of the tensors that `save_shards` wrote."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    return list(HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata)


def load_shards(tensors: dict[str, Tensor], folder: Path, processes: Processes) -> None:
    """Reads what any number of processes wrote into tensors of the right shapes, whole or in shards.

    Raises: RuntimeError or ValueError if shapes differ.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    reader = HuggingFaceStorageReader(str(folder))
    dcp.load(_with_axes(tensors), storage_reader=reader, process_group=processes.control, no_dist=not processes.many)


def _with_axes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Single numbers as vectors of one: slices of safetensors need an axis."""
    return {name: tensor.view(1) if tensor.ndim == 0 else tensor for name, tensor in tensors.items()}


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may lie in shards, whole in every process, all of which call this."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
