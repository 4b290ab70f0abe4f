"""Figures of a trained MuLan on held-out music: retrieval beside chance, modality gap, human captions as queries.

    python benchmarks/mulan_retrieval.py CORPUS ARTIFACT [--human musiccaps.csv] [--out benchmarks/mulan_retrieval.json]

Sets: "validation" (used to choose the projection of text), "test" (pieces never used) and "held_out" (whole packages never used). The human
captions are text only; they are read for this measure and for nothing else.
"""

import argparse
import csv
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn import functional as F

from musiclm.core.artifact import git_revision, read_config
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import load_manifest
from musiclm.data.labels import LABELS_FILE, WINDOW_S, load_labels
from musiclm.evaluate.retrieval import evaluate_retrieval, word_precision
from musiclm.models.mulan.model import MuLan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--human", type=Path, help="a CSV with columns caption and no_singing")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/mulan_retrieval.json"))
    arguments = parser.parse_args()
    model = MuLan.from_artifact(arguments.artifact)
    tracks, labels = load_manifest(arguments.corpus), load_labels(arguments.corpus / LABELS_FILE)
    sets = {
        "validation": [t for t in tracks if t.split == "validation"],
        "test": [t for t in tracks if t.split == "test"],
        "held_out": [t for t in tracks if t.held_out],
    }
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "artifact": model.codes_hash,
        "training": read_config(arguments.artifact)["info"],
    }
    for name, chosen in sets.items():
        document[name] = asdict(evaluate_retrieval(model, arguments.corpus, chosen, labels))
    if arguments.human:
        document["human_captions"] = human(model, arguments, sets["test"], labels)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


@torch.no_grad()
def human(model: MuLan, arguments: argparse.Namespace, tracks: list, labels: list) -> dict:
    """Human captions of instrumental clips: what they find, and how far they lie from our captions and from audio."""
    with open(arguments.human, newline="") as file:
        texts = [row["caption"] for row in csv.DictReader(file) if row["no_singing"] == "True"][:400]
    by_id = {track.id: track for track in tracks}
    known = [entry for entry in labels if entry.track in by_id]
    parts = []
    for entry in known:
        clip = read_clip(arguments.corpus, by_id[entry.track], entry.start_s, WINDOW_S)
        parts.append(model.embed_audio(torch.from_numpy(clip)[None, None]))
    audio = torch.cat(parts)
    written = torch.cat([model.embed_text(texts[i : i + 32]) for i in range(0, len(texts), 32)])
    return {
        "captions": len(texts),
        "distance_of_means_to_audio": float((written.mean(0) - audio.mean(0)).norm()),
        "mean_best_cosine": float((written @ audio.T).amax(1).mean()),
        "spread": float(1 - F.normalize(written, dim=-1).mean(0).norm()),
        "words": [asdict(entry) for entry in word_precision(model, audio, known, texts)],
    }


if __name__ == "__main__":
    main()
