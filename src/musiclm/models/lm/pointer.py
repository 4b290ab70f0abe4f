"""A pointer to earlier frames, whose codes are taken over (a pointer sentinel mixture, Merity et al. 2016,
arXiv 1609.07843; not in the paper).

Music repeats itself: in recordings a code is that of one bar or beat before five times as often as by accident. A large
model learns to look back by itself; a small one, trained for hours, does not, and forgets the pulse. Here each frame
attends to the states before earlier frames, and what sounded after like states is likely again: the distribution of a
code is a mixture of the model's own and of the codes at those places. Within a frame, places whose lower levels agree
with what was just drawn count more.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from musiclm.nn.attention import rotate, rotation

HEAD_WIDTH = 32
ROTARY_BASE = 10_000.0
SMALLEST = 1e-20  # probability
NOWHERE = -1e4  # the logit of a place that can't be pointed to


@dataclass
class Past:
    """What a pointer may point to while codes are drawn: of a batch, whose frames so far are `length`."""

    keys: Float[Tensor, "b h l c"]  # of the states before each frame, in a buffer of fixed size
    codes: Int[Tensor, "b q l"]
    length: int
    scores: Float[Tensor, "b h n"]  # to each of the frames so far; with what levels drawn have added


class Pointer(nn.Module):
    """Attention to earlier frames, and what it adds to the distributions of the levels of the next."""

    def __init__(self, width: int, levels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key = nn.Linear(width, 2 * num_heads * HEAD_WIDTH, bias=False)
        self.agree = nn.Parameter(torch.ones(levels, num_heads))  # what a level that agrees adds to a place's logit
        self.nowhere = nn.Parameter(torch.zeros(num_heads))  # the sentinel's logit: no earlier frame fits
        self.gate = nn.Linear(width, num_heads, bias=False)
        self.gate_bias = nn.Parameter(torch.full((levels, num_heads), -3.0))  # almost nothing to begin with
        nn.init.zeros_(self.gate.weight)

    def forward(
        self,
        hidden: Float[Tensor, "b t d"],
        states: Float[Tensor, "b t q d"],
        logits: Float[Tensor, "b q t v"],
        target: Int[Tensor, "b q t"],
        context: Int[Tensor, "b q t"],
    ) -> Float[Tensor, "b q t v"]:
        """Log-probabilities of the mixture, float32.

        hidden: the states before each frame. states: those that the levels' logits come from. target: what lower
        levels are compared by. context: the codes that may be taken over, each by later frames.
        """
        num_frames = hidden.shape[1]
        query, key = self._query_key(hidden, 0)
        later = torch.ones(num_frames, num_frames, dtype=torch.bool, device=hidden.device).triu()
        scores = (query @ key.transpose(2, 3) * HEAD_WIDTH**-0.5).float().masked_fill(later, NOWHERE)
        out = []
        for level in range(target.shape[1]):
            codes = context[:, level, None].expand(-1, num_frames, -1)
            out.append(self._mix(logits[:, level], states[:, :, level], level, scores, codes))
            same = (target[:, level, :, None] == codes)[:, None]
            scores = scores + self.agree[level][:, None, None] * same
        return torch.stack(out, 1)

    def _query_key(self, hidden: Float[Tensor, "b t d"], first: int) -> tuple[Tensor, Tensor]:
        """Queries and keys `b h t c` of the states before frames from `first` on."""
        split = self.query_key(hidden).unflatten(2, (2, self.num_heads, HEAD_WIDTH))
        places = torch.arange(first, first + hidden.shape[1], device=hidden.device, dtype=torch.float32)
        turned = rotate(split, rotation(places, HEAD_WIDTH, ROTARY_BASE))
        return turned[:, :, 0].transpose(1, 2), turned[:, :, 1].transpose(1, 2)

    def _mix(
        self,
        logits: Float[Tensor, "b t v"],
        states: Float[Tensor, "b t d"],
        level: int,
        scores: Float[Tensor, "b h t l"],
        codes: Int[Tensor, "b t l"],
    ) -> Float[Tensor, "b t v"]:
        """Log-probabilities of a level: its own ones, and the codes at the places pointed to."""
        gates = (self.gate(states) + self.gate_bias[level]).float()
        shares = torch.cat([torch.zeros_like(gates[..., :1]), gates], 2).softmax(2)[..., 1:].transpose(1, 2)
        sentinel = self.nowhere[:, None, None].expand(len(scores), -1, scores.shape[2], 1)
        places = torch.cat([scores, sentinel], 3).softmax(3)[..., :-1]
        weight = (places * shares[..., None]).sum(1)  # b t l
        own = logits.float().softmax(2) * (1 - weight.sum(2, keepdim=True))
        return own.scatter_add(2, codes, weight).clamp(min=SMALLEST).log()

    def begin(self, hidden: Float[Tensor, "b t d"], codes: Int[Tensor, "b q p"], length: int) -> Past:
        """The past of frames that are given. hidden: the states before each of them and before the next one.

        length: of the buffers, the most frames there will be.
        """
        batch, levels, known = codes.shape
        query, key = self._query_key(hidden, 0)
        keys = key.new_empty(batch, self.num_heads, length, HEAD_WIDTH)
        keys[:, :, : known + 1] = key
        held = codes.new_zeros(batch, levels, length)
        held[:, :, :known] = codes
        return Past(keys, held, known, self._scores(query[:, :, -1:], keys, known))

    def next(self, past: Past, hidden: Float[Tensor, "b d"]) -> None:
        """A frame is complete; hidden: the state before the next."""
        past.length += 1
        query, key = self._query_key(hidden[:, None], past.length)
        past.keys[:, :, past.length] = key[:, :, 0]
        past.scores = self._scores(query, past.keys, past.length)

    @staticmethod
    def _scores(query: Tensor, keys: Tensor, length: int) -> Float[Tensor, "b h l"]:
        return (query @ keys[:, :, :length].transpose(2, 3) * HEAD_WIDTH**-0.5).float()[:, :, 0]

    def mix(
        self, past: Past, logits: Float[Tensor, "b v"], states: Float[Tensor, "b d"], level: int
    ) -> Float[Tensor, "b v"]:
        """As `forward`, of a level of the frame that is drawn."""
        codes = past.codes[:, None, level, : past.length]
        return self._mix(logits[:, None], states[:, None], level, past.scores[:, :, None], codes)[:, 0]

    def observe(self, past: Past, level: int, codes: Int[Tensor, " b"]) -> None:
        """A level of the frame was drawn."""
        same = past.codes[:, None, level, : past.length] == codes[:, None, None]
        past.scores = past.scores + self.agree[level][:, None] * same
        past.codes[:, level, past.length] = codes
