"""Measures on sounds whose truth is known; the label file survives interruption."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.core.audio import write_audio
from musiclm.core.theory import PITCHES
from musiclm.data import labels as labels_module
from musiclm.data.corpus.build import build_corpus
from musiclm.data.labels import WINDOW_S, Labeller, Labels, label_corpus, load_labels, window_starts

RATE = 24000


def clicks(bpm: float) -> np.ndarray:
    audio = np.random.default_rng(0).normal(size=10 * RATE) * 1e-3
    burst = np.random.default_rng(1).normal(size=600) * 0.3
    for t in np.arange(0, 9.9, 60 / bpm):
        audio[int(t * RATE) : int(t * RATE) + 600] += burst
    return audio.astype(np.float32)


@pytest.mark.parametrize("bpm", [70, 96, 120, 144])
def test_tempo_of_a_click_track(bpm):
    found = Labeller(None)(clicks(bpm), "x", 0.0)
    assert abs(found.tempo_bpm - bpm) <= 1.5
    assert found.tempo_confidence > 0.6
    assert abs(found.onset_rate_hz - bpm / 60) < 0.35


def test_noise_has_no_tempo_and_silence_no_measure():
    noise = np.random.default_rng(0).normal(size=10 * RATE).astype(np.float32) * 0.1
    assert Labeller(None)(noise, "x", 0.0).tempo_confidence < 0.3
    silence = Labeller(None)(np.zeros(10 * RATE, np.float32), "x", 0.0)
    assert silence.level_db == -120 and silence.tempo_bpm == 0 and silence.key == ""


@pytest.mark.parametrize(
    ("tonic", "mode", "steps"),
    [(0, "major", (0, 4, 7)), (9, "minor", (0, 3, 7)), (6, "major", (0, 4, 7)), (2, "minor", (0, 3, 7))],
)
def test_key_of_a_cadence(tonic, mode, steps):
    """Tonic twice, fourth and fifth degree once, each a triad with two partials."""
    minor = mode == "minor"
    chords = [(0, steps), (5, (0, 3, 7) if minor else (0, 4, 7)), (7, (0, 4, 7)), (0, steps)]
    t = np.arange(int(2.5 * RATE)) / RATE
    audio = []
    for root, triad in chords:
        hz = [220 * 2 ** ((tonic - 9 + root + step) / 12) for step in triad]
        audio.append(sum(np.sin(2 * np.pi * f * t) + 0.3 * np.sin(4 * np.pi * f * t) for f in hz))
    found = Labeller(None)((np.concatenate(audio) * 0.1).astype(np.float32), "x", 0.0)
    assert found.key == f"{PITCHES[tonic]} {mode}"


def test_level_and_brightness_order():
    rng = np.random.default_rng(0)
    hiss = rng.normal(size=10 * RATE).astype(np.float32) * 0.1
    hum = (np.sin(2 * np.pi * 80 * np.arange(10 * RATE) / RATE) * 0.1).astype(np.float32)
    labeller = Labeller(None)
    bright, deep = labeller(hiss, "x", 0.0), labeller(hum, "x", 0.0)
    assert bright.level_db == pytest.approx(-20, abs=0.2)
    assert bright.brightness_hz > 4000 > 400 > deep.brightness_hz
    assert deep.bass_share > 0.9 > 0.1 > bright.bass_share


@settings(deadline=None, max_examples=50)
@given(st.floats(1, 4000), st.integers(1, 9))
def test_windows_lie_inside_the_track(seconds, most):
    starts = window_starts(seconds, most)
    assert 1 <= len(starts) <= most and len(set(starts)) == len(starts)
    assert all(0 <= start <= max(0, seconds - WINDOW_S) + 1e-3 for start in starts)


def test_label_file_skips_a_line_cut_short(tmp_path):
    path = tmp_path / "labels.jsonl"
    line = json.dumps({"track": "a", "start_s": 0.0, "tags": {"piano": 0.5}})
    path.write_text(line + "\n" + line[:20])
    assert load_labels(path) == [Labels(track="a", start_s=0.0, tags={"piano": 0.5})]
    assert load_labels(tmp_path / "none.jsonl") == []
    path.write_text(json.dumps({"track": "a", "start_s": 0.0, "colour": "red"}) + "\n")
    with pytest.raises(ValueError, match="colour"):
        load_labels(path)


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "music").mkdir()
    for number in range(3):
        audio = np.random.default_rng(number).normal(size=RATE * (25 + 20 * number)) * 0.1
        write_audio(tmp_path / "music" / f"{number}.wav", audio)
    build_corpus([str(tmp_path / "music")], tmp_path / "corpus", jobs=1, progress=False)
    return tmp_path / "corpus"


def test_labels_do_not_tell_how_often_they_were_stopped(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(labels_module, "WINDOWS_PER_UNIT", 2)
    whole, path = tmp_path / "whole.jsonl", tmp_path / "labels.jsonl"
    made = list(label_corpus(corpus, None, windows_per_track=3, path=whole))
    assert len(made) == 6 and load_labels(whole) == made
    assert len({labels.track for labels in made[:3]}) == 3, "one window of every track first"
    lines = whole.read_bytes()
    first = lines.index(b"\n") + 1
    for cut in (0, 10, first, first + 10, len(lines) - 1):
        path.write_bytes(lines[:cut])
        again = list(label_corpus(corpus, None, windows_per_track=3, path=path))
        assert path.read_bytes() == lines
        assert len(again) == 6 - lines[:cut].count(b"\n")
    assert list(label_corpus(corpus, None, windows_per_track=3, path=path)) == []
