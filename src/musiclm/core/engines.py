"""Where independent units of work are done: this process, processes beside it, or a cluster (`core/cluster.py`).

An engine only computes. Whoever asks puts results in order and writes them, so that files do not depend on the engine.
"""

import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar, runtime_checkable

from musiclm.core.workers import new_pool, pool, stop

ENGINES = ("local", "ray")
UNITS_PER_PROCESS = 16  # a process takes seconds to start; with fewer units for each, more processes gain nothing
RETRIES = 3  # of a unit whose process died
CRASH = "every process that it ran in died; is there enough memory?"
MOST_JOBS = 256  # unless there are more cores
AHEAD = 8  # results that may be waiting for an earlier one, per unit that is worked on
Unit = TypeVar("Unit")
Result = TypeVar("Result")


class EngineError(ValueError):
    """Work that an engine could not do. The message is one line: what is wrong, and what to do."""


@runtime_checkable
class Engine(Protocol):
    """Does units of work; use as a context. Functions and arguments have to be picklable, functions importable."""

    @property
    def slots(self) -> int:
        """How many units are worked on at a time."""

    @property
    def num_pending(self) -> int:
        """Units that were submitted and have not come out of `wait`."""

    def submit(self, name: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Takes a unit on. Submit no more than needed: pending units and their results are held."""

    def wait(self) -> list[tuple[Any, Any, str]]:
        """Waits until a unit ends; (name, result, "") of units that ended, (name, None, reason) of one that kills every
        process it runs in.

        Raises: what the function raised.
        """

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *error: object) -> None: ...


def run_in_order(
    engine: Engine,
    function: Callable[[Unit], Result],
    units: Iterable[Unit],
    describe: Callable[[Unit], str] = str,
) -> Iterator[tuple[Unit, Result]]:
    """Each unit with its result, in the order of the units; units are taken only as there is room for them.

    describe: what to call a unit in an error.

    Raises: EngineError for a unit that kills every process it runs in; what `function` raises.
    """
    coming = enumerate(units)
    held: dict[int, Unit] = {}  # submitted and not yet yielded
    results: dict[int, Result] = {}
    place = 0
    while True:
        while len(held) < AHEAD * engine.slots and (following := next(coming, None)) is not None:
            held[following[0]] = following[1]
            engine.submit(following[0], function, following[1])
        if not held:
            return
        while place not in results:
            for name, result, crash in engine.wait():
                if crash:
                    raise EngineError(f"{describe(held[name])}: {crash}")
                results[name] = result
        yield held.pop(place), results.pop(place)
        place += 1


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs_for(num_units: int) -> int:
    """Processes for so many units: one a core, unless that would leave them little to do."""
    return max(1, min(num_cores(), num_units // UNITS_PER_PROCESS))


class LocalEngine:
    """This machine: `jobs` processes, or, with 1, this process.

    Processes may die: units that were in the pool then run alone, and one that goes on killing its process is reported.
    """

    def __init__(self, jobs: int) -> None:
        if not 1 <= jobs <= (most := max(MOST_JOBS, num_cores())):
            raise EngineError(f"{jobs} processes; there may be 1 to {most} on this machine")
        self.slots = jobs
        self.queue: list[tuple[Any, Callable[..., Any], tuple[Any, ...]]] = []  # for this process
        self.pending: dict[concurrent.futures.Future[Any], tuple[Any, Callable[..., Any], tuple[Any, ...]]] = {}
        self.pool: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *error: object) -> None:
        if self.pool is not None and error[0] is None and not self.pending:
            self.pool.shutdown()
        elif self.pool is not None:
            stop(self.pool)

    @property
    def num_pending(self) -> int:
        return len(self.queue) + len(self.pending)

    def submit(self, name: Any, function: Callable[..., Any], *arguments: Any) -> None:
        work = (name, function, arguments)
        if self.slots == 1:
            self.queue.append(work)
            return
        if self.pool is None:
            self.pool = new_pool(self.slots)
        try:
            future = self.pool.submit(function, *arguments)
        except BrokenProcessPool as error:
            future = concurrent.futures.Future()
            future.set_exception(error)
        self.pending[future] = work

    def wait(self) -> list[tuple[Any, Any, str]]:
        if self.queue:
            name, function, arguments = self.queue.pop(0)
            return [(name, function(*arguments), "")]
        done, _ = concurrent.futures.wait(self.pending, return_when=concurrent.futures.FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            return self._one_by_one()
        return [(self.pending.pop(future)[0], future.result(), "") for future in done]

    def _one_by_one(self) -> list[tuple[Any, Any, str]]:
        """A process died and took the pool with it; nobody knows whose unit it was, so each runs alone."""
        suspects, self.pending = self.pending, {}
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
            self.pool = None
        ended = []
        for future, (name, function, arguments) in suspects.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                ended.append((name, future.result(), ""))
                continue
            ended.append(_alone(name, function, arguments))
        return ended


def _alone(name: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Any, str]:
    for _ in range(RETRIES):
        with contextlib.suppress(BrokenProcessPool), pool(1) as alone:
            return name, alone.submit(function, *arguments).result(), ""
    return name, None, CRASH


def open_engine(kind: str, jobs: int | None, address: str | None, device: str = "cpu") -> Engine | None:
    """The engine that options of a command name; None, where they name none, lets the work choose processes.

    jobs: units at a time. address: of a Ray cluster; without one, Ray's own rule (RAY_ADDRESS, a cluster that runs on
    this machine, or one made for this work). device: other than the CPU, every unit on Ray takes a GPU.

    Raises: ValueError for an unknown engine or an address that would do nothing, EngineError if no cluster answers.
    """
    if kind not in ENGINES:
        raise ValueError(f"no engine {kind!r}; there are {', '.join(ENGINES)}")
    if kind == "ray":
        from musiclm.core.cluster import RayEngine

        return RayEngine(address, jobs, gpus=0 if device == "cpu" else 1)
    if address is not None:
        raise ValueError("--address is of a Ray cluster; give --engine ray, too")
    return None if jobs is None else LocalEngine(jobs)
