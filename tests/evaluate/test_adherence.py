"""Concepts, tempo and key asked for and found, on clips whose contents are made up."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stories import within_groups
from musiclm.evaluate.adherence import (
    CONCEPTS,
    MIN_POSITIVES,
    Prompt,
    adherence,
    concept_scores,
    load_prompts,
)
from musiclm.listen.judge import MSD_TAGS
from musiclm.listen.music import Description

PLAIN = Description(
    tempo_bpm=100.0,
    pulse_bpm=150.0,
    beat_strength=0.5,
    periodicity_2s=0.0,
    periodicity_8s=0.0,
    beat_jitter=0.0,
    key="C major",
    tonal_clarity=0.5,
    onset_density=4.0,
    percussive_share=0.2,
    brightness_hz=1500.0,
    bass_share=0.3,
    repetition=0.2,
    change=1.0,
)


def clips(prompts: list[Prompt], hears: float, seed: int = 0):
    """Scores that follow the prompts' concepts with a weight, and noise of weight one."""
    rng = np.random.default_rng(seed)
    scores = {
        name: hears * np.array([name in prompt.concepts for prompt in prompts]) + rng.standard_normal(len(prompts))
        for name in CONCEPTS
    }
    descriptions = [
        replace(
            PLAIN,
            tempo_bpm=prompt.tempo_bpm if hears and prompt.tempo_bpm else 97.0,
            key=(hears and prompt.key) or "F# minor",
        )
        for prompt in prompts
    ]
    return scores, descriptions


def test_the_package_has_prompts_for_every_concept() -> None:
    prompts = load_prompts()
    assert len(prompts) >= 200 and len({prompt.text for prompt in prompts}) == len(prompts)
    assert len(CONCEPTS) >= 30
    for name, concept in CONCEPTS.items():
        assert sum(name in prompt.concepts for prompt in prompts) >= 2 * MIN_POSITIVES, name
        assert set(concept.tags) <= set(MSD_TAGS)
        assert concept.tags or concept.measure == "loudness_lufs" or concept.measure in asdict(PLAIN)
    lengths = [len(prompt.text.split()) for prompt in prompts]
    assert min(lengths) <= 4 and max(lengths) >= 20
    assert (
        sum(prompt.tempo_bpm is not None for prompt in prompts)
        >= 5
        <= sum(prompt.key is not None for prompt in prompts)
    )


def test_a_model_that_reads_is_above_one_that_does_not() -> None:
    prompts = load_prompts()
    reading = adherence(prompts, *clips(prompts, 2.0), draws=50)
    deaf = adherence(prompts, *clips(prompts, 0.0), draws=50)
    assert reading.mean_auc.low > 0.8 and abs(deaf.mean_auc.value - 0.5) < 0.05
    assert abs(reading.mean_auc_shuffled - 0.5) < 0.03
    assert reading.tempo is not None and deaf.tempo is not None and reading.key is not None and deaf.key is not None
    assert reading.tempo.value == 1 > deaf.tempo.value and reading.key.value == 1 > deaf.key.value
    assert reading.tempo_shuffled is not None and reading.tempo_shuffled < 1
    assert set(reading.concepts) == set(CONCEPTS)


def test_few_positives_say_nothing() -> None:
    prompts = [Prompt(text=str(i), concepts=frozenset({"jazz"} if i < 2 else {"rock"})) for i in range(12)]
    found = adherence(prompts, *clips(prompts, 1.0), draws=10)
    assert not found.concepts and found.tempo is None and np.isnan(found.mean_auc.value)


def test_scores_come_from_tags_and_measures() -> None:
    tags = np.zeros((2, 50))
    tags[1, MSD_TAGS.index("heavy metal")] = 0.5
    tags[1, MSD_TAGS.index("metal")] = 0.25
    described = [PLAIN, replace(PLAIN, pulse_bpm=180.0)]
    scores = concept_scores(tags, described, [-20.0, -10.0])
    assert scores["metal"].tolist() == [0, 0.75]
    assert scores["fast"].tolist() == [150, 180] and scores["slow"].tolist() == [-150, -180]
    assert scores["loud"].tolist() == [-20, -10] and scores["calm"].tolist() == [20, 10]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("text,concepts\na,rock\n", "no column 'prompt'"),
        ("prompt,concepts\na,polka\n", "line 2: no concept 'polka'"),
        ("prompt,tempo_bpm\na,quick\n", "line 2"),
        ("prompt,key\na,H major\n", "line 2: 'H major' is no key"),
        ("prompt\n", "has no prompts"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        load_prompts(path)
    with pytest.raises(ValueError, match="can't be read"):
        load_prompts(tmp_path / "absent.csv")


def test_a_file_of_prompts_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("prompt\na calm piano\n")
    assert load_prompts(tmp_path / "mine.csv") == [Prompt(text="a calm piano")]


def test_within_groups_clips_are_compared_with_their_neighbours_alone() -> None:
    named = [{"rock"}, {"jazz"}, {"rock", "jazz"}, set()]
    prompts = [Prompt(text="music", concepts=frozenset(one)) for one in named]
    scores = {name: np.zeros(4) for name in CONCEPTS}
    scores["rock"] = np.array([1.0, 0.5, 9.0, 9.5])  # the second group is louder in it, and the wrong way round
    scores["jazz"] = np.array([0.1, 0.2, 0.3, 0.3])
    assert within_groups(prompts, scores, [0, 0, 1, 1]) == {"rock": (0.5, 2), "jazz": (0.75, 2)}
    assert within_groups(prompts, scores, [0, 1, 2, 3]) == {}
