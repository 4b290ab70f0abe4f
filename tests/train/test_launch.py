"""Commands as a launcher starts them: two real processes by torchrun, one of which is killed, and `accelerate launch`.

On CPUs `accelerate launch` starts several processes by MPI alone, so that here it starts one.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from musiclm.bench.training import make_up
from musiclm.train.recipes import load_preset
from tests.train.test_processes import moved
from tests.train.together import state

psutil = pytest.importorskip("psutil")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MUSICLM = [sys.executable, "-c", "from musiclm.cli import main; main()"]
LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"],
    "accelerate": [
        *("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--no_python"),
    ],
}


def command(folder: Path, runs: str, launcher: str = "", steps: int = 60) -> subprocess.Popen[str]:
    """`musiclm train semantic`, by a launcher or alone."""
    loop = {"steps": steps, "save_every": 5, "validate_every": steps, "log_every": 20}
    settings = [word for name, value in loop.items() for word in ("--set", f"semantic.train.{name}={value}")]
    words = ["train", "semantic", "--preset", "tiny", "--data", "corpus", "--runs", runs, *settings]
    start = [sys.executable, *LAUNCHERS[launcher]] if launcher else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen(
        [*start, *MUSICLM, *words, "--precision", "fp32"], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("launch")
    torch.manual_seed(0)
    make_up(found, load_preset("tiny"))
    for name in ("alone", "torchrun", "accelerate"):
        (found / name).mkdir()
        (found / name / "tokens").symlink_to(found / "runs" / "tokens")
    out, err = command(found, "alone").communicate(timeout=600)
    assert "semantic: alone/semantic/artifact" in out, err
    return found


def test_a_killed_process_stops_all_with_a_line_and_the_same_command_goes_on(folder: Path) -> None:
    launcher = "torchrun"
    process = command(folder, launcher, launcher)
    begun, deadline = folder / launcher / "semantic", time.monotonic() + 300
    while not list(begun.glob("state-*/run.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    # the newest started of the launcher's descendants is no launcher itself
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if "train" in p.cmdline()]
    max(workers, key=lambda one: one.pid).send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode != 0 and out == ""
    said = re.findall(r"^(?:error|stopped): .*$", err, re.MULTILINE)
    assert len(said) == 1 and "the same command goes on" in said[0], err

    again = command(folder, launcher, launcher)
    out, err = again.communicate(timeout=600)
    assert again.returncode == 0 and out == f"semantic: {launcher}/semantic/artifact\n", err
    assert "going on from step" in err
    one, other = state(folder / "alone" / "semantic"), state(begun)
    assert moved(one, other) < 1e-4


def test_accelerate_starts_it(folder: Path) -> None:
    process = command(folder, "accelerate", "accelerate", steps=2)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0 and out == "semantic: accelerate/semantic/artifact\n", err


def test_what_is_wrong_is_said_once(folder: Path) -> None:
    process = command(folder, "nowhere", "torchrun")
    out, err = process.communicate(timeout=300)
    assert process.returncode != 0 and out == ""
    assert len(re.findall(r"^error: .*holds no tokens.*$", err, re.MULTILINE)) == 1, err
