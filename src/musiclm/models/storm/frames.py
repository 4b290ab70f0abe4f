"""The levels of a frame in turn, for a model with `series`: what `SoundStorm.depth_logits` and `depth_state` compute,
arranged for speed.

A frame is two dozen steps of a small network, so that the number of operations counts, not their size. What a frame's
own codes do not change is computed for all levels at once. Gains and offsets of norms are part of the matrices after
them, and matrices lie as a product with few rows reads them fastest. The two small matrices between a state and its
logits stay two: as one they are six times as many numbers to read.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from musiclm.models.storm.model import SoundStorm

# the codes of a level, from its number and its logits; those of no code, which come last, are -inf
Choose = Callable[[int, Float[Tensor, "b v+1"]], Int[Tensor, " b"]]


class FrameDrawer:
    """Draws frames from a model with `series`, as its weights are when this is made. Needs no gradients."""

    @torch.no_grad()
    def __init__(self, model: SoundStorm) -> None:
        config, depth = model.config, model.depth
        levels, width = config.acoustic.levels, config.conformer.width
        assert config.series
        self.before, self.rows, device = config.before, model.beside_rows, model.head.device
        back = [level for level, (_, frames) in enumerate(self.before) if frames]
        self.after = torch.tensor(config.after).to(device)
        self.back = torch.tensor(back).to(device)  # levels told by the frame before, and by which level of it
        self.back_from = torch.tensor([self.before[level][0] for level in back]).to(device)
        self.level, self.embedding, self.beside = depth.level, model.embedding.weight, model.beside
        self.tables = self.embedding.view(levels, config.acoustic.codebook_size + 1, -1).unbind()
        identity = torch.eye(width, out=model.head.new_empty(width, width)).expand(levels, -1, -1)
        self.widen = (model.widen if config.code_width else identity).unbind()
        self.told_before = model.beside[0].unbind()

        self.gate_up = (depth.gate_up.weight * depth.norm.weight).T.contiguous()
        self.gate_up_bias = depth.gate_up.weight @ depth.norm.bias
        self.down = depth.down.weight.T.contiguous()
        # two more columns say how far the codes before and after are raised
        narrow = torch.cat([model.narrow if config.code_width else identity, model.stay.permute(1, 2, 0)], 2)
        self.narrow = (depth.out_norm.weight[:, None] * narrow).unbind()
        self.narrow_bias = (depth.out_norm.bias @ narrow).unbind()
        # no code, which a code before or after may be, is raised in vain
        self.head = F.pad(model.head.transpose(1, 2), (0, 1)).unbind()
        self.head_bias = F.pad(model.head_bias, (0, 1), value=float("-inf")).unbind()

    def __call__(
        self, state: Float[Tensor, "b d"], earlier: Int[Tensor, "b q"], later: Int[Tensor, "b q"], choose: Choose
    ) -> Int[Tensor, "b q"]:
        """The codes of a frame.

        state: the Conformer's output. earlier, later: the codes of the frames before and after, `mask_code` where they
        are not known.
        """
        earlier, later = earlier[:, self.back_from], later[:, self.after]
        own = torch.einsum("bqc,qcd->qbd", self.embedding[later + self.rows[1]], self.beside[1]) + self.level[:, None]
        embedded = self.embedding[earlier + self.rows[0, self.back]]
        own.index_add_(0, self.back, torch.einsum("bqc,qcd->qbd", embedded, self.beside[0, self.back]))
        told = torch.stack([later, later], 2)
        told[:, self.back, 0] = earlier
        offsets, told_first, told_of = own.unbind(), told[:, :, 0].unbind(1), told.unbind(1)

        width, widths = state.shape[1:], (self.embedding.shape[1], 2)
        new: list[Tensor] = []
        below: list[Tensor] = []
        for level, (other, frames) in enumerate(self.before):
            if level:
                below.append(self.tables[level - 1].index_select(0, new[-1]))
                state = torch.addmm(state, below[-1], self.widen[level - 1])
            x = state + offsets[level]
            if not frames:
                x = torch.addmm(x, below[other], self.told_before[level])
                told_first[level].copy_(new[other])
            gate, up = torch.addmm(self.gate_up_bias, F.layer_norm(x, width), self.gate_up).chunk(2, 1)
            x = torch.addmm(x, F.silu(gate) * up, self.down)
            narrow = torch.addmm(self.narrow_bias[level], F.layer_norm(x, width), self.narrow[level])
            inner, gain = narrow.split(widths, 1)
            logits = torch.addmm(self.head_bias[level], inner, self.head[level]).float()
            new.append(choose(level, logits.scatter_add_(1, told_of[level], gain.float())))
        return torch.stack(new, 1)
