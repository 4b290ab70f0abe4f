"""Bundles, or settings of one, side by side on captions people wrote (`musiclm.evaluate.compare`).

    python benchmarks/compare_bundles.py share-0=runs/a/bundle "colder=base;semantic.temperature=0.9" \
        --data corpus --texts musiccaps.csv [--keep FOLDER] [--out benchmarks/rendered_share.json]

The first bundle is the one that others are compared with, caption by caption. What was made is kept, and a killed run
goes on.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musiclm.core.artifact import git_revision
from musiclm.core.bundle import open_bundle
from musiclm.data.corpus.clips import eval_clips
from musiclm.data.corpus.manifest import RENDERED, load_manifest
from musiclm.evaluate.adherence import CONCEPTS, Prompt
from musiclm.evaluate.compare import (
    Row,
    analyse,
    analyse_bundle,
    choose,
    differences,
    figures,
    keys_sounding,
    read_rows,
)
from musiclm.evaluate.match import CLIP_S, read_texts


def more_of_each(texts: Sequence[Prompt], chosen: Sequence[Prompt], count: int) -> list[Prompt]:
    """Further captions, so that `count` name each concept, or all there are."""
    rng, further = random.Random(12), list[Prompt]()
    for concept in CONCEPTS:
        missing = count - sum(concept in prompt.concepts for prompt in (*chosen, *further))
        others = [p for p in texts if concept in p.concepts and p not in chosen and p not in further]
        further += rng.sample(others, min(len(others), max(0, missing)))
    return further


def analyse_real(corpus_dir: Path, path: Path, per_track: int = 4) -> list[Row]:
    """What the analysers say of real clips of the validation split."""
    tracks = [t for t in load_manifest(corpus_dir) if t.split == "validation" and t.source != RENDERED]
    tracks = [t for t in tracks if t.seconds >= CLIP_S]
    clips = eval_clips(corpus_dir, tracks, CLIP_S, per_track * len(tracks), 0)[0][:, 0].numpy()
    rows = read_rows(path)
    return analyse(clips[len(rows) :], rows, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="NAME=BUNDLE[;SETTING=VALUE]")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--num", type=int, default=130)
    parser.add_argument(
        "--per-concept", type=int, default=0, help="then more captions, until so many name each concept"
    )
    parser.add_argument("--keep", type=Path, default=Path("out/compare"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    texts = read_texts(arguments.texts)
    prompts = choose(texts, arguments.num)
    prompts += more_of_each(texts, prompts, arguments.per_concept)
    real = analyse_real(arguments.data, arguments.keep / "real.jsonl")
    rows_of, about = {}, {}
    for entry in arguments.bundles:
        name, _, wanted = entry.partition("=")
        bundle, *settings = wanted.split(";")
        about[name] = {"bundle": open_bundle(bundle).hash, "settings": settings}
        # by what made them, not by name: another bundle under an old name must not get the old one's clips
        kept = arguments.keep / f"{';'.join([about[name]['bundle'], *settings])} {len(prompts)}.jsonl"
        rows_of[name] = analyse_bundle(bundle, settings, prompts, kept)
    bundles: dict[str, dict[str, Any]] = {
        name: {**about[name], **figures(rows, prompts, real)} for name, rows in rows_of.items()
    }
    first, *others = rows_of
    for name in others:
        bundles[name][f"auc_minus_{first}"] = differences(rows_of[name], rows_of[first], prompts)
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "captions": len(prompts),
        "real_clips": len(real),
        "real": keys_sounding(real),
        "bundles": bundles,
    }
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
