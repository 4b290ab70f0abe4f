"""Bundles beside one another: what moved between two reports, and how bundles do on captions that people wrote.

What is chosen, is chosen by captions (`analyse_bundle`, `figures`, `differences`), so that the prompts of
`musiclm evaluate` stay unseen. Every bundle makes ten seconds for each of the same captions with the same seeds;
analysers without a part in training analyse them beside clips of the validation split. What they say is kept, a row a
clip, and a killed run goes on.
"""

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import norm

from musiclm.core.config import override
from musiclm.evaluate.adherence import MIN_POSITIVES, Prompt, concept_scores, mean_auc
from musiclm.evaluate.bootstrap import area_under_curve, bootstrap, mean
from musiclm.evaluate.clipset import Clip
from musiclm.evaluate.distance import frechet_distance
from musiclm.evaluate.match import CLIP_S
from musiclm.evaluate.real_or_not import real_or_not
from musiclm.evaluate.sets import spread
from musiclm.generate.session import MusicLM
from musiclm.listen.analysers import LIBROSA, METER, MUSICNN, NOTES, make_analyser
from musiclm.listen.embedders import Aisfx
from musiclm.listen.music import Description

NAN = float("nan")
ANALYSERS = (MUSICNN, LIBROSA, METER, NOTES, Aisfx.name)
EMBEDDERS = (MUSICNN, Aisfx.name)
MEASURES = ("beat_strength", "periodicity_2s", "periodicity_8s", "tonal_clarity", "onset_density", "repetition")
KEYS = ("keys_below_c4", "keys_above_c4")
RARE = ("catchy", "repetitive", "80s", "acoustic", "fast", "steady beat")  # concepts that few captions name
PER_RARE = 14  # captions of each, if there are so many

Row = dict[str, dict[str, Any]]  # what each analyser says of a clip


# two reports


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Every figure that both reports have, and whether their intervals say that it moved ("yes", "no", "no interval").

    Raises: ValueError if they were measured on other prompts, where no figure means the same.
    """
    for name in ("prompts", "corpus"):
        if a["settings"].get(name) != b["settings"].get(name):
            raise ValueError(
                f"the reports were measured on other {name} ({a['settings'].get(name)}, {b['settings'].get(name)}); "
                "measure both bundles on the same"
            )
    one, other = dict(_figures(a["sections"])), dict(_figures(b["sections"]))
    rows = []
    for name, (value, low, high) in one.items():
        if name not in other:
            continue
        value_b, low_b, high_b = other[name]
        if any(map(math.isnan, (low, high, low_b, high_b))):
            moved = "no interval"
        else:
            moved = "yes" if low_b > high or high_b < low else "no"
        rows.append({"figure": name, "a": value, "b": value_b, "moved": moved})
    return rows


def _figures(node: Any, path: str = "") -> list[tuple[str, tuple[float, float, float]]]:
    """Numbers of a nest with their paths; estimates with their intervals."""
    if isinstance(node, dict):
        if set(node) == {"value", "low", "high"}:
            return [(path, (_or_nan(node["value"]), _or_nan(node["low"]), _or_nan(node["high"])))]
        return [pair for key, value in node.items() for pair in _figures(value, f"{path}.{key}" if path else key)]
    if isinstance(node, list):
        return [pair for index, value in enumerate(node) for pair in _figures(value, f"{path}.{index}")]
    if isinstance(node, int | float) and not isinstance(node, bool):
        return [(path, (float(node), NAN, NAN))]
    return []


def _or_nan(value: Any) -> float:
    return NAN if value is None else float(value)


# captions


def choose(texts: Sequence[Prompt], num: int) -> list[Prompt]:
    """`num` captions that name two concepts or more, rich in the rare ones; always the same."""
    rng, chosen = random.Random(11), list[Prompt]()
    texts = [prompt for prompt in texts if len(prompt.concepts) >= 2]
    for concept in RARE:
        others = [prompt for prompt in texts if concept in prompt.concepts and prompt not in chosen]
        missing = PER_RARE - sum(concept in prompt.concepts for prompt in chosen)
        chosen += rng.sample(others, min(len(others), max(0, missing)))
    chosen += rng.sample([prompt for prompt in texts if prompt not in chosen], max(0, num - len(chosen)))
    rng.shuffle(chosen)
    return chosen[:num]


def analyse_bundle(bundle: str, settings: Sequence[str], prompts: Sequence[Prompt], path: Path) -> list[Row]:
    """What the analysers say of a bundle's clips, in the order of the prompts, clip i of the seed 1000 + i.

    settings: of `GenerateConfig`, as "semantic.temperature=0.9". path: where rows are kept; those there are not made
    again. Raises: ValueError for a setting that is none, or an analyser that is not installed.
    """

    def clips(first: int) -> Iterator[Clip]:
        model = MusicLM.from_pretrained(bundle, "cpu")
        config = override(model.default_config(), list(settings))
        for place in range(first, len(prompts)):
            yield model.generate(prompts[place].text, CLIP_S, seed=1000 + place, config=config).audio[0]

    rows = read_rows(path)
    return rows if len(rows) >= len(prompts) else analyse(clips(len(rows)), rows, path)


def analyse(clips: Iterable[Clip], rows: list[Row], path: Path) -> list[Row]:
    """Appends a row of each clip to `rows` and to the file, as soon as it is there."""
    analysers = {name: make_analyser(name) for name in ANALYSERS}
    for clip in clips:
        rows.append({name: analyser(clip) for name, analyser in analysers.items()})
        with open(path, "a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    return rows


def read_rows(path: Path) -> list[Row]:
    """The rows kept in a file, without a last line that a kill cut short; none without the file.

    Raises: ValueError for rows of other analysers than today's, which can't be gone on with.
    """
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    rows = [json.loads(line) for line in whole.splitlines()]
    if missing := {name for row in rows for name in ANALYSERS if name not in row}:
        raise ValueError(f"{path} lacks the analyser {min(missing)}; delete the file or name another folder")
    return rows


def concept_table(
    rows: Sequence[Row], prompts: Sequence[Prompt]
) -> tuple[list[str], Float[np.ndarray, "n k"], Bool[np.ndarray, "n k"]]:
    """Names of the concepts that enough captions name, scores, and whether the caption names each."""
    tags = np.array([row[MUSICNN]["tags"] for row in rows])
    described = [Description(**row[LIBROSA]) for row in rows]
    scores = concept_scores(tags, described, [row[METER]["loudness_lufs"] for row in rows])
    named = {name: np.array([name in prompt.concepts for prompt in prompts]) for name in scores}
    least = MIN_POSITIVES + 2  # so that hardly a resampling is without any
    used = [name for name in scores if least <= named[name].sum() <= len(prompts) - least]
    return used, np.stack([scores[name] for name in used], 1), np.stack([named[name] for name in used], 1)


def figures(rows: Sequence[Row], prompts: Sequence[Prompt], real: Sequence[Row]) -> dict[str, Any]:
    """Of a bundle's rows: concepts, distances to real clips, measures of music and notes, and whether it can be told.

    `real_or_not` takes as many clips of either kind as there are of the fewer, spread over both.
    """
    used, scores, named = concept_table(rows, prompts)
    found: dict[str, Any] = {"mean_auc": asdict(bootstrap(mean_auc, scores, named, draws=300))}
    num = min(len(rows), len(real))
    for name in EMBEDDERS:
        made, recorded = (np.array([row[name]["embedding"] for row in some]) for some in (rows, real))
        found[f"fad_{name}"] = frechet_distance(made, recorded)
        answer = real_or_not(recorded[spread(len(recorded), num)], made[spread(len(made), num)])
        found[f"real_or_not_{name}"] = asdict(answer)
    found |= {name: float(np.mean([row[LIBROSA][name] for row in rows])) for name in MEASURES}
    found |= keys_sounding(rows)
    found["concepts"] = {name: area_under_curve(scores[:, k], named[:, k]) for k, name in enumerate(used)}
    found["captions_that_name"] = {name: int(named[:, k].sum()) for k, name in enumerate(used)}
    return found


def keys_sounding(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Keys sounding at once by register (`musiclm.listen.notes`), means over clips."""
    return {name: asdict(bootstrap(mean, np.array([row[NOTES][name] for row in rows]), draws=300)) for name in KEYS}


def differences(rows: Sequence[Row], first: Sequence[Row], prompts: Sequence[Prompt]) -> dict[str, dict[str, float]]:
    """How much higher AUCs are than the first bundle's, the mean and each concept's; both are resampled by captions.

    Of k concepts one in forty lies wholly below zero by luck alone, so each also has the interval that all k hold at
    once (Bonferroni).
    """
    used, scores, named = concept_table(rows, prompts)
    _, before, _ = concept_table(first, prompts)
    of_means = bootstrap(lambda a, b, y: mean_auc(a, y) - mean_auc(b, y), scores, before, named, draws=300)
    found: dict[str, dict[str, float]] = {"mean": asdict(of_means)}
    wider = norm.ppf(1 - 0.025 / len(used)) / norm.ppf(0.975)
    for k, name in enumerate(used):
        own = bootstrap(gain, scores[:, k], before[:, k], named[:, k], draws=1000)
        half = wider * (own.high - own.low) / 2
        found[name] = {**asdict(own), "low_of_all": own.value - half, "high_of_all": own.value + half}
    return found


def gain(scores: Float[np.ndarray, " n"], before: Float[np.ndarray, " n"], named: Bool[np.ndarray, " n"]) -> float:
    """How much the AUC rose."""
    return area_under_curve(scores, named) - area_under_curve(before, named)
