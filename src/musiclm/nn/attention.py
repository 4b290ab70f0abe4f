"""Multi-head attention and rotary positions, once for every model.

A layer keeps its own projections, whose names are those of its checkpoints; `attention` does what lies between them.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor
from torch.nn import functional as F

# which channels of a head are turned together: neighbours (2i, 2i + 1), or i and i + half of the head
Pairs = Literal["neighbours", "halves"]


def check_heads(width: int, num_heads: int) -> None:
    """Raises: ValueError unless a width splits into heads of an even size, as rotary pairs need."""
    if width % (2 * num_heads):
        raise ValueError(
            f"width {width} does not split into {num_heads} heads of an even size; use a multiple of {2 * num_heads}"
        )


def rotation(
    positions: Float[Tensor, " l"], head_width: int, base: float, pairs: Pairs = "neighbours"
) -> Complex[Tensor, "l half"]:
    """Rotary angles as complex numbers: position p turns pair i by p * base^(-i / half) radians."""
    half = head_width // 2
    rates = base ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    angles = positions.float()[:, None] * rates
    if pairs == "halves":
        # not `polar`, which rounds the last bit otherwise: trained models keep their codes to the bit
        return torch.complex(angles.cos(), angles.sin())
    return torch.polar(torch.ones_like(angles), angles)


def rotate(
    x: Float[Tensor, "b l n h c"], angles: Complex[Tensor, "l half"], pairs: Pairs = "neighbours"
) -> Float[Tensor, "b l n h c"]:
    """Turns each pair of channels of a head as a complex number; inner products then depend on differences of
    positions only. Computed in float32, returned in the type of `x`."""
    angles = angles[:, None, None]
    if pairs == "neighbours":
        joined = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(joined * angles).flatten(-2).to(x.dtype)
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.complex(first, second) * angles
    return torch.cat([turned.real, turned.imag], dim=-1).to(x.dtype)


def attention(
    qkv: Float[Tensor, "b l three_d"],
    num_heads: int,
    *,
    angles: Complex[Tensor, "l half"] | None = None,
    pairs: Pairs = "neighbours",
    mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    cache: tuple[Tensor, Tensor] | None = None,
    start: int | Int[Tensor, " 1"] = 0,
) -> Float[Tensor, "b l d"]:
    """Scaled dot-product attention of every position to the others, heads joined again.

    qkv: queries, keys and values side by side, each `num_heads` heads wide. angles: rotary angles of queries and keys.
    mask: what a query sees (true), or what is added to the logits; broadcast to b h l k, and then `causal` is the
    mask's affair. cache: buffers b h k c of keys and values, filled up to `start`; the new ones are written behind.
    start: as a tensor, of one position, which then is given all of the buffers: shapes are the same at every place, and
    the mask hides what is not filled.
    """
    b, length, _ = qkv.shape
    split = qkv.view(b, length, 3, num_heads, -1)
    turned = split[:, :, :2] if angles is None else rotate(split[:, :, :2], angles, pairs)
    query, key = turned[:, :, 0].transpose(1, 2), turned[:, :, 1].transpose(1, 2)
    value = split[:, :, 2].transpose(1, 2)
    if cache is not None and isinstance(start, Tensor):
        assert length == 1 and mask is not None
        key, value = (held.index_copy_(2, start, new) for held, new in zip(cache, (key, value), strict=True))
    elif cache is not None:
        stop = start + length
        cache[0][:, :, start:stop] = key
        cache[1][:, :, start:stop] = value
        key, value = cache[0][:, :, :stop], cache[1][:, :, :stop]
    if cache is not None and length == 1:
        # a decoding step is two small matrix products: the fused CPU kernel takes three times as long for it
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        mixed = torch.softmax(logits if mask is None else logits + mask, dim=-1) @ value
    else:
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal and mask is None
        )
    return mixed.transpose(1, 2).reshape(b, length, -1)
