"""Retrieval over a made-up corpus and made-up embeddings."""

import json
from dataclasses import asdict

import pytest
import torch
from torch.nn import functional as F

from musiclm.data.corpus.manifest import load_manifest
from musiclm.data.labels import LABELS_FILE, load_labels
from musiclm.evaluate.retrieval import evaluate_retrieval, report
from tests.models.mulan.test_model import small_model
from tests.models.mulan.test_task import corpus, pytestmark

__all__ = ["corpus", "pytestmark"]


def test_report_counts_tracks_and_finds_a_perfect_pairing():
    model = small_model()
    topics = F.normalize(torch.randn(6, 16), dim=-1)
    owner = torch.arange(12) // 2
    audio = topics[owner]
    found = report(model, audio, audio[:, None].expand(-1, 2, -1), owner)
    assert (found.tracks, found.windows) == (6, 12)
    assert found.text_to_audio.recall_1 == found.track_audio_to_text.recall_1 == 1.0
    assert found.text_to_audio.baseline_recall_1 == pytest.approx(1 / 6)
    shuffled = report(model, audio, audio.roll(4, 0)[:, None].expand(-1, 2, -1), owner)
    assert shuffled.text_to_audio.recall_1 == 0.0
    json.dumps(asdict(found))


def test_runs_on_a_corpus(corpus):
    tracks = [track for track in load_manifest(corpus) if track.split == "validation"]
    labels = load_labels(corpus / LABELS_FILE)
    found = evaluate_retrieval(small_model(), corpus, tracks, labels, captions_per_window=2)
    assert (found.tracks, found.windows) == (4, 8)
    assert asdict(found) == asdict(evaluate_retrieval(small_model(), corpus, tracks, labels, captions_per_window=2))
    with pytest.raises(ValueError, match="two labelled tracks"):
        evaluate_retrieval(small_model(), corpus, tracks[:1], labels)
