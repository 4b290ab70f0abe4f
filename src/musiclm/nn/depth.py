"""A small network per frame that predicts the codes of its levels in turn, as the depth transformer of RQ-Transformer
does (arXiv 2203.01941).

It reads the state of the frame plus the embeddings of the levels before. So one step of the large network covers a
whole frame.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Depth(nn.Module):
    """A gated feed-forward per frame and level, with a level's own offset."""

    def __init__(self, width: int, hidden: int, levels: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(levels, width))
        self.norm = nn.LayerNorm(width)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.out_norm = nn.LayerNorm(width)

    def forward(self, state: Float[Tensor, "*n q d"], levels: slice) -> Float[Tensor, "*n q d"]:
        state = state + self.level[levels]
        gate, up = self.gate_up(self.norm(state)).chunk(2, dim=-1)
        return self.out_norm(state + self.down(F.silu(gate) * up))
