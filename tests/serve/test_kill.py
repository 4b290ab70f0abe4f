"""A service that is killed at any moment: what it told of is there when it starts again."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from musiclm.core.bundle import Bundle
from musiclm.generate.music import read_tags
from musiclm.generate.take import load_take
from musiclm.serve.store import Store
from tests.serve.service import Service, serving, until

JSON = {"accept": "application/json"}


class Process:
    """`musiclm serve` as a process of its own."""

    def __init__(self, bundle: Bundle, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "musiclm.cli", "serve", "--port", "0", "--folder", str(folder)]
        command += ["--model", str(bundle.folder), "--threads", "1", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if found := re.search(r"the studio is at (http://127\.0\.0\.1:\d+)/", line):
                self.client = httpx.Client(base_url=found[1], timeout=30, trust_env=False)
                return
        raise AssertionError(said)

    def end(self, how: int) -> int:
        self.client.close()
        os.kill(self.process.pid, how)
        return self.process.wait(180)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "takes"


def test_nothing_is_lost_by_a_kill(bundle: Bundle, folder: Path) -> None:
    first = Process(bundle, folder)
    done = first.client.post("/v1/generate", json={"prompt": "slow piano", "duration_s": 1, "seed": 1}, headers=JSON)
    where = done.headers["location"]
    until(lambda: first.client.get(where).json()["state"] == "done")
    take = first.client.get(where).json()["take"]
    sound = first.client.get(f"/v1/takes/{take}/sound.wav").content
    first.client.patch(f"/v1/takes/{take}", json={"name": "mine", "kept": True})
    running = first.client.post("/v1/generate", json={"duration_s": 6, "seed": 2}, headers=JSON).json()["id"]
    waiting = first.client.post("/v1/continue", json={"take": take, "duration_s": 1}, headers=JSON).json()["id"]
    until(lambda: first.client.get(f"/v1/jobs/{running}").json()["state"] == "running")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL

    second = Process(bundle, folder)
    told = second.client.get(f"/v1/takes/{take}").json()
    assert told["name"] == "mine" and told["kept"]
    assert second.client.get(f"/v1/takes/{take}/sound.wav").content == sound
    # what was accepted is done, under the same address
    until(lambda: [second.client.get(f"/v1/jobs/{job}").json()["state"] for job in (running, waiting)] == ["done"] * 2)
    made = [second.client.get(f"/v1/jobs/{job}").json()["take"] for job in (running, waiting)]
    abouts = [second.client.get(f"/v1/takes/{id}").json()["about"] for id in made]
    assert abouts[0]["seed"] == 2 and abouts[0]["duration_s"] == 6 and abouts[1]["parent"]["hash"].startswith(take)
    assert not list((folder / "work").iterdir())
    assert second.end(signal.SIGTERM) in (0, 143, -signal.SIGTERM)


def test_the_list_is_made_anew_from_the_files(bundle: Bundle, folder: Path) -> None:
    """As if it were killed between a file and its row, or somebody removed the list."""
    with serving(bundle, folder) as service:
        parent = service.made("generate", prompt="slow piano", duration_s=0.5)
        child = service.made("continue", take=parent["id"], duration_s=0.5)
        clip = Path(__file__).parents[1] / "data" / "clips" / "flare-boss-theme.ogg"
        sound = service.client.post("/v1/uploads", content=clip.read_bytes()).json()
        names = sorted(path.name for path in (folder / "sounds").iterdir())
    for file in folder.glob("takes.sqlite*"):
        file.unlink()
    left = [folder / "sounds" / name for name in (".1-0123456789ab.part", "0123456789abcdef.wav", "notes.txt")]
    for path in [*left, folder / "work" / "some.upload"]:
        path.write_bytes(b"half a file")
    with serving(bundle, folder) as service:
        there = {take["id"]: take for take in service.client.get("/v1/takes").json()["takes"]}
        assert set(there) == {parent["id"], child["id"], sound["id"]}
        assert there[child["id"]]["parent"] == parent["id"] and there[child["id"]]["verb"] == "continue"
        assert sorted(path.name for path in (folder / "sounds").iterdir()) == sorted([*names, "notes.txt"])
        assert not list((folder / "work").iterdir())
        (folder / "sounds" / f"{child['id']}.wav").unlink()
    with serving(bundle, folder) as service:
        assert service.client.get(f"/v1/takes/{child['id']}").status_code == 404, "its sound is gone"


def test_a_stop_resumes_jobs_and_not_streams(bundle: Bundle, folder: Path) -> None:
    with serving(bundle, folder) as service:
        job = service.client.post("/v1/generate", json={"duration_s": 30, "seed": 5}, headers=JSON).json()["id"]
        until(lambda: service.client.get(f"/v1/jobs/{job}").json()["state"] == "running")
    with serving(bundle, folder) as service:
        again = service.client.get(f"/v1/jobs/{job}").json()
        assert again["state"] in ("waiting", "running") and again["request"]["seed"] == 5
        service.client.delete(f"/v1/jobs/{job}")
        until(lambda: service.client.get(f"/v1/jobs/{job}").json()["state"] == "cancelled")
    with serving(bundle, folder) as service:
        assert service.client.get(f"/v1/jobs/{job}").status_code == 404


def test_a_job_that_ends_the_process_again_and_again_is_given_up(folder: Path) -> None:
    store = Store(folder)
    store.add_job("0" * 16, "generate", "{}")
    assert [len(store.jobs()) for _ in range(4)] == [1, 1, 1, 0]
    store.close()


def test_files_say_what_made_them(bundle: Bundle, folder: Path) -> None:
    with serving(bundle, folder) as service:
        take = service.made("generate", prompt="slow piano", duration_s=0.5, seed=3)
        path = folder / "sounds" / take["id"]
        assert load_take(path.with_suffix(".take")).about.seed == 3
        assert read_tags(path.with_suffix(".wav"))["prompt"] == "slow piano"


def test_one_service_a_folder(bundle: Bundle, folder: Path) -> None:
    with serving(bundle, folder), pytest.raises(ValueError, match="another service uses this folder"):
        serving(bundle, folder).__enter__()
    (folder / "takes.sqlite").write_bytes(b"no list at all" * 100)
    for file in folder.glob("takes.sqlite-*"):
        file.unlink()
    with pytest.raises(ValueError, match="move it away, and takes are listed anew"):
        serving(bundle, folder).__enter__()


def test_a_full_disk_ends_a_job_and_not_the_service(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with serving(bundle, folder) as service:
        with monkeypatch.context() as patched:
            patched.setattr("musiclm.core.output.os.fsync", full)
            job = service.client.post("/v1/generate", json={"duration_s": 0.5}, headers=JSON).json()["id"]
            until(lambda: service.client.get(f"/v1/jobs/{job}").json()["state"] == "failed")
            told = service.client.get(f"/v1/jobs/{job}").json()["error"]
            assert "No space left" in told and "\n" not in told
        assert not list((folder / "sounds").iterdir())
        assert service.made("generate", duration_s=0.5)["kind"] == "take"


def test_rows_are_what_was_asked(bundle: Bundle, folder: Path) -> None:
    with serving(bundle, folder) as service:
        take = service.made("generate", duration_s=0.5)
        assert isinstance(service, Service) and time.time() - take["created_s"] < 60
    rows = sqlite3.connect(folder / "takes.sqlite").execute("select id, verb, kept from takes").fetchall()
    assert rows == [(take["id"], "generate", 0)]
