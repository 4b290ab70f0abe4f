"""How much slower music is made while another process keeps a core busy, by how the threads work and wait.

Every figure is of a process of its own, since OpenMP reads how to wait once. Each way is timed idle and busy, round
after round, the second piece of music each time. Only a machine that does nothing else gives figures that mean
something: `load_average` says what it was before.
"""

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musiclm.bench.speed import in_fresh_process
from musiclm.core.threads import BRIEFLY, WAITING

IDLE_LOAD = 0.3  # a load average above it is not of an idle machine
# ends with this process, however that ends: then its standard input does
BUSY = "import os, sys, threading\nthreading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()\nwhile 1: 0"


@dataclass(frozen=True, kw_only=True)
class LoadedConfig:
    """What is timed. The defaults take about four minutes."""

    duration_s: float = 10.0  # of music
    rounds: int = 3
    threads: int = os.cpu_count() or 1
    num_busy: int = 1  # processes beside ours


@dataclass(frozen=True, kw_only=True)
class Way:
    """How threads work and wait."""

    environment: dict[str, str]
    shared: bool = True  # all threads for every network


WAYS = {
    "as_shipped": Way(environment=BRIEFLY, shared=False),  # as the command line has it
    "shared": Way(environment=BRIEFLY),
    "shared_spinning": Way(environment={}),  # the default of OpenMP
    "shared_sleeping": Way(environment={"OMP_WAIT_POLICY": "passive"}),  # at once
}


@contextlib.contextmanager
def busy(num: int) -> Iterator[None]:
    """So many processes compute beside what is inside."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE) for _ in range(num)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def loaded(bundle: Path, config: LoadedConfig, device: str, say: Callable[[str], None]) -> dict[str, Any]:
    """For each way, the real-time factor idle and busy, and `times_slower`: the median of the rounds' ratios."""
    average = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if average > IDLE_LOAD:
        say(f"note: the machine is not idle (load {average:.1f}), so no figure is what it would be on one that is")
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for number in range(1, config.rounds + 1):
        for name, way in WAYS.items():
            say(f"round {number} of {config.rounds}: {name.replace('_', ' ')}, idle, then busy")
            idle = _factor(bundle, config, device, way)
            with busy(config.num_busy):
                rounds[name].append((idle, _factor(bundle, config, device, way)))
    found: dict[str, Any] = {"load_average": average}
    for name, pairs in rounds.items():
        found[name] = {
            "idle_real_time_factor": statistics.median(idle for idle, _ in pairs),
            "busy_real_time_factor": statistics.median(slow for _, slow in pairs),
            "times_slower": statistics.median(slow / idle for idle, slow in pairs),
        }
    return found


def _factor(bundle: Path, config: LoadedConfig, device: str, way: Way) -> float:
    kept = {name: value for name, value in os.environ.items() if name not in WAITING}
    mode = "shared" if way.shared else "again"
    figures = in_fresh_process(bundle, config.duration_s, device, config.threads, mode, kept | way.environment)
    return figures["generate_s"] / config.duration_s
