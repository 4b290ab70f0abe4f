"""Ranking music by texts: figures for MuLans that know everything, nothing or what's wrong; words for concepts."""

from pathlib import Path

import numpy as np
import pytest

from musiclm.evaluate.adherence import CONCEPTS, Prompt, load_prompts
from musiclm.evaluate.match import WORDS, concepts_of, match, read_texts

NAMES = ("slow", "rock", "bright")


def made_up(seed: int = 0, num_clips: int = 60, num_texts: int = 90):
    rng = np.random.default_rng(seed)
    scores = {name: rng.standard_normal(num_clips) for name in NAMES}
    prompts = [Prompt(text=str(k), concepts=frozenset({NAMES[k % 3]})) for k in range(num_texts)]
    truth = np.stack([scores[NAMES[k % 3]] for k in range(num_texts)])
    return rng, scores, prompts, truth


def test_a_model_that_hears_agrees_and_one_that_does_not_does_not() -> None:
    rng, scores, prompts, truth = made_up()
    knows = match(truth + 0.1 * rng.standard_normal(truth.shape), prompts, scores)
    assert knows.mean_agreement.value > 0.8 and abs(knows.other_texts) < 0.5
    assert knows.mean_agreement.low <= knows.mean_agreement.value <= knows.mean_agreement.high
    half = match(truth + 2.0 * rng.standard_normal(truth.shape), prompts, scores)
    assert 0.1 < half.mean_agreement.value < knows.mean_agreement.value
    blind = match(rng.standard_normal(truth.shape), prompts, scores)
    assert abs(blind.mean_agreement.value) < 0.1
    assert match(-truth, prompts, scores).mean_agreement.value < -0.8


def test_a_clip_that_every_text_likes_does_not_count() -> None:
    rng, scores, prompts, truth = made_up()
    noisy = truth + rng.standard_normal(truth.shape)
    hub = noisy + 100 * rng.standard_normal(truth.shape[1])
    assert match(hub, prompts, scores).mean_agreement.value == pytest.approx(
        match(noisy, prompts, scores).mean_agreement.value
    )


def test_concepts_that_hardly_any_text_names_are_left_out() -> None:
    _, scores, prompts, truth = made_up()
    few = [Prompt(text=p.text, concepts=p.concepts - {"rock"} if k > 5 else p.concepts) for k, p in enumerate(prompts)]
    assert set(match(truth, few, scores).concepts) == {"slow", "bright"}
    with pytest.raises(ValueError, match="no concept is named"):
        match(truth, [Prompt(text="x")] * len(prompts), scores)


def test_words_name_concepts() -> None:
    assert set(WORDS) == set(CONCEPTS)
    assert concepts_of("A slow, sad piano piece with no drums.") == {"slow", "sad", "no drums"}
    assert concepts_of("An 80s synthwave track, uptempo") >= {"80s", "electronic", "fast"}
    assert "drums" not in concepts_of("There are no drums here") and "drums" in concepts_of("No piano, but drums")
    assert "bass" not in concepts_of("bassoon solo") and "instrumental" in concepts_of("There are no vocals")


def test_words_find_what_people_marked_in_the_packages_prompts() -> None:
    right = found = there = 0
    for prompt in load_prompts():
        named = concepts_of(prompt.text)
        right, found, there = right + len(named & prompt.concepts), found + len(named), there + len(prompt.concepts)
    assert right / found > 0.85 and right / there > 0.75


def test_texts_come_from_either_kind_of_file(tmp_path: Path) -> None:
    captions = tmp_path / "captions.csv"
    captions.write_text('id,caption\n1,"A calm, slow harp"\n2,\n3,Rock\n')
    assert [(p.text, p.concepts) for p in read_texts(captions)] == [
        ("A calm, slow harp", frozenset({"calm", "slow"})),
        ("Rock", frozenset({"rock"})),
    ]
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,concepts\nsomething,slow\n")
    assert read_texts(prompts)[0].concepts == {"slow"}
    (tmp_path / "none.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column 'prompt'"):
        read_texts(tmp_path / "none.csv")
