"""What every figure of `musiclm bench` is measured with: clock, precision, rate of matrix products, machine."""

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from musiclm.train.loop import pick_precision


def wait(device: str) -> None:
    """Until a CUDA device has done what was asked of it; a CPU has when the call returns."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds of one run of `work`, the device's part included."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def timed(work: Callable[[], Any], repeats: int, device: str = "cpu", warm_up: bool = True) -> float:
    """Median seconds of `repeats` runs, after one that warms up unless `warm_up` is false."""
    if warm_up:
        work()
    return statistics.median(seconds_of(work, device) for _ in range(repeats))


def precision_context(precision: str, device: str) -> Any:
    """Autocast for "bf16", nothing for "fp32". Raises: ValueError for any other name."""
    kind = torch.device(device)
    dtype = pick_precision(precision, kind)
    return contextlib.nullcontext() if dtype is None else torch.autocast(kind.type, dtype=dtype)


def matrix_rate(device: str, precision: str = "fp32", size: int | None = None) -> float:
    """Floating-point operations a second of a matrix product in this precision: what utilisation is a share of."""
    size = size or (8192 if torch.device(device).type == "cuda" else 1536)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / timed(lambda: a @ b, 5, device)


def num_parameters(*modules: torch.nn.Module) -> int:
    """Numbers that an optimiser moves; codebooks that are moving averages (ours, EnCodec's, Mimi's) and frozen parts do
    not count.
    """
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


def machine(device: str) -> dict[str, Any]:
    """Processor and versions, as far as the system tells."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    if torch.device(device).type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, {name}"
    return {"processor": name, "cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
