"""What any acoustic decoder is: semantic codes in, acoustic codes out, whole or streamed.

Two are built: the coarse and fine stages of AudioLM and MusicLM (`musiclm.lm.sample.ArAcoustic`) and SoundStorm
(`musiclm.storm.sample.StormAcoustic`). They read and write the same tokens, so either follows the semantic stage.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

Progress = Callable[[int, int], None]  # steps done, steps in all


@runtime_checkable
class AcousticDecoder(Protocol):
    """Semantic codes to acoustic codes."""

    def stream(
        self,
        semantic: Int[Tensor, "b 1 t"],
        mulan: Int[Tensor, "b m 1"] | None,
        generators: Sequence[torch.Generator],
        prompt: Int[Tensor, "b q p"] | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Int[Tensor, "b q n"]]:
        """Acoustic codes in pieces, as soon as each is final; together they are what `generate` returns.

        mulan: the condition; None is none (the null condition).
        generators: one per item, on the CPU, so that an item's draws depend neither on its neighbours nor on the device.
        prompt: the first acoustic frames, all levels, belonging to the beginning of `semantic`; they come back unchanged.
        """
        ...

    def generate(
        self,
        semantic: Int[Tensor, "b 1 t"],
        mulan: Int[Tensor, "b m 1"] | None,
        generators: Sequence[torch.Generator],
        prompt: Int[Tensor, "b q p"] | None = None,
        on_progress: Progress | None = None,
    ) -> Int[Tensor, "b q f"]:
        """All acoustic frames of `semantic`: f = t * acoustic rate / semantic rate."""
        ...
