"""Drawing codes from logits: temperature, top-k, top-p, and one uniform number per code."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0  # past them logits in float32 tell nothing, or are not finite
HIGHEST_GUIDANCE = 100.0


def check_temperature(temperature: float, name: str = "temperature") -> None:
    """Raises ValueError unless it is 0, which takes the likeliest code, or in a range where logits stay finite."""
    if temperature != 0 and not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        raise ValueError(
            f"{name} is {temperature}; it must be 0, or lie between {LOWEST_TEMPERATURE:g} and {HIGHEST_TEMPERATURE:g}"
        )


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a code is drawn. MusicLM: temperature 1.0 semantic, 0.95 coarse, 0.4 fine."""

    temperature: float = 1.0  # 0 takes the likeliest code
    top_k: int | None = None  # only the k likeliest codes
    top_p: float = 1.0  # only the likeliest codes that together reach this probability
    guidance: float = 1.0  # logits = without + guidance * (with - without the MuLan condition); 1 is no guidance

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 1, or None for all codes")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be in (0, 1]")
        if not 0 <= self.guidance <= HIGHEST_GUIDANCE:
            raise ValueError(
                f"guidance is {self.guidance}; it must lie between 0 and {HIGHEST_GUIDANCE:g} (1 is no guidance)"
            )


def probabilities(logits: Float[Tensor, "*b v"], sampling: Sampling) -> Float[Tensor, "*b v"]:
    """The distribution a code is drawn from: temperature, then top-k, then top-p, and at least the likeliest code
    stays.

    Ties at the border of top-k and top-p: top-k keeps all of them, top-p those that sort first.
    """
    if sampling.temperature == 0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        border = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < border, float("-inf"))
    p = torch.softmax(logits, dim=-1)
    if sampling.top_p < 1:
        ordered, order = p.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # what likelier codes reach without this one
        p = p.scatter(-1, order, ordered.masked_fill(before >= sampling.top_p, 0.0))
    return p


def draw(p: Float[Tensor, "*b v"], u: Float[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """The code at which the cumulative sum of `p` (any positive scale) first exceeds u * total; u in [0, 1)."""
    return at(p, below_one(u)[..., None])[..., 0]


def below_one(u: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """`u` such that u * total can't round up to total, past the last code that has any probability."""
    return u.clamp(max=1 - torch.finfo(u.dtype).eps)


def at(p: Float[Tensor, "*b v"], u: Float[Tensor, "*b 1"]) -> Int[Tensor, "*b 1"]:
    """`draw`, of u that is `below_one`."""
    cumulative = p.cumsum(-1)
    return torch.searchsorted(cumulative, u * cumulative.narrow(-1, -1, 1), right=True)


def check_generators(generators: Sequence[torch.Generator], batch: int) -> None:
    """Raises ValueError unless there is a generator for each item."""
    if len(generators) != batch:
        raise ValueError(f"{len(generators)} generators for {batch} items; pass one torch.Generator per item")


def uniforms(generators: Sequence[torch.Generator], count: int, device: torch.device) -> Tensor:
    """`b count` numbers in [0, 1), each row from its own generator."""
    return torch.stack([torch.rand(count, generator=g, device="cpu") for g in generators]).to(device)
