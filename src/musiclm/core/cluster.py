"""Units of work on a Ray cluster. Only this module knows Ray, and Ray is imported when an engine is made."""

import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from musiclm.core.engines import CRASH, RETRIES, EngineError
from musiclm.core.workers import digest_of_code

CONNECT_S = 10.0
ASK_EVERY_S = 5.0  # how large the cluster is


class RayEngine:
    """A cluster. Units are done again when a process or a machine is lost; errors of the units themselves are raised.

    address: HOST:PORT, "auto" for one that runs on this machine, "local" for a new one; None: RAY_ADDRESS, one that
    runs here, or a new one. jobs: units at a time; all CPUs (or GPUs) of the cluster by default, also of one that
    grows. gpus: of each unit.

    Raises: EngineError if Ray is not installed or no cluster answers.
    """

    def __init__(self, address: str | None = None, jobs: int | None = None, gpus: int = 0) -> None:
        if jobs is not None and jobs < 1:
            raise EngineError(f"jobs is {jobs}; it must be at least 1")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends statistics of its use unless switched off
        try:
            import ray
        except ImportError:
            raise EngineError("the engine 'ray' needs Ray; run: pip install 'musiclm[cluster]'") from None
        self.ray: Any = ray
        self.gpus = gpus
        _connect(ray, address)
        # by default a process that had a GPU ends with its task, and a model would be loaded for each track
        self.remote: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES, max_calls=0)(_work)
        self.code = digest_of_code()
        self.known = (jobs or 0, time.monotonic() if jobs is None else math.inf)  # slots, and until when that holds
        self.pending: dict[Any, tuple[Any, Callable[..., Any], tuple[Any, ...]]] = {}
        self.function: tuple[Callable[..., Any] | None, Any] = (None, None)  # the last one and where Ray holds it

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, *error: object) -> None:
        self.pending.clear()
        self.ray.shutdown()

    @property
    def slots(self) -> int:
        if time.monotonic() >= self.known[1]:
            found = self.ray.cluster_resources().get("GPU" if self.gpus else "CPU", 0)
            self.known = max(1, int(found)), time.monotonic() + ASK_EVERY_S
        return self.known[0]

    @property
    def num_pending(self) -> int:
        return len(self.pending)

    def submit(self, name: Any, function: Callable[..., Any], *arguments: Any) -> None:
        if function is not self.function[0]:  # what it holds is sent to each machine once
            self.function = function, self.ray.put(function)
        self.pending[self.remote.remote(self.code, self.function[1], arguments)] = (name, function, arguments)

    def wait(self) -> list[tuple[Any, Any, str]]:
        done, _ = self.ray.wait(list(self.pending), num_returns=1)
        ended = []
        for reference in done:
            name, *_ = self.pending.pop(reference)
            try:
                ended.append((name, self.ray.get(reference), ""))
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else EngineError(_line(error)) from None
            except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.OutOfMemoryError):
                ended.append((name, None, CRASH))
            except self.ray.exceptions.RayError as error:
                raise EngineError(f"the cluster lost a unit of work ({_line(error)}); start again") from None
        return ended


def _work(code: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    if digest_of_code() != code:
        raise EngineError(f"{socket.gethostname()} has another version of musiclm; install the same on all machines")
    return function(*arguments)


def _connect(ray: Any, address: str | None) -> None:
    given = address or os.environ.get("RAY_ADDRESS") or ""
    where = given.partition("://")[2] or given
    host, _, port = where.partition("/")[0].rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        elif given not in ("", "auto", "local"):
            raise EngineError(f"{given}: is no address of a Ray cluster; give HOST:PORT, auto or local")
        with _own_signals():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except EngineError:
        raise
    except Exception as error:  # Ray has no class of its own for a cluster that does not start
        raise EngineError(
            f"{given or 'Ray'}: no cluster answers ({_line(error)}); check --address, or start one with `ray start "
            "--head`"
        ) from None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in place of ours."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
