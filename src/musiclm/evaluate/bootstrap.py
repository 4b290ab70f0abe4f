"""Confidence intervals by the bootstrap, and areas under ROC curves, for every table of `musiclm evaluate`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped


@dataclass(frozen=True)
class Estimate:
    """A figure and the interval that holds it in 95 of 100 draws of the clips."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap(
    statistic: Callable[..., float], *arrays: Shaped[np.ndarray, "_ ..."], draws: int = 1000, seed: int = 0
) -> Estimate:
    """`statistic` of arrays whose rows belong together, with the percentile interval over `draws` resamplings of the
    rows.

    Resamplings on which the statistic is not a number (no positives, say) are left out. Raises: ValueError for no rows.
    """
    n = len(arrays[0])
    if not n or any(len(array) != n for array in arrays):
        raise ValueError(f"arrays of {[len(array) for array in arrays]} rows; wanted one length, at least 1")
    rng = np.random.default_rng(seed)
    value = float(statistic(*arrays))
    found: list[Any] = []
    for _ in range(draws):
        rows = rng.integers(n, size=n)
        found.append(statistic(*(array[rows] for array in arrays)))
    kept = np.array(found, np.float64)
    kept = kept[np.isfinite(kept)]
    if not len(kept):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(kept, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def mean(values: Float[np.ndarray, " n"]) -> float:
    return float(np.mean(values))


def area_under_curve(scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Share of pairs whose positive scores higher than the negative, ties half (Mann-Whitney); 0.5 is guessing.

    Not a number without both kinds.
    """
    positive = np.asarray(positive, bool)
    yes, no = scores[positive], scores[~positive]
    if not len(yes) or not len(no):
        return float("nan")
    order = np.sort(no)
    below, upto = np.searchsorted(order, yes, "left"), np.searchsorted(order, yes, "right")
    return float((below + upto).sum() / (2 * len(yes) * len(no)))
