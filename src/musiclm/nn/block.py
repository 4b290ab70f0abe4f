"""What a stack of layers is made of, and what is done to each layer as one: sharded, compiled, recomputed in the
backward pass."""

import functools

from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    """A layer of a stack of like ones."""


def blocks(module: nn.Module) -> list[Block]:
    """The layers of all stacks in a network."""
    return [found for found in module.modules() if isinstance(found, Block)]


def recompute(module: nn.Module) -> None:
    """Layers keep nothing but their input for the backward pass, which computes them again (activation
    checkpointing)."""
    for block in blocks(module):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]
