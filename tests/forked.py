"""Commands in processes of their own that share one import of torch: a server forks a child for each and reports how it
ended.

The child is a whole process from there on: it runs `main`, ends as an interpreter does, and its exit code is the one a
shell would see.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CHECKED = "MUSICLM_TEST_ANNOTATIONS"  # set where annotations are checked (`make shapes`): package, checker


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int  # minus the signal's number if one killed it
    out: bytes
    err: bytes


class Server:
    """Runs commands; use as a context."""

    environment: dict[str, str] = {}  # of the commands to come, beside the server's own

    def __init__(self, *preload: str) -> None:
        """preload: modules that are imported once for all commands, beside the package's own."""
        self.preload = preload

    def __enter__(self) -> "Server":
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        command = [sys.executable, "-m", "tests.forked", *self.preload]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def run(
        self,
        *arguments: str | bytes | Path,
        cwd: Path,
        interrupt: str = "",
        number: int = signal.SIGINT,
        umask: int = 0o022,
        stdout: str = "",
        file_limit: int = 0,
        faults: Sequence[dict[str, Any]] = (),
        kill_after_s: float | None = None,
    ) -> Ended:
        """`musiclm ARGUMENTS` in `cwd`.

        interrupt: a signal is sent when the command opens a file whose name ends so. stdout: a file in place of a pipe.
        file_limit: no file may grow past so many bytes, as if the disk were full then. faults: as
        `tests.faults.inject` has them. kill_after_s: SIGKILL comes then, if the command has not ended.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        words = [os.fsencode(argument).hex() for argument in arguments]
        with tempfile.TemporaryDirectory() as folder:
            request = {
                "words": words, "cwd": str(cwd), "interrupt": interrupt, "number": int(number), "umask": umask,
                "stdout": stdout or f"{folder}/out", "stderr": f"{folder}/err", "file_limit": file_limit,
                "environment": self.environment, "faults": list(faults), "kill_after_s": kill_after_s,
            }  # fmt: skip
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            code = int(self.process.stdout.readline())
            out = b"" if stdout else Path(folder, "out").read_bytes()
            return Ended(code, out, Path(folder, "err").read_bytes())


def children(pid: int) -> dict[int, str]:
    """Processes below one, with their names."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, tail = stat.read_text().rsplit(")", 1)
        except OSError:
            continue
        if tail.split()[0] != "Z":
            parents[int(stat.parent.name)] = int(tail.split()[1])
            names[int(stat.parent.name)] = head.partition("(")[2]
    below: dict[int, str] = {}
    found = {pid}
    while found:
        found = {child for child, parent in parents.items() if parent in found and child not in below}
        below |= {child: names[child] for child in found}
    return below


def serve() -> None:
    """Answers a line of standard input with a child's exit code; returns in the child, which runs the command."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            prepare(request)
            return
        print(os.waitstatus_to_exitcode(wait(child, request["kill_after_s"])), flush=True)
    os._exit(0)


def wait(child: int, kill_after_s: float | None) -> int:
    """The status with which a child ends, killed after some time if it has not by then."""
    if kill_after_s is not None:
        deadline = time.monotonic() + kill_after_s
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def prepare(request: dict[str, Any]) -> None:
    """Makes this process what a shell would have started."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.umask(request["umask"])
    os.environ |= request["environment"]
    for number, name in ((1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.chdir(request["cwd"])
    sys.argv = ["musiclm", *(os.fsdecode(bytes.fromhex(word)) for word in request["words"])]
    if request["file_limit"]:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"],) * 2)
    if request["interrupt"]:
        waiting = [request["interrupt"]]

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and waiting and str(arguments[0]).endswith(waiting[0]):
                waiting.clear()
                os.kill(os.getpid(), request["number"])

        sys.addaudithook(hook)
    if request["faults"]:
        from tests.faults.inject import inject

        inject(request["faults"])


if __name__ == "__main__":
    import torch

    if CHECKED in os.environ:  # before anything of the package is imported
        from jaxtyping import install_import_hook

        install_import_hook(*os.environ[CHECKED].split(",", 1))
    import musiclm.bench.run
    import musiclm.data.corpus.build
    import musiclm.evaluate.run
    import musiclm.generate.session
    import musiclm.train.pipeline  # noqa: F401
    from musiclm.cli import main

    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # a child need not go through all that was imported when it ends
    serve()
    main()
