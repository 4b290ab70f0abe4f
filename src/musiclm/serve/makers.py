"""Who makes the pieces of a service: its own process, and more beside it for pieces that would wait otherwise."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from musiclm.core.workers import Worker
from musiclm.generate.makers import load_model, receive_piece, send_piece, what_to_load
from musiclm.generate.session import MusicLM
from musiclm.serve.store import Shelf
from musiclm.serve.verbs import Context, Piece, Verb


def warm_up(model: MusicLM) -> None:
    """Loads all that most music needs, and makes some: the first of a process takes longer."""
    model.acoustic_decoder(model.default_config())
    for _ in model.stream(None, 0.5):
        pass


class Maker:
    """Makes one piece at a time, in this process."""

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    def ready(self) -> bool:
        return True

    def start(self) -> None:
        """Raises: WorkerEnded; what loading a model raises."""

    def stop(self) -> None:
        """Whatever it is doing; it can be started again."""

    @contextlib.contextmanager
    def piece(self, asked: Verb) -> Iterator[Piece]:
        """What a request comes to; after the block nothing is done for it any more. Raises: as `Verb.piece`, and when
        it is made WorkerEnded."""
        yield asked.piece(self.context)


class ProcessMaker(Maker):
    """Makes one piece at a time, in a process that is there from `start` to `stop`."""

    _worker: Worker | None = None

    @property
    def ready(self) -> bool:
        return self._worker is not None and self._worker.lives

    @property
    def pid(self) -> int | None:
        return self._worker.pid if self._worker is not None else None

    def start(self) -> None:
        context = self.context
        limits = (context.max_duration_s, context.max_sound_s)
        worker = self._worker = Worker(_load, what_to_load(context.model), context.store.folder, *limits)
        worker.wait()

    def stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    @contextlib.contextmanager
    def piece(self, asked: Verb) -> Iterator[Piece]:
        assert self._worker is not None
        with contextlib.closing(self._worker.run(_make, asked)) as words:
            yield Piece(next(words), partial(receive_piece, words))


def _load(model: tuple[Any, ...], folder: Path, *limits: float) -> Context:
    context = Context(load_model(*model), Shelf(folder), *limits)
    warm_up(context.model)
    return context


def _make(context: Context, tell: Callable[[Any], None], asked: Verb) -> None:
    piece = asked.piece(context)
    tell(piece.about)
    send_piece(tell, piece.blocks)
