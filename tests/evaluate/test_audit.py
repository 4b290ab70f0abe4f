"""The audit puts a corpus whose captions are true above the same one with captions shuffled, and finds copies."""

import json
import random

import numpy as np
import pytest
from typer.testing import CliRunner

from musiclm.data.corpus.captions import CAPTIONS_FILE
from musiclm.data.corpus.manifest import CorpusError, load_manifest
from musiclm.evaluate.audit import (
    agreement,
    analyse,
    audit,
    harmony_print,
    hours_by_style,
    prompt_of,
    read_reference,
    shared_melodies,
    spread,
    wording,
)
from tests.arrange.toy_corpus import make_corpus, sound
from tests.arrange.toy_scores import piece, scale


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("rendered") / "corpus", 10)


@pytest.fixture(scope="module")
def reports(corpus):
    """The audit of the corpus, and what was found against the facts of other tracks."""
    import musiclm.evaluate.audit as module

    found = []
    original = module.analyse
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "analyse", lambda audio: found.append(original(audio)) or found[0])
        true = audit(corpus, 10, say=lambda text: None)
    records = [json.loads(line) for line in (corpus / CAPTIONS_FILE).read_text().splitlines()]
    facts = [record["facts"] for record in spread(records, 10, 0)]
    return [true, {"agreement": agreement(facts[3:] + facts[:3], found[0])}]


def test_true_captions_agree_with_what_was_found_and_false_ones_do_not(reports):
    true, false = (report["agreement"] for report in reports)
    assert true["tempo"]["value"] >= 0.8 > false["tempo"]["value"] + 0.2
    assert true["key"]["value"] > 0.6 > false["key"]["value"] + 0.1
    assert true["tempo"]["value"] > true["tempo_shuffled"] + 0.2 and true["key"]["value"] > true["key_shuffled"] + 0.2
    assert true["concepts"]["drums"]["value"] == 1.0 and false["concepts"]["drums"]["value"] < 0.7
    json.dumps(reports)


def test_instruments_and_swells_stand_beside_their_controls(reports):
    agreement = reports[0]["agreement"]
    drums = agreement["instruments"]["drums"]
    assert drums["positives"] == 5 and drums["auc"] > 0.6 and abs(drums["shuffled"] - 0.5) < 0.25
    assert agreement["dynamics"]["louder"]["auc"] is None  # none of these swells


def test_loudness_is_weighted_as_ears_do():
    time = np.arange(4 * 24000) / 24000
    low, high = (0.3 * np.sin(2 * np.pi * hz * time) for hz in (40, 2000))
    loudness = analyse([low, high]).loudness_lufs
    assert loudness[1] > loudness[0] + 5, "both have the same mean square"


def test_what_facts_say_becomes_concepts():
    facts = {
        "style": "surf rock",
        "genres": ["rock"],
        "era": "1960s",
        "moods": ["sunny"],
        "players": [{"instrument": "clean electric guitar", "repeats": True}],
        "drums": True,
        "speed": "very fast",
        "key": "Eb mixolydian",
        "tempo_bpm": 172,
        "density": "busy",
        "electric": False,
    }
    prompt = prompt_of(facts)
    assert prompt.concepts == {"rock", "oldies", "guitar", "drums", "fast", "busy", "repetitive", "acoustic"}
    assert prompt.key == "Eb major" and prompt.tempo_bpm == 172
    assert prompt_of({}).concepts == frozenset() and prompt_of({}).key is None and prompt_of({}).tempo_bpm is None
    assert prompt_of({"drums": False}).concepts == {"no drums"}


def test_copies_are_found(corpus, reports):
    tracks = load_manifest(corpus)
    # all toy melodies are one scale, in other keys: the same intervals
    assert len(shared_melodies(corpus, tracks)) == 45 and shared_melodies(corpus, tracks)[0][2] == 1.0
    assert reports[0]["duplicates"]["same_samples"] == 0
    first, turned = (harmony_print(sound(piece(scale(end=24.0, tonic=tonic), duration=24.0))) for tonic in (60, 65))
    other = harmony_print(sound(piece(scale(end=24.0, step=1.5), duration=24.0)))
    alike = max(float((np.roll(first, turn, axis=0) * turned).sum()) for turn in range(12))
    unlike = max(float((np.roll(first, turn, axis=0) * other).sum()) for turn in range(12))
    assert alike > 0.95 > 0.9 > unlike


def test_hours_and_choice(corpus):
    records = [json.loads(line) for line in (corpus / CAPTIONS_FILE).read_text().splitlines()]
    hours = hours_by_style(records, {track.id: track for track in load_manifest(corpus)})
    assert set(hours) == {"surf rock", "folk ballad"} and sum(hours.values()) == pytest.approx(10 * 20 / 3600, abs=0.01)
    chosen = spread(records, 10, 0)
    assert len({record["track"] for record in chosen}) == 10 and chosen == spread(records, 10, 0)


def test_wording_beside_a_reference():
    rng = random.Random(0)
    words = [
        "the",
        "a",
        "piano",
        "plays",
        "melody",
        "slow",
        "guitar",
        "chords",
        "with",
        "soft",
        "drums",
        "and",
        "bass",
        "calm",
        "happy",
        "track",
    ]
    texts = [" ".join(rng.choices(words, k=20)) for _ in range(40)]
    report = wording(texts, texts[:20], sample=20)
    assert report["novelty"]["2-grams"] < report["novelty"]["6-grams"] < 1
    assert report["embedding"]["nearest_reference_of_ours"] > 0.9
    assert report["all"]["captions"] == 40 and report["all"]["vocabulary"] <= len(words)
    assert set(wording(texts, [])) == {"all"}


def test_bad_input_is_one_line(corpus, tmp_path):
    from musiclm.cli import app

    with pytest.raises(CorpusError, match="no captions to compare with"):
        read_reference(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("text\nx\n")
    with pytest.raises(CorpusError, match="column 'caption'"):
        read_reference(tmp_path / "other.csv")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "manifest.jsonl").write_text((corpus / "manifest.jsonl").read_text())
    for command in ("audit", "page"):
        result = CliRunner().invoke(app, ["corpus", command, str(bare), "--out", str(tmp_path / "out")])
        assert result.exit_code == 1 and "has no captions" in str(result.exception)
