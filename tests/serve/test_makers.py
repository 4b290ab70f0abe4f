"""Two pieces at a time: the second by a process of its own, which is there when it is needed."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from musiclm.core.bundle import Bundle
from musiclm.generate.session import MusicLM
from musiclm.serve import jobs
from musiclm.serve.makers import Maker
from musiclm.serve.settings import default_workers
from tests.serve.service import Service, SlowModel, serving, until

JSON = {"accept": "application/json"}
LONG = {"prompt": "slow piano", "duration_s": 600}


def ask(service: Service, verb: str, **request: Any) -> str:
    answer = service.client.post(f"/v1/{verb}", json=request, headers=JSON)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def state(service: Service, job: str) -> str:
    return str(service.client.get(f"/v1/jobs/{job}").json()["state"])


@pytest.fixture(scope="module")
def busy(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its own process is at something long, so whatever else is asked for is made elsewhere."""
    slow: Any = SlowModel(MusicLM.from_pretrained(bundle.folder), 0.3)
    with serving(bundle, tmp_path_factory.mktemp("busy") / "takes", slow, workers=2, capacity=4) as service:
        long = ask(service, "generate", **LONG)
        until(lambda: state(service, long) == "running")
        assert service.jobs.makers[1].pid is None, "nothing waits"
        first = ask(service, "generate", duration_s=0.5)
        until(lambda: service.jobs.jobs[first].ended, 900)  # a process starts
        assert state(service, first) == "done"
        yield service
        assert state(service, long) == "running"
        maker = service.jobs.makers[1]
        pid = maker.pid
    assert maker.pid is None and not lives(pid)


def lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_what_another_process_makes_is_the_same(busy: Service, bundle: Bundle, tmp_path: Path) -> None:
    model = MusicLM.from_pretrained(bundle.folder)
    request = {"prompt": "slow piano", "duration_s": 1.3, "seed": 4}
    first = busy.made("generate", **request)
    assert busy.jobs.makers[1].pid not in (None, os.getpid())
    music = model.generate("slow piano", 1.3, 4)
    music.save(tmp_path / "own.wav", take=True)
    assert music.takes[0].id.startswith(first["id"])
    for place, suffix in (("sound.wav", "wav"), ("codes.take", "take")):
        sent = busy.client.get(f"/v1/takes/{first['id']}/{place}").content
        assert sent == (tmp_path / f"own.{suffix}").read_bytes()
    assert busy.client.post("/v1/generate", json=request).content == (tmp_path / "own.wav").read_bytes()
    # from what is kept here
    more = busy.made("continue", take=first["id"], duration_s=1, seed=3)
    source = busy.settings.folder / "sounds" / f"{first['id']}.take"
    assert model.extend(source, None, 1, 3).takes[0].id.startswith(more["id"])
    assert busy.made("repaint", take=first["id"], from_s=0.5, to_s=1.2, drafts=1)["parent"] == first["id"]
    rendered = busy.client.post("/v1/render", json={"take": first["id"]}).content
    assert rendered == (tmp_path / "own.wav").read_bytes()


def test_an_error_there_is_the_same_line(busy: Service) -> None:
    take = busy.made("generate", duration_s=0.5, seed=8)
    path = busy.settings.folder / "sounds" / f"{take['id']}.take"
    path.write_bytes(path.read_bytes()[:-10])
    job = ask(busy, "render", take=take["id"])
    until(lambda: state(busy, job) == "failed")
    told = busy.client.get(f"/v1/jobs/{job}").json()["error"]
    assert "damaged" in told and "\n" not in told


def test_who_leaves_ends_the_work_there(busy: Service) -> None:
    pid = busy.jobs.makers[1].pid
    assert pid is not None
    with busy.client.stream("POST", "/v1/generate", json={**LONG, "seed": 5}) as answer:
        sound = answer.iter_bytes()  # kept, for the connection ends with it
        next(sound)
        job = answer.headers["location"].rsplit("/", 1)[1]
        until(lambda: state(busy, job) == "running")
        told = busy.client.get(f"/v1/jobs/{job}").json()
        assert told["duration_s"] == 600 and told["understood"] == "no tempo in numbers, no key"
    until(lambda: state(busy, job) == "cancelled")
    assert busy.made("generate", duration_s=0.5, seed=9) and busy.jobs.makers[1].pid == pid


def test_a_process_that_is_killed_ends_one_job(busy: Service) -> None:
    job = ask(busy, "generate", **LONG, seed=6)
    until(lambda: busy.client.get(f"/v1/jobs/{job}").json()["made_s"] > 0)
    waiting = ask(busy, "generate", duration_s=0.5, seed=7)
    assert state(busy, waiting) == "waiting"
    killed = busy.jobs.makers[1].pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: state(busy, job) == "failed")
    told = busy.client.get(f"/v1/jobs/{job}").json()["error"]
    assert "was killed by SIGKILL" in told and told.endswith("; ask again") and "\n" not in told
    until(lambda: busy.jobs.jobs[waiting].ended, 900)  # another starts
    assert busy.ended(waiting)["kind"] == "take"
    assert busy.jobs.makers[1].pid != killed and not lives(killed)


# -- when there is a process


class Counted(Maker):
    """In place of a process."""

    made: list["Counted"] = []

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.starts, self.stops, self.there = 0, 0, False
        self.made.append(self)

    @property
    def ready(self) -> bool:
        return self.there

    def start(self) -> None:
        self.starts += 1
        if self.starts == 1:
            raise MemoryError("too little memory")
        self.there = True

    def stop(self) -> None:
        self.stops += self.there
        self.there = False


def test_a_process_is_there_while_it_is_needed(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ProcessMaker", Counted)
    monkeypatch.setattr(jobs, "IDLE_S", 0.4)
    monkeypatch.setattr(jobs, "AGAIN_S", 0.1)
    monkeypatch.setattr(Counted, "made", [])
    slow: Any = SlowModel(MusicLM.from_pretrained(bundle.folder), 0.02)
    with serving(bundle, tmp_path / "takes", slow, workers=3, capacity=4) as service:
        second, third = Counted.made
        for seed in range(5):  # one after another
            service.made("generate", duration_s=0.5, seed=seed)
        assert second.starts == third.starts == 0
        long = [ask(service, "generate", **LONG, seed=seed) for seed in range(2)]
        until(lambda: [state(service, job) for job in long] == ["running"] * 2)
        assert {second.starts, third.starts} <= {0, 1, 2} and second.starts + third.starts >= 2, "the first start fails"
        more = ask(service, "generate", **LONG, seed=3)
        until(lambda: state(service, more) == "running")
        refused = service.client.post("/v1/generate", json=LONG, headers=JSON)
        assert refused.status_code == 202, "the fourth waits"
        assert service.client.post("/v1/generate", json=LONG, headers=JSON).status_code == 429
        for job in [*long, more, refused.json()["id"]]:
            service.client.delete(f"/v1/jobs/{job}")
        until(lambda: not second.there and not third.there)
        assert second.stops >= 1 and third.stops >= 1
        assert isinstance(service.made("generate", duration_s=0.5), dict)


def test_as_many_as_there_are_cores_but_two_at_most() -> None:
    assert default_workers("cuda", None, 8) == default_workers("cpu", 1, 8) == default_workers("cpu", 4, 1) == 1
    assert default_workers("cpu", 4, 8) == 2
