"""`label` and `tokenize` whose own process is killed while two others work for it: the same command goes on.

What was written stays, and the result is that of a run that nothing disturbed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from musiclm.core.audio import write_audio
from musiclm.core.bundle import Bundle
from musiclm.data.corpus.build import build_corpus
from musiclm.data.labels import WINDOWS_PER_UNIT, label_corpus
from musiclm.train.pipeline import tokenize
from tests.data.corpus.conftest import melody
from tests.forked import ROOT

# its children are started anew, so that only this process must do without the tagger
MAIN = """
import json, sys
from tests.faults.inject import inject
inject(json.loads(sys.argv.pop(1)))
from musiclm.cli import main
main()
"""
NO_TAGGER = {"kind": "no_tagger"}
ENGINES = {"local": "--jobs 2", "ray": "--engine ray --address local --jobs 2"}
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    "RAY_worker_niceness": "0",  # processes of a cluster otherwise stand back, for ever on a busy machine
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three units of labels, and twelve shards of two tracks."""
    folder = tmp_path_factory.mktemp("pieces")
    for number in range(24):
        write_audio(folder / f"{number:02d}.wav", melody(number, 40.0), 24000)
    build_corpus([str(folder)], folder / "corpus", jobs=1, progress=False)
    return folder / "corpus"


def run(words: list[str], cwd: Path, *faults: dict[str, Any]) -> int:
    """The exit code of a command, with faults of `tests.faults.inject` in its process."""
    command = [sys.executable, "-c", MAIN, json.dumps([NO_TAGGER, *faults]), *words]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.DEVNULL).returncode


def killed(words: list[str], cwd: Path, units: int) -> None:
    """Runs a command until so many units are done, when its process is killed, and waits for the others' end."""
    fault = {"kind": "killed_after", "units": units, "children": str(cwd / "children")}
    assert run(words, cwd, fault) == -signal.SIGKILL
    below = [int(pid) for pid in (cwd / "children").read_text().split()]
    assert below, "nobody worked for it"
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        assert time.monotonic() < deadline, f"{below} outlive their driver"
        time.sleep(0.1)


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("command", ["label", "tokenize"])
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_killed_driver_costs_nothing_but_time(
    command: str, engine: str, corpus: Path, bundle: Bundle, tmp_path: Path
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    if command == "label":
        (corpus / "labels.jsonl").unlink(missing_ok=True)
        list(label_corpus(corpus, None, windows_per_track=2, path=tmp_path / "labels.jsonl"))
        words, out, whole, written = f"label {corpus} --windows-per-track 2", corpus, tmp_path, "labels.jsonl"
        units = 2  # of three
    else:
        tokenize(corpus, tmp_path / "whole", streams=("semantic",), start=str(bundle.folder), tracks_per_shard=2)
        words = f"tokenize --data {corpus} --runs runs --from {bundle.folder} --stream semantic --tracks-per-shard 2"
        out, whole = (tmp_path / name / "tokens" / "semantic" for name in ("runs", "whole"))
        written, units = "shard-*", 9  # of 24
    every = [*words.split(), *ENGINES[engine].split()]
    killed(every, tmp_path, units)
    before, expected = contents(out, written), contents(whole, written)
    assert before and before != expected, "killed in the middle"
    times = {name: (out / name).stat().st_mtime_ns for name in before}
    assert run(every, tmp_path) == 0
    assert contents(out, written) == expected
    if command == "label":
        assert len(before[written].splitlines()) == units * WINDOWS_PER_UNIT
        assert expected[written].startswith(before[written])
    else:
        assert len(before) == units // 2
        assert contents(out, "*") == contents(whole, "*")
        assert {name: (out / name).stat().st_mtime_ns for name in before} == times, "what was done is not done again"
