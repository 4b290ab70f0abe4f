"""Processes that work for this one. They end with it, however it ends, and print nothing when it is stopped."""

import concurrent.futures
import contextlib
import functools
import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path


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


@functools.cache
def digest_of_code() -> str:
    """Which code this is: a hash of the package's files."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()
