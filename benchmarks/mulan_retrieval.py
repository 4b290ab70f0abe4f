"""Figures of a trained MuLan on held-out music: retrieval beside guessing, and the modality gap.

    python benchmarks/mulan_retrieval.py CORPUS ARTIFACT [--out benchmarks/mulan_retrieval.json]

Sets: "validation" (used to choose the projection of text), "test" (pieces never used) and "held_out" (whole packages
never used).
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from musiclm.core.artifact import git_revision, read_config
from musiclm.data.corpus.manifest import load_manifest
from musiclm.data.labels import LABELS_FILE, load_labels
from musiclm.evaluate.retrieval import evaluate_retrieval
from musiclm.models.mulan.model import MuLan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/mulan_retrieval.json"))
    arguments = parser.parse_args()
    model = MuLan.from_artifact(arguments.artifact)
    tracks, labels = load_manifest(arguments.corpus), load_labels(arguments.corpus / LABELS_FILE)
    sets = {
        "validation": [t for t in tracks if t.split == "validation"],
        "test": [t for t in tracks if t.split == "test"],
        "held_out": [t for t in tracks if t.held_out],
    }
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "artifact": model.codes_hash,
        "training": read_config(arguments.artifact)["info"],
    }
    for name, chosen in sets.items():
        document[name] = asdict(evaluate_retrieval(model, arguments.corpus, chosen, labels))
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
