"""`corpus render`: a corpus like any other; stopped and resumed equals never stopped."""

import json
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from musiclm.arrange.corpus import build as corpus
from musiclm.arrange.read.mma import find_mma
from musiclm.arrange.render.soundfonts import SOUNDFONTS, RenderError
from musiclm.arrange.score import from_json
from musiclm.data.corpus.manifest import CorpusError, load_manifest
from tests.arrange.soundfont import write_soundfont
from tests.arrange.toy_mma import write_mma
from tests.arrange.toy_works import chords, drums, midi, scale

STYLES = ("piano nocturne", "tango", "lullaby music box")  # small bands; one is held out
HOURS = 230 / 3600


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sf2")
    write_soundfont(folder / SOUNDFONTS[0].file)
    return folder


def make(out: Path, fonts: Path, hours: float = HOURS, **settings: object) -> corpus.RenderReport:
    return corpus.render_corpus(
        hours, 7, out, styles=STYLES, soundfont_folders=[fonts], renderers=("symusic",), progress=False, **settings
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fonts: Path) -> Path:
    out = tmp_path_factory.mktemp("whole") / "corpus"
    make(out, fonts)
    return out


def contents(out: Path) -> dict[str, bytes]:
    names = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith((".", "journal"))]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in names}


def test_it_is_a_corpus_with_scores(whole: Path) -> None:
    tracks = load_manifest(whole)
    assert sum(track.seconds for track in tracks) >= HOURS * 3600
    for track in tracks:
        samples, rate_hz = soundfile.read(whole / track.path, dtype="float32")
        assert rate_hz == 24000 and abs(len(samples) - track.seconds * 24000) < 2
        assert 0.05 < np.abs(samples).max() <= 0.96
        score = from_json((whole / "scores" / f"{track.id}.json").read_text())
        assert score.style == track.package and track.seconds == pytest.approx(score.seconds + 2.5, abs=0.01)
        midi = mido.MidiFile(whole / "midi" / f"{track.id}.mid")
        assert midi.length == pytest.approx(score.seconds, abs=4.0)
        assert len(midi.tracks) == len(score.parts) + 1
        assert track.source == "rendered" and "MIT" in track.licence and "own: Apache-2.0" in track.licence
        assert track.held_out == (track.package == "tango")
        assert not track.held_out or track.split == "test"


def test_stopped_and_resumed_equals_never_stopped(
    whole: Path, fonts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "corpus"
    real = corpus.make_piece

    def killed_at_the_second(number: int, job: corpus.RenderJob) -> dict[str, object]:
        if number == 1:
            raise KeyboardInterrupt
        return real(number, job)

    monkeypatch.setattr(corpus, "make_piece", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make(out, fonts)
    monkeypatch.setattr(corpus, "make_piece", real)
    with open(out / "journal.jsonl", "ab") as journal:
        journal.write(b'{"number": 2, "sta')  # a line that the kill cut
    (out / "audio" / ".1-left.flac").write_bytes(b"half")
    report = make(out, fonts)
    assert report.num_rendered == report.num_tracks - 1
    assert contents(out) == contents(whole)
    assert make(out, fonts).num_rendered == 0


def test_more_hours_change_no_piece(whole: Path, fonts: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    make(out, fonts, hours=60 / 3600)
    few = {track.id for track in load_manifest(out)}
    assert few < {track.id for track in load_manifest(whole)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"hours": 0.0}, "--hours"), ({"hours": float("nan")}, "--hours"), ({"jobs": 0}, "--jobs")],
)
def test_bad_settings_are_one_line(tmp_path: Path, fonts: Path, settings: dict[str, float], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        make(tmp_path / "corpus", fonts, **settings)  # type: ignore[arg-type]


def test_other_things_that_are_wrong(tmp_path: Path, fonts: Path) -> None:
    with pytest.raises(CorpusError, match="no style 'yodel'"):
        corpus.render_corpus(1, 0, tmp_path / "a", styles=["yodel"], soundfont_folders=[fonts], progress=False)
    with pytest.raises(RenderError, match="fluid-soundfont-gm"):
        corpus.render_corpus(1, 0, tmp_path / "b", soundfont_folders=[tmp_path], renderers=("symusic",), progress=False)
    with pytest.raises(ValueError, match="no such folder"):
        make(tmp_path / "c", fonts, sources=tmp_path / "missing")
    recordings = tmp_path / "d"
    recordings.mkdir()
    line = {
        "id": "0", "path": "audio/0.flac", "source": "mine", "package": "", "origin": "a.wav", "title": "",
        "artist": "",
        "genre": "", "licence": "unknown", "seconds": 1.0, "sha256": "0", "split": "train", "piece": "a",
        "held_out": False,
    }  # fmt: skip
    (recordings / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(CorpusError, match="recordings"):
        make(recordings, fonts)


def test_finished_works_take_the_places_of_some_pieces(whole: Path, fonts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "60.mid").write_bytes(midi(scale(), chords(), drums()))
    (folder / "62.mid").write_bytes(midi(scale(tonic=62, quarters=52, step=2.0), drums(48)))
    (folder / "broken.mid").write_bytes(b"MThd")
    out = tmp_path / "corpus"
    make(out, fonts, sources=folder, works=0.75)
    tracks = load_manifest(out)
    works = [track for track in tracks if track.package == "as written"]
    others = {track.origin: track.id for track in tracks if track not in works}
    before = {track.origin: track.id for track in load_manifest(whole)}
    assert others and all(before.get(origin, name) == name for origin, name in others.items())
    assert all(int(track.origin) % 4 for track in works) and {int(origin) % 4 for origin in others} == {0}
    assert {track.title for track in works} == {"60", "62"} and all("works: unknown" in t.licence for t in works)
    assert len({(track.piece, track.split) for track in works}) == 2  # however many soundfonts play them
    for track in works:
        score = from_json((out / "scores" / f"{track.id}.json").read_text())
        assert {"violin", "drum kit"} <= {part.instrument for part in score.parts}
        assert np.abs(soundfile.read(out / track.path)[0]).max() <= 0.96
    assert "broken.mid" in (out / "skipped.jsonl").read_text()
    assert make(out, fonts, sources=folder, works=0.75).num_rendered == 0
    with pytest.raises(CorpusError, match="--sources"):
        make(tmp_path / "other", fonts, works=0.5)
    with pytest.raises(CorpusError, match="share"):
        make(tmp_path / "other", fonts, sources=folder, works=1.5)


def test_bands_take_the_places_of_some_pieces_beside_works(whole: Path, fonts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "60.mid").write_bytes(midi(scale(), chords(), drums()))
    out, program = tmp_path / "corpus", write_mma(tmp_path / "mma")
    settings = {"sources": folder, "works": 0.25, "bands": 0.5, "mma": program, "drum_kit_folders": [tmp_path]}
    make(out, fonts, HOURS, **settings)
    records = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines() if line]
    kinds = {r["number"]: r["style"] if r["style"] == "as written" else r.get("groove", "arranged") for r in records}
    kinds = dict(sorted(kinds.items()))
    assert all((kind == "as written") == (number % 4 == 3) for number, kind in kinds.items())
    # a band that the program fails on leaves its number to the arranger
    assert (
        {"stdlib/bossanova", "arranged"}
        <= set(kinds.values())
        <= {"stdlib/bossanova", "stdlib/waltz", "arranged", "as written"}
    )
    before = {track.origin: track.id for track in load_manifest(whole)}
    for record in records:
        if "groove" in record:
            assert "mma: GPL-2+" in record["licence"] and record["id"] not in before.values()
            assert record["style"] == {"stdlib/bossanova": "bossa nova", "stdlib/waltz": "waltz"}[record["groove"]]
        elif kinds[record["number"]] == "arranged":
            assert before.get(f"{record['number']:06d}", record["id"]) == record["id"]
    assert make(out, fonts, HOURS, **settings).num_rendered == 0
    assert any("bossa" in line.lower() for line in (out / "captions.jsonl").read_text().splitlines())


def test_bands_have_the_share_that_is_asked_for(tmp_path: Path) -> None:
    program = find_mma(write_mma(tmp_path))
    settings = {"styles": STYLES, "soundfonts": (), "renderers": ("symusic",), "sources": None}
    job = corpus.RenderJob(seed=3, out=tmp_path, mma=program, bands_share=0.3, **settings)  # type: ignore[arg-type]
    bands = [job.band_of(number) for number in range(1000)]
    assert sum(band is not None for band in bands) == 300
    assert all([band for band in bands if band is not None].count(band) == 100 for band in range(3))
    longest = max(len(run) for run in "".join("." if band is None else "x" for band in bands).split("x"))
    assert longest <= 4
    assert job.stamp != replace(job, bands_share=0.4).stamp != replace(job, mma=None).stamp


def test_bands_without_the_program_are_refused(fonts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError, match="install the Debian package mma"):
        make(tmp_path / "out", fonts, bands=0.5)
    with pytest.raises(CorpusError, match="no program mma"):
        make(tmp_path / "out", fonts, bands=0.5, mma=tmp_path)
    with pytest.raises(CorpusError, match="together at most 1"):
        make(tmp_path / "out", fonts, bands=0.5, works=0.6, sources=tmp_path)
    assert not (tmp_path / "out").exists()
