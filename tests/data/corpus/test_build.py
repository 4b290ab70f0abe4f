"""Whole builds: what goes in comes out, what is broken is listed, a kill costs nothing but time."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter

import numpy as np
import pytest
import soundfile

from musiclm import cli
from musiclm.core.audio import write_audio
from musiclm.core.engines import LocalEngine
from musiclm.data.corpus import CorpusError, build_corpus, load_manifest
from musiclm.data.corpus import build as build_module
from musiclm.data.corpus import sources as sources_module
from musiclm.data.corpus.manifest import load_skipped

from .conftest import melody

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


def build(music, out, **options):
    return build_corpus([str(music)], out, **{"jobs": 1, "progress": False, **options})


def read(out):
    return (out / "manifest.jsonl").read_text(), (out / "skipped.jsonl").read_text()


def test_a_folder_becomes_a_corpus(music, tmp_path):
    report = build(music, tmp_path / "out")
    tracks = load_manifest(tmp_path / "out")
    assert report.num_tracks == len(tracks) == 12 and report.num_skipped == 0 and report.num_decoded == 12
    assert [track.origin for track in tracks] == sorted(track.origin for track in tracks)
    assert {track.package for track in tracks} == {"album 0", "album 1"}
    assert {track.split for track in tracks} == {"train", "validation", "test"}
    assert report.hours == pytest.approx(12 * 3 / 3600, rel=0.02)
    for track in tracks:
        audio, rate_hz = soundfile.read(tmp_path / "out" / track.path)
        assert rate_hz == 24000 and audio.ndim == 1 and len(audio) == pytest.approx(track.seconds * 24000, abs=3)
        assert track.title.startswith("No. ") and track.licence == "unknown" and track.source == "music"


def test_two_processes_make_the_same_corpus_as_one(music, tmp_path):
    build(music, tmp_path / "one")
    build(music, tmp_path / "two", jobs=2)
    assert read(tmp_path / "one") == read(tmp_path / "two")


def test_bad_files_are_listed_and_stop_nothing(music, tmp_path):
    whole = (music / "album 0" / "piece a.wav").read_bytes()
    (music / "empty.wav").write_bytes(b"")
    (music / "cut.wav").write_bytes(whole[:20000])
    (music / "page.mp3").write_text("<html>not found</html>")
    (music / "picture.png").write_bytes(b"\x89PNG")  # no audio suffix: not looked at
    (music / "gone.flac").symlink_to(tmp_path / "nowhere.flac")
    write_audio(music / "silence.wav", np.zeros(48000))
    soundfile.write(music / "nan.wav", np.full(48000, np.nan, np.float32), 24000, subtype="FLOAT")
    soundfile.write(music / "none.wav", np.zeros((0, 2)), 44100)
    shutil.copy(music / "album 0" / "piece b.flac", music / "copy of b.flac")
    write_audio(music / "wide.wav", np.stack([melody(77, 2.0, 192000)] * 8), 192000)
    soundfile.write(music / "narrow.wav", melody(78, 2.0, 8000), 8000)
    build(music, tmp_path / "out")
    reasons = {line["origin"]: line["reason"] for line in load_skipped(tmp_path / "out")}
    expected = {
        "empty.wav": "0 bytes",
        "cut.wav": "truncated",
        "page.mp3": "not audio",
        "gone.flac": "no such file",
        "silence.wav": "silent",
        "nan.wav": "NaN",
        "none.wav": "0 samples",
        "album 0/piece b.flac": "same audio as",
    }
    for origin, reason in expected.items():
        assert reason in reasons.pop(origin) or (origin == "page.mp3" and shutil.which("ffmpeg") is None)
    assert not reasons
    assert len(load_manifest(tmp_path / "out")) == 14
    assert not list((tmp_path / "out" / "audio").glob(".*"))


def test_a_second_run_decodes_only_what_is_new_or_changed(music, tmp_path, monkeypatch):
    decoded = []
    original = build_module.ingest
    monkeypatch.setattr(
        build_module, "ingest", lambda files, folder: decoded.append(files[0].name) or original(files, folder)
    )
    build(music, tmp_path / "out")
    assert len(decoded) == 12
    decoded.clear()
    before = read(tmp_path / "out")
    assert build(music, tmp_path / "out").num_decoded == 0 and read(tmp_path / "out") == before
    write_audio(music / "new.wav", melody(50))
    write_audio(music / "album 0" / "piece a.wav", melody(51))
    (tmp_path / "out" / load_manifest(tmp_path / "out")[-1].path).unlink()
    build(music, tmp_path / "out")
    assert sorted(decoded) == ["new.wav", "piece a.wav", "piece l.mp3"]
    (music / "new.wav").unlink()
    build(music, tmp_path / "out")
    assert len(load_manifest(tmp_path / "out")) == 12  # the manifest is what the sources hold now


def test_a_journal_cut_in_mid_line_costs_one_track(music, tmp_path):
    build(music, tmp_path / "out")
    before = read(tmp_path / "out")
    journal = tmp_path / "out" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    assert build(music, tmp_path / "out").num_decoded == 1
    assert read(tmp_path / "out") == before
    assert build(music, tmp_path / "out").num_decoded == 0


def test_killed_and_started_again_it_ends_the_same(music, tmp_path):
    build(music, tmp_path / "whole")
    code = (
        "import sys, pathlib\nfrom musiclm.data.corpus import build_corpus\n"
        "if __name__ == '__main__':\n"
        "    build_corpus([sys.argv[1]], pathlib.Path(sys.argv[2]), jobs=2, progress=False)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, script, music, out])
    journal = out / "journal.jsonl"
    while process.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"{") >= 2):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(200):  # the workers notice that their parent is gone, and let go of the lock
        try:
            report = build(music, out)
            break
        except CorpusError as error:
            assert "another build" in str(error)
            time.sleep(0.05)
    assert report.num_decoded < 12
    assert read(out) == read(tmp_path / "whole")


def _kill_process(item, audio_dir):
    if item.origin.endswith("piece c.ogg"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return build_module._decode_item(item, audio_dir)


def test_a_decoder_that_crashes_costs_its_own_track_only(music, tmp_path):
    items = sources_module.folder_items(music)
    (tmp_path / "audio").mkdir()
    with LocalEngine(2) as workers:
        ended = []
        for item in items[:6]:
            workers.submit(item.origin, _kill_process, item, tmp_path / "audio")
        while workers.num_pending:
            ended += workers.wait()
    assert len(ended) == 6
    assert [name for name, _, crash in ended if crash] == ["album 0/piece c.ogg"]


def test_one_build_at_a_time(music, tmp_path):
    with build_module.locked(tmp_path / "out", "--out"), pytest.raises(CorpusError, match="another build"):
        build(music, tmp_path / "out")


@pytest.mark.parametrize(
    ("sources", "options", "what"),
    [
        ([], {}, "no source"),
        (["/nowhere/at/all"], {}, "no such folder"),
        (["EMPTY"], {}, "no audio files"),
        (["BROKEN"], {}, "no usable audio.*0 bytes"),
        (["BROKEN"], {"jobs": 0}, "at least 1"),
    ],
)
def test_wrong_sources(tmp_path, sources, options, what):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "BROKEN").mkdir()
    (tmp_path / "BROKEN" / "a.wav").touch()
    named = [str(tmp_path / source) if source.isupper() else source for source in sources]
    with pytest.raises(CorpusError, match=what) as caught:
        build_corpus(named, tmp_path / "out", **{"jobs": 1, "progress": False, **options})
    assert "\n" not in str(caught.value)


@pytest.fixture
def games(tmp_path, monkeypatch):
    """A cache of two small packages, one with a pk3 inside, and a table for them."""
    tree, cache = tmp_path / "tree", tmp_path / "cache"
    cache.mkdir()
    for package in ("one-data", "two-data"):
        files = tree / package / "usr/share/games"
        files.mkdir(parents=True)
        (tree / package / "DEBIAN").mkdir()
        control = f"Package: {package}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: test\n"
        (tree / package / "DEBIAN/control").write_text(control)
        for number in range(3):
            write_audio(files / f"song{number}.ogg", melody(len(package) + 10 * number + (package == "two-data"), 2.0))
        if package == "two-data":
            inner = write_audio(tree / "inner.ogg", melody(90, 2.0))
            with zipfile.ZipFile(files / "data.pk3", "w") as archive:
                archive.write(inner, "music/inner.ogg")
        subprocess.run(
            ["dpkg-deb", "-b", tree / package, cache / f"{package}_1_all.deb"], check=True, capture_output=True
        )
    header = "package\tpath\tuse\tpiece\ttitle\tartist\tgenre\tlicence\tmd5\n"
    rows = [("one-data", f"usr/share/games/song{n}.ogg", "music", "", f"Song {n}") for n in range(2)]
    rows += [("one-data", "usr/share/games/missing.ogg", "music", "", "")]
    rows += [("two-data", "usr/share/games/song0.ogg|usr/share/games/song1.ogg", "music", "both", "Both")]
    rows += [
        ("two-data", "usr/share/games/song2.ogg", "effect", "", ""),
        ("two-data", "pk/music/inner.ogg", "music", "", ""),
    ]
    table = tmp_path / "debian_games.tsv"
    table.write_text(
        header + "".join("\t".join([*row, "Somebody", "", "GPL-2", str(n)]) + "\n" for n, row in enumerate(rows))
    )
    monkeypatch.setattr(sources_module.resources, "files", lambda package: tmp_path)
    monkeypatch.setattr(sources_module, "HELD_OUT_PACKAGES", {"two-data"})
    return cache


@needs_dpkg
def test_packages_nested_archives_and_stems(games, tmp_path):
    build("debian-games", tmp_path / "out", cache=games)
    tracks = {track.origin.rsplit("/", 1)[-1]: track for track in load_manifest(tmp_path / "out")}
    assert set(tracks) == {"song0.ogg", "song1.ogg", "inner.ogg"}  # stems have the name of the last
    assert tracks["song0.ogg"].licence == "GPL-2" and tracks["song0.ogg"].artist == "Somebody"
    assert tracks["inner.ogg"].held_out and tracks["inner.ogg"].split == "test"
    assert Counter(track.package for track in load_manifest(tmp_path / "out")) == {"one-data": 2, "two-data": 2}
    reasons = {line["origin"].rsplit("/", 1)[-1]: line["reason"] for line in load_skipped(tmp_path / "out")}
    assert reasons == {"missing.ogg": "not in the package", "song2.ogg": "not music (effect)"}
    assert list((games / "unpacked").iterdir()) == []
    assert build("debian-games", tmp_path / "out", cache=games).num_decoded == 0


@needs_dpkg
def test_a_half_fetched_package_is_not_used_and_the_others_are(games, tmp_path, monkeypatch):
    deb = games / "two-data_1_all.deb"
    whole = deb.read_bytes()
    for size in (0, 7, 50, 100, len(whole) // 2, len(whole) - 2):
        deb.write_bytes(whole[:size])
        assert sources_module.find_deb("two-data", games) is None
    which = shutil.which
    monkeypatch.setattr(sources_module.shutil, "which", lambda name: None if name == "apt-get" else which(name))
    report = build("debian-games", tmp_path / "out", cache=games)
    assert report.num_tracks == 2
    reasons = [line["reason"] for line in load_skipped(tmp_path / "out") if line["package"] == "two-data"]
    assert any("apt-get is not here" in reason for reason in reasons)
    deb.write_bytes(whole)  # what could not be had is tried again
    assert build("debian-games", tmp_path / "out", cache=games).num_tracks == 4


def test_without_debian_tools_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sources_module.shutil, "which", lambda name: None)
    with pytest.raises(CorpusError, match="dpkg-deb, which is not here"):
        build("debian-games", tmp_path / "out", cache=tmp_path)


def test_command_line(music, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "out")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["musiclm", "corpus", *arguments])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code
        return 0

    assert run("build", str(music), "--out", out, "--jobs", "1", "--no-progress") == 0
    assert run("show", out) == 0
    shown = capsys.readouterr().out
    assert "12 tracks" in shown and "train" in shown and "unknown" in shown
    for arguments in (["show", str(tmp_path / "none")], ["build", str(tmp_path / "none"), "--out", out]):
        assert run(*arguments) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"id": "x"}) + "\n")
    with pytest.raises(CorpusError, match="line 1"):
        load_manifest(tmp_path)
