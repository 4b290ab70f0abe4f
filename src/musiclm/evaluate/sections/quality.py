"""Distances to `reference`, of every set, by the embeddings of an analyser (`musiclm.evaluate.distance`)."""

import numpy as np
from jaxtyping import Float

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.bootstrap import Estimate, bootstrap
from musiclm.evaluate.controls import orders
from musiclm.evaluate.distance import can_extrapolate, frechet_distance, frechet_infinity, kernel_distance
from musiclm.evaluate.section import NAN, Figures, ReportSection, point
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.analysers import MUSICNN


def measure(sets: ClipSets, analyses: Analyses, embedder: str = MUSICNN) -> Figures:
    reference = analyses.embeddings(embedder, sets.reference)
    rows = {}
    for clips in sets.short():
        if clips.name != "reference":
            own = analyses.embeddings(embedder, clips)
            rows[clips.name] = {
                "fad": half_interval(own, reference),
                "fad_infinity": point(frechet_infinity(own, reference) if can_extrapolate(own) else NAN),
                "mmd": bootstrap(lambda x: kernel_distance(x, reference), own, draws=200)
                if len(own) > 1
                else point(NAN),
            }
    return {"rows": rows}


def half_interval(own: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"], draws: int = 40) -> Estimate:
    """FAD with a jackknife interval; without one for fewer than four clips.

    A bootstrap's repeated clips would bias a covariance; halves without repeats have the spread of the whole.
    """
    if len(own) < 4:
        return point(frechet_distance(own, reference) if len(own) > 1 else NAN)
    rng = np.random.default_rng(0)
    halves = [frechet_distance(own[rng.permutation(len(own))[: len(own) // 2]], reference) for _ in range(draws)]
    value, spread = frechet_distance(own, reference), 1.96 * float(np.std(halves))
    return Estimate(value, value - spread, value + spread)


SECTION = ReportSection(
    title="Quality: distance to held-out real music",
    measure=measure,
    note="FAD and MMD of embeddings to the set `reference`; lower is better. `real` is what other real music scores, "
    "`noise` what nothing scores.",
    orders=orders("fad fad_infinity mmd", "real>codec real>noise", higher=False),
    by_embedder=True,
)
