"""What any acoustic decoder is: semantic codes in, acoustic codes out, whole or streamed.

Two are built: the coarse and fine stages of AudioLM and MusicLM (`musiclm.generate.autoregressive.ArAcoustic`) and
SoundStorm (`musiclm.generate.storm.StormAcoustic`). They read and write the same tokens, so either follows the semantic
stage.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from musiclm.generate.schedule import Schedule

Progress = Callable[[int, int], None]  # steps done, steps in all


class SemanticSource:
    """Semantic codes that may still be in the making: a decoder asks for no more than it needs, so the first sound
    comes early.
    """

    def __init__(
        self, pieces: Iterator[Int[Tensor, "b q n"]], batch: int, num_frames: int | None, forgets: bool = False
    ) -> None:
        """`pieces` together hold `num_frames` frames of `batch` items; None is music without an end.

        forgets: frames before those asked for last are let go, and can't be asked for again.
        """
        self.batch, self.num_frames = batch, num_frames
        self._pieces, self._forgets = pieces, forgets
        self._known: Tensor | None = None
        self._first = 0  # the frame that `_known` begins at

    @classmethod
    def of(cls, codes: "Int[Tensor, 'b q t'] | SemanticSource") -> "SemanticSource":
        """Codes that are all there already."""
        return codes if isinstance(codes, SemanticSource) else cls(iter([codes]), codes.shape[0], codes.shape[2])

    def __getitem__(self, frames: slice) -> Int[Tensor, "b q n"]:
        """Frames start..stop, made now if need be. Raises ValueError if the pieces end before `stop`."""
        stop = frames.stop if self.num_frames is None else min(frames.stop, self.num_frames)
        assert frames.start >= self._first, f"frame {frames.start} is asked for, those before {self._first} are gone"
        while self._known is None or self._first + self._known.shape[2] < stop:
            piece = next(self._pieces, None)
            if piece is None:
                came = self._first + (0 if self._known is None else self._known.shape[2])
                raise ValueError(f"{came} semantic frames came of the {self.num_frames} announced")
            self._known = piece.long() if self._known is None else torch.cat([self._known, piece.long()], 2)
        if self._forgets:
            self._known, self._first = self._known[:, :, frames.start - self._first :].clone(), frames.start
        return self._known[:, :, frames.start - self._first : stop - self._first]


class AcousticDecoder(ABC):
    """Semantic codes to acoustic codes."""

    @property
    @abstractmethod
    def levels(self) -> int:
        """Acoustic levels that it draws, and that a prompt must have."""

    @abstractmethod
    def seams_s(self, duration_s: float) -> tuple[float, ...]:
        """Where windows meet in `duration_s` of music without a prompt: places to listen for clicks."""

    @abstractmethod
    def stream(
        self,
        semantic: Int[Tensor, "b s t"] | SemanticSource,
        mulan: Int[Tensor, "b m 1"] | Schedule | None,
        generators: Sequence[torch.Generator],
        prompt: Int[Tensor, "b q p"] | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Int[Tensor, "b q n"]]:
        """Acoustic codes in pieces, as soon as each is final; together they are what `generate` returns.

        mulan: the condition, or conditions by time; None is none (the null condition).
        generators: one per item, on the CPU, so that an item's draws depend neither on its neighbours nor on the
        device.
        prompt: the first acoustic frames, all levels, belonging to the beginning of `semantic`; they come back
        unchanged.

        Raises: ValueError if the generators or the prompt do not fit.
        """

    @abstractmethod
    def infill(
        self,
        codes: Int[Tensor, "b q f"],
        span: range,
        semantic: Int[Tensor, "b s t"],
        mulan: Int[Tensor, "b m 1"] | None,
        generators: Sequence[torch.Generator],
        on_progress: Progress | None = None,
    ) -> Int[Tensor, "b q n"]:
        """New codes for the frames `span` of `codes`, whose others are known and of the same `semantic` codes.

        The span begins with a semantic frame. Raises: ValueError if the generators do not fit.
        """

    def generate(
        self,
        semantic: Int[Tensor, "b s t"],
        mulan: Int[Tensor, "b m 1"] | Schedule | None,
        generators: Sequence[torch.Generator],
        prompt: Int[Tensor, "b q p"] | None = None,
        on_progress: Progress | None = None,
    ) -> Int[Tensor, "b q f"]:
        """All acoustic frames of `semantic`: f = t * acoustic rate / semantic rate."""
        return torch.cat(list(self.stream(semantic, mulan, generators, prompt, on_progress)), 2)
