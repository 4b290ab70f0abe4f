"""Bundles, or settings of one, side by side on captions people wrote: what is chosen, is chosen by this, so that the prompts of `musiclm evaluate` stay unseen.

    python benchmarks/compare_bundles.py share-0=runs/a/bundle share-0.4=runs/b/bundle "colder=base;semantic.temperature=0.9" \
        --data corpus --texts musiccaps.csv [--keep FOLDER] [--out benchmarks/rendered_share.json]

Every bundle makes ten seconds for each of the same captions with the same seeds; listeners without a part in training hear them beside clips of the validation
split. The first bundle is the one that others are compared with, caption by caption. What was heard is kept, and a killed run goes on.
"""

import argparse
import json
import random
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.stats import norm

from musiclm.core.artifact import git_revision
from musiclm.core.bundle import open_bundle
from musiclm.core.config import override
from musiclm.data.corpus.clips import eval_clips
from musiclm.data.corpus.manifest import RENDERED, load_manifest
from musiclm.evaluate.adherence import CONCEPTS, MIN_POSITIVES, Prompt, concept_scores
from musiclm.evaluate.bootstrap import area_under_curve, bootstrap
from musiclm.evaluate.distance import frechet_distance
from musiclm.evaluate.match import CLIP_S, read_texts
from musiclm.generate.session import MusicLM
from musiclm.listen.embedders import Aisfx
from musiclm.listen.listeners import LIBROSA, METER, MUSICNN, make_listener
from musiclm.listen.music import Description

LISTENERS = (MUSICNN, LIBROSA, METER, Aisfx.name)
MEASURES = ("beat_strength", "periodicity_2s", "periodicity_8s", "tonal_clarity", "onset_density", "repetition")
RARE = ("catchy", "repetitive", "80s", "acoustic", "fast", "steady beat")  # 14 captions of each, if there are so many


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
    real = hear_real(arguments.data, arguments.keep / "real.jsonl")
    heard, about = {}, {}
    for entry in arguments.bundles:
        name, _, wanted = entry.partition("=")
        bundle, *settings = wanted.split(";")
        about[name] = {"bundle": open_bundle(bundle).hash, "settings": settings}
        # by what made them, not by name: another bundle under an old name must not get the old one's clips
        kept = arguments.keep / f"{';'.join([about[name]['bundle'], *settings])} {len(prompts)}.jsonl"
        heard[name] = hear_bundle(bundle, settings, prompts, kept)
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "captions": len(prompts),
        "real_clips": len(real),
        "bundles": {name: {**about[name], **figures(rows, prompts, real)} for name, rows in heard.items()},
    }
    first = next(iter(heard))
    for name in list(heard)[1:]:
        document["bundles"][name][f"auc_minus_{first}"] = differences(heard[name], heard[first], prompts)
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def choose(texts: list[Prompt], num: int) -> list[Prompt]:
    """Captions that name two concepts or more, rich in the rare ones; always the same."""
    rng, chosen = random.Random(11), list[Prompt]()
    texts = [prompt for prompt in texts if len(prompt.concepts) >= 2]
    for concept in RARE:
        others = [prompt for prompt in texts if concept in prompt.concepts and prompt not in chosen]
        missing = 14 - sum(concept in prompt.concepts for prompt in chosen)
        chosen += rng.sample(others, min(len(others), max(0, missing)))
    chosen += rng.sample([prompt for prompt in texts if prompt not in chosen], max(0, num - len(chosen)))
    rng.shuffle(chosen)
    return chosen[:num]


def more_of_each(texts: list[Prompt], chosen: list[Prompt], count: int) -> list[Prompt]:
    """Further captions, so that `count` name each concept, or all there are."""
    rng, further = random.Random(12), list[Prompt]()
    for concept in CONCEPTS:
        missing = count - sum(concept in prompt.concepts for prompt in chosen + further)
        others = [p for p in texts if concept in p.concepts and p not in chosen and p not in further]
        further += rng.sample(others, min(len(others), max(0, missing)))
    return further


def hear_bundle(bundle: str, settings: list[str], prompts: list[Prompt], path: Path) -> list[dict]:
    """What the listeners say of a bundle's clips, one row each, in the order of the prompts."""
    rows = read(path)
    if len(rows) < len(prompts):
        model = MusicLM.from_pretrained(bundle, "cpu")
        config = override(model.default_config(), settings)
        listeners = {name: make_listener(name) for name in LISTENERS}
        for place in range(len(rows), len(prompts)):
            clip = model.generate(prompts[place].text, CLIP_S, seed=1000 + place, config=config).audio[0]
            rows.append({name: listener(clip) for name, listener in listeners.items()})
            with open(path, "a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    return rows


def hear_real(corpus: Path, path: Path, per_track: int = 4) -> list[dict]:
    """The same of real clips of the validation split."""
    tracks = [t for t in load_manifest(corpus) if t.split == "validation" and t.source != RENDERED]
    tracks = [t for t in tracks if t.seconds >= CLIP_S]
    clips = eval_clips(corpus, tracks, CLIP_S, per_track * len(tracks), 0)[0][:, 0]
    rows = read(path)
    listeners = {name: make_listener(name) for name in (MUSICNN, Aisfx.name)}
    for clip in clips[len(rows) :].numpy():
        rows.append({name: listener(clip) for name, listener in listeners.items()})
        with open(path, "a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    return rows


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def concept_table(rows: list[dict], prompts: list[Prompt]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the concepts that enough captions name, scores (n k) and whether the caption names each (n k)."""
    tags = np.array([row[MUSICNN]["tags"] for row in rows])
    described = [Description(**row[LIBROSA]) for row in rows]
    scores = concept_scores(tags, described, [row[METER]["loudness_lufs"] for row in rows])
    named = {name: np.array([name in prompt.concepts for prompt in prompts]) for name in scores}
    used = [name for name in scores if MIN_POSITIVES + 2 <= named[name].sum() <= len(prompts) - MIN_POSITIVES - 2]
    return used, np.stack([scores[name] for name in used], 1), np.stack([named[name] for name in used], 1)


def mean_auc(scores: np.ndarray, named: np.ndarray) -> float:
    return float(np.nanmean([area_under_curve(scores[:, k], named[:, k]) for k in range(scores.shape[1])]))


def figures(rows: list[dict], prompts: list[Prompt], real: list[dict]) -> dict:
    used, scores, named = concept_table(rows, prompts)
    found: dict = {"mean_auc": asdict(bootstrap(mean_auc, scores, named, draws=300))}
    for name in (MUSICNN, Aisfx.name):
        made, recorded = (np.array([row[name]["embedding"] for row in some]) for some in (rows, real))
        found[f"fad_{name}"] = frechet_distance(made, recorded)
    found |= {name: float(np.mean([row[LIBROSA][name] for row in rows])) for name in MEASURES}
    found["concepts"] = {name: area_under_curve(scores[:, k], named[:, k]) for k, name in enumerate(used)}
    found["captions_that_name"] = {name: int(named[:, k].sum()) for k, name in enumerate(used)}
    return found


def differences(rows: list[dict], first: list[dict], prompts: list[Prompt]) -> dict:
    """How much higher AUCs are than the first bundle's, the mean and each concept's; both are resampled by the same captions.

    Of k concepts one in forty lies wholly below zero by luck alone, so each also has the interval that all k hold at once (Bonferroni).
    """
    used, scores, named = concept_table(rows, prompts)
    _, before, _ = concept_table(first, prompts)
    found: dict = {"mean": asdict(bootstrap(lambda a, b, y: mean_auc(a, y) - mean_auc(b, y), scores, before, named, draws=300))}  # fmt: skip
    wider = norm.ppf(1 - 0.025 / len(used)) / norm.ppf(0.975)
    for k, name in enumerate(used):
        own = bootstrap(gain, scores[:, k], before[:, k], named[:, k], draws=1000)
        half = wider * (own.high - own.low) / 2
        found[name] = {**asdict(own), "low_of_all": own.value - half, "high_of_all": own.value + half}
    return found


def gain(scores: np.ndarray, before: np.ndarray, named: np.ndarray) -> float:
    return area_under_curve(scores, named) - area_under_curve(before, named)


if __name__ == "__main__":
    main()
