"""Worker processes end with the one they work for and say nothing of it."""

import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import os, sys, time
from musiclm.core.workers import pool

def work(seconds):
    print(os.getpid(), flush=True)
    time.sleep(seconds)
    return seconds

if __name__ == "__main__":
    with pool(2) as workers:
        print(sum(workers.map(work, [float(word) for word in sys.argv[1:]])), flush=True)
"""


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"


def start(tmp_path, *seconds: float) -> subprocess.Popen:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, *map(str, seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_they_work(tmp_path):
    said, complaints = start(tmp_path, 0.1, 0.2).communicate(timeout=60)
    assert said.split()[-1] == "0.30000000000000004" and not complaints


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_they_end_with_their_parent(tmp_path, number):
    """SIGINT reaches all of them, as from a terminal; SIGKILL their parent alone."""
    process = start(tmp_path, 300, 300)
    pids = [int(process.stdout.readline()) for _ in range(2)]
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.kill()
    complaints = process.communicate(timeout=60)[1]
    deadline = time.monotonic() + 30
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, pids))
    assert complaints.count("Traceback") == (number == signal.SIGINT), "of the parent alone"
