"""`musiclm bench --loaded`: figures of every way, and a load that is there and ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musiclm.bench import loaded as module
from musiclm.bench.loaded import WAYS, LoadedConfig, busy
from musiclm.bench.run import bench_loaded
from musiclm.core.bundle import Bundle
from musiclm.core.threads import BRIEFLY


def test_idle_and_busy_are_timed_for_every_way(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that says how slow each was: beside a busy process twice as slow, but for music made on one thread."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    beside: list[int] = []
    calls: list[tuple[int, str, dict[str, str]]] = []

    class Beside:
        def __init__(self, num: int) -> None:
            self.num = num

        def __enter__(self) -> None:
            beside.append(self.num)

        def __exit__(self, *_: object) -> None:
            beside.pop()

    def timed(
        folder: Path, duration_s: float, device: str, threads: int, mode: str, environment: dict[str, str]
    ) -> dict[str, float]:
        calls.append((threads, mode, environment))
        return {"generate_s": 3.0 * duration_s if beside and mode == "shared" else 1.5 * duration_s}

    monkeypatch.setattr(module, "busy", Beside)
    monkeypatch.setattr(module, "in_fresh_process", timed)
    said: list[str] = []
    result = bench_loaded(bundle.folder, LoadedConfig(rounds=2, threads=2), say=said.append)
    figures = result["figures"]
    assert set(figures) == {"load_average", *WAYS} and result["bundle"] == bundle.hash
    for name in WAYS:
        times_slower = 1.0 if name == "as_shipped" else 2.0
        assert figures[name] == {
            "idle_real_time_factor": 1.5, "busy_real_time_factor": 1.5 * times_slower, "times_slower": times_slower,
        }  # fmt: skip
    assert len(calls) == 2 * 2 * len(WAYS) and {threads for threads, _, _ in calls} == {2}
    shipped, shared, spinning, sleeping = (environment for _, _, environment in calls[:8:2])
    assert shipped == shared == spinning | BRIEFLY and "OMP_WAIT_POLICY" not in spinning
    assert sleeping["OMP_WAIT_POLICY"] == "passive", "the environment of the command has no say"


def test_one_round_of_real_processes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAYS", {"as_shipped": WAYS["as_shipped"]})
    config = LoadedConfig(duration_s=0.5, rounds=1, threads=1)
    row = bench_loaded(bundle.folder, config, say=lambda _: None)["figures"]["as_shipped"]
    assert row["times_slower"] == pytest.approx(row["busy_real_time_factor"] / row["idle_real_time_factor"])
    assert row["idle_real_time_factor"] > 0


@pytest.mark.skipif(not Path("/proc").exists(), reason="counts processor time in /proc")
def test_the_load_computes_and_ends_with_who_started_it() -> None:
    script = (
        "import os, subprocess, sys, time\nfrom musiclm.bench import loaded\n"
        "with loaded.busy(1):\n"
        "    print(os.popen(f'pgrep -P {os.getpid()} -f threading').read().split()[0], flush=True)\n"
        "    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as outer:
        assert outer.stdout is not None
        load = int(outer.stdout.readline())
        first = _processor_s(load)
        _until(lambda: _processor_s(load) > first + 0.05)
        outer.kill()
    _until(lambda: not Path(f"/proc/{load}").exists() or " Z " in Path(f"/proc/{load}/stat").read_text())
    with busy(2):
        pass


def _processor_s(process: int) -> float:
    user, system = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _until(true: object) -> None:
    assert callable(true)
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
