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
from musiclm.nn.lean import LeanStep, LeanTransformer
from musiclm.nn.precision import full_precision
from musiclm.nn.transformer import KvCache

# the codes of a level, from its number and its logits; those of no code, which come last, are -inf
Choose = Callable[[int, Float[Tensor, "b v+1"]], Int[Tensor, " b"]]


class FrameHistory:
    """`SoundStorm.with_history` of one frame after the other, for a model with `history_layers` on a CPU, as its
    weights are when this is made."""

    @staticmethod
    def fits(model: SoundStorm) -> bool:
        """Whether there is one."""
        return model.config.history_layers > 0 and LeanTransformer.fits(model.history)

    @torch.no_grad()
    def __init__(self, model: SoundStorm) -> None:
        levels = model.config.acoustic.levels
        self.lean, self.embedding = LeanTransformer(model.history), model.embedding.weight
        self.rows = torch.arange(levels) * (model.config.acoustic.codebook_size + 1)
        identity = torch.eye(self.embedding.shape[1]).expand(levels, -1, -1)
        self.widen = (model.widen.detach() if model.config.code_width else identity).flatten(0, 1)
        self.out = model.history_out.weight.T.contiguous()

    def begin(self, cache: KvCache) -> LeanStep:
        """What reads the frames of a cache from now on."""
        return LeanStep(self.lean, cache)

    @torch.no_grad()
    def __call__(
        self, hidden: Float[Tensor, "b d"], earlier: Int[Tensor, "b q"], frame: int, cache: KvCache, step: LeanStep
    ) -> tuple[Float[Tensor, "b d"], KvCache]:
        """The state of a frame, and the cache moved on. step: `begin` of the cache."""
        embedded = self.embedding[earlier + self.rows].flatten(1)
        read = torch.addmm(hidden, embedded, self.widen)
        read, cache = step(read[:, None], hidden.new_full((1,), frame), cache)
        return torch.addmm(hidden, read[:, 0], self.out), cache


class FrameDrawer:
    """Draws frames from a model with `series`, as its weights are when this is made. Needs no gradients.

    Nothing in it changes, so that one may serve several threads.
    """

    @torch.no_grad()
    def __init__(self, model: SoundStorm) -> None:
        self.history = FrameHistory(model) if FrameHistory.fits(model) else None
        config, depth = model.config, model.depth
        levels, width = config.acoustic.levels, config.conformer.width
        assert config.series
        self.before, self.rows, device = config.before, model.beside_rows, model.head.device
        back = [level for level, (_, frames) in enumerate(self.before) if frames]
        self.after = torch.tensor(config.after).to(device)
        self.back = torch.tensor(back).to(device)  # levels that read the frame before, and by which level of it
        self.back_from = torch.tensor([self.before[level][0] for level in back]).to(device)
        self.level, self.embedding, self.beside = depth.level, model.embedding.weight, model.beside
        self.tables = self.embedding.view(levels, config.acoustic.codebook_size + 1, -1).unbind()
        identity = torch.eye(width, out=model.head.new_empty(width, width)).expand(levels, -1, -1)
        self.widen = (model.widen if config.code_width else identity).unbind()
        self.widen_before = model.beside[0].unbind()

        self.gate_up = (depth.gate_up.weight * depth.norm.weight).T.contiguous()
        self.gate_up_bias = (depth.gate_up.weight * depth.norm.bias).sum(1)  # no product: autocast would round it
        self.down = depth.down.weight.T.contiguous()
        # two more columns say how far the codes before and after are raised
        narrow = torch.cat([model.narrow if config.code_width else identity, model.stay.permute(1, 2, 0)], 2)
        self.narrow = (depth.out_norm.weight[:, None] * narrow).unbind()
        self.narrow_bias = (depth.out_norm.bias[:, None] * narrow).sum(1).unbind()
        # no code, which a code before or after may be, is raised in vain
        self.head = F.pad(model.head.transpose(1, 2), (0, 1)).unbind()
        self.head_bias = F.pad(model.head_bias, (0, 1), value=float("-inf")).unbind()

    @torch.no_grad()
    def __call__(
        self, state: Float[Tensor, "b d"], earlier: Int[Tensor, "b q"], later: Int[Tensor, "b q"], choose: Choose
    ) -> Int[Tensor, "b q"]:
        """The codes of a frame.

        state: the Conformer's output. earlier, later: the codes of the frames before and after, `mask_code` where they
        are not known. Computed in float32, also under autocast: sums over two dozen levels are.
        """
        with full_precision(state.device):
            return self._drawn(state.float(), earlier, later, choose)

    def _drawn(self, state: Tensor, earlier: Tensor, later: Tensor, choose: Choose) -> Tensor:
        earlier, later = earlier[:, self.back_from], later[:, self.after]
        own = torch.einsum("bqc,qcd->qbd", self.embedding[later + self.rows[1]], self.beside[1]) + self.level[:, None]
        embedded = self.embedding[earlier + self.rows[0, self.back]]
        own.index_add_(0, self.back, torch.einsum("bqc,qcd->qbd", embedded, self.beside[0, self.back]))
        beside = torch.stack([later, later], 2)
        beside[:, self.back, 0] = earlier
        offsets, before_codes, beside_codes = own.unbind(), beside[:, :, 0].unbind(1), beside.unbind(1)

        width, inner_width = state.shape[1:], self.embedding.shape[1]
        # what products are written to, and its parts
        gate_up = state.new_empty(len(state), self.gate_up.shape[1])
        narrow = state.new_empty(len(state), inner_width + 2)
        raised = state.new_empty(len(state), self.down.shape[0])
        gate, up = gate_up.chunk(2, 1)
        inner, gain = narrow[:, :inner_width], narrow[:, inner_width:]
        new: list[Tensor] = []
        below: list[Tensor] = []
        for level, (other, frames) in enumerate(self.before):
            if level:
                below.append(self.tables[level - 1].index_select(0, new[-1]))
                state = torch.addmm(state, below[-1], self.widen[level - 1])
            x = state + offsets[level]
            if not frames:
                x = torch.addmm(x, below[other], self.widen_before[level])
                before_codes[level].copy_(new[other])
            torch.addmm(self.gate_up_bias, F.layer_norm(x, width), self.gate_up, out=gate_up)
            torch.mul(F.silu(gate), up, out=raised)
            x = torch.addmm(x, raised, self.down)
            torch.addmm(self.narrow_bias[level], F.layer_norm(x, width), self.narrow[level], out=narrow)
            logits = torch.addmm(self.head_bias[level], inner, self.head[level])
            new.append(choose(level, logits.scatter_add_(1, beside_codes[level], gain)))
        return torch.stack(new, 1)
