"""Two corpora as one: what is a track's follows it, the same audio is one track, held out stays held out."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile

from musiclm.data.corpus.captions import CAPTIONS_FILE, load_captions
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import CorpusError, Track, load_manifest
from musiclm.data.corpus.merge import merge_corpora


def make(folder, names, split="train", captions=False):
    """A corpus of a second of noise per name, labelled or captioned."""
    (folder / "audio").mkdir(parents=True)
    tracks, lines = [], []
    for name in names:
        path = f"audio/{name}.flac"
        noise = np.random.default_rng(int(name, 16)).normal(size=24000) * 0.1
        soundfile.write(folder / path, noise.astype(np.float32), 24000)
        tracks.append(
            Track(
                id=name, path=path, source=folder.name, package="", origin=f"{name}.mid", title=name, artist="",
                genre="", licence="CC0",
                seconds=1.0, sha256=name * 4, split=split, piece=name, held_out=False,
            )
        )  # fmt: skip
        lines.append({"track": name, "start_s": 0.0, **({"captions": [f"caption of {name}"]} if captions else {})})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(asdict(track)) + "\n" for track in tracks))
    (folder / (CAPTIONS_FILE if captions else "labels.jsonl")).write_text("".join(json.dumps(x) + "\n" for x in lines))
    return folder


def test_tracks_keep_what_belongs_to_them(tmp_path):
    one, two = make(tmp_path / "one", ["aa", "ab"]), make(tmp_path / "two", ["ba", "bb"], captions=True)
    (two / "scores").mkdir()
    (two / "scores" / "ba.json").write_text("{}")
    (two / "LICENCES.txt").write_text("CC0")
    out = tmp_path / "all"
    for _ in range(2):  # again: nothing changes
        assert len(merge_corpora([one, two], out)) == 4
    assert {track.id for track in load_manifest(out)} == {"aa", "ab", "ba", "bb"}
    assert [c.captions for c in load_captions(out)] == [("caption of ba",), ("caption of bb",)]
    assert [json.loads(line)["track"] for line in (out / "labels.jsonl").read_text().splitlines()] == ["aa", "ab"]
    assert (out / "scores" / "ba.json").is_file() and (out / "LICENCES-2-two.txt").read_text() == "CC0"
    for folder, track in ((one, load_manifest(one)[0]), (two, load_manifest(two)[0])):
        np.testing.assert_array_equal(read_clip(out, track), read_clip(folder, track))


def test_the_same_audio_is_one_track_in_the_stricter_split(tmp_path):
    one, two = make(tmp_path / "one", ["aa", "ab"]), make(tmp_path / "two", ["aa", "bb"], split="test", captions=True)
    merged = {track.id: track for track in merge_corpora([one, two], tmp_path / "all")}
    assert sorted(merged) == ["aa", "ab", "bb"] and merged["aa"].split == "test" and merged["ab"].split == "train"
    assert [c.track for c in load_captions(tmp_path / "all")] == ["bb"]  # the first corpus's track keeps its own labels
    variants = [replace(track, piece="same") for track in load_manifest(one)]
    (one / "manifest.jsonl").write_text("".join(json.dumps(asdict(track)) + "\n" for track in variants))
    assert {t.split for t in merge_corpora([one, two], tmp_path / "more") if t.source == "one"} == {"test"}


def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys):
    from musiclm.cli import main

    one, two = make(tmp_path / "one", ["aa"]), make(tmp_path / "two", ["bb"])
    cases = [
        ([one], "two or more"),
        ([one, one], "named twice"),
        ([one, tmp_path / "none"], "no corpus here"),
        ([one, two], "is one of the corpora"),
    ]
    for folders, message in cases:
        out = one if message.startswith("is one") else tmp_path / "all"
        with pytest.raises(CorpusError, match=message):
            merge_corpora(folders, out)
        monkeypatch.setattr("sys.argv", ["musiclm", "corpus", "merge", *map(str, folders), "--out", str(out)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 1 and len(capsys.readouterr().err.strip().splitlines()) == 1
    (two / "audio" / "bb.flac").unlink()
    with pytest.raises(CorpusError, match="missing"):
        merge_corpora([one, two], tmp_path / "all")


def test_captions_that_are_none_are_an_error_that_names_the_line(tmp_path):
    assert load_captions(tmp_path) == []
    for line in (
        '{"track": "a"}',
        "[]",
        '{"track": "a", "start_s": 0, "captions": "text"}',
        "{",
        '{"track": "a", "start_s": -1, "captions": ["x"]}',
    ):
        (tmp_path / CAPTIONS_FILE).write_text('{"track": "a", "start_s": 0, "captions": ["music"]}\n' + line + "\n")
        with pytest.raises(CorpusError, match="line 2"):
            load_captions(tmp_path)
