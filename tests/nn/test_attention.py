"""Attention and rotary positions by naive versions."""

import cmath
import math

import pytest
import torch
from torch import Tensor

from musiclm.nn.attention import Pairs, attention, rotate, rotation

PAIRS = pytest.mark.parametrize("pairs", ["neighbours", "halves"])


def channels(pairs: Pairs, i: int, half: int) -> tuple[int, int]:
    return (2 * i, 2 * i + 1) if pairs == "neighbours" else (i, i + half)


@PAIRS
def test_rotate_is_complex_multiplication(pairs: Pairs) -> None:
    positions = torch.tensor([-3.5, 0.0, 2.0, 11.0])
    x = torch.randn(1, 4, 1, 1, 8)
    turned = rotate(x, rotation(positions, 8, 100.0, pairs), pairs)
    for place, position in enumerate(positions.tolist()):
        for i in range(4):
            a, b = channels(pairs, i, 4)
            before, after = (complex(value[0, place, 0, 0, a], value[0, place, 0, 0, b]) for value in (x, turned))
            assert abs(after - before * cmath.exp(1j * position * 100.0 ** (-i / 4))) < 1e-5


@PAIRS
def test_products_depend_on_distance_only(pairs: Pairs) -> None:
    same = torch.randn(1, 1, 1, 1, 8).expand(-1, 12, -1, -1, -1)
    turned = rotate(same, rotation(torch.arange(12.0), 8, 100.0, pairs), pairs)[0, :, 0, 0]
    products = turned @ turned.T
    assert products[0].std() > 0.01
    for lag in range(1, 6):
        diagonal = products.diagonal(lag)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=1e-4)


def naive(qkv: Tensor, num_heads: int, seen: Tensor) -> Tensor:
    """One head of one item at a time; `seen` is b l k."""
    width = qkv.shape[-1] // 3
    out = torch.zeros(*qkv.shape[:2], width)
    for item in range(len(qkv)):
        for head in range(num_heads):
            place = slice(head * width // num_heads, (head + 1) * width // num_heads)
            query, key, value = (part[:, place] for part in qkv[item].split(width, -1))
            logits = query @ key.T / math.sqrt(query.shape[1])
            out[item, :, place] = logits.masked_fill(~seen[item], -torch.inf).softmax(-1) @ value
    return out


@pytest.mark.parametrize("kind", ["all", "causal", "mask"])
def test_attention_against_single_heads(kind: str) -> None:
    qkv = torch.randn(2, 5, 36)
    seen = torch.ones(2, 5, 5, dtype=torch.bool)
    mask = None
    if kind == "causal":
        seen = seen.tril()
    if kind == "mask":
        seen = seen & (torch.arange(5) < torch.tensor([5, 3])[:, None])[:, None]
        mask = seen[:, None]
    found = attention(qkv, 3, mask=mask, causal=kind == "causal")
    torch.testing.assert_close(found, naive(qkv, 3, seen), atol=1e-5, rtol=1e-5)


def test_a_cache_is_read_and_written() -> None:
    qkv = torch.randn(2, 6, 24)
    whole = attention(qkv, 2, causal=True)
    cache = (torch.full((2, 2, 8, 4), torch.nan), torch.full((2, 2, 8, 4), torch.nan))
    first = attention(qkv[:, :4], 2, causal=True, cache=cache, start=0)
    steps = [attention(qkv[:, i : i + 1], 2, causal=True, cache=cache, start=i) for i in (4, 5)]
    torch.testing.assert_close(torch.cat([first, *steps], 1), whole, atol=1e-5, rtol=1e-5)
    assert cache[0][:, :, :6].isfinite().all() and cache[0][:, :, 6:].isnan().all()
