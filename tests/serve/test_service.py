"""The service as its clients meet it, over real connections."""

import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from musiclm.core.bundle import Bundle
from musiclm.generate.session import MusicLM
from tests.cli.test_cli import run
from tests.generate.test_melody import write_midi
from tests.mock import mock_bundle
from tests.serve.service import Service, SlowModel, serving, until

JSON = {"accept": "application/json"}


@pytest.fixture(scope="module")
def service(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(bundle, tmp_path_factory.mktemp("service") / "takes", workers=2, capacity=8) as running:
        yield running


@pytest.fixture(scope="module")
def slow(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    model: Any = SlowModel(MusicLM.from_pretrained(bundle.folder))
    with serving(bundle, tmp_path_factory.mktemp("slow") / "takes", model, capacity=2) as running:
        yield running


def tone(seconds: float = 1.5, rate_hz: int = 22050, kind: str = "WAV", level: float = 0.3) -> bytes:
    audio = level * np.sin(2 * np.pi * 330 * np.arange(round(seconds * rate_hz)) / rate_hz)
    file = io.BytesIO()
    soundfile.write(file, np.stack([audio, audio], 1), rate_hz, format=kind)
    return file.getvalue()


def upload(service: Service, data: bytes, name: str = "tone.wav", kind: str = "audio/wav") -> httpx.Response:
    return service.client.post("/v1/uploads", params={"name": name}, content=data, headers={"content-type": kind})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- the same bytes


def test_a_seed_gives_the_bytes_of_the_command_line(
    service: Service, bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["slow piano", "--duration", "1.3", "--seed", "4", "--take", "--model", bundle.folder]
    for suffix in ("wav", "opus", "flac", "mp3", "ogg"):
        assert run(monkeypatch, "generate", *line, "-o", f"{suffix}.{suffix}") == 0
    request = {"prompt": "slow piano", "duration_s": 1.3, "seed": 4}
    for kind, suffix in (("audio/wav", "wav"), ("audio/ogg", "opus")):
        answer = service.client.post("/v1/generate", json=request, headers={"accept": kind})
        assert answer.status_code == 200 and answer.headers["content-type"] == kind
        assert answer.content == Path(f"{suffix}.{suffix}").read_bytes()
    streamed = service.client.post("/v1/generate", json=request, headers={"accept": "audio/flac"}).content
    flac = Path("flac.flac").read_bytes()
    assert streamed[42:] == flac[42:] and len(streamed) == len(flac), "but for what the header has of the whole"
    take = service.made("generate", **request)
    for suffix in ("wav", "opus", "flac", "mp3", "ogg"):
        found = service.client.get(f"/v1/takes/{take['id']}/sound.{suffix}")
        assert found.content == Path(f"{suffix}.{suffix}").read_bytes(), suffix
    codes = service.client.get(f"/v1/takes/{take['id']}/codes.take")
    assert codes.content == Path("wav.take").read_bytes()
    assert codes.headers["content-disposition"] == f'attachment; filename="{take["id"]}.take"'
    assert service.client.post("/v1/render", json={"take": take["id"]}).content == Path("wav.wav").read_bytes()


def test_what_goes_on_does_so_as_on_the_command_line(
    service: Service, bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a take and from a recording, under the names that the service has for them."""
    first = service.made("generate", prompt="slow piano", duration_s=1.0, seed=9)
    sound = upload(service, tone()).json()
    assert sound["kind"] == "upload" and sound["duration_s"] == 1.5 and sound["name"] == "tone.wav"
    for source, suffix in ((first, "take"), (sound, "wav")):
        place = "codes.take" if suffix == "take" else "sound.wav"
        name = f"{source['id']}.{suffix}"
        Path(name).write_bytes(service.client.get(f"/v1/takes/{source['id']}/{place}").content)
        line = [name, "fast music", "--duration", "1", "--seed", "3", "--take", "-o", f"{suffix}-on.wav"]
        assert run(monkeypatch, "continue", *line, "--model", bundle.folder) == 0
        request = {"take": source["id"], "prompt": "fast music", "duration_s": 1, "seed": 3}
        answer = service.client.post("/v1/continue", json=request)
        assert answer.content == Path(f"{suffix}-on.wav").read_bytes()
        more = service.made("continue", **request)
        assert more["parent"] == source["id"] and more["verb"] == "continue"
        assert more["duration_s"] == more["made_to_s"] == pytest.approx(more["made_from_s"] + 1)
        codes = service.client.get(f"/v1/takes/{more['id']}/codes.take").content
        assert codes == Path(f"{suffix}-on.take").read_bytes()
        new = service.client.post("/v1/render", json={"take": more["id"], "new_only": True}).content
        assert soundfile.info(io.BytesIO(new)).frames == 24000
    gone = service.client.delete(f"/v1/takes/{first['id']}")
    assert gone.status_code == 409 and "takes were made from it" in gone.json()["detail"]


def test_a_story_and_edits_are_those_of_the_command_line(
    service: Service, bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tale.txt").write_text("0:00 slow piano tempo=90\n0:01 fast music\n")
    line = ["tale.txt", "--duration", "2", "--blend", "1", "--seed", "2", "--model", bundle.folder]
    assert run(monkeypatch, "story", *line, "-o", "tale.wav") == 0
    sections = [{"at_s": 0, "prompt": "slow piano", "tempo_bpm": 90}, {"at_s": 1, "prompt": "fast music"}]
    request = {"sections": sections, "duration_s": 2, "blend_s": 1, "seed": 2}
    assert service.client.post("/v1/story", json=request).content == Path("tale.wav").read_bytes()
    first = service.made("story", **request)
    name = f"{first['id']}.take"
    Path(name).write_bytes(service.client.get(f"/v1/takes/{first['id']}/codes.take").content)
    for verb, options, asked in (
        ("repaint", ["--from", "0.5", "--to", "1.25"], {"from_s": 0.5, "to_s": 1.25}),
        ("vary", ["--strength", "0.5"], {"strength": 0.5}),
        ("loop", ["--duration", "1", "--tempo", "240"], {"duration_s": 1, "tempo_bpm": 240}),
    ):
        options = [name, "fast music", *options, "--seed", "5", "--model", bundle.folder, "-o", f"{verb}.wav"]
        assert run(monkeypatch, verb, *options) == 0
        request = {"take": first["id"], "prompt": "fast music", "seed": 5, **asked}
        answer = service.client.post(f"/v1/{verb}", json=request)
        assert answer.content == Path(f"{verb}.wav").read_bytes(), verb
        made = service.made(verb, **request)
        assert made["verb"] == verb and made["parent"] == first["id"]


def test_a_melody_is_followed_as_on_the_command_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follows = mock_bundle(here / "follows", melody=True)
    with serving(follows, here / "takes") as service:
        assert service.client.get("/v1/about").json()["can_follow"] is True
        sound = upload(service, tone()).json()
        Path(f"{sound['id']}.wav").write_bytes(service.client.get(f"/v1/takes/{sound['id']}/sound.wav").content)
        line = ["slow piano", "--melody", f"{sound['id']}.wav", "--duration", "1", "--take", "--model", follows.folder]
        assert run(monkeypatch, "generate", *line, "-o", "told.wav") == 0
        request = {"prompt": "slow piano", "duration_s": 1, "melody": sound["id"]}
        assert service.client.post("/v1/generate", json=request).content == Path("told.wav").read_bytes()
        take = service.made("generate", **request)
        codes = service.client.get(f"/v1/takes/{take['id']}/codes.take").content
        assert codes == Path("told.take").read_bytes()
        silent = io.BytesIO()
        soundfile.write(silent, np.zeros(24000), 24000, format="WAV")
        for id, status, said in (
            (take["id"], 422, "is a take; upload the sound whose melody is to be followed"),
            ("0" * 16, 404, "there is no take or upload 0000000000000000"),
            ((quiet := upload(service, silent.getvalue()).json()["id"]), 422, f"the upload {quiet}: is silent"),
        ):
            answer = service.client.post("/v1/generate", json={**request, "melody": id})
            assert answer.status_code == status and said in answer.json()["detail"], answer.text
            assert str(here) not in answer.text and "\n" not in answer.json()["detail"]


def test_a_midi_file_is_a_melody_wherever_music_is_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its notes can be heard, and nothing can go on from it; a restart finds it again."""
    follows = mock_bundle(here / "follows", melody=True)
    tune = write_midi(here / "tune.mid", [(0.4 * i, 0.4 * i + 0.38, 60 + i, 0) for i in range(5)])
    with serving(follows, here / "takes") as service:
        answer = upload(service, tune.read_bytes(), "tune", "application/json")
        midi = answer.json()
        assert (
            answer.status_code == 201 and midi["verb"] == "midi" and midi["duration_s"] == pytest.approx(1.98, abs=0.01)
        )
        heard, rate_hz = soundfile.read(io.BytesIO(service.client.get(f"/v1/takes/{midi['id']}/sound.flac").content))
        assert rate_hz == 24000 and len(heard) == round(24000 * midi["duration_s"])
        first = service.made("generate", duration_s=1)
        Path(f"{midi['id']}.mid").write_bytes(tune.read_bytes())
        Path(f"{first['id']}.take").write_bytes(service.client.get(f"/v1/takes/{first['id']}/codes.take").content)
        Path("tale.txt").write_text("0:00 slow piano\n0:01 fast music\n")
        sections = [{"at_s": 0, "prompt": "slow piano"}, {"at_s": 1, "prompt": "fast music"}]
        for verb, asked, line in (
            ("generate", {"prompt": "slow piano", "duration_s": 1}, ["slow piano", "--duration", "1"]),
            ("story", {"sections": sections, "duration_s": 2}, ["tale.txt", "--duration", "2"]),
            ("continue", {"take": first["id"], "duration_s": 1}, [f"{first['id']}.take", "--duration", "1"]),
        ):
            line = [*line, "--melody", f"{midi['id']}.mid", "--model", follows.folder, "-o", f"{verb}.wav"]
            assert run(monkeypatch, verb, *line) == 0
            sound = service.client.post(f"/v1/{verb}", json={**asked, "melody": midi["id"]}).content
            assert sound == Path(f"{verb}.wav").read_bytes(), verb
            assert service.client.post(f"/v1/{verb}", json=asked).content != sound
        for verb in ("continue", "repaint", "vary", "loop"):
            answer = service.client.post(f"/v1/{verb}", json={"take": midi["id"]})
            assert answer.status_code == 422 and "is a MIDI file, which has a melody and no sound" in answer.text
        drums = write_midi(here / "drums.mid", [(0.0, 1.0, 36, 9)])
        for data, status, said in (
            (drums.read_bytes(), 422, "the upload: has no notes besides drums"),
            (b"MThd" + bytes(20), 422, "the upload: is a damaged MIDI file"),
            (b"MThd" + bytes(1_000_001), 415, "the upload is a MIDI file above 1 MB"),
        ):
            answer = upload(service, data)
            assert answer.status_code == status and said in answer.json()["detail"], answer.text
        monkeypatch.setitem(sys.modules, "mido", None)
        answer = upload(service, tune.read_bytes())
        assert answer.status_code == 415 and "this service can't read MIDI: the package mido" in answer.text
        monkeypatch.undo()
    (here / "takes" / "takes.sqlite").unlink()
    with serving(follows, here / "takes") as service:
        again = service.client.get(f"/v1/takes/{midi['id']}").json()
        assert again["verb"] == "midi" and again["duration_s"] == midi["duration_s"]


def test_load_changes_no_byte(service: Service) -> None:
    """Two are made at a time; each is what it is alone."""
    requests = [{"prompt": "slow piano", "duration_s": 1.5, "seed": seed} for seed in range(6)]
    alone = [service.client.post("/v1/generate", json=request).content for request in requests]
    together: dict[int, bytes] = {}

    def ask(index: int) -> None:
        together[index] = httpx.post(f"{service.url}/v1/generate", json=requests[index], timeout=60).content

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[index] for index in range(6)] == alone and len(set(alone)) == 6


# -- sound as it is made, jobs, events


def test_sound_comes_while_it_is_made(slow: Service) -> None:
    job = slow.client.post("/v1/generate", json={"duration_s": 14, "seed": 1}, headers=JSON)
    assert job.status_code == 202 and job.headers["location"] == f"/v1/jobs/{job.json()['id']}"
    where = job.headers["location"]
    with slow.client.stream("GET", f"{where}/sound.wav") as answer:
        pieces = answer.iter_bytes()
        next(pieces), next(pieces)
        told = slow.client.get(where).json()
        assert told["state"] == "running" and 0 < told["made_s"] < 14 and told["duration_s"] == 14
        assert 0 < told["share"] < 1 and told["left_s"] > 0
        assert told["understood"] == "no tempo in numbers, no key"
        for _ in pieces:
            pass
    take = slow.ended(job.json()["id"])
    late = slow.client.get(f"{where}/sound.wav").content
    assert late == slow.client.get(f"/v1/takes/{take['id']}/sound.wav").content


def test_events_tell_of_a_job_to_its_end(slow: Service) -> None:
    job = slow.client.post("/v1/generate", json={"duration_s": 1, "seed": 2}, headers=JSON).json()
    events = []
    with slow.client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                events.append(line.removeprefix("event: "))
            elif line.startswith("data: "):
                told = json.loads(line.removeprefix("data: "))
    assert set(events[:-1]) == {"progress"} and events[-1] == "end"
    assert told["state"] == "done" and told["share"] == 1 and told["take"] and told["taken_s"] > 0


def test_work_ends_when_the_listener_leaves(slow: Service) -> None:
    with slow.client.stream("POST", "/v1/generate", json={"duration_s": 60, "seed": 3}) as answer:
        sound = answer.iter_bytes()  # kept, for the connection ends with it
        next(sound)
        job = slow.client.get(answer.headers["location"]).json()
        assert job["state"] == "running"
    until(lambda: slow.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled")
    assert slow.client.get("/healthz").json()["running"] == 0


def test_who_leaves_the_queue_makes_room(slow: Service) -> None:
    """Before a byte of sound was sent, too."""
    running = slow.client.post("/v1/generate", json={"duration_s": 60, "seed": 4}, headers=JSON).json()
    with slow.client.stream("POST", "/v1/generate", json={"duration_s": 60, "seed": 5}) as answer:
        job = slow.client.get(answer.headers["location"]).json()
        assert job["state"] == "waiting" and answer.status_code == 200
    until(lambda: slow.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled")
    assert slow.client.get("/healthz").json()["waiting"] == 0
    cancelled = slow.client.delete(f"/v1/jobs/{running['id']}")
    assert cancelled.status_code == 200
    until(lambda: slow.client.get(f"/v1/jobs/{running['id']}").json()["state"] == "cancelled")
    assert slow.client.get(f"/v1/jobs/{running['id']}/sound.wav").status_code == 409
    assert slow.client.delete(f"/v1/jobs/{running['id']}").json()["state"] == "cancelled", "again: nothing happens"


def test_who_leaves_at_once_makes_room_too(slow: Service) -> None:
    """Before there was an answer."""
    import socket

    body = b'{"duration_s": 60, "seed": 6}'
    for _ in range(3):
        with socket.create_connection(slow.url.removeprefix("http://").split(":"), timeout=10) as raw:
            head = f"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            raw.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        time.sleep(0.05)
    until(lambda: slow.jobs.num_running == slow.jobs.num_waiting == 0)


@pytest.mark.slow  # a busy machine answers later than within a second
def test_fifty_clients_are_each_answered_or_refused_within_a_second(slow: Service) -> None:
    answers: list[tuple[float, int, str]] = []
    ready = threading.Barrier(50)
    stop = 0.0

    def ask(index: int) -> None:
        nonlocal stop
        with httpx.Client(base_url=slow.url, timeout=30, verify=False) as client:
            ready.wait()
            stop = stop or time.monotonic() + 4
            while time.monotonic() < stop:
                begun = time.monotonic()
                request = {"prompt": "slow piano", "duration_s": 0.6, "seed": index}
                with client.stream("POST", "/v1/generate", json=request) as answer:
                    answers.append(
                        (time.monotonic() - begun, answer.status_code, answer.headers.get("retry-after", ""))
                    )
                    if answer.status_code == 200:
                        assert len(answer.read()) > 28800
                if answer.status_code == 429:
                    time.sleep(0.1)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for _, status, _ in answers} == {200, 429}
    late = [seconds for seconds, _, _ in answers if seconds > 1]
    assert len(late) <= 0.01 * len(answers) and max(late, default=0) < 5, "but for what else this machine does"
    assert all(int(after) >= 1 for _, status, after in answers if status == 429)
    until(lambda: slow.jobs.num_running == 0)
    assert len(slow.jobs.jobs) <= 70 and slow.jobs.num_waiting == 0
    told = slow.client.get("/metrics").text
    assert 'musiclm_refused_total{reason="busy"}' in told and "musiclm_jobs_waiting 0.0" in told


# -- what is wrong


def test_a_bundle_that_can_follow_none_says_so(unsteered: Bundle, tmp_path: Path) -> None:
    """Before a melody is looked for, and whether sound or a job is asked for."""
    with serving(unsteered, tmp_path / "takes") as service:
        assert service.client.get("/v1/about").json()["can_follow"] is False
        sound = upload(service, tone()).json()
        for melody in (sound["id"], "0" * 16):
            for headers in (JSON, {"accept": "audio/wav"}):
                answer = service.client.post("/v1/generate", json={"melody": melody}, headers=headers)
                assert answer.status_code == 422 and "\n" not in answer.json()["detail"]
                assert answer.json()["detail"].startswith("the bundle mock can't follow a melody")


@pytest.mark.parametrize(
    ("verb", "request_", "status", "line"),
    [
        ("generate", {"prompt": " "}, 422, "prompt: the prompt is empty; describe the music"),
        ("generate", {"prompt": "a\ud800b"}, 422, "prompt"),
        (
            "generate",
            {"duration_s": 0.1},
            422,
            "duration_s: the duration is 0.1 s; it must lie between 0.5 s and 600 s",
        ),
        ("generate", {"duration_s": "NaN"}, 422, "duration_s"),
        ("generate", {"seed": -1}, 422, "seed"),
        ("generate", {"seed": 2**63}, 422, "seed"),
        ("generate", {"tempo_bpm": 301}, 422, "tempo_bpm: the tempo is 301.0 BPM; it must lie between 30 and 300"),
        ("generate", {"key": "H moll"}, 422, "key: 'H moll' is no key; write one such as 'D minor'"),
        ("generate", {"guidance": 2}, 422, "guidance does nothing without a prompt"),
        ("generate", {"acoustic": "ar", "storm_temperature": 1}, 422, "the storm temperature does nothing here"),
        ("generate", {"tempo": 120}, 422, "tempo: Extra inputs are not permitted"),
        ("generate", {"melody": "hum.wav"}, 422, "melody: String should match pattern"),
        ("generate", [], 422, "valid dictionary"),
        ("story", {"sections": []}, 422, "sections: List should have at least 1 item"),
        ("story", {"sections": [{"at_s": 3, "prompt": "a"}]}, 422, "the first section is at 0:03; it must be at 0:00"),
        ("story", {"sections": [{"at_s": 0, "prompt": "a", "key": "H"}]}, 422, "sections.0.key: 'H' is no key"),
        ("repaint", {"take": "0" * 16, "from_s": -1}, 422, "from_s: Input should be greater than or equal to 0"),
        ("vary", {"take": "0" * 16, "strength": 2}, 422, "strength: Input should be less than or equal to 1"),
        ("vary", {"take": "0" * 16}, 404, "there is no take or upload"),
        ("continue", {"take": "0" * 16}, 404, "there is no take or upload 0000000000000000"),
        ("continue", {"take": "../../etc/passwd"}, 422, "take: String should match pattern"),
        ("continue", {}, 422, "take: Field required"),
        ("render", {"take": "f" * 16}, 404, "there is no take or upload ffff"),
    ],
)
def test_each_mistake_is_one_line(service: Service, verb: str, request_: Any, status: int, line: str) -> None:
    answer = service.client.post(f"/v1/{verb}", content=json.dumps(request_), headers={"content-type": JSON["accept"]})
    told = answer.json()
    assert answer.status_code == status and line in told["detail"] and "\n" not in told["detail"], told
    assert set(told) == {"detail"}


def test_what_is_no_json_or_wants_what_there_is_not(service: Service) -> None:
    post = service.client.post
    assert "the body is no JSON" in post("/v1/generate", content=b"{", headers={"content-type": JSON["accept"]}).text
    answer = post("/v1/generate", json={}, headers={"accept": "text/html"})
    assert answer.status_code == 406 and "audio/flac" in answer.json()["detail"]
    assert service.client.get("/v1/nothing").json() == {"detail": "Not Found"}
    assert service.client.put("/v1/generate").status_code == 405
    assert post("/v1/generate", json={"prompt": "a" * 300_000}).status_code == 413
    # a body of no stated length is counted as it comes
    long = post("/v1/generate", content=iter([b"{" + b" " * 100_000] * 4), headers={"content-type": JSON["accept"]})
    assert long.status_code == 413 and "262144 bytes" in long.json()["detail"]


def test_what_is_longer_than_the_service_makes_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "takes", max_duration_s=2.0, max_sound_s=3.0, max_upload_mb=0.2) as service:
        answer = service.client.post("/v1/generate", json={"duration_s": 2.5})
        assert answer.status_code == 422 and "makes at most 2 s" in answer.json()["detail"]
        take = service.made("generate", duration_s=2.0)
        answer = service.client.post("/v1/continue", json={"take": take["id"], "duration_s": 1.5})
        assert answer.status_code == 422 and "new_only" in answer.json()["detail"]
        answer = service.client.post("/v1/continue", json={"take": take["id"], "duration_s": 1.5, "new_only": True})
        assert answer.status_code == 200
        assert upload(service, tone(3.5, 8000)).json()["detail"].startswith("the upload is longer than 3 s")
        assert upload(service, tone(2.9)).status_code == 413
        told = service.client.get("/v1/about").json()
        assert told["limits"]["duration_s"] == 2 and "render" in [verb["name"] for verb in told["verbs"]]


# -- uploads


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_a_sound_of_any_kind_goes_on(service: Service, kind: str) -> None:
    """Whatever it says it is: the bytes tell."""
    data = tone(1.1, 44100, kind)
    answer = upload(service, data, "../../../etc/passwd", "image/png")
    told = answer.json()
    assert answer.status_code == 201 and told["name"] == "../../../etc/passwd" and told["duration_s"] > 1
    assert service.made("continue", take=told["id"], duration_s=0.5)["parent"] == told["id"]
    names = {path.name for path in service.settings.folder.rglob("*")}
    assert "passwd" not in names and f"{told['id']}.{kind.lower()}" in names
    again = upload(service, data, "again")
    assert again.json()["id"] == told["id"]


@pytest.mark.parametrize(
    ("data", "status", "line"),
    [
        (b"", 415, "no sound that can be read here"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), 415, "no sound that can be read here"),
        (b"#EXTM3U\nfile:///etc/passwd\n", 415, "no sound that can be read here"),
        (b"RIFF\xff\xff\xff\xffWAVE", 415, "no sound"),
        (tone(0.1), 422, "the upload has 0.10 s of sound; send 0.5 s or more"),
        (tone(2)[:40000], 422, "the upload: truncated"),
        (tone(1, 22050, "FLAC")[:-3000], 422, "the upload"),
    ],
)
def test_what_is_no_sound_is_refused(service: Service, data: bytes, status: int, line: str) -> None:
    before = sorted(service.settings.folder.rglob("*"))
    answer = upload(service, data)
    assert answer.status_code == status and line in answer.json()["detail"], answer.text
    assert "/" not in answer.json()["detail"].replace("and/or", ""), "no path of the machine"
    assert sorted(service.settings.folder.rglob("*")) == before


def test_many_channels_are_refused(service: Service) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((24000, 9), np.float32), 24000, format="WAV")
    assert "9 channels" in upload(service, file.getvalue()).json()["detail"]


# -- takes


def test_takes_are_named_kept_and_removed(service: Service) -> None:
    take = service.made("generate", prompt="slow piano", duration_s=0.5, seed=77)
    where = f"/v1/takes/{take['id']}"
    assert take["name"] == "slow piano" and not take["kept"] and take["about"]["seed"] == 77
    told = service.client.patch(where, json={"name": "Ä <b>name</b>/..", "kept": True}).json()
    assert told["name"] == "Ä <b>name</b>/.." and told["kept"]
    assert service.client.patch(where, json={"name": ""}).status_code == 422
    saved = service.client.get(f"{where}/sound.flac", params={"download": True}).headers["content-disposition"]
    assert saved == "attachment; filename*=utf-8''%C3%84%20_b_name__b____.flac"
    part = service.client.get(f"{where}/sound.wav", headers={"range": "bytes=0-3"})
    assert part.status_code == 206 and part.content == b"RIFF"
    assert take["id"] in [one["id"] for one in service.client.get("/v1/takes").json()["takes"]]
    assert service.client.delete(where).status_code == 204 and service.client.get(where).status_code == 404
    assert not list(service.settings.folder.rglob(f"{take['id']}*"))
    assert service.made("generate", prompt="slow piano", duration_s=0.5, seed=77)["id"] == take["id"]


@pytest.mark.parametrize(
    "path",
    [
        *("/studio/../app.py", "/studio/%2e%2e/app.py", "/studio/..%2fapp.py", "/studio//etc/passwd"),
        *("/v1/takes/..%2f..%2ftakes.sqlite/sound.wav", "/v1/takes/../sound.wav", "/v1/jobs/%00/sound.wav"),
    ],
)
def test_paths_do_not_get_out(service: Service, path: str) -> None:
    import socket

    with socket.create_connection(service.url.removeprefix("http://").split(":"), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split()[1] in (b"404", b"422", b"400"), answer[:300]
    assert b"root:" not in answer and b"SQLite" not in answer


def test_what_nobody_keeps_makes_room(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "takes", max_takes=3) as service:
        first = service.made("generate", duration_s=0.5, seed=0)
        second = service.made("generate", duration_s=0.5, seed=1)
        service.client.patch(f"/v1/takes/{second['id']}", json={"kept": True})
        child = service.made("continue", take=first["id"], duration_s=0.5)
        fourth = service.made("generate", duration_s=0.5, seed=2)
        there = [take["id"] for take in service.client.get("/v1/takes").json()["takes"]]
        assert there == [first["id"], second["id"], fourth["id"]], "not the first, for the child came of it"
        service.client.patch(f"/v1/takes/{fourth['id']}", json={"kept": True})
        service.client.patch(f"/v1/takes/{first['id']}", json={"kept": True})
        answer = service.client.post("/v1/generate", json={"duration_s": 0.5, "seed": 3})
        assert answer.status_code == 507 and "3 takes" in answer.json()["detail"] and child


# -- who may ask


def test_a_key_is_asked_for_where_one_is_set(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "takes", api_key="a long secret") as service:
        get, post = service.client.get, service.client.post
        assert get("/").status_code == 200 and get("/healthz").status_code == 200
        for path in ("/v1/takes", "/metrics", "/openapi.json", "/v1/jobs"):
            answer = get(path)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", path
        assert get("/v1/takes", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert get("/v1/takes", headers={"authorization": "Bearer a long secret"}).status_code == 200
        assert get("/v1/takes", headers={"cookie": "musiclm=a long secret"}).status_code == 401
        assert post("/v1/session", json={"key": "wrong"}).status_code == 401
        signed = post("/v1/session", json={"key": "a long secret"})
        assert signed.status_code == 204 and "HttpOnly" in signed.headers["set-cookie"]
        assert "SameSite=strict" in signed.headers["set-cookie"] and "secret" not in signed.headers["set-cookie"]
        assert get("/v1/takes").status_code == 200, "by the cookie"


def test_pages_from_elsewhere_are_refused(service: Service) -> None:
    """Whose names lead here, or that send what a form can send."""
    get, post = service.client.get, service.client.post
    assert get("/v1/takes", headers={"host": "evil.example"}).status_code == 421
    assert get("/v1/takes", headers={"host": "localhost:80"}).status_code == 200
    assert get("/v1/takes", headers={"host": "[::1"}).status_code in (400, 421)
    own = service.url.removeprefix("http://")
    for origin, status in (("http://evil.example", 403), ("null", 403), (f"http://{own}", 200)):
        assert post("/v1/generate", json={"duration_s": 0.5}, headers={"origin": origin}).status_code == status
    assert service.client.get("/").headers["content-security-policy"].startswith("default-src 'self'")


def test_too_many_requests_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "takes", requests_per_minute=5) as service:
        found = [service.client.patch("/v1/takes/" + "0" * 16, json={}) for _ in range(7)]
        assert [answer.status_code for answer in found] == [404] * 5 + [429] * 2
        assert 1 <= int(found[-1].headers["retry-after"]) <= 12 and "5 requests a minute" in found[-1].text
        assert service.client.get("/v1/takes").status_code == 200, "reading costs nothing"
