"""Real or not: sets that differ are told apart, those that don't are not, and a clip never stands on both sides."""

import numpy as np
import pytest

import musiclm.evaluate.real_or_not as module
from musiclm.evaluate.bootstrap import area_under_curve
from musiclm.evaluate.real_or_not import at_random, placements, real_or_not


def clips(num: int, seed: int = 0, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, width))


def test_what_differs_is_told_and_what_does_not_is_not() -> None:
    real, same = clips(60), clips(60, seed=1)
    shift = np.eye(20)[0]
    far, near, none = (real_or_not(real, same + shift * by) for by in (6.0, 1.0, 0.0))
    assert far.value > 0.99 and 0.6 < near.value < 0.9 and abs(none.value - 0.5) < 0.15
    assert near.low < near.value < near.high and near.high - near.low < 0.35
    assert none.low < 0.5 < none.high and far.high <= 1.0


def test_copies_alone_teach_nothing_and_do_not_mislead() -> None:
    """A copy lies next to its clip: with one learned and the other tested, it would get the wrong label."""
    real = 10 * clips(40, width=200)
    copies = real + 1e-3 * clips(40, seed=1, width=200)
    assert abs(real_or_not(real, copies).value - 0.5) < 0.2
    # a change that is the same in every copy is found, however far clips lie from one another
    assert real_or_not(real, copies + 5.0).value > 0.9


def test_a_clip_and_its_copy_are_tested_together(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Recorder:
        def fit(self, rows: np.ndarray, labels: np.ndarray) -> None:
            self.learned = rows[:, 0] % 100
            assert (labels == (rows[:, 0] >= 100)).all()

        def decision_function(self, rows: np.ndarray) -> np.ndarray:
            seen.append((set(self.learned), set(rows[:, 0] % 100)))
            return rows[:, 0]

    monkeypatch.setattr(module, "_classifier", Recorder)
    numbers = np.arange(23.0)[:, None]
    of_real, of_other = placements(numbers, numbers + 100, 2, 0)
    assert (of_real == 1).all() and (of_other == 1).all()
    assert len(seen) == 2 * 2 * 5 and all(not learned & tested for learned, tested in seen)
    tested = [number for _, numbers in seen[::2] for number in numbers]
    assert sorted(tested) == sorted([*range(23)] * 2), "each clip once in each repeat"


def test_placements_are_the_area_of_each_fold() -> None:
    real, other = clips(40), clips(40, seed=1) + 0.3
    of_real, of_other = placements(real, other, 1, 3)
    areas = []
    for train, test in module._folds(40, 3):
        model = module._classifier()
        model.fit(np.concatenate([real[train], other[train]]), np.repeat([0, 1], len(train)))
        scores = model.decision_function(np.concatenate([real[test], other[test]]))
        areas.append(area_under_curve(scores, np.repeat([False, True], len(test))))
    assert of_real.mean() == pytest.approx(np.mean(areas)) == pytest.approx(of_other.mean())


def test_the_interval_holds_the_truth_in_most_draws() -> None:
    """Of sets that don't differ, intervals that bootstrap clips hold 0.5 nearly always, and luck lies about it."""
    held = 0
    for seed in range(20):
        found = real_or_not(clips(40, seed), clips(40, 100 + seed))
        held += found.low <= 0.5 <= found.high
    assert held >= 14
    luck = at_random(clips(80, 7), 40, draws=20)
    assert luck.low < luck.value < luck.high and abs(luck.value - 0.5) < 0.08 and luck.high - luck.low < 0.5


@pytest.mark.usefixtures("unchecked")
def test_too_few_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="10 clips or more"):
        real_or_not(clips(9), clips(9))
    with pytest.raises(ValueError, match="two sets of one shape"):
        real_or_not(clips(12), clips(11))
    with pytest.raises(ValueError, match="can't be divided into two sets of 30"):
        at_random(clips(59), 30)
