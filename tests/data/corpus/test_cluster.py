"""A cluster makes the files that this process makes, to the last byte, whoever is killed on the way.

Clusters here are new ones on this machine, as `--address local` starts them.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from musiclm.core.audio import write_audio
from musiclm.core.bundle import Bundle
from musiclm.core.cluster import RayEngine
from musiclm.core.engines import EngineError, run_in_order
from musiclm.data.corpus.build import build_corpus
from musiclm.data.labels import label_corpus
from musiclm.train.pipeline import tokenize
from tests.core.test_engines import die_once, fail_at_three, square
from tests.data.corpus.conftest import melody
from tests.forked import children

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
# by default processes of a cluster stand back, which takes for ever on a busy machine
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
ROOT = Path(__file__).parents[3]


def hashes(folder: Path) -> dict[str, str]:
    """By path, of all files but the journal, whose lines stand in the order of finishing, and locks."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("journal.jsonl", ".lock")
    }


def make_all(engine: RayEngine | None, sources: list[str], folder: Path, bundle: Bundle) -> dict[str, str]:
    build_corpus(sources, folder / "corpus", jobs=None if engine else 1, progress=False, engine=engine)
    list(label_corpus(folder / "corpus", None, windows_per_track=2, engine=engine))
    tokenize(folder / "corpus", folder, start=str(bundle.folder), engine=engine, tracks_per_shard=5)
    return hashes(folder)


def test_a_cluster_makes_what_this_process_makes(
    music: Path,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (music / "broken.wav").write_text("no sound")
    before = signal.getsignal(signal.SIGTERM)
    with RayEngine("local", jobs=2) as engine:
        assert signal.getsignal(signal.SIGTERM) == before
        monkeypatch.chdir(tmp_path)
        found = make_all(engine, [str(music)], Path("ray"), bundle)  # paths are those of this process
        again = {path: path.stat().st_mtime_ns for path in Path("ray").rglob("*.safetensors")}
        assert make_all(engine, [str(music)], Path("ray"), bundle) == found
        assert {path: path.stat().st_mtime_ns for path in again} == again, "what is done is not done again"
        # the cluster as an engine: order, errors as they are, a process that dies
        assert [result for _, result in run_in_order(engine, square, range(40))] == [n**2 for n in range(40)]
        with pytest.raises(ValueError, match="^three is bad$"):
            list(run_in_order(engine, fail_at_three, range(8)))
        assert next(run_in_order(engine, die_once, [str(tmp_path / "mark")]))[1] == str(tmp_path / "mark")
    expected = make_all(None, [str(music)], tmp_path / "local", bundle)
    assert found == expected
    assert {"corpus/manifest.jsonl", "corpus/skipped.jsonl", "corpus/labels.jsonl"} < set(found)
    assert sum(name.startswith("tokens/") and "shard" in name for name in found) == 9


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_killed_workers_and_a_killed_driver_cost_nothing_but_time(tmp_path: Path) -> None:
    source, out = tmp_path / "music", tmp_path / "ray"
    source.mkdir()
    for number in range(24):
        write_audio(source / f"{number:02d}.wav", melody(number, 40.0, 48000), 48000)
    command = [sys.executable, "-m", "musiclm.cli", "corpus", "build", str(source), "--out", str(out)]
    command += ["--engine", "ray", "--address", "local", "--jobs", "2", "--no-progress"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}"}
    journal = out / "journal.jsonl"

    def finished() -> int:
        return journal.read_bytes().count(b'"key"') if journal.is_file() else 0

    with subprocess.Popen(command, env=environment) as driver:
        while driver.poll() is None and not finished():
            time.sleep(0.01)
        below = children(driver.pid)
        workers = [pid for pid, name in below.items() if name.startswith("ray::_work")]
        assert workers, below
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        seen = finished()
        while driver.poll() is None and finished() < seen + 3:
            time.sleep(0.01)
        below |= children(driver.pid)
        driver.kill()
    assert 0 < finished() < 24, "killed in the middle"
    deadline = time.monotonic() + 120
    while (left := {pid: name for pid, name in below.items() if Path(f"/proc/{pid}").exists()}) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert not left, "the cluster ends with its driver"
    done = finished()
    subprocess.run(command, env=environment, check=True)
    assert finished() == 24 > done, "what was done was not done again"
    build_corpus([str(source)], tmp_path / "music-local", jobs=1, progress=False)
    assert hashes(out) == hashes(tmp_path / "music-local")


def test_a_cluster_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    for address, what in (("127.0.0.1:9", "no cluster answers"), ("nonsense", "no address of a Ray cluster")):
        with pytest.raises(EngineError, match=what) as caught:
            RayEngine(address)
        assert "\n" not in str(caught.value) and address in str(caught.value)
    with pytest.raises(EngineError, match="at least 1"):
        RayEngine("local", jobs=0)
    assert time.monotonic() - began < 60
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", Mock(side_effect=Exception("The node timed out during startup.\nMore of it")))
    with pytest.raises(EngineError, match=r"^Ray: no cluster answers \(The node timed out during startup\.\)"):
        RayEngine()
