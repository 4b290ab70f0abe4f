"""`musiclm evaluate` from end to end on a bundle of random weights and a small corpus, with a judge made up for the test."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import musiclm.evaluate.run as run
from musiclm.audio import write_audio
from musiclm.bundle import Bundle
from musiclm.corpus.manifest import Track, save_manifest
from musiclm.evaluate.report import compare, write_html
from musiclm.evaluate.run import EvaluateConfig, Study
from tests.evaluate.test_music import cadence, clicks

RATE = 24000
CONFIG = EvaluateConfig(num_prompts=8, num_real=16, num_codec=2, num_memorisation=2)


def small(patch: pytest.MonkeyPatch) -> None:
    """Short clips and a judge that needs no weights."""
    patch.setattr(run, "Judge", FakeJudge)
    patch.setattr(run, "CLIP_S", 4.0)


class FakeJudge:
    """Embeds a clip by its spectrum, so that alike clips lie near each other; heard is counted."""

    name = "fake"
    heard = 0

    def __call__(self, clips):
        rows = []
        for clip in clips:
            FakeJudge.heard += 1
            power = np.abs(np.fft.rfft(clip)) ** 2
            rows.append([np.log(part.mean() + 1e-9) for part in np.array_split(power, 200)])
        embeddings = np.array(rows)
        return embeddings, 1 / (1 + np.exp(-embeddings[:, :50] / 10))


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "audio").mkdir()
    tracks = []
    for index in range(28):
        split = ("test", "validation", "test", "validation", "test", "train", "train")[index % 7]
        clip = np.tile(0.5 * cadence(index % 12) + 0.5 * clicks(90 + 3 * index, seed=index), 2)[: 16 * RATE]
        write_audio(folder / "audio" / f"t{index}.flac", clip, RATE)
        facts = dict.fromkeys(
            ("source", "package", "origin", "title", "artist", "genre", "licence", "piece"), f"t{index}"
        )
        tracks.append(
            Track(
                id=f"t{index}",
                path=f"audio/t{index}.flac",
                seconds=16.0,
                sha256=f"t{index}",
                split=split,
                held_out=False,
                **facts,
            )  # type: ignore[arg-type]
        )
    save_manifest(folder, tracks, [])
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, corpus: Path) -> tuple[Path, dict]:
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        folder = tmp_path_factory.mktemp("report")
        return folder, Study(bundle.folder, folder, corpus=corpus, config=CONFIG, say=lambda _: None).run()


def test_the_controls_stand_where_they_must(done: tuple[Path, dict]) -> None:
    rows = done[1]["sections"]["quality"]["rows"]
    for metric in ("fad", "fad_infinity", "mmd"):
        assert rows["real"][metric]["value"] < rows["noise"][metric]["value"]
    assert done[1]["sections"]["quality"]["reliable"]["fad"] is True
    beat = {name: row["beat_strength"]["value"] for name, row in done[1]["sections"]["music"]["rows"].items()}
    assert beat["real"] > 0.3 > beat["noise"]
    semantic = done[1]["sections"]["semantic"]["rows"]["codec"]
    assert set(semantic) == {"chroma", "chroma_shuffled", "onset", "onset_shuffled"}
    # every section has figures, except where labels or ViSQOL are missing, which is said
    for name, section in done[1]["sections"].items():
        assert section.get("rows") or "skipped" in section, name
    assert "label" in done[1]["sections"]["retrieval"]["skipped"]


def test_a_finished_report_costs_nothing_and_is_the_same(done: tuple[Path, dict], bundle: Bundle, corpus: Path) -> None:
    folder, first = done
    times = {path: path.stat().st_mtime_ns for path in (folder / "clips").iterdir()}
    before = FakeJudge.heard
    again = Study(bundle.folder, folder, corpus=corpus, config=CONFIG, say=lambda _: None).run()
    assert FakeJudge.heard == before and times == {
        path: path.stat().st_mtime_ns for path in (folder / "clips").iterdir()
    }
    assert json.dumps(again, sort_keys=True) == json.dumps(json.loads(json.dumps(first)), sort_keys=True)


def test_a_clip_that_is_missing_is_made_again_the_same(done: tuple[Path, dict], bundle: Bundle, corpus: Path) -> None:
    clip = done[0] / "clips" / "0002.flac"
    before = clip.read_bytes()
    clip.unlink()
    Study(bundle.folder, done[0], corpus=corpus, config=CONFIG, say=lambda _: None).generate()
    assert clip.read_bytes() == before


def test_another_bundle_or_other_settings_are_refused(done: tuple[Path, dict], bundle: Bundle, corpus: Path) -> None:
    settings = json.loads((done[0] / "settings.json").read_text())
    with pytest.raises(ValueError, match="another num_real .16, now 12."):
        Study(
            bundle.folder,
            done[0],
            corpus=corpus,
            config=EvaluateConfig(num_prompts=8, num_real=12, num_codec=2, num_memorisation=2),
        )
    (done[0] / "settings.json").write_text(json.dumps({**settings, "bundle": "0" * 12}))
    with pytest.raises(ValueError, match="another bundle .0{12}, now"):
        Study(bundle.folder, done[0], corpus=corpus, config=CONFIG)
    (done[0] / "settings.json").write_text(json.dumps(settings))


def test_the_page_holds_everything(done: tuple[Path, dict]) -> None:
    pytest.importorskip("matplotlib")
    page = write_html(done[0], done[1]).read_text()
    assert page.count("<audio") == 8 == page.count("data:image/png")
    assert "http" not in page.replace("http-equiv", "")
    for word in ("Quality", "Memorisation", "Left out", done[1]["settings"]["bundle"][:12], "["):
        assert word in page


def test_without_a_corpus_less_is_measured(bundle: Bundle, tmp_path: Path) -> None:
    config = EvaluateConfig(num_prompts=2)
    report = Study(bundle.folder, tmp_path, config=config, say=lambda _: None).run()
    assert set(report["sections"]) == {"health", "music", "adherence", "cycle"}


def test_what_moved_between_two_reports(done: tuple[Path, dict]) -> None:
    a = json.loads(json.dumps(done[1]))
    b = json.loads(json.dumps(done[1]))
    fad = b["sections"]["quality"]["rows"]["generated"]["fad"]
    moved_by = 10 * (fad["high"] - fad["low"]) + 1
    b["sections"]["quality"]["rows"]["generated"]["fad"] = {key: value + moved_by for key, value in fad.items()}
    rows = {row["figure"]: row for row in compare(a, b)}
    assert rows["quality.rows.generated.fad"]["moved"] == "yes"
    assert rows["quality.rows.real.fad"]["moved"] == "no"
    assert rows["quality.rows.real.fad_infinity"]["moved"] == "no interval"
    assert all(math.isfinite(row["a"]) or math.isnan(row["a"]) for row in rows.values())
    b["settings"]["prompts"] = "other"
    with pytest.raises(ValueError, match="other prompts"):
        compare(a, b)
