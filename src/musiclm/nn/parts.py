"""Work on a part of a batch as if it were the whole: what training in many processes, and with accumulation, needs of
models.

A step's batch may be cut into equal parts by rows: one a process, and of each process one a micro-batch. Every part
has a loss, and the mean of their gradients is to be the gradient of the whole batch. That holds by itself for losses
that are means over examples. Whatever else looks at the batch goes through here: sums and rows of all parts
(`total`, `mean`, `gather`), random numbers drawn for the whole batch (`draw`), codebooks (`all_rows`), and the
networks themselves (`through`), whose wrappers average gradients over processes. Without parts each of these is a
plain call, to the bit what it would be without this module.

Accumulation meets what looks at the whole batch twice: one pass without gradients records what each part has to say
(as GradCache does, arXiv 2101.06983), and in a second one each part sees that of all.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class BatchPart:
    """Which part of a batch: number `index` of `count` equal ones, in the order of the rows."""

    index: int = 0
    count: int = 1

    def rows(self, batch_size: int) -> slice:
        """The rows of the part. `batch_size` must divide."""
        assert batch_size % self.count == 0, f"{batch_size} rows do not divide into {self.count} parts"
        size = batch_size // self.count
        return slice(self.index * size, (self.index + 1) * size)

    def weight(self, counts: Shaped[Tensor, "b *rest"]) -> dict[str, Tensor]:
        """An entry "weight" for a batch, if it is a part: the factor of a mean over what `counts` counts in its own
        rows, so that the parts' mean is that over all rows. `counts` is of the whole batch."""
        if self.count == 1:
            return {}
        own, everything = counts[self.rows(len(counts))].sum().double(), counts.sum().double()
        return {"weight": (own * self.count / everything.clamp(min=1)).float()}


WHOLE = BatchPart()


@dataclass
class Work:
    """A part at work: which one, whose processes, and what the parts of this process have recorded."""

    part: BatchPart
    micro: int  # of this process's parts
    micros: int
    seed: int  # of the step, for what is drawn for the whole batch
    group: Any = None  # of processes; None: this one alone
    wrapped: Mapping[nn.Module, nn.Module] = field(default_factory=dict)
    recorded: list[list[Tensor]] = field(default_factory=list)  # by micro-batch, in the order of the calls
    replay: bool = False  # whether `recorded` is complete
    pending: list[Callable[[], None]] = field(default_factory=list)  # codebooks to move when the step is over
    rows: dict[Any, list[Tensor]] = field(default_factory=dict)  # that codebooks see, by codebook
    calls: int = 0
    drawn: list[Tensor] | None = None  # state of the generators that draw for the whole batch

    @property
    def processes(self) -> int:
        return self.part.count // self.micros

    @property
    def rank(self) -> int:
        """Which of the processes this is."""
        return self.part.index // self.micros

    def at(self, micro: int) -> BatchPart:
        """The part that is micro-batch `micro` of this process."""
        return BatchPart(index=self.rank * self.micros + micro, count=self.part.count)

    def begin(self, micro: int, own_seed: int, replay: bool = False) -> None:
        """Micro-batch `micro` starts its pass; the first one of a pass forgets what those of the last pass left.

        own_seed: of what is drawn for this part alone, such as dropout. replay: whether parts see what all recorded.
        """
        if micro == 0:
            self.pending, self.rows = [], {}
            if not replay:
                self.recorded = [[] for _ in range(self.micros)]
        self.micro, self.part = micro, self.at(micro)
        self.calls, self.drawn, self.replay = 0, None, replay
        torch.manual_seed(own_seed)


_work: Work | None = None


@contextlib.contextmanager
def working(work: Work | None) -> Iterator[None]:
    """Within, the calls of this module are those of a part. None: of a whole batch."""
    global _work
    before, _work = _work, work
    try:
        yield
    finally:
        _work = before


def through(module: nn.Module, call: Callable[..., Result], *arguments: Any) -> Result:
    """`call(*arguments)`, which uses the weights of `module`, by the `forward` of what wraps it (DDP, FSDP2)."""
    if _work is None or module not in _work.wrapped:
        return call(*arguments)
    return _work.wrapped[module](call, *arguments)


class Through(nn.Module):
    """What is wrapped: a module whose `forward` is any call that uses its weights."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, call: Callable[..., Result], *arguments: Any) -> Result:
        return call(*arguments)


def total(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """The sum over all parts of what each has; the gradient reaches the part's own."""
    if _work is None:
        return x
    others = torch.stack([*_of_micros(x.detach())]).sum(0)
    if _work.group is not None:
        dist.all_reduce(others, group=_work.group)
    # gradients are averaged over parts later on, but each part adds its own to the one sum
    return others + _work.part.count * (x - x.detach()) if x.requires_grad else others


def mean(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """The mean over all parts; see `total`."""
    return x if _work is None else total(x) / _work.part.count


def gather(x: Shaped[Tensor, "b *shape"]) -> Shaped[Tensor, "b2 *shape"]:
    """The rows of all parts in the order of the whole batch; the gradient reaches the part's own."""
    if _work is None:
        return x
    mine = torch.cat(_of_micros(x.detach()))
    rows = mine
    if _work.group is not None:
        found = [torch.empty_like(mine) for _ in range(_work.processes)]
        dist.all_gather(found, mine.contiguous(), group=_work.group)
        rows = torch.cat(found)
    if not x.requires_grad:
        return rows
    own = _work.part.rows(len(rows))
    live = x.detach() + _work.part.count * (x - x.detach())
    return torch.cat([rows[: own.start], live, rows[own.stop :]])


def _of_micros(x: Tensor) -> list[Tensor]:
    """What each micro-batch of this process has at this call, as far as it is known."""
    assert _work is not None
    call, _work.calls = _work.calls, _work.calls + 1
    if _work.micros == 1:
        return [x]
    if not _work.replay:
        _work.recorded[_work.micro].append(x)
        return [x] * _work.micros
    return [x if micro == _work.micro else rows[call] for micro, rows in enumerate(_work.recorded)]


def draw(make: Callable[[int], Result], rows: int) -> Result:
    """Random numbers for `rows` rows: those that the part's rows get when `make` draws for the whole batch.

    `make` draws from PyTorch's own generators and returns a tensor with rows first.
    """
    if _work is None:
        return make(rows)
    whole: Any = draw_once(lambda: make(rows * _work.part.count))
    return whole[_work.part.rows(len(whole))]


def draw_once(make: Callable[[], Result]) -> Result:
    """A draw that is the same for all parts."""
    if _work is None:
        return make()
    own = _states()
    if _work.drawn is None:
        torch.manual_seed(_work.seed)
    else:
        _restore(_work.drawn)
    found = make()
    _work.drawn = _states()
    _restore(own)
    return found


def _states() -> list[Tensor]:
    """Of the CPU's generator, and of that of this process's GPU."""
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if cuda else [])]


def _restore(states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)


@dataclass(frozen=True)
class AllRows:
    """Rows that are spread over processes, in their order."""

    rows: Float[Tensor, "n d"]  # this process's
    start: int  # of them among all
    count: int  # of all
    group: Any  # of processes; None: this one alone

    def pick(self, indices: Int[Tensor, " k"]) -> Float[Tensor, "k d"]:
        """Rows by their places among all; the same on every process."""
        indices = indices.to(self.rows.device)
        if self.group is None:
            return self.rows[indices]
        local = indices - self.start
        mine = (local >= 0) & (local < len(self.rows))
        found = self.rows.new_zeros(len(indices), self.rows.shape[1])
        found[mine] = self.rows[local[mine]]
        return self.sum(found)

    def sum(self, x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """The sum of what each process has, in place."""
        if self.group is not None:
            dist.all_reduce(x, group=self.group)
        return x


def all_rows(rows: Float[Tensor, "n d"]) -> AllRows:
    """The rows of all processes: every one calls this at the same place, or none."""
    if _work is None or _work.group is None:
        return AllRows(rows, 0, len(rows), None)
    counts = torch.zeros(_work.processes, dtype=torch.long, device=rows.device)
    counts[_work.rank] = len(rows)
    dist.all_reduce(counts, group=_work.group)
    each = counts.tolist()
    return AllRows(rows, sum(each[: _work.rank]), sum(each), _work.group)


def own_batches(num: int) -> list[tuple[int, BatchPart]]:
    """Of `num` batches that all processes go through together, those of this one: the number of each and which part
    of it.

    Their rows, process after process, are those of the batches, batch after batch.
    """
    if _work is None or _work.group is None:
        return [(number, WHOLE) for number in range(num)]
    pieces = _work.processes // math.gcd(num, _work.processes)  # of each batch
    units = [(number, BatchPart(index=piece, count=pieces)) for number in range(num) for piece in range(pieces)]
    each = len(units) // _work.processes
    return units[_work.rank * each : (_work.rank + 1) * each]


def at_the_end(key: Any, rows: Sequence[Tensor], update: Callable[..., None]) -> None:
    """`update(*rows)`: at once where the step is one forward pass, else once, after the last, with all rows of this
    process."""
    if _work is None or _work.micros == 1:
        update(*rows)
        return
    kept = _work.rows.setdefault(key, [])
    kept.append(rows)  # type: ignore[arg-type]
    if _work.micro == _work.micros - 1:
        joined = [torch.cat(parts) for parts in zip(*kept, strict=True)]
        _work.pending.append(lambda: update(*joined))
