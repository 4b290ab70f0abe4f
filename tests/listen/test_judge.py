"""The judge's contract, where its weights are installed."""

from importlib.util import find_spec

import numpy as np
import pytest

from musiclm.listen.judge import MSD_TAGS, Judge

RATE = 24000


def test_fifty_tags_once_each() -> None:
    assert len(set(MSD_TAGS)) == 50


@pytest.mark.skipif(find_spec("musicnn") is not None, reason="the PyPI package musicnn is installed")
def test_without_weights_it_says_how_to_get_them() -> None:
    with pytest.raises(ValueError, match="pip install --no-deps musicnn"):
        Judge()


@pytest.mark.skipif(find_spec("musicnn") is None, reason="the PyPI package musicnn is not installed")
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
    with pytest.raises(ValueError, match="needs 3 s"):
        Judge()([np.zeros(RATE)])
