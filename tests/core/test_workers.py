"""Worker processes end with the one they work for and say nothing of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musiclm.core.workers import Worker, WorkerEnded

ROOT = Path(__file__).parents[2]
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


WORKER = """
import os, sys
from musiclm.core.workers import Worker

if __name__ == "__main__":
    import time
    import tests.core.test_workers as here
    worker = Worker(here.load, "loaded")
    print(worker.pid, flush=True)
    if sys.argv[1] == "later":
        worker.wait()
        print("loaded", flush=True)
    time.sleep(300)
"""


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"


def start(tmp_path, *words: object, text: str = SCRIPT) -> subprocess.Popen:
    script = tmp_path / "script.py"
    script.write_text(text)
    return subprocess.Popen(
        [sys.executable, script, *map(str, words)],
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
    ended(process, pids, number)


def ended(process: subprocess.Popen, pids: list[int], number: int) -> None:
    """Ends the parent, and asserts that the others end, and say nothing."""
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.kill()
    complaints = process.communicate(timeout=180)[1]
    deadline = time.monotonic() + 30
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, pids))
    assert complaints.count("Traceback") == (number == signal.SIGINT), "of the parent alone"


# -- one that tells what it does


def load(word):
    if not word:
        raise ValueError("there is nothing to load")
    return {"word": word, "pid": os.getpid(), "tasks": 0}


def count(loaded, tell, num):
    loaded["tasks"] += 1
    for i in range(num):
        tell((loaded["word"], loaded["pid"], loaded["tasks"], i))


def fail(loaded, tell):
    tell("begun")
    raise OSError(28, "No space left on device")


def fail_oddly(loaded, tell):
    class Odd(Exception):  # no other process has it
        pass

    raise Odd("so")


def kill_itself(loaded, tell):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_tells_what_it_does():
    """One process for all of it: one start is all that this test waits for."""
    worker = Worker(load, "loaded")
    told = list(worker.run(count, 3))
    assert told == [("loaded", worker.pid, 1, i) for i in range(3)] and worker.pid != os.getpid()

    # what is not waited for any more ends, and the next task begins anew
    endless = worker.run(count, 10**12)
    assert next(endless)[2:] == (2, 0)
    endless.close()
    assert list(worker.run(count, 1)) == [("loaded", worker.pid, 3, 0)]

    # errors come as they are, with a note of where they were raised
    failing = worker.run(fail)
    assert next(failing) == "begun"
    with pytest.raises(OSError, match="No space left") as caught:
        next(failing)
    assert caught.value.errno == 28 and "in fail" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="^Odd: so"):
        next(worker.run(fail_oddly))
    assert worker.lives and list(worker.run(count, 0)) == []

    with pytest.raises(WorkerEnded, match="was killed by SIGKILL") as ended:
        list(worker.run(kill_itself))
    assert "\n" not in str(ended.value) and not worker.lives
    with pytest.raises(WorkerEnded):
        list(worker.run(count, 1))


def test_what_can_not_be_loaded_is_told():
    worker = Worker(load, "")
    with pytest.raises(ValueError, match="there is nothing to load"):
        worker.wait()
    worker.stop()
    assert not worker.lives


@pytest.mark.parametrize(("when", "number"), [("at once", signal.SIGINT), ("later", signal.SIGKILL)])
def test_a_worker_ends_with_its_parent(tmp_path, monkeypatch, when, number):
    """At once: while it still imports, and has not begun to ignore Ctrl-C."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    process = start(tmp_path, when, text=WORKER)
    pids = [int(process.stdout.readline())]
    if when == "later":
        assert process.stdout.readline() == "loaded\n"
    ended(process, pids, number)
