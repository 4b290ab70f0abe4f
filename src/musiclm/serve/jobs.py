"""Pieces in the making: a few at a time, a few that wait, and no more.

Each is made as the command line makes it, by this process or one beside it (`musiclm.serve.makers`), and its sound
goes into a spool that any number of listeners read. Nothing of a piece depends on what else is being made.
"""

import asyncio
import collections
import contextlib
import dataclasses
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import BaseModel

from musiclm.core.audio import AudioError
from musiclm.core.threads import num_threads
from musiclm.core.workers import WorkerEnded
from musiclm.generate.take import Take
from musiclm.serve.makers import Maker, ProcessMaker
from musiclm.serve.metrics import Metrics
from musiclm.serve.spool import Spool
from musiclm.serve.store import NoSuchTake, Store
from musiclm.serve.verbs import VERBS, Context, Piece

State = Literal["waiting", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
MOST_ENDED = 24  # that are remembered
IDLE_S = 300.0  # after which a process without work ends, and its memory is free
PATIENCE_S = 0.2  # that a piece waits before a process is started for it
AGAIN_S = 30.0  # after which a process that did not start is tried again
_BLOCK_SAMPLES = 1 << 16
_NOTICE_S = 0.1  # between two notices of progress

log = logging.getLogger("uvicorn.error")


class Busy(Exception):
    """As much is being made and waiting as may be."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Signal:
    """Tells coroutines of one loop, from any thread, that something has changed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._event = loop, asyncio.Event()

    def notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, timeout_s: float) -> None:
        """Until something changes, but no longer than that. What changed since the last `await` counts."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)


class _Cancelled(Exception):
    pass


@dataclasses.dataclass(eq=False)
class Job:
    """One request in work."""

    id: str
    asked: BaseModel
    streamed: bool  # made for one listener: it ends when that one leaves
    changed: Signal
    state: State = "waiting"
    error: str = ""  # one line
    piece: Piece | None = None
    spool: Spool | None = None
    take: str | None = None  # the id of what was made
    created_s: float = dataclasses.field(default_factory=time.time)
    begun: float = 0.0  # by `time.perf_counter`
    taken_s: float = 0.0
    stages: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    leave: threading.Event = dataclasses.field(default_factory=threading.Event)
    _noticed_at: float = 0.0

    @property
    def verb(self) -> str:
        return str(getattr(self.asked, "verb", ""))

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def made_samples(self) -> int:
        return 0 if self.spool is None else self.spool.num_samples

    def share(self) -> float:
        """How much of the work is done, from 0 to 1."""
        if self.piece is None:
            return 0.0
        first, last = self.piece.about.made_samples
        made = max(0.0, (self.made_samples - first) / max(1, last - first))
        stages = [done / total for done, total in self.stages.values() if total]
        return min(1.0, max(made, sum(stages) / len(stages) if stages else 0.0))

    def left_s(self) -> float | None:
        """Seconds until it is whole, by how it went so far."""
        share = self.share()
        if self.state != "running" or share < 0.02:
            return None
        return (time.perf_counter() - self.begun) * (1 - share) / share

    def progress(self, stage: str, done: int, total: int) -> None:
        if self.leave.is_set():
            raise _Cancelled
        self.stages[stage] = (done, total)
        if time.perf_counter() - self._noticed_at > _NOTICE_S:
            self._noticed_at = time.perf_counter()
            self.changed.notify()


class Jobs:
    """The queue and its makers: this process, and others beside it for what would wait otherwise."""

    def __init__(
        self,
        context: Context,
        store: Store,
        workers: int,
        capacity: int,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.context, self.store, self.capacity, self.metrics, self.loop = context, store, capacity, metrics, loop
        self.jobs: dict[str, Job] = {}
        self.makers = [Maker(context), *(ProcessMaker(context) for _ in range(workers - 1))]
        self._idle: set[int] = set()  # makers that wait for work, by their places in the list
        self._starting: set[int] = set()
        self._waiting: collections.deque[Job] = collections.deque()
        self._some = threading.Condition()
        self._closed = False
        # a new thread of ours has as many CPU threads as the one that happened to ask torch last
        self._cpu_threads = torch.get_num_threads()
        self._threads = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(workers)]

    def start(self) -> None:
        """Takes up what was accepted before and not done, and begins to work."""
        for id, verb, request in self.store.jobs():
            try:
                self._put(Job(id, VERBS[verb].model_validate_json(request), False, Signal(self.loop)))
            except (KeyError, ValueError):  # of another version
                log.warning("the job %s (%s) can't be taken up again: %s", id, verb, request[:200])
                self.store.end_job(id)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stops the work. Jobs that no listener waits for are taken up at the next start."""
        with self._some:
            self._closed = True
            running = [job for job in self.jobs.values() if job.state == "running"]
            starting = [self.makers[index] for index in self._starting]
            self._some.notify_all()
        for job in running:
            job.leave.set()
        for maker in starting:
            maker.stop()
        for thread in self._threads:
            thread.join(timeout=60)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return sum(job.state == "running" for job in list(self.jobs.values()))

    def ahead(self, job: Job) -> int:
        """How many wait before it."""
        with self._some:
            return self._waiting.index(job) if job in self._waiting else 0

    def retry_after_s(self) -> int:
        """When there may be room again."""
        left = [job.left_s() for job in list(self.jobs.values()) if job.state == "running"]
        known = [seconds for seconds in left if seconds is not None]
        return max(1, min(600, round(min(known)))) if known else 2

    def check_capacity(self) -> None:
        """Raises: Busy."""
        if self._closed or self.num_running + len(self._waiting) >= self.capacity:
            seconds = self.retry_after_s()
            raise Busy(
                f"{self.capacity} pieces are in work or waiting, as many as may be; try again in {seconds} s", seconds
            )

    def submit(self, asked: Any, streamed: bool) -> Job:
        """Raises: Busy; FullError and NoSuchTake (`musiclm.serve.store`); ValueError for what can't be made."""
        asked.check(self.context)
        self.store.check_room()
        job = Job(secrets.token_hex(8), asked, streamed, Signal(self.loop))
        with self._some:
            self.check_capacity()
            if not streamed:
                self.store.add_job(job.id, job.verb, asked.model_dump_json())
            self._put(job)
        return job

    def _put(self, job: Job) -> None:
        with self._some:
            self.jobs[job.id] = job
            self._waiting.append(job)
            for id in [id for id, old in self.jobs.items() if old.ended][:-MOST_ENDED]:
                del self.jobs[id]
            self._some.notify_all()

    def cancel(self, job: Job) -> None:
        """Ends it: at once if it waits, within a step if it is being made. Nothing if it has ended."""
        job.leave.set()
        with self._some:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
            self._end(job, "cancelled")

    def _work(self, index: int) -> None:
        """What the thread of a maker does."""
        maker = self.makers[index]
        try:
            while not self._closed:
                if not maker.ready:
                    self._start(index)
                elif (job := self._next(index)) is None:
                    maker.stop()
                else:
                    with num_threads(self._cpu_threads):
                        self._make(job, maker)
        finally:
            maker.stop()

    def _start(self, index: int) -> None:
        """Starts a maker once a piece waits that no other will take soon."""
        maker = self.makers[index]
        with self._some:
            self._some.wait_for(lambda: self._closed or self._too_few())
            self._some.wait_for(lambda: self._closed or not self._too_few(), PATIENCE_S)
            if self._closed or not self._too_few():
                return
            self._starting.add(index)
        try:
            maker.start()
            return
        except Exception as error:
            if not self._closed:
                log.warning("no process to make music could be started (%s); fewer pieces are made at a time", error)
        finally:
            with self._some:
                self._starting.discard(index)
        with self._some:
            self._some.wait_for(lambda: self._closed, AGAIN_S)

    def _too_few(self) -> bool:
        """Whether a piece waits that no maker will take soon."""
        return len(self._waiting) > len(self._idle | self._starting)

    def _next(self, index: int) -> Job | None:
        """The next piece for a maker. None if there is none for long, the maker died, or the work is stopped."""
        maker = self.makers[index]
        with self._some:
            self._idle.add(index)
            self._some.wait_for(lambda: self._closed or not maker.ready or self._has_work(index), IDLE_S)
            self._idle.discard(index)
            if self._closed or not maker.ready or not self._has_work(index):
                return None
            job = self._waiting.popleft()
            job.state, job.begun = "running", time.perf_counter()
            for other in self._waiting:
                other.changed.notify()
        job.changed.notify()
        return job

    def _has_work(self, index: int) -> bool:
        """Whether there is some for a maker: those before it come first."""
        return len(self._waiting) > sum(other < index for other in self._idle)

    def _make(self, job: Job, maker: Maker) -> None:
        state: State = "failed"
        try:
            takes = self._record(job, maker)
            if takes:
                spool = job.spool
                assert spool is not None
                job.take = self.store.add_take(takes[0], lambda: _blocks_of(spool)).id
            state = "done"
        except _Cancelled:
            state = "cancelled"
        except WorkerEnded as error:
            log.warning("job %s (%s) failed: %s", job.id, job.verb, error)
            job.error = f"{error}; ask again"
        except (ValueError, NoSuchTake, OSError, MemoryError) as error:
            job.error = _line(error) or "there is not enough memory; ask for less"
        except Exception as error:  # what nobody foresaw ends one job, not the service
            log.exception("job %s (%s) failed", job.id, job.verb)
            job.error = f"this should not happen ({type(error).__name__}); the service's log says more"
        self._end(job, state)

    def _record(self, job: Job, maker: Maker) -> list[Take]:
        """Makes the sound, and what take it is if it is a new one."""
        takes: list[Take] = []
        with maker.piece(job.asked) as piece:  # type: ignore[arg-type]
            job.spool, job.piece = Spool(self.store.work), piece
            job.changed.notify()
            for block in piece.blocks(job.progress, takes.append):
                if job.leave.is_set():
                    raise _Cancelled
                if not job.spool.num_samples:
                    self.metrics.first_sound_s.observe(time.perf_counter() - job.begun)
                job.spool.append(block)
                job.changed.notify()
        return takes

    def _end(self, job: Job, state: State) -> None:
        if job.begun:
            job.taken_s = time.perf_counter() - job.begun
        resumes = state == "cancelled" and self._closed
        if not job.streamed and not resumes:
            self.store.end_job(job.id)
        job.state = state
        self.metrics.ended(job.verb, state, job.taken_s, job.made_samples / self.context.model.sample_rate_hz)
        job.changed.notify()


def _blocks_of(spool: Spool) -> Iterator[Any]:
    """A spool's sound as `write_blocks` takes it."""
    for start in range(0, spool.num_samples, _BLOCK_SAMPLES):
        yield spool.read(start, _BLOCK_SAMPLES).astype("float32")[None] / 32768


def _line(error: BaseException) -> str:
    text = str(error) if not isinstance(error, OSError) or isinstance(error, AudioError) else _reason(error)
    return " ".join(text.split())


def _reason(error: OSError) -> str:
    return f"could not be kept ({error.strerror or error}); is the disk full?"
