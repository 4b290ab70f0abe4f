"""Distances against scipy and against cases worked by hand; and they put same, shifted and foreign in that order."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from musiclm.evaluate.distance import frechet_distance, frechet_infinity, kernel_distance, posterior_divergence


def draw(n: int, d: int = 8, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ np.diag(np.linspace(0.5, 2, d)) + shift


def test_frechet_is_the_textbook_formula() -> None:
    a, b = draw(50, seed=1), draw(70, shift=0.3, seed=2) * 1.3
    covariances = np.cov(a.T), np.cov(b.T)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_a_set_is_never_less_than_nothing_from_itself(seed: int) -> None:
    clips = draw(12, 30, seed=seed) * 10.0**seed
    assert frechet_distance(clips, clips) >= 0


def test_frechet_with_fewer_clips_than_dimensions() -> None:
    a, b = draw(5, 20, seed=1), draw(6, 20, seed=2)
    assert 0 < frechet_distance(a, b) < 1000


def test_the_extrapolation_takes_the_bias_of_small_sets_away() -> None:
    reference = draw(4000, seed=0)
    found = [
        (frechet_distance(x, reference), frechet_infinity(x, reference))
        for x in (draw(60, seed=s) for s in range(1, 9))
    ]
    plain, infinite = np.mean(found, axis=0)
    assert plain > 0.3 and abs(infinite) < plain / 3


def test_kernel_distance_is_unbiased_and_grows() -> None:
    reference = draw(400, seed=0)
    same = np.mean([kernel_distance(draw(60, seed=s), reference) for s in range(1, 20)])
    assert abs(same) < 0.02
    near, far = (
        kernel_distance(draw(60, shift=0.3, seed=9), reference),
        kernel_distance(draw(60, shift=1.0, seed=9), reference),
    )
    assert same < near < far


def test_kernel_distance_by_hand() -> None:
    a, b = np.array([[1.0], [1.0]]), np.array([[1.0], [-1.0]])
    # scale 1; kernels: within a (1 + 1)^3 = 8, within b (1 - 1)^3 = 0, across the mean of 8 and 0
    assert kernel_distance(a, b) == pytest.approx(8 + 0 - 2 * 4)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_same_shifted_foreign(distance) -> None:
    reference, own = draw(80, seed=0), draw(80, seed=1)
    rows = [distance(x, reference) for x in (own, own + 0.5, draw(80, seed=3) * 4 + 5)]
    assert rows == sorted(rows)


def test_posterior_divergence_by_hand() -> None:
    p, q = np.array([[0.5, 0.9]]), np.array([[0.25, 0.9]])
    assert posterior_divergence(q, p) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75), rel=1e-6)
    assert posterior_divergence(p, p) == 0


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more rows"):
        frechet_distance(draw(1), draw(5))
    with pytest.raises(ValueError, match="same width"):
        kernel_distance(draw(5, 3), draw(5, 4))
    with pytest.raises(ValueError, match="16 clips; the extrapolation needs more than 16"):
        frechet_infinity(draw(16), draw(50))
    for wrong in (np.nan, np.inf):
        clips = draw(5)
        clips[2, 1] = wrong
        for distance in (frechet_distance, kernel_distance):
            with pytest.raises(ValueError, match="1 of 5 embeddings are not finite"):
                distance(draw(9), clips)
    with pytest.raises(ValueError, match="pairs"):
        posterior_divergence(np.zeros((2, 3)), np.zeros((3, 3)))
