"""Bundles on captions: which captions, rows that survive a kill, figures of made-up rows with known answers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import musiclm.evaluate.compare as module
from benchmarks.compare_bundles import more_of_each
from musiclm.evaluate.adherence import Prompt
from musiclm.evaluate.compare import (
    ANALYSERS,
    analyse,
    choose,
    differences,
    figures,
    read_rows,
)
from musiclm.listen.analysers import LIBROSA, METER, MUSICNN, NOTES
from musiclm.listen.music import describe
from tests.listen.test_music import cadence

CONCEPTS = ("slow", "rock", "bright", "catchy", "acoustic")


def texts(num: int = 300) -> list[Prompt]:
    rng = np.random.default_rng(0)
    return [
        Prompt(
            text=f"text {k}", concepts=frozenset(c for c in CONCEPTS if rng.random() < (0.1 if c == "catchy" else 0.4))
        )
        for k in range(num)
    ]


def test_the_choice_is_rich_in_rare_concepts_and_always_the_same() -> None:
    every = texts()
    chosen = choose(every, 60)
    assert chosen == choose(every, 60) and len({prompt.text for prompt in chosen}) == 60
    assert all(len(prompt.concepts) >= 2 for prompt in chosen)
    plain = np.mean(["catchy" in prompt.concepts for prompt in every])
    assert sum("catchy" in prompt.concepts for prompt in chosen) >= 14 > 60 * plain * 1.5
    further = more_of_each(every, chosen, 40)
    assert not set(further) & set(chosen)
    for concept in CONCEPTS:
        there = sum(concept in prompt.concepts for prompt in every)
        assert sum(concept in prompt.concepts for prompt in (*chosen, *further)) >= min(40, there)


class Counter:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, clip: np.ndarray) -> dict[str, float]:
        return {"level": float(clip[0])}


def test_rows_survive_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_analyser", Counter)
    path, clips = tmp_path / "rows.jsonl", [np.full(3, float(k)) for k in range(5)]
    assert read_rows(path) == []
    analyse(clips[:3], [], path)
    whole = path.read_text()
    path.write_text(whole + '{"musicnn-msd": {"le')  # cut short
    rows = read_rows(path)
    assert len(rows) == 3 and path.read_text() == whole
    assert (
        analyse(clips[3:], rows, path)
        == read_rows(path)
        == [{name: {"level": float(k)} for name in ANALYSERS} for k in range(5)]
    )
    path.write_text(json.dumps({MUSICNN: {}}) + "\n")
    with pytest.raises(ValueError, match="lacks the analyser .* delete the file"):
        read_rows(path)


def rows(
    prompts: list[Prompt], knows: float, keys: float = 1.0, offset: float = 0.0, seed: int = 0
) -> list[dict[str, Any]]:
    """Of clips whose loudness follows whether "calm" was asked for, as far as `knows`; embeddings off by `offset`."""
    rng = np.random.default_rng(seed)
    described = asdict(describe(cadence(0, 4.0)))
    return [
        {
            MUSICNN: {"embedding": (rng.standard_normal(6) + offset).tolist(), "tags": rng.random(50).tolist()},
            "aisfx": {"embedding": rng.standard_normal(6).tolist()},
            LIBROSA: described,
            METER: {"loudness_lufs": -20 - knows * ("calm" in prompt.concepts) + rng.standard_normal()},
            NOTES: {"keys_below_c4": keys, "keys_above_c4": 2.0},
        }
        for prompt in prompts
    ]


def test_figures_and_differences_know_the_better_bundle() -> None:
    prompts = [Prompt(text=str(k), concepts=frozenset({"calm"} if k % 2 else {"loud"})) for k in range(60)]
    good, blind = rows(prompts, 4.0, keys=1.5), rows(prompts, 0.0, keys=0.5, offset=2.0, seed=1)
    real = rows(prompts[:40], 0.0, seed=2)
    one, other = figures(good, prompts, real), figures(blind, prompts, real)
    assert one["concepts"]["calm"] > 0.95 > 0.7 > other["concepts"]["calm"] > 0.3
    assert one["captions_that_name"] == {"loud": 30, "calm": 30}
    assert one["keys_below_c4"]["value"] == 1.5 and other["keys_below_c4"]["value"] == 0.5
    assert other["real_or_not_musicnn-msd"]["value"] > 0.95 > 0.75 > one["real_or_not_musicnn-msd"]["value"]
    assert other["fad_musicnn-msd"] > 5 * one["fad_musicnn-msd"]
    gained = differences(good, blind, prompts)
    assert gained["calm"]["low"] > 0.1 and gained["mean"]["low"] > 0.1
    assert gained["calm"]["low_of_all"] < gained["calm"]["low"]
    assert all(abs(found["value"]) < 1e-9 for found in differences(good, good, prompts).values())
