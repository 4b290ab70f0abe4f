"""A process of its own: what importing, loading and one piece of music take, and the most memory it ever held; one JSON
on standard output.

    python -m musiclm.bench.fresh BUNDLE SECONDS DEVICE THREADS stream|generate|again|shared

`stream` lets go of each block, as writing to a file does; `generate` keeps the whole; `again` does so a second time and
times that; `shared` is `again` with all threads for every network, however small. Nothing heavy is imported before the
clock starts.
"""

import json
import sys
import time
from pathlib import Path


def peak_memory_mb() -> float:
    """The most memory this process has held, in MB.

    On Linux from the process's own page table: `ru_maxrss` there begins with what the parent held when it started this
    one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # a Mac counts bytes


def run(bundle: str, duration_s: float, device: str, threads: int, mode: str) -> dict[str, float]:
    """The figures; seconds and MB."""
    started = time.perf_counter()
    import torch

    from musiclm.core import threads as sharing
    from musiclm.generate.session import MusicLM

    imported = time.perf_counter()
    torch.set_num_threads(threads)
    if mode == "shared":
        sharing.WEIGHTS_PER_THREAD = 1
    model = MusicLM.from_pretrained(bundle, device)
    loaded = time.perf_counter()
    loaded_memory_mb = peak_memory_mb()
    prompt, first, began = "a calm piano piece", 0.0, loaded
    if mode in ("generate", "again", "shared"):
        model.generate(prompt, duration_s)
        if mode != "generate":
            began = time.perf_counter()
            model.generate(prompt, duration_s)
    else:
        for _ in model.stream(prompt, duration_s):
            first = first or time.perf_counter()
    done = time.perf_counter()
    figures = {"import_s": imported - started, "load_s": loaded - imported, "generate_s": done - began}
    if first:
        figures["first_sound_s"] = first - loaded
    if torch.device(device).type == "cuda":
        figures["device_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1024**2
    return figures | {"loaded_memory_mb": loaded_memory_mb, "memory_mb": peak_memory_mb()}


if __name__ == "__main__":
    bundle, seconds, device, threads, mode = sys.argv[1:]
    print(json.dumps(run(bundle, float(seconds), device, int(threads), mode)))
