"""Frames of several codes, one code after the other, for a model with `depth_width` on a CPU: what `TokenLM.logits`,
`state_after` and `read_codes` compute, the pointer included, arranged for speed (see `musiclm.nn.lean`).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from musiclm.models.lm.model import TokenLM
from musiclm.models.lm.pointer import HEAD_WIDTH, ROTARY_BASE, SMALLEST, Past
from musiclm.nn.attention import rotation
from musiclm.nn.lean import LeanStep, LeanTransformer
from musiclm.nn.transformer import KvCache


class LeanLM:
    """A model's weights for `Frames`, as they are when this is made. Needs no gradients; nothing in it changes."""

    @staticmethod
    def fits(model: TokenLM) -> bool:
        """Whether there are `Frames` of it."""
        return model.config.depth_width > 0 and LeanTransformer.fits(model.transformer)

    @torch.no_grad()
    def __init__(self, model: TokenLM) -> None:
        assert self.fits(model)
        depth, layout, target = model.depth, model.layout, model.layout.target_spec
        self.num_codes = target.codebook_size
        self.transformer = LeanTransformer(model.transformer)
        self.level = depth.level.unbind()
        first, last = layout.target_offset, layout.target_offset + target.num_ids
        self.tables = model.embedding.weight[first:last].view(target.levels, target.codebook_size, -1).unbind()
        self.gate_up = (depth.gate_up.weight * depth.norm.weight).T.contiguous()
        self.gate_up_bias = (depth.gate_up.weight * depth.norm.bias).sum(1)
        self.down = depth.down.weight.T.contiguous()
        self.pointer = model.pointer if model.config.pointer_heads else None
        rows: Tensor = model.head
        bias = rows.new_zeros(rows.shape[:2])
        if self.pointer is not None:
            # the pointer's gates are columns beside the logits, after one of zeros for the model's own share
            gates = F.pad(self.pointer.gate.weight, (0, 0, 1, 0)).expand(target.levels, -1, -1)
            rows = torch.cat([rows, gates], 1)
            bias = torch.cat([bias, F.pad(self.pointer.gate_bias, (1, 0))], 1)
            scaled = self.pointer.query_key.weight.clone()
            scaled[: len(scaled) // 2] *= HEAD_WIDTH**-0.5
            self.query_key = scaled.T.contiguous()
            self.agree = self.pointer.agree[:, :, None].unbind()
        self.head = (rows * depth.out_norm.weight).transpose(1, 2).contiguous().unbind()
        self.head_bias = (bias + (rows * depth.out_norm.bias).sum(2)).unbind()


class Frames:
    """The frames of a batch of sequences that are being drawn."""

    @torch.no_grad()
    def __init__(
        self,
        lean: LeanLM,
        cache: KvCache,
        hidden: Float[Tensor, "b k d"],
        codes: Int[Tensor, "b q p"],
        num_frames: int,
    ) -> None:
        """cache: what has been read. hidden: the states before each of the frames `codes`, which are given, and before
        the next one. num_frames: the most there will be.
        """
        self.lean, self.cache, self.frame = lean, cache, codes.shape[2]
        self.step = LeanStep(lean.transformer, cache)
        self.state = self.read = hidden[:, -1]
        b, width = self.state.shape
        self.width = (width,)
        self.gate_up = hidden.new_empty(b, lean.gate_up.shape[1])
        self.gate, self.up = self.gate_up.chunk(2, 1)
        self.inner = hidden.new_empty(b, lean.down.shape[0])
        self.past: Past | None = None
        if lean.pointer is not None:
            self._begin_pointing(lean.pointer.begin(hidden, codes, num_frames), lean.pointer.nowhere)

    def _begin_pointing(self, past: Past, nowhere: Float[Tensor, " h"]) -> None:
        self.past = past
        b, h, length, c = past.keys.shape
        # logits of each head, nowhere first
        self.scores = past.keys.new_zeros(b, h, length + 1)
        self.scores[:, :, 0] = nowhere
        self.scores[:, :, 1 : past.length + 1] = past.scores
        self.query_key = past.keys.new_empty(b, 2 * h * c)
        turned = past.keys.new_empty(2, b, h, c)
        flat = self.query_key.view(b, 2, h, c).transpose(0, 1)
        self.pairs, self.turned = (torch.view_as_complex(x.unflatten(-1, (-1, 2))) for x in (flat, turned))
        self.query, self.key, self.keys = turned[0].view(b * h, 1, c), turned[1], past.keys.view(b * h, length, c)
        self._look_back()

    def _look_back(self) -> None:
        """At the frames there are."""
        assert self.past is not None
        length = self.past.length
        self.places = self.scores.narrow(2, 0, length + 1)
        self.earlier = self.scores.narrow(2, 1, length)
        self.sounded = self.past.codes.narrow(2, 0, length).unbind(1)

    @torch.no_grad()
    def logits(self, level: int) -> Float[Tensor, "b v"]:
        """Of a level of the frame, those below it having been drawn."""
        lean = self.lean
        x = self.state + lean.level[level]
        torch.addmm(lean.gate_up_bias, F.layer_norm(x, self.width), lean.gate_up, out=self.gate_up)
        torch.mul(F.silu(self.gate), self.up, out=self.inner)
        x = F.layer_norm(torch.addmm(x, self.inner, lean.down), self.width)
        logits = torch.addmm(lean.head_bias[level], x, lean.head[level])
        if self.past is None:
            return logits
        own, gates = logits[:, : lean.num_codes], logits[:, lean.num_codes :]
        shares = gates.softmax(1)
        # what the heads say together: nowhere, then each place
        weight = torch.bmm(shares[:, None, 1:], self.places.softmax(2))[:, 0]
        p = own.softmax(1).mul_(shares[:, :1] + weight[:, :1])
        p.scatter_add_(1, self.sounded[level], weight[:, 1:])
        return p.clamp_(min=SMALLEST).log_()

    @torch.no_grad()
    def observe(self, level: int, codes: Int[Tensor, " b"], condition: Float[Tensor, "b 1 d"] | None = None) -> None:
        """A level was drawn. condition: what is added to a frame's sum, with the last level."""
        lean, past = self.lean, self.past
        row = lean.tables[level].index_select(0, codes)
        self.read = row if level == 0 else self.read + row
        if past is not None:
            past.codes.select(2, past.length).select(1, level).copy_(codes)
        if level + 1 < len(lean.level):
            self.state = self.state + row
            if past is not None:
                same = self.sounded[level] == codes[:, None]
                self.earlier.add_(same[:, None] * lean.agree[level])
            return
        read = self.read[:, None] if condition is None else self.read[:, None] + condition
        place = self.state.new_full((1,), self.frame)
        hidden, self.cache = self.step(read, place, self.cache)
        self.state, self.frame = hidden[:, 0], self.frame + 1
        if past is not None:
            self._point()

    def _point(self) -> None:
        """From the state before the next frame."""
        assert self.past is not None
        self.past.length = length = self.past.length + 1
        torch.mm(self.state, self.lean.query_key, out=self.query_key)
        angles = rotation(self.state.new_full((1,), length), HEAD_WIDTH, ROTARY_BASE)
        torch.mul(self.pairs, angles, out=self.turned)
        self.past.keys.select(2, length).copy_(self.key)
        self._look_back()
        scores = torch.bmm(self.query, self.keys.narrow(1, 0, length).transpose(1, 2))
        self.earlier.copy_(scores.view_as(self.earlier))
