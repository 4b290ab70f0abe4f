"""Processes that work for this one. They end with it, however it ends, and print nothing when it is stopped."""

import concurrent.futures
import contextlib
import functools
import hashlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import Any


def new_pool(jobs: int) -> concurrent.futures.ProcessPoolExecutor:
    """A pool of `jobs` fresh processes.

    By spawn: the caller may hold threads (a progress bar, torch), which fork does not survive.
    """
    return concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start
    )


@contextlib.contextmanager
def pool(jobs: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """`new_pool` for a `with` block.

    An error or Ctrl-C in the block ends the processes at once instead of waiting for them.
    """
    made = new_pool(jobs)
    try:
        yield made
    except BaseException:
        stop(made)
        raise
    made.shutdown()


def stop(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """Ends a pool's processes, whatever they are doing."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _start() -> None:
    # A terminal sends Ctrl-C to every process of a command; the one in front decides, and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        """Ends this process when its parent is gone; after a kill -9 it would wait for work for ever."""
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class WorkerEnded(ChildProcessError):
    """A worker is gone and did not say why. The message is one line."""


class Worker:
    """A fresh process that loads something once, and then does one task after another with it.

        worker = Worker(load, "base")               # load("base") begins there
        for word in worker.run(task, 1, 2):         # task(loaded, tell, 1, 2) runs there; what it tells comes here
            ...

    Functions, what they are given and what they tell are pickled. One thread at a time waits for it; any may stop it.
    """

    def __init__(self, load: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, load, arguments), daemon=True)
        with _without_ctrl_c():
            self._process.start()
        theirs.close()  # so that the pipe ends with the process
        self._loaded = False

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def lives(self) -> bool:
        return self._process.is_alive()

    def wait(self) -> None:
        """Until it has loaded. Raises: what `load` raises; WorkerEnded."""
        if not self._loaded:
            for _ in self._values():
                pass
            self._loaded = True

    def run(self, task: Callable[..., Any], *arguments: Any) -> Generator[Any, None, None]:
        """What a task tells. A generator that is closed sooner stops the task the next time it tells something.

        Raises: what the task raises; WorkerEnded.
        """
        self.wait()
        self._say((task, arguments))
        yield from self._values()

    def stop(self) -> None:
        """Ends it, whatever it is doing."""
        self._process.terminate()
        self._process.join(10)
        self._process.kill()

    def _values(self) -> Iterator[Any]:
        ended = False
        try:
            while not ended:
                kind, value = self._next_word()
                ended = kind != _VALUE
                if kind == _RAISED:
                    raise value
                if kind == _VALUE:
                    yield value
        except WorkerEnded:
            ended = True
            raise
        finally:
            if not ended:
                with contextlib.suppress(WorkerEnded):
                    self._say(None)
                    while self._next_word()[0] == _VALUE:
                        pass

    def _say(self, what: Any) -> None:
        try:
            self._pipe.send_bytes(pickle.dumps(what))
        except OSError:
            raise self._ended() from None

    def _next_word(self) -> Any:
        try:
            return pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            raise self._ended() from None

    def _ended(self) -> WorkerEnded:
        self._process.join(10)
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}, as is done where memory runs out" if code < 0 else "ended"
        return WorkerEnded(f"a process that worked for this one {how}")


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes that are started meanwhile never get Ctrl-C, also before they have begun to ignore it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # else it would start meanwhile, and let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_VALUE, _RAISED, _DONE = "value", "raised", "done"


class _Unwanted(BaseException):
    """Nobody waits any more for what is being done. No `except Exception` on the way may take it for a failure."""


def _serve(pipe: connection.Connection, load: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What a worker does until its parent lets go of the pipe: it loads, and then tasks as they come."""
    _start()

    def answer(kind: str, value: Any = None) -> None:
        pipe.send_bytes(pickle.dumps((kind, value)))

    def tell(value: Any) -> None:
        if pipe.poll():  # during a task only one message can come
            pipe.recv_bytes()
            raise _Unwanted
        answer(_VALUE, value)

    def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            result = function(*arguments)
        except _Unwanted:
            answer(_DONE)
        except BaseException as error:
            answer(_RAISED, _portable(error))
        else:
            answer(_DONE)
            return result
        return None

    with contextlib.suppress(EOFError, OSError):
        loaded = attempt(load, *arguments)
        while loaded is not None:
            asked = pickle.loads(pipe.recv_bytes())
            if asked is not None:  # else it was asked to stop just after it had ended
                task, given = asked
                attempt(task, loaded, tell, *given)


def _portable(error: BaseException) -> BaseException:
    """An error as it can be sent: with a note of where it was raised."""
    where = "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a process that worked for this one:\n{where}")
    return error


@functools.cache
def digest_of_code() -> str:
    """Which code this is: a hash of the package's files."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()
