"""How soon does the service answer, and does it stay what it is when too many ask?

    python benchmarks/service.py [BUNDLE] [--clients 50] [--capacity 2] [--seconds 60] [--music 2] [--threads N]
        [--out benchmarks/service.json]

`musiclm serve` runs as a process of its own, with a folder that is thrown away; clients are threads of this one.

- first_sound: of a warm service with nothing else to do, seconds from the request to the first byte of a WAV and to the
  first sample of music (a header of 44 bytes comes first), over `--repeats` requests one after another.
- load: `--clients` clients at once ask for pieces of `--music` seconds for `--seconds` seconds, each anew as soon as it
  is answered, or a tenth of a second after it was refused. answer_s: to the status line, of pieces made and of requests
  refused; late: how many took more than a second. broken: connections that failed or sounds cut short; other: statuses
  that are neither 200 nor 429.
- memory_mb: of the service, before, each ten seconds, and after; the last with nothing to do. Of all its processes, one
  for each piece that is made at a time; what they share counts for each.
- same_bytes: whether the piece of one seed has the same bytes before, under load and after.

Clients of the same machine take a share of its cores. Only an idle machine tells times.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from musiclm.bench.measure import machine
from musiclm.core.artifact import git_revision
from musiclm.core.bundle import open_bundle
from musiclm.core.output import write_atomic

HEADER_BYTES = 44  # of a WAV; tags come after the samples
REFUSED_WAIT_S = 0.1
PROMPT = "a calm piano piece"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="base")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--capacity", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--music", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/service.json"))
    arguments = parser.parse_args()
    asked = {name: value for name, value in vars(arguments).items() if name != "out"}
    with serving(arguments.bundle, arguments.capacity, arguments.threads) as service:
        before_mb = service.memory_mb()
        alone = [service.ask(arguments.music, seed) for seed in range(arguments.repeats)]
        load, hashes, memory = under_load(service, arguments.clients, arguments.seconds, arguments.music)
        service.wait_until_idle()
        after = service.ask(arguments.music, 0)
        document = {
            "date": time.strftime("%Y-%m-%d"),
            "git_revision": git_revision(),
            "bundle": open_bundle(arguments.bundle).hash,
            "machine": machine("cpu"),
            "asked": asked,
            "first_sound": {
                "status_s": spread([one["answer_s"] for one in alone]),
                "first_byte_s": spread([one["first_byte_s"] for one in alone]),
                "first_sample_s": spread([one["first_sample_s"] for one in alone]),
                "whole_s": spread([one["whole_s"] for one in alone]),
            },
            "load": load,
            "memory_mb": {"before": before_mb, "under_load": memory, "after": service.memory_mb()},
            "same_bytes": len({alone[0]["sha256"], after["sha256"], *hashes}) == 1,
        }
    text = json.dumps(document, indent=1) + "\n"
    write_atomic(arguments.out, text)
    print(text)


class Service:
    """A running `musiclm serve`."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port

    def ask(self, duration_s: float, seed: int) -> dict[str, Any]:
        """A piece. Times are of the status, the first byte, the first sample and all. Raises: OSError, HTTPException
        for a connection that breaks off."""
        body = json.dumps({"prompt": PROMPT, "duration_s": duration_s, "seed": seed})
        begun = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", "/v1/generate", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            found: dict[str, Any] = {"status": answer.status, "answer_s": time.perf_counter() - begun}
            digest, total = hashlib.sha256(), 0
            while data := answer.read1(1 << 16):
                now = time.perf_counter() - begun
                found.setdefault("first_byte_s", now)
                digest.update(data)
                total += len(data)
                if total > HEADER_BYTES:
                    found.setdefault("first_sample_s", now)
            return {**found, "whole_s": time.perf_counter() - begun, "bytes": total, "sha256": digest.hexdigest()}
        finally:
            connection.close()

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def wait_until_idle(self) -> None:
        while any(json.loads(self.get("/healthz"))[name] for name in ("running", "waiting")):
            time.sleep(0.2)

    def memory_mb(self) -> float | None:
        """Of its processes, where the system says so."""
        try:
            lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")
            processes = [str(self.process.pid), *(child for each in lists for child in each.read_text().split())]
            pages = sum(int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in processes)
        except (OSError, ValueError):
            return None
        return pages * resource.getpagesize() / 2**20


@contextlib.contextmanager
def serving(bundle: str, capacity: int, threads: int | None) -> Iterator[Service]:
    """A service at a free port until the block ends. Raises: RuntimeError if it does not begin."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "musiclm.cli", "serve", "--port", "0", "--folder", f"{folder}/takes"]
        line += ["--capacity", str(capacity), "--rate", "1000000", "--model", bundle]
        line += [] if threads is None else ["--threads", str(threads)]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        try:
            assert process.stdout is not None
            ports = (re.search(r"http://127\.0\.0\.1:(\d+)/,", line) for line in process.stdout)
            found = next((port for port in ports if port), None)
            if found is None:
                raise RuntimeError(f"the service ended with {process.wait()} before it listened")
            yield Service(process, int(found[1]))
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def under_load(
    service: Service, num_clients: int, seconds: float, music_s: float
) -> tuple[dict[str, Any], set[str], list[float | None]]:
    """What clients met; hashes of the pieces of seed 0; memory each ten seconds."""
    answers: list[dict[str, Any]] = []
    broken: list[str] = []
    ready = threading.Barrier(num_clients + 1)
    over = threading.Event()

    def client(index: int) -> None:
        ready.wait()
        while not over.is_set():
            try:
                answers.append({"seed": index % 4, **service.ask(music_s, index % 4)})
            except (OSError, http.client.HTTPException) as error:
                broken.append(f"{type(error).__name__}: {error}")
            else:
                if answers[-1]["status"] == 429:
                    over.wait(REFUSED_WAIT_S)

    threads = [threading.Thread(target=client, args=(index,)) for index in range(num_clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    begun, memory = time.perf_counter(), [service.memory_mb()]
    while (left_s := seconds - (time.perf_counter() - begun)) > 0:
        time.sleep(min(10.0, left_s))
        memory.append(service.memory_mb())
    over.set()
    for thread in threads:
        thread.join()
    made = [one for one in answers if one["status"] == 200]
    refused = [one for one in answers if one["status"] == 429]
    # a WAV of 16 bits is no shorter than its samples
    cut = [one for one in made if one["bytes"] < 2 * round(music_s * 24000)]
    found = {
        "made": len(made),
        "refused": len(refused),
        "other": len(answers) - len(made) - len(refused),
        "broken": len(broken) + len(cut),
        "broken_by": sorted(set(broken))[:5],
        "answer_s": {
            "made": spread([m["answer_s"] for m in made]),
            "refused": spread([m["answer_s"] for m in refused]),
        },
        "late": sum(one["answer_s"] > 1 for one in answers),
    }
    return found, {one["sha256"] for one in made if one["seed"] == 0 and one not in cut}, memory


def spread(values: list[float]) -> dict[str, float] | None:
    """Seconds: the middle, 99 of 100, and the most."""
    if not values:
        return None
    return {"median": float(np.median(values)), "p99": float(np.quantile(values, 0.99)), "most": max(values)}


if __name__ == "__main__":
    main()
