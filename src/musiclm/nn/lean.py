"""One position of a transformer after the other, on a CPU: what `Transformer.forward` computes with a cache, arranged
for speed.

A step of a small network is some hundred operations of a few microseconds, most of which is asking for them. So gains
of norms and scales are part of the matrices after them, matrices lie as a product with few rows reads them fastest,
products go into buffers whose views are made once, and residuals are part of products. Sums end with other last bits
than those of `forward`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from musiclm.nn.attention import rotation
from musiclm.nn.transformer import SMALLEST_RMS, KvCache, Layer, Transformer


@dataclass(frozen=True)
class LeanLayer:
    """The matrices of a layer, inputs first."""

    qkv: Float[Tensor, "d three_d"]
    out: Float[Tensor, "d d"]
    gate_up: Float[Tensor, "d two_f"]
    down: Float[Tensor, "f d"]


class LeanTransformer:
    """A transformer's weights for `LeanStep`, as they are when this is made. Needs no gradients."""

    @staticmethod
    def fits(transformer: Transformer) -> bool:
        """Whether there is a `LeanStep`: in float32 on a CPU, without autocast and with rotary positions."""
        weight = transformer.norm.weight
        on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
        return on_cpu and transformer.config.positions == "rotary" and not torch.is_autocast_enabled("cpu")

    @torch.no_grad()
    def __init__(self, transformer: Transformer) -> None:
        assert self.fits(transformer)
        self.config = config = transformer.config
        width, head_width = config.width, config.width // config.num_heads
        root = width**0.5  # norms divide by a vector's length
        self.smallest = SMALLEST_RMS * root
        self.layers = []
        for layer in transformer.layers:
            assert isinstance(layer, Layer)
            qkv = layer.qkv.weight * layer.attention_norm.weight * root
            qkv[:width] *= head_width**-0.5
            gate_up = layer.gate_up.weight * layer.ff_norm.weight * root
            matrices = (qkv, layer.attention_out.weight, gate_up, layer.ff_out.weight)
            self.layers.append(LeanLayer(*(matrix.T.contiguous() for matrix in matrices)))
        self.gain = transformer.norm.weight * root


class LeanStep:
    """`Transformer.forward` of one position after the other; see `StaticStep` for what is the same on a GPU."""

    @torch.no_grad()
    def __init__(self, lean: LeanTransformer, cache: KvCache) -> None:
        """cache: what has been read so far; its buffers are used from now on."""
        self.lean, self.cache = lean, cache
        _, b, h, _, c = cache.keys.shape
        self.batch = b
        self.qkv = cache.keys.new_empty(b, 3 * h * c)
        split = self.qkv.view(b, 3, h, c)
        turned = cache.keys.new_empty(2, b, h, c)
        self.query_key, self.turned = (
            torch.view_as_complex(pairs.unflatten(-1, (-1, 2))) for pairs in (split[:, :2].transpose(0, 1), turned)
        )
        self.query, self.key, self.value = turned[0].view(b * h, 1, c), turned[1], split[:, 2]
        self.buffers = [
            (keys, values, keys.view(b * h, -1, c), values.view(b * h, -1, c))
            for keys, values in zip(cache.keys, cache.values, strict=True)
        ]
        self.gate_up = cache.keys.new_empty(b, 2 * lean.config.ff_width)
        self.gate, self.up = self.gate_up.chunk(2, 1)
        self.hidden = cache.keys.new_empty(b, lean.config.ff_width)

    @torch.no_grad()
    def __call__(
        self, x: Float[Tensor, "b 1 d"], positions: Float[Tensor, " 1"], cache: KvCache
    ) -> tuple[Float[Tensor, "b 1 d"], KvCache]:
        """See `Transformer.forward`."""
        lean, place = self.lean, cache.length
        assert cache.keys is self.cache.keys and place < cache.max_length
        config = lean.config
        angles = rotation(positions, config.width // config.num_heads, config.rotary_base)
        x = x[:, 0]
        for layer, (keys, values, flat_keys, flat_values) in zip(lean.layers, self.buffers, strict=True):
            torch.mm(self._normed(x), layer.qkv, out=self.qkv)
            torch.mul(self.query_key, angles, out=self.turned)
            keys.select(2, place).copy_(self.key)
            values.select(2, place).copy_(self.value)
            weights = torch.bmm(self.query, flat_keys.narrow(1, 0, place + 1).transpose(1, 2)).softmax(-1)
            mixed = torch.bmm(weights, flat_values.narrow(1, 0, place + 1))
            x = torch.addmm(x, mixed.view(self.batch, -1), layer.out)
            torch.mm(self._normed(x), layer.gate_up, out=self.gate_up)
            torch.mul(F.silu(self.gate), self.up, out=self.hidden)
            x = torch.addmm(x, self.hidden, layer.down)
        return (self._normed(x) * lean.gain)[:, None], KvCache(cache.keys, cache.values, place + 1)

    def _normed(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """With length 1."""
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=self.lean.smallest)
