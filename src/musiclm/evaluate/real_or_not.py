"""Can a linear classifier of an analyser's embeddings tell a set of clips from real ones? AUC: 0.5 can't, 1 always can.

A logistic regression on standardised embeddings, trained on four fifths of the clips and tested on the others, five
times over. Row i of both sets, a clip and its copy perhaps, is always on the same side, so no clip is tested by a
classifier that has learned from its copy. Both sets are equally large, and areas are taken within a fifth, whose clips
one classifier scored.

The figure rises with the number of clips to learn from: compare figures of one number only. With few clips a classifier
of sets that do not differ is off 0.5 by luck, to either side, by more than the interval of its tested clips says;
`at_random` measures how far.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from musiclm.evaluate.bootstrap import Estimate, bootstrap, mean

FOLDS = 5
STRENGTH = 0.1  # inverse penalty; of 0.001 to 1, on some hundred clips, AUCs of copies are highest from 0.1 upwards
REPEATS = 4  # other divisions into folds, averaged

Embeddings = Float[np.ndarray, "n d"]


def real_or_not(real: Embeddings, other: Embeddings, *, draws: int = 300, seed: int = 0) -> Estimate:
    """AUC; the interval draws rows of both sets from the tested clips.

    Raises: ValueError for sets of different shapes or of fewer than ten clips, or if scikit-learn is missing.
    """
    of_real, of_other = placements(real, other, REPEATS, seed)
    area = float(of_real.mean())
    # both terms in full, not their mean: an AUC varies with the clips of either set (DeLong et al. 1988)
    found = bootstrap(mean, of_real + of_other - area, draws=draws, seed=seed)
    return Estimate(area, max(found.low, 0.0), min(found.high, 1.0))


def at_random(clips: Embeddings, num: int, *, draws: int = 40, seed: int = 0) -> Estimate:
    """Mean AUC of two sets of `num` clips each that are drawn from the same ones, and what holds 95 of 100 such AUCs.

    Raises: ValueError if there are fewer than 2 num clips, and as `real_or_not`.
    """
    if len(clips) < 2 * num:
        raise ValueError(f"{len(clips)} clips can't be divided into two sets of {num}")
    rng, areas = np.random.default_rng(seed), []
    for draw in range(draws):
        chosen = clips[rng.permutation(len(clips))[: 2 * num]]
        areas.append(float(placements(chosen[:num], chosen[num:], REPEATS, seed + draw)[0].mean()))
    low, high = np.percentile(areas, [2.5, 97.5])
    return Estimate(float(np.mean(areas)), float(low), float(high))


def placements(
    real: Embeddings, other: Embeddings, repeats: int, seed: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """How often each clip, when tested, is in order with those of the other set, ties half; of `real` and of `other`.

    The mean of either is the AUC.
    """
    if real.shape != other.shape or len(real) < 2 * FOLDS:
        raise ValueError(
            f"embeddings of shapes {real.shape} and {other.shape}; wanted two sets of one shape, {2 * FOLDS} clips "
            "or more in each"
        )
    of_real, of_other = np.zeros(len(real)), np.zeros(len(real))
    for repeat in range(repeats):
        for train, test in _folds(len(real), seed + repeat):
            model = _classifier()
            model.fit(np.concatenate([real[train], other[train]]), np.repeat([0, 1], len(train)))
            scores, scores_other = (model.decision_function(rows[test]) for rows in (real, other))
            above = scores_other[None] - scores[:, None]
            in_order = (above > 0) + 0.5 * (above == 0)  # real in rows, other in columns
            of_real[test] += in_order.mean(1) / repeats
            of_other[test] += in_order.mean(0) / repeats
    return of_real, of_other


def _folds(num: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to learn from, rows to test), five times."""
    parts = np.array_split(np.random.default_rng(seed).permutation(num), FOLDS)
    return [(np.concatenate(parts[:k] + parts[k + 1 :]), parts[k]) for k in range(FOLDS)]


def _classifier() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise ValueError("scikit-learn is not installed; run: pip install 'musiclm[eval]'") from None
    return make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
