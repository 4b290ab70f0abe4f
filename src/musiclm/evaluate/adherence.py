"""Is what a prompt names in the music? A concept at a time, by analysers that had no part in training.

- concept AUC: the probability that a clip whose prompt names the concept scores higher on it than one whose prompt does
  not. 0.5 is guessing, 1 is perfect. Genres and moods are scored by the judge's tags, the rest by measures of librosa
  (`musiclm.listen.music`) and by loudness.
- tempo: share of clips, whose prompt gives beats per minute, that are within 8 % of them, their half or their double.
  key: mean MIREX score.

Beside each stands the same with prompts shuffled among the clips, which is what a model that does not read would get.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from musiclm.evaluate.bootstrap import Estimate, area_under_curve, bootstrap
from musiclm.listen.judge import MSD_TAGS
from musiclm.listen.music import Description, key_score, same_tempo


@dataclass(frozen=True)
class Concept:
    """What scores a clip on a concept: the sum of some of the judge's tags, or a measure, or a measure turned round."""

    tags: tuple[str, ...] = ()
    measure: str = ""  # a field of Description, or loudness_lufs
    sign: int = 1


CONCEPTS = {
    "rock": Concept(("rock", "alternative rock", "classic rock")),
    "hard rock": Concept(("hard rock",)),
    "metal": Concept(("metal", "heavy metal")),
    "punk": Concept(("punk",)),
    "progressive rock": Concept(("progressive rock",)),
    "indie": Concept(("indie", "indie rock", "indie pop")),
    "pop": Concept(("pop",)),
    "electronic": Concept(("electronic", "electronica", "electro")),
    "dance": Concept(("dance",)),
    "house": Concept(("house",)),
    "hip-hop": Concept(("hip-hop",)),
    "soul": Concept(("soul", "rnb")),
    "funk": Concept(("funk",)),
    "jazz": Concept(("jazz",)),
    "blues": Concept(("blues",)),
    "country": Concept(("country",)),
    "folk": Concept(("folk",)),
    "acoustic": Concept(("acoustic",)),
    "guitar": Concept(("guitar",)),
    "ambient": Concept(("ambient",)),
    "chill": Concept(("chill", "chillout", "mellow", "easy listening")),
    "experimental": Concept(("experimental",)),
    "party": Concept(("party",)),
    "catchy": Concept(("catchy",)),
    "sad": Concept(("sad",)),
    "happy": Concept(("happy",)),
    "beautiful": Concept(("beautiful",)),
    "80s": Concept(("80s",)),
    "oldies": Concept(("oldies", "60s")),
    "instrumental": Concept(("instrumental",)),
    "fast": Concept(measure="pulse_bpm"),
    "slow": Concept(measure="pulse_bpm", sign=-1),
    "loud": Concept(measure="loudness_lufs"),
    "calm": Concept(measure="loudness_lufs", sign=-1),
    "drums": Concept(measure="percussive_share"),
    "no drums": Concept(measure="percussive_share", sign=-1),
    "bright": Concept(measure="brightness_hz"),
    "dark": Concept(measure="brightness_hz", sign=-1),
    "bass": Concept(measure="bass_share"),
    "busy": Concept(measure="onset_density"),
    "sparse": Concept(measure="onset_density", sign=-1),
    "steady beat": Concept(measure="beat_strength"),
    "repetitive": Concept(measure="repetition"),
}
MIN_POSITIVES = 3  # fewer clips that name a concept say nothing of it


@dataclass(frozen=True, kw_only=True)
class Prompt:
    text: str
    concepts: frozenset[str] = frozenset()
    tempo_bpm: float | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Adherence:
    """Of a set of clips to their prompts."""

    concepts: dict[str, Estimate]  # AUC of each that enough prompts name
    positives: dict[str, int]
    mean_auc: Estimate  # over the concepts
    mean_auc_shuffled: float  # control: mean over shuffles, 0.5 but for luck
    tempo: Estimate | None
    tempo_shuffled: float | None
    key: Estimate | None
    key_shuffled: float | None
    num: int = field(default=0)


def load_prompts(path: Path | None = None) -> list[Prompt]:
    """The package's own prompts, or those of a CSV with a column `prompt` and, if wanted, `concepts` (a;b), `tempo_bpm`
    and `key`.

    Raises: ValueError for a file that can't be read, lacks the column, names an unknown concept or has no rows.
    """
    name = str(path) if path else "prompts.csv"
    try:
        text = Path(path).read_text("utf-8") if path else files("musiclm.evaluate").joinpath("prompts.csv").read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} can't be read ({error})") from None
    rows = csv.DictReader(text.splitlines())
    if "prompt" not in (rows.fieldnames or ()):
        raise ValueError(f"{name} has no column 'prompt' (it has {', '.join(rows.fieldnames or ()) or 'none'})")
    found = []
    for number, row in enumerate(rows, 2):
        concepts = frozenset(name.strip() for name in (row.get("concepts") or "").split(";") if name.strip())
        if unknown := concepts - CONCEPTS.keys():
            raise ValueError(
                f"{name}, line {number}: no concept {sorted(unknown)[0]!r}; there are {', '.join(CONCEPTS)}"
            )
        try:
            tempo_bpm = float(row["tempo_bpm"]) if row.get("tempo_bpm") else None
            if row.get("key"):
                key_score(row["key"], "C major")
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from None
        found.append(Prompt(text=row["prompt"], concepts=concepts, tempo_bpm=tempo_bpm, key=row.get("key") or None))
    if not found:
        raise ValueError(f"{name} has no prompts")
    return found


def concept_scores(
    tags: Float[np.ndarray, "n 50"], descriptions: Sequence[Description], loudness_lufs: Sequence[float]
) -> dict[str, Float[np.ndarray, " n"]]:
    """How much of each concept is in each clip, in units that only rank."""
    scores = {}
    for name, concept in CONCEPTS.items():
        if concept.tags:
            scores[name] = tags[:, [MSD_TAGS.index(tag) for tag in concept.tags]].sum(1)
        elif concept.measure == "loudness_lufs":
            scores[name] = concept.sign * np.asarray(loudness_lufs, np.float64)
        else:
            scores[name] = concept.sign * np.array([getattr(one, concept.measure) for one in descriptions])
    return scores


def adherence(
    prompts: Sequence[Prompt],
    scores: dict[str, Float[np.ndarray, " n"]],
    descriptions: Sequence[Description],
    *,
    draws: int = 300,
    seed: int = 0,
) -> Adherence:
    """Of clips to the prompts at the same places. Raises: ValueError for unequal numbers."""
    n = len(prompts)
    if n != len(descriptions) or any(len(values) != n for values in scores.values()):
        raise ValueError(f"{n} prompts and {len(descriptions)} clips; each clip needs its prompt")
    named = {name: np.array([name in prompt.concepts for prompt in prompts]) for name in CONCEPTS}
    used = [name for name in CONCEPTS if MIN_POSITIVES <= named[name].sum() <= n - MIN_POSITIVES]
    values = np.stack([scores[name] for name in used], 1) if used else np.zeros((n, 0))
    truth = np.stack([named[name] for name in used], 1) if used else np.zeros((n, 0), bool)
    concepts = {name: bootstrap(area_under_curve, scores[name], named[name], draws=draws, seed=seed) for name in used}
    rng = np.random.default_rng(seed)
    shuffles = [rng.permutation(n) for _ in range(20)]

    def tempo_scores(order: np.ndarray) -> list[float]:
        return [
            float(same_tempo(prompt.tempo_bpm, descriptions[i].tempo_bpm))
            for prompt, i in zip(prompts, order, strict=True)
            if prompt.tempo_bpm
        ]

    def key_scores(order: np.ndarray) -> list[float]:
        return [
            key_score(prompt.key, descriptions[i].key) for prompt, i in zip(prompts, order, strict=True) if prompt.key
        ]

    own = np.arange(n)
    figures: dict[str, Any] = {}
    for name, scores_of in (("tempo", tempo_scores), ("key", key_scores)):
        found = np.array(scores_of(own))
        figures[name] = bootstrap(lambda x: float(np.mean(x)), found, draws=draws, seed=seed) if len(found) else None
        figures[f"{name}_shuffled"] = float(np.mean([scores_of(order) for order in shuffles])) if len(found) else None
    return Adherence(
        concepts=concepts,
        positives={name: int(named[name].sum()) for name in used},
        mean_auc=bootstrap(mean_auc, values, truth, draws=draws, seed=seed),
        mean_auc_shuffled=float(np.mean([mean_auc(values, truth[order]) for order in shuffles])),
        num=n,
        **figures,
    )


def mean_auc(values: Float[np.ndarray, "n k"], truth: Bool[np.ndarray, "n k"]) -> float:
    """Of k concepts; those without positives, or without negatives, are left out; nan without any other."""
    areas = [area_under_curve(values[:, k], truth[:, k]) for k in range(values.shape[1])]
    areas = [area for area in areas if np.isfinite(area)]
    return float(np.mean(areas)) if areas else float("nan")
