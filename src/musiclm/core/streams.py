"""Token streams and the only map between per-level codes and flat language-model ids.

MusicLM (section 3) joins three streams: acoustic codes of SoundStream, semantic codes of w2v-BERT and MuLan codes. Each is an
array of codes `b q t` (level q, frame t); language models read them as one flat sequence, frame by frame, every level in an id
range of its own (AudioLM, section 3).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """One stream of codes."""

    name: str
    codebook_size: int  # codes lie in [0, codebook_size)
    levels: int  # residual levels per frame
    frame_rate_hz: float | None  # None: one set of codes per clip

    def __post_init__(self) -> None:
        if self.codebook_size < 2 or self.levels < 1:
            raise ValueError(
                f"TokenSpec {self.name!r} needs codebook_size >= 2 and levels >= 1, got {self.codebook_size} and "
                f"{self.levels}"
            )

    @property
    def num_ids(self) -> int:
        """How many flat ids the stream takes."""
        return self.codebook_size * self.levels

    def slice(self, start: int, stop: int) -> "TokenSpec":
        """The stream made of levels [start, stop)."""
        if not 0 <= start < stop <= self.levels:
            raise ValueError(f"levels {start}:{stop} of stream {self.name!r}, which has {self.levels}")
        return TokenSpec(
            name=self.name,
            codebook_size=self.codebook_size,
            levels=stop - start,
            frame_rate_hz=self.frame_rate_hz,
        )


SEMANTIC = TokenSpec(name="semantic", codebook_size=1024, levels=1, frame_rate_hz=25.0)
ACOUSTIC = TokenSpec(name="acoustic", codebook_size=1024, levels=12, frame_rate_hz=50.0)
MULAN = TokenSpec(name="mulan", codebook_size=1024, levels=12, frame_rate_hz=None)


def to_ids(codes: Int[Tensor, "b q t"], spec: TokenSpec, offset: int = 0) -> Int[Tensor, "b l"]:
    """Interleaves levels frame by frame, each in its own id range (AudioLM, section 3).

    Example: two levels of size 10, frames (3, 7) (4, 1) -> ids 3 17 4 11, plus `offset`.

    Raises: ValueError if the number of levels differs from the spec or a code is outside [0, codebook_size).
    """
    if codes.shape[1] != spec.levels:
        raise ValueError(f"stream {spec.name!r} has {spec.levels} levels, got codes of shape {tuple(codes.shape)}")
    if codes.numel() and not (0 <= int(codes.min()) and int(codes.max()) < spec.codebook_size):
        raise ValueError(
            f"codes of stream {spec.name!r} must lie in [0, {spec.codebook_size}), got "
            f"{int(codes.min())}..{int(codes.max())}"
        )
    base = torch.arange(spec.levels, device=codes.device).mul_(spec.codebook_size).add_(offset)
    return (codes.long() + base[:, None]).transpose(1, 2).flatten(1)


def from_ids(ids: Int[Tensor, "b l"], spec: TokenSpec, offset: int = 0) -> Int[Tensor, "b q t"]:
    """The inverse of `to_ids`.

    Raises: ValueError if the length is no whole number of frames or an id lies outside its level's range.
    """
    b, length = ids.shape
    if length % spec.levels:
        raise ValueError(f"{length} ids are no whole number of {spec.levels}-level frames of {spec.name!r}")
    base = torch.arange(spec.levels, device=ids.device).mul_(spec.codebook_size).add_(offset)
    codes = ids.reshape(b, length // spec.levels, spec.levels).transpose(1, 2) - base[:, None]
    if codes.numel() and not (0 <= int(codes.min()) and int(codes.max()) < spec.codebook_size):
        raise ValueError(f"ids of stream {spec.name!r} leave their level's range of {spec.codebook_size} ids")
    return codes
