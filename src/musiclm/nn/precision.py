"""Where a computation must stay in float32 whatever the training's precision is."""

import contextlib

import torch


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context without autocast on the device; on a device that knows no autocast, one that does nothing."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()
