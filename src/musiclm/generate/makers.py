"""Pieces side by side, each by a process of its own: on one CPU thread (`musiclm.core.threads`), and most of its work
is Python asking for small operations, which one thread of a process does at a time.

Each piece is made as alone, so its bytes are those of the single run.
"""

import collections
import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musiclm.core.artifact import ArtifactError
from musiclm.core.threads import threads_for
from musiclm.core.workers import Worker, WorkerEnded
from musiclm.generate.config import GenerateConfig
from musiclm.generate.melody import Melody
from musiclm.generate.session import MusicLM, Progress
from musiclm.generate.splice import Blocks
from musiclm.generate.story import Story
from musiclm.generate.take import Take

START_S = 20.0  # of music that one process makes while another starts
MOST_MAKERS = 8  # each has a copy of the weights, and many cores do not mean much memory
_NOTICE_S = 0.05  # between two notices of progress
OnTake = Callable[[Take], None]
Run = Callable[[Progress, OnTake | None], Blocks]  # makes a piece


@dataclass(frozen=True)
class New:
    """What a new piece is to be; as the arguments of `MusicLM.stream`."""

    prompt: str | Story | None
    duration_s: float
    seed: int
    config: GenerateConfig
    melody: Melody | None = None

    def made_by(self, model: MusicLM, on_progress: Progress, on_take: OnTake | None) -> Blocks:
        """Raises: as `MusicLM.stream`."""
        rest = (self.prompt, self.duration_s, self.seed, self.config)
        return model.stream(*rest, on_progress, on_take=on_take, melody=self.melody)

    def made_in(self, maker: Worker, on_progress: Progress, on_take: OnTake | None) -> Blocks:
        """The same in the process of `new_maker`. Raises: as `made_by`; WorkerEnded."""
        with contextlib.closing(maker.run(_tell_new, self)) as words:
            yield from receive_piece(words, on_progress, on_take)


def num_makers(model: MusicLM, num_pieces: int, duration_s: float) -> int:
    """How many processes should make so many pieces: at most one for each core that PyTorch may use, `MOST_MAKERS`, and
    what there is work for while they start."""
    if model.device.type != "cpu":
        return 1
    cores = torch.get_num_threads() // threads_for(model.semantic)
    return max(1, min(num_pieces, cores, MOST_MAKERS, 1 + int((num_pieces - 1) * duration_s / START_S)))


def side_by_side(model: MusicLM, pieces: Sequence[New], makers: int, take_in: Callable[[int, Run], None]) -> None:
    """Calls `take_in(i, run)` for each piece, several at a time; `run` makes it, here or in another process.

    This process makes pieces as well, so that the first one does not wait for a process to start. A piece whose process
    ends before it is done is begun again by another.

    Raises: what `take_in` raises first; then the others end as well.
    """
    left = _Left(pieces, take_in)
    helpers = [_Helper(new_maker(model), left) for _ in range(makers - 1)]
    try:
        for helper in helpers:
            helper.start()
        while left.indices:
            left.work(lambda piece: partial(piece.made_by, model))
            for helper in helpers:
                helper.end()
            left.check()
    finally:
        for helper in helpers:
            helper.stop()


class _Left:
    """Pieces that nobody has begun."""

    def __init__(self, pieces: Sequence[New], take_in: Callable[[int, Run], None]) -> None:
        self.indices = collections.deque(range(len(pieces)))
        self.errors: list[BaseException] = []
        self._pieces, self._take_in = pieces, take_in

    def check(self) -> None:
        """Raises: what one of the threads raised."""
        if self.errors:
            raise self.errors[0]

    def work(self, maker: Callable[[New], Run]) -> None:
        """Takes one piece after another. Raises: as `check` and `take_in`; a piece whose maker ended is left again."""
        while (index := self._next()) is not None:
            try:
                self._take_in(index, partial(self._checked, maker(self._pieces[index])))
            except (WorkerEnded, MemoryError):
                self.indices.appendleft(index)
                raise

    def _next(self) -> int | None:
        with contextlib.suppress(IndexError):
            return self.indices.popleft()
        return None

    def _checked(self, run: Run, on_progress: Progress, on_take: OnTake | None) -> Blocks:
        def report(*step: Any) -> None:
            self.check()
            on_progress(*step)

        return run(report, on_take)


class _Helper:
    """A thread that has a process make pieces."""

    def __init__(self, maker: Worker, left: _Left) -> None:
        self._maker, self._left = maker, left
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._loaded, self._stopped = False, False
        self._ended = ""  # why it makes no more, if it ought to

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._maker.wait()
            self._loaded = True
            self._left.work(lambda piece: partial(piece.made_in, self._maker))
        except (WorkerEnded, MemoryError) as error:
            self._ended = str(error) or "there is little memory"
        except BaseException as error:
            self._left.errors.append(error)

    def end(self) -> None:
        """Waits for the piece it is at, if it is at one, and says so if its process had ended before."""
        if not self._loaded and not self._ended:
            self.stop()
        self._thread.join()
        if self._ended and not self._stopped:  # not in its own thread: what to do with warnings holds for all of them
            warnings.warn(f"{self._ended}; fewer pieces were made at a time", stacklevel=1)
            self._ended = ""

    def stop(self) -> None:
        self._stopped = True
        self._maker.stop()
        if self._thread.is_alive():
            self._thread.join()


# -- what goes between processes


def new_maker(model: MusicLM) -> Worker:
    """A process that has the model of this one; it begins to load."""
    return Worker(load_model, *what_to_load(model))


def what_to_load(model: MusicLM) -> tuple[Path, str, str, int]:
    """The arguments of `load_model` in another process."""
    return model.bundle.folder.absolute(), model.bundle.hash, str(model.device), torch.get_num_threads()


def load_model(folder: Path, hash: str, device: str, threads: int) -> MusicLM:
    """There. Raises: ArtifactError for a bundle that is not the one it was."""
    warnings.simplefilter("ignore")  # of prompts: who asks has them too, and says them as it says all
    torch.set_num_threads(threads)  # with large networks another number gives other bytes
    model = MusicLM.from_pretrained(folder, device)
    if model.bundle.hash != hash:
        raise ArtifactError(f"the bundle {folder} has changed meanwhile; start again")
    return model


def send_piece(tell: Callable[[Any], None], run: Callable[[Progress, OnTake], Blocks]) -> None:
    """There: makes a piece and tells of it on the way."""
    reported_at = 0.0

    def report(stage: str, done: int, total: int) -> None:
        nonlocal reported_at
        if done == total or time.monotonic() - reported_at > _NOTICE_S:
            reported_at = time.monotonic()
            tell((stage, done, total))

    for block in run(report, tell):
        tell(block)


def receive_piece(words: Iterator[Any], on_progress: Progress, on_take: OnTake | None) -> Blocks:
    """Here: the piece again, of what `send_piece` tells."""
    for word in words:
        if isinstance(word, np.ndarray):
            yield word
        elif isinstance(word, Take):
            if on_take is not None:
                on_take(word)
        else:
            on_progress(*word)


def _tell_new(model: MusicLM, tell: Callable[[Any], None], piece: New) -> None:
    send_piece(tell, partial(piece.made_by, model))
