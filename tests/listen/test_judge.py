"""The judge's contract, where its weights are installed."""

import ast
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from musiclm.listen.judge import MSD_TAGS, Judge
from musiclm.listen.tagger import MTT_TAGS

RATE = 24000
needs_weights = pytest.mark.skipif(find_spec("musicnn") is None, reason="the PyPI package musicnn is not installed")


def published(name: str) -> list[str]:
    """A list of musicnn's configuration, read without importing it (it wants TensorFlow)."""
    (folder,) = find_spec("musicnn").submodule_search_locations
    for node in ast.parse((Path(folder) / "configuration.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return [tag.lower() for tag in ast.literal_eval(node.value)]
    raise AssertionError(f"no {name} in the configuration of musicnn")


@needs_weights
@pytest.mark.parametrize(("ours", "theirs"), [(MSD_TAGS, "MSD_LABELS"), (MTT_TAGS, "MTT_LABELS")])
def test_tags_stand_in_the_order_of_the_networks_outputs(ours: tuple[str, ...], theirs: str) -> None:
    assert [tag.replace("_", " ") for tag in ours] == published(theirs)


@pytest.mark.skipif(find_spec("musicnn") is not None, reason="the PyPI package musicnn is installed")
def test_without_weights_it_says_how_to_get_them() -> None:
    with pytest.raises(ValueError, match="pip install --no-deps musicnn"):
        Judge()


@needs_weights
def test_it_hears_a_guitar_string_and_a_beat_apart() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(6 * RATE) / RATE
    beat = np.zeros(len(time))
    for start in np.arange(0, 6, 0.25):
        at = round(start * RATE)
        burst = rng.standard_normal(2400) * np.exp(-np.arange(2400) / 400)
        beat[at : at + 2400] += burst[: len(beat) - at]
    pluck = sum(np.sin(2 * np.pi * 196 * k * time) * np.exp(-(time % 1.5) * k) / k for k in range(1, 6))
    embeddings, scores = Judge()([0.3 * beat, 0.2 * pluck])
    assert embeddings.shape == (2, 200) and scores.shape == (2, 50) and ((scores >= 0) & (scores <= 1)).all()
    dance, acoustic = MSD_TAGS.index("dance"), MSD_TAGS.index("acoustic")
    assert scores[0, dance] > scores[1, dance] and scores[1, acoustic] > scores[0, acoustic]
    with pytest.raises(ValueError, match="the tagger needs 3 s"):
        Judge()([np.zeros(RATE)])
