"""`musiclm evaluate` from end to end on random weights and a small corpus, with a judge made up here."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import musiclm.evaluate.analyses as analyses
import musiclm.evaluate.match as matching
import musiclm.evaluate.sections.probes as probes
from musiclm import cli
from musiclm.cli.evaluate import read_report
from musiclm.core.audio import write_audio
from musiclm.core.bundle import Bundle
from musiclm.data.corpus.manifest import Track, save_manifest
from musiclm.evaluate.compare import compare
from musiclm.evaluate.report import write_html
from musiclm.evaluate.run import EvaluateConfig, Study
from musiclm.listen.analysers import MUSICNN, NOTES, Analyser, make_analyser
from tests.listen.test_music import cadence, clicks

RATE = 24000
CONFIG = EvaluateConfig(
    num_prompts=10,
    num_real=20,
    num_seed_prompts=2,
    seeds_per_prompt=1,
    num_long=1,
    num_codec=2,
    num_memorisation=2,
    num_training=6,
    num_probe=6,
    clip_s=4.0,
    long_s=6.0,
    probe_s=3.2,
)


def replace_judge(patch: pytest.MonkeyPatch) -> None:
    """By one that needs no weights."""
    for module in (analyses, probes):
        patch.setattr(module, "make_analyser", make)


def make(name: str, **more: Any) -> Analyser:
    if name == NOTES:
        raise ValueError("basic-pitch is not installed")
    return FakeJudge() if name == MUSICNN else make_analyser(name, **more)


class FakeJudge:
    """Embeds a clip by its spectrum, so that alike clips lie near each other; calls are counted."""

    name = "musicnn-msd"
    calls = 0

    def __call__(self, clip: np.ndarray) -> dict[str, list[float]]:
        FakeJudge.calls += 1
        power = np.abs(np.fft.rfft(clip)) ** 2
        embedding = np.array([np.log(part.mean() + 1e-9) for part in np.array_split(power, 200)])
        return {"embedding": embedding.tolist(), "tags": (1 / (1 + np.exp(-embedding[:50] / 10))).tolist()}


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_judge(monkeypatch)


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
        replace_judge(patch)
        folder = tmp_path_factory.mktemp("report")
        study = Study(
            bundle.folder, folder, corpus=corpus, config=CONFIG, embedders=["nowhere/none"], say=lambda _: None
        )
        return folder, study.run()


def test_the_controls_stand_where_they_must(done: tuple[Path, dict]) -> None:
    sections = done[1]["sections"]
    # sets of ten clips say nothing of endless ones
    assert sections["quality"]["reliable"] == {"fad": True, "mmd": True}
    beat = {name: row["beat_strength"]["value"] for name, row in sections["music"]["rows"].items()}
    assert beat["real"] > 0.3 > beat["noise"]
    assert sections["health"]["reliable"] == dict.fromkeys(
        ("clipped_share", "silent_share", "dc_offset", "bandwidth_hz"), True
    )
    # random weights: nothing is resynthesised, and the report says so
    assert not all(sections["semantic"]["reliable"].values())
    told = {name: row["auc"]["value"] for name, row in sections["real_or_not"]["rows"].items()}
    assert told["noise"] > 0.95 > told["reference"] and sections["real_or_not"]["clips"] == 10
    assert {"generated", "codec", "resynthesis", "at_random"} <= told.keys()
    assert sections["real_or_not"]["left_out"]["train"] == "8 clips; wanted 10"
    assert set(sections["diversity"]["rows"]["generated"]) == {"other_seeds", "other_prompts"}
    assert set(sections["probes"]["rows"]) == {"tokens", "shuffled"}
    assert "label" in sections["retrieval"]["skipped"]


def test_what_is_not_installed_is_said_and_the_rest_goes_on(done: tuple[Path, dict]) -> None:
    sections = done[1]["sections"]
    assert "'nowhere/none' could not be downloaded" in sections["quality_nowhere-none"]["skipped"]
    assert sections["notes"] == {"skipped": "basic-pitch is not installed"}
    skipped = {name for name, section in sections.items() if "skipped" in section}
    expected = {"quality_nowhere-none", "real_or_not_nowhere-none", "retrieval", "notes"}
    assert expected <= skipped <= expected | {"codec"}, "ViSQOL or ffmpeg may be missing, no more"


def test_a_clip_that_can_not_be_read_is_named(done: tuple[Path, dict], bundle: Bundle, corpus: Path) -> None:
    clip = done[0] / "clips" / "codec" / "0001.flac"
    before = clip.read_bytes()
    clip.write_bytes(b"not audio")
    study = Study(bundle.folder, done[0], corpus=corpus, config=CONFIG, say=lambda _: None)
    with pytest.raises(ValueError, match=r"0001\.flac can't be read .* delete it and run again"):
        list(study.sets.codec)
    clip.write_bytes(before)


def test_a_finished_report_costs_nothing_and_is_the_same(done: tuple[Path, dict], bundle: Bundle, corpus: Path) -> None:
    folder, first = done
    times = {path: path.stat().st_mtime_ns for path in (folder / "clips").rglob("*.flac")}
    before = FakeJudge.calls
    study = Study(bundle.folder, folder, corpus=corpus, config=CONFIG, embedders=["nowhere/none"], say=lambda _: None)
    again = study.run()
    assert FakeJudge.calls == before and times == {
        path: path.stat().st_mtime_ns for path in (folder / "clips").rglob("*.flac")
    }
    assert json.dumps(again, sort_keys=True) == json.dumps(json.loads(json.dumps(first)), sort_keys=True)


def test_a_clip_that_is_missing_is_made_again_the_same(done: tuple[Path, dict], bundle: Bundle, corpus: Path) -> None:
    study = Study(bundle.folder, done[0], corpus=corpus, config=CONFIG, say=lambda _: None)
    sets = study.sets
    for clips, index in ((sets.generated, 2), (sets.seeds, 1), (sets.long, 0), (sets.resynthesis, 3)):
        path = clips.path(index)
        before = clips.read(index)
        path.unlink()
        clips.fill(lambda _: None)
        # libraries of analysers, which have run meanwhile, leave other last bits behind: at most a step of 16 bits
        np.testing.assert_allclose(clips.read(index), before, rtol=0, atol=1.01 / 2**15, err_msg=clips.name)


def test_another_bundle_or_other_settings_are_refused(done: tuple[Path, dict], bundle: Bundle, corpus: Path) -> None:
    settings = json.loads((done[0] / "settings.json").read_text())
    with pytest.raises(ValueError, match="another num_real .20, now 12."):
        Study(
            bundle.folder,
            done[0],
            corpus=corpus,
            config=replace(CONFIG, num_real=12),
        )
    (done[0] / "settings.json").write_text(json.dumps({**settings, "bundle": "0" * 12}))
    with pytest.raises(ValueError, match="another bundle .0{12}, now"):
        Study(bundle.folder, done[0], corpus=corpus, config=CONFIG)
    (done[0] / "settings.json").write_text(json.dumps({**settings, "sampling": {"levels": 1}}))
    with pytest.raises(ValueError, match="another sampling ..'levels': 1.,"):
        Study(bundle.folder, done[0], corpus=corpus, config=CONFIG)
    # a report from before there was this setting was made with its default
    older = {name: value for name, value in settings.items() if name != "clip_s"}
    (done[0] / "settings.json").write_text(json.dumps(older))
    with pytest.raises(ValueError, match="another clip_s .10.0, now 4.0."):
        Study(bundle.folder, done[0], corpus=corpus, config=CONFIG)
    (done[0] / "settings.json").write_text(json.dumps(settings))


def test_the_page_holds_everything(done: tuple[Path, dict]) -> None:
    pytest.importorskip("matplotlib")
    page = write_html(done[0], done[1]).read_text()
    assert page.count("<audio") == 10 == page.count("data:image/png") - 1
    assert page.count("constant-Q pictures'") == 1 and (done[0] / "pictures.png").read_bytes()[:4] == b"\x89PNG"
    assert not re.search(r"(?:src|href)=.?http|url\(", page), "it works offline"
    for word in ("Quality", "Memorisation", "Left out", done[1]["settings"]["bundle"][:12], "["):
        assert word in page


def test_without_a_corpus_less_is_measured(bundle: Bundle, tmp_path: Path) -> None:
    config = replace(CONFIG, num_prompts=2)
    report = Study(bundle.folder, tmp_path, config=config, say=lambda _: None).run()
    assert set(report["sections"]) == {"health", "music", "notes", "form", "diversity", "adherence", "cycle"}


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


def test_match_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, bundle: Bundle, corpus: Path
) -> None:
    """Two MuLans, one of them in a bundle; the clips are analysed once; a hopeless split is refused."""
    monkeypatch.setattr(
        matching, "make_analyser", lambda name: FakeJudge() if name == "musicnn-msd" else make_analyser(name)
    )
    monkeypatch.setattr(matching, "CLIP_S", 4.0)

    def call(*more: str) -> None:
        models = [str(bundle.folder), str(bundle.part("mulan"))]
        monkeypatch.setattr("sys.argv", ["musiclm", "match", *models, "--data", str(corpus), *more])
        cli.main()

    files = ["--analyses", str(tmp_path / "analyses.json"), "--out", str(tmp_path / "match.json"), "--per-track", "1"]
    call("--split", "test", *files)
    first = json.loads((tmp_path / "match.json").read_text())
    before = FakeJudge.calls
    call("--split", "test", *files)
    assert FakeJudge.calls == before and json.loads((tmp_path / "match.json").read_text()) == first
    assert first["clips"] == 12 and len(first["models"]) == 2
    one, other = first["models"].values()
    assert one == other and -0.5 < one["mean_agreement"][0] < 0.5
    assert "rank correlation" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        call("--split", "nowhere")
    assert stop.value.code == 1 and "no split 'nowhere'" in capsys.readouterr().err


def test_reports_begun_before_names_changed_go_on(bundle: Bundle, tmp_path: Path) -> None:
    for name in ("heard", "analyses"):
        (tmp_path / f"with {name}" / name).mkdir(parents=True)
        study = Study(bundle.folder, tmp_path / f"with {name}", config=CONFIG)
        assert study.analyses.folder == tmp_path / f"with {name}" / name
    assert Study(bundle.folder, tmp_path / "new", config=CONFIG).analyses.folder == tmp_path / "new" / "analyses"


def test_a_report_with_the_old_name_of_the_baseline_is_compared(tmp_path: Path) -> None:
    for name, value in (("chance", 0.1), ("baseline", 0.2)):
        sections = {"retrieval": {"rows": {name: {"recall_1": value}}}}
        report = {"settings": {"prompts": "p", "corpus": "c"}, "sections": sections}
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    rows = compare(*(read_report(tmp_path / f"{name}.json") for name in ("chance", "baseline")))
    assert [(row["figure"], row["a"], row["b"]) for row in rows] == [("retrieval.rows.baseline.recall_1", 0.1, 0.2)]


def test_a_torn_file_of_a_report_is_named(done: tuple[Path, dict], bundle: Bundle, corpus: Path) -> None:
    folder = done[0]
    for name in ("sections/health.json", "analyses/meter/real.json", "settings.json"):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        if name.startswith("analyses"):
            (folder / "sections" / "health.json").rename(folder / "aside")
        with pytest.raises(ValueError, match=f"{path} .*; delete {folder if name == 'settings.json' else path} and"):
            Study(bundle.folder, folder, corpus=corpus, config=CONFIG, say=lambda _: None).run()
        path.write_bytes(whole)
        if (folder / "aside").exists():
            (folder / "aside").rename(folder / "sections" / "health.json")
