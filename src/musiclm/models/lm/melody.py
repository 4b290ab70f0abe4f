"""A melody as a condition of a language model, aligned in time (MusicLM, section 3.4).

The paper puts melody tokens, one set for each three seconds, before the target beside MuLan's. Here each frame of the
target is told of the melody at its own moment, by a vector added to the place that predicts it: the sequence grows by
nothing, no attention has to find which token belongs to which frame, and a window that moves on takes its part of the
melody along. What adds nothing is no melody, so a model that has never heard of one begins as the same model.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.streams import TokenSpec
from musiclm.nn.embedding import project_codebooks

NO_MELODY = -1  # in place of a code


class MelodyCondition(nn.Module):
    """Codes -> what is added to the places of the target."""

    def __init__(self, spec: TokenSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.num_ids, width)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b t d"]:
        """A vector a frame; zeros where the codes are `NO_MELODY`."""
        offsets = torch.arange(self.spec.levels, device=codes.device) * self.spec.codebook_size
        vectors = self.embedding(codes.clamp(min=0).long() + offsets[:, None]).sum(1)
        return self.out(vectors) * (codes[:, 0] >= 0)[..., None]

    @torch.no_grad()
    def start(self, vectors: Float[Tensor, "q v c"], seed: int) -> None:
        """The embeddings begin from what codes mean, as ever finer versions of one vector."""
        rows = project_codebooks(vectors[: self.spec.levels], self.embedding.weight.shape[1], seed, like_first=True)
        self.embedding.weight.copy_(rows.flatten(0, 1))


def by_frame(
    codes: Int[Tensor, "b q m"], rate_hz: float, target_hz: float, num_frames: int, first: int = 0
) -> Int[Tensor, "b q t"]:
    """Melody codes at the rate of the target: each frame those of its moment, `NO_MELODY` before their beginning and
    after their end.

    first: which of the target's frames is the first, counted from where the melody begins; may lie before it.

    Example: melody at 2.5 Hz and a target at 12.5 Hz: each code five times.
    """
    frames = torch.arange(first, first + num_frames, device=codes.device, dtype=torch.float64)
    index = ((frames + 0.5) * (rate_hz / target_hz)).floor().long()
    known = codes[..., index.clamp(0, codes.shape[2] - 1)]
    return torch.where((index >= 0) & (index < codes.shape[2]), known, NO_MELODY)


def part_of(codes: Int[Tensor, "b q t"], first: int, num_frames: int) -> Int[Tensor, "b q n"]:
    """Frames of codes by frame, `NO_MELODY` after their end."""
    part = codes[:, :, first : first + num_frames]
    return F.pad(part, (0, num_frames - part.shape[2]), value=NO_MELODY)


def some_of_it(
    codes: Int[Tensor, "b q m"],
    dropout: float,
    span_share: float,
    generator: torch.Generator,
    rows: slice = slice(None),
    batch_size: int | None = None,
) -> Int[Tensor, "b q m"]:
    """For training: a share of items lose their melody, and a share of the others all but one stretch of it.

    rows, batch_size: which of how many items these are, for which random numbers are drawn.
    """
    b, _, m = codes.shape
    draws = torch.rand(b if batch_size is None else batch_size, 4, generator=generator)[rows]
    kept = draws[:, 0] >= dropout
    ends = (draws[:, 1:3] * m).sort(1).values
    stretched = draws[:, 3] < span_share
    first = torch.where(stretched, ends[:, 0], 0.0)
    last = torch.where(stretched, ends[:, 1], float(m))
    place = torch.arange(m)
    there = kept[:, None] & (place >= first[:, None]) & (place <= last[:, None])
    return torch.where(there[:, None], codes, NO_MELODY)
