import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from musiclm.evaluate.bootstrap import area_under_curve, bootstrap, mean


def test_area_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.3  # with ties
    assert area_under_curve(scores, truth) == pytest.approx(roc_auc_score(truth, scores))


def test_area_by_hand() -> None:
    assert area_under_curve(np.array([3.0, 1.0, 2.0]), np.array([True, False, True])) == 1.0
    assert area_under_curve(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
    assert np.isnan(area_under_curve(np.array([1.0, 2.0]), np.array([True, True])))


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        estimate = bootstrap(mean, rng.normal(3.0, 1.0, 40), draws=200, seed=trial)
        covered += estimate.low <= 3.0 <= estimate.high
    assert 175 <= covered <= 199


def test_the_same_seed_gives_the_same_interval() -> None:
    x = np.random.default_rng(1).normal(size=30)
    assert bootstrap(mean, x) == bootstrap(mean, x) != bootstrap(mean, x, seed=1)


def test_unequal_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        bootstrap(lambda a, b: 0.0, np.zeros(3), np.zeros(4))
