"""`label` and `tokenize` whose own process is killed while two others work for it: the same command goes on.

What was written stays, and the result is that of a run that nothing disturbed.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musiclm.core.audio import write_audio
from musiclm.core.bundle import Bundle
from musiclm.data.corpus.build import build_corpus
from musiclm.data.labels import label_corpus
from musiclm.train.pipeline import tokenize
from tests.data.corpus.conftest import melody
from tests.forked import ROOT, children

# its children are started anew, so that only this process must do without the tagger
MAIN = "from tests.faults.inject import no_tagger; no_tagger(); from musiclm.cli import main; main()"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three units of labels, and twelve shards of two tracks."""
    folder = tmp_path_factory.mktemp("pieces")
    for number in range(24):
        write_audio(folder / f"{number:02d}.wav", melody(number, 40.0), 24000)
    build_corpus([str(folder)], folder / "corpus", jobs=1, progress=False)
    return folder / "corpus"


def killed(words: list[str], out: Path, pattern: str, cwd: Path) -> None:
    """Runs a command until a file `pattern` has something in it, kills its process, and waits for the others' end."""
    command = [sys.executable, "-c", MAIN, *words]
    with subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as driver:
        while driver.poll() is None and not any(path.stat().st_size for path in out.glob(pattern)):
            time.sleep(0.005)
        below = children(driver.pid)
        assert driver.poll() is None and below, "it ended before it could be killed"
        driver.kill()
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        assert time.monotonic() < deadline, f"{below} outlive their driver"
        time.sleep(0.1)


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("command", ["label", "tokenize"])
def test_a_killed_driver_costs_nothing_but_time(command: str, corpus: Path, bundle: Bundle, tmp_path: Path) -> None:
    if command == "label":
        (corpus / "labels.jsonl").unlink(missing_ok=True)
        list(label_corpus(corpus, None, windows_per_track=2, path=tmp_path / "labels.jsonl"))
        words, out, whole, written = f"label {corpus} --windows-per-track 2", corpus, tmp_path, "labels.jsonl"
    else:
        tokenize(corpus, tmp_path / "whole", streams=("semantic",), start=str(bundle.folder), tracks_per_shard=2)
        words = f"tokenize --data {corpus} --runs runs --from {bundle.folder} --stream semantic --tracks-per-shard 2"
        out, whole = (tmp_path / name / "tokens" / "semantic" for name in ("runs", "whole"))
        written = "shard-*"
    every = [*words.split(), "--jobs", "2"]
    killed(every, out, written, tmp_path)
    before, expected = contents(out, written), contents(whole, written)
    assert before != expected, "killed in the middle"
    times = {name: (out / name).stat().st_mtime_ns for name in before}
    subprocess.run([sys.executable, "-c", MAIN, *every], cwd=tmp_path, env=ENVIRONMENT, check=True)
    assert contents(out, written) == expected
    if command == "label":
        assert expected[written].startswith(before[written])
    else:
        assert contents(out, "*") == contents(whole, "*")
        assert {name: (out / name).stat().st_mtime_ns for name in before} == times, "what was done is not done again"
