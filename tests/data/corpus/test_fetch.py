"""Originals below URLs and in tar shards give the tracks that they give in a folder."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from musiclm.data.corpus import CorpusError, build_corpus, fetch, load_manifest
from musiclm.data.corpus import build as build_module
from musiclm.data.corpus.manifest import load_skipped

fsspec = pytest.importorskip("fsspec")


def build(source, out, **options):
    return build_corpus([str(source)], out, **{"jobs": 1, "progress": False, **options})


def read(out):
    return (out / "manifest.jsonl").read_text(), (out / "skipped.jsonl").read_text()


def reasons(out):
    return {line["origin"]: line["reason"] for line in load_skipped(out)}


def make_shard(path: Path, files: list[Path], facts: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for number, file in enumerate(files):
            if facts is not None:  # before the sound, as often as not
                data = json.dumps(facts).encode()
                member = tarfile.TarInfo(f"x/{number:04d}.json")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            tar.add(file, f"x/{number:04d}{file.suffix}")
            tar.addfile(tarfile.TarInfo(f"x/{number:04d}.txt"), io.BytesIO())
    return path


@pytest.fixture
def whole(music, tmp_path):
    (music / "broken.wav").write_text("no sound")
    build(music, tmp_path / "whole")
    return tmp_path / "whole"


def test_a_url_of_files_gives_the_manifest_of_the_folder(music, whole, tmp_path):
    build(f"file://{music}", tmp_path / "file")
    assert read(tmp_path / "file") == read(whole)
    memory = fsspec.filesystem("memory")
    memory.put(str(music), "/bucket/music", recursive=True)
    try:
        build("memory://bucket/music/", tmp_path / "memory")
        assert read(tmp_path / "memory") == read(whole)
        assert build("memory://bucket/music", tmp_path / "memory").num_decoded == 0
        memory.rm("/bucket/music/broken.wav")
        assert build("memory://bucket/music", tmp_path / "memory").num_skipped == 0
    finally:
        memory.rm("/bucket", recursive=True)


def test_shards_give_the_tracks_of_the_folder(music, whole, tmp_path, monkeypatch):
    files = sorted(path for path in music.rglob("piece*") if path.is_file())
    shards = tmp_path / "shards"
    shards.mkdir()
    make_shard(shards / "0.tar", files[:7], {"title": "Air", "licence": "CC0", "genre": "folk", "bpm": "\ud800"})
    make_shard(shards / "1.tar", files[7:])
    build(shards, tmp_path / "out")
    tracks = load_manifest(tmp_path / "out")
    assert {track.sha256 for track in tracks} == {track.sha256 for track in load_manifest(whole)}
    assert {(track.title, track.licence, track.genre) for track in tracks if track.package == "0.tar"} == {
        ("Air", "CC0", "folk")
    }
    assert all(track.title.startswith("No. ") for track in tracks if track.package == "1.tar")
    assert "0.tar/x/0000.wav" in {track.origin for track in tracks}
    build(f"file://{shards}", tmp_path / "url")
    assert read(tmp_path / "url") == read(tmp_path / "out")
    build(shards / "0.tar", tmp_path / "one")
    build(f"file://{shards}/0.tar", tmp_path / "one-url")
    assert read(tmp_path / "one") == read(tmp_path / "one-url")
    assert len(load_manifest(tmp_path / "one")) == 7
    # neither listed nor decoded again, unless a shard changes
    listed: list[str] = []
    monkeypatch.setattr(
        build_module, "list_shard", lambda shard: listed.append(shard.origin) or fetch.list_shard(shard)
    )
    before = read(tmp_path / "out")
    assert build(shards, tmp_path / "out").num_decoded == 0 and not listed
    assert read(tmp_path / "out") == before
    make_shard(shards / "1.tar", files[7:9])
    assert build(shards, tmp_path / "out").num_decoded == 2 and listed == ["1.tar"]
    assert len(load_manifest(tmp_path / "out")) == 9


def test_a_damaged_shard_gives_what_is_before_the_damage(music, tmp_path):
    files = sorted(path for path in music.rglob("piece*.wav"))
    shards = tmp_path / "shards"
    shards.mkdir()
    data = make_shard(shards / "good.tar", files).read_bytes()
    with tarfile.open(shards / "good.tar") as tar:
        third = [member for member in tar if member.name.endswith(".wav")][2]
    (shards / "cut.tar").write_bytes(data[: third.offset_data + third.size // 2])
    (shards / "torn.tar").write_bytes(data[: third.offset] + b"\x55" * 512 + data[third.offset + 512 :])
    (shards / "page.tar").write_text("<html>" * 200)
    (shards / "empty.tar").touch()
    make_shard(shards / "silent.tar", [])
    for name, left in (("cut", 2), ("torn", 2), ("page", 0), ("empty", 0), ("silent", 0)):
        only = tmp_path / name
        only.mkdir()
        shutil.copy(shards / f"{name}.tar", only)
        if not left:
            with pytest.raises(CorpusError, match=r"no usable audio.*\.tar"):
                build(only, tmp_path / f"{name}-out")
            continue
        build(only, tmp_path / f"{name}-out")
        assert len(load_manifest(tmp_path / f"{name}-out")) == left
        assert "make it again" in reasons(tmp_path / f"{name}-out")[f"{name}.tar"]
    build(shards, tmp_path / "all")
    assert len(load_manifest(tmp_path / "all")) == len(files)


def test_what_can_not_be_fetched_is_tried_again(music, tmp_path, monkeypatch):
    opened = fetch._opened

    def failing(item):
        if "piece b" in item.origin:
            raise ConnectionError("the line is down")
        return opened(item)

    monkeypatch.setattr(fetch, "_opened", failing)
    assert build(f"file://{music}", tmp_path / "out").num_tracks == 11
    assert "can't be fetched (the line is down)" in reasons(tmp_path / "out")["album 0/piece b.flac"]
    monkeypatch.setattr(fetch, "_opened", opened)
    report = build(f"file://{music}", tmp_path / "out")
    assert (report.num_decoded, report.num_tracks, report.num_skipped) == (1, 12, 0)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("nothing://bucket/x", "can't be listed"),
        ("memory://nowhere", "no audio files there"),
        ("file:///nowhere/at/all.tar", "can't be listed"),
        ("ftp://me:secret@127.0.0.1:9/x", "can't be listed"),
    ],
)
def test_urls_that_do_not_answer(url, what, tmp_path):
    with pytest.raises(CorpusError, match=what) as caught:
        build(url, tmp_path / "out")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    assert not (tmp_path / "out").exists()
