"""Causal layers that run whole or in chunks with the same result.

A layer with a time axis takes an optional `StreamState`. Without one it sees zeros before the start; with one it sees
what the calls before left there, and leaves its own tail for the next. The state is made by the caller and passed in
explicitly; nothing hides in a module.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class StreamState:
    """Tails of one stream, by layer."""

    def __init__(self) -> None:
        self.tails: dict[int, Tensor] = {}

    def extend(self, layer: nn.Module, x: Float[Tensor, "*d t"], num: int) -> Float[Tensor, "*d s"]:
        """`x` with the last `num` frames of earlier calls before it (zeros at first); keeps the new last `num`."""
        tail = self.tails.get(id(layer))
        x = F.pad(x, (num, 0)) if tail is None else torch.cat([tail, x], -1)
        self.tails[id(layer)] = x[..., x.shape[-1] - num :].clone()
        return x

    def overlap_add(self, layer: nn.Module, x: Float[Tensor, "b d s"], num: int) -> Float[Tensor, "b d t"]:
        """Adds the tail of earlier calls to the start of `x`, keeps the last `num` frames back and returns the rest."""
        tail = self.tails.get(id(layer))
        if tail is not None:
            x = torch.cat([x[..., :num] + tail, x[..., num:]], -1)
        self.tails[id(layer)] = x[..., x.shape[-1] - num :].clone()
        return x[..., : x.shape[-1] - num]


def left_context(layer: nn.Module, x: Tensor, num: int, state: StreamState | None) -> Tensor:
    """`num` frames of the past before `x`: zeros, or the state's."""
    return F.pad(x, (num, 0)) if state is None else state.extend(layer, x, num)


class CausalConv1d(nn.Conv1d):
    """Convolution over the past only.

    With stride k, the input must be a multiple of k frames long; the output is 1/k of it.
    """

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b d t"], state: StreamState | None = None
    ) -> Float[Tensor, "b e u"]:
        context = self.dilation[0] * (self.kernel_size[0] - 1) + 1 - self.stride[0]
        return super().forward(left_context(self, x, context, state))


class CausalConvTranspose1d(nn.ConvTranspose1d):
    """Upsampling by its stride; what reaches past the last input frame is kept for the next call, or cut."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b d t"], state: StreamState | None = None
    ) -> Float[Tensor, "b e u"]:
        overlap = self.kernel_size[0] - self.stride[0]
        bias, self_bias = self.bias, None
        y = F.conv_transpose1d(x, self.weight, self_bias, self.stride)
        y = y[..., : y.shape[-1] - overlap] if state is None else state.overlap_add(self, y, overlap)
        return y if bias is None else y + bias[:, None]
