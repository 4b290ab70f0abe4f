"""Where a computation must stay in float32 whatever the training's precision is, or needs float64."""

import contextlib

import torch
from torch import Tensor


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context without autocast on the device; on a device that knows no autocast, one that does nothing."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def double(x: Tensor) -> Tensor:
    """`x` in float64: where it lies, if there is such a type there; Apple's GPUs (mps) have none, then on the CPU."""
    return x.double() if x.device.type in ("cpu", "cuda", "meta") else x.cpu().double()
