"""Can a classifier tell each set from real clips (`musiclm.evaluate.real_or_not`)?

All sets are cut to as many clips as there are of `real`, so that the figures compare. `codec`, `opus`, `resynthesis`
and `noise` are made of the very clips of `real`; `reference` are other real clips. `at_random` are real clips divided
at random, many times: its interval is what a classifier gets of sets that do not differ.
"""

import numpy as np

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.controls import orders
from musiclm.evaluate.real_or_not import FOLDS, at_random, real_or_not
from musiclm.evaluate.section import Figures, ReportSection
from musiclm.evaluate.sets import ClipSets, spread
from musiclm.listen.analysers import MUSICNN


def measure(sets: ClipSets, analyses: Analyses, embedder: str = MUSICNN) -> Figures:
    real = analyses.embeddings(embedder, sets.real)
    rows, left_out = {}, {}
    for clips in (*sets.short(), sets.opus):
        if clips.name in ("real", "retrieved"):  # the latter are the same clips
            continue
        try:
            own = analyses.embeddings(embedder, clips)
        except ValueError as error:
            if clips is not sets.opus:
                raise
            left_out[clips.name] = str(error)
            continue
        num = min(len(own), len(real))
        if num < 2 * FOLDS:
            left_out[clips.name] = f"{num} clips; wanted {2 * FOLDS}"
            continue
        rows[clips.name] = {"auc": real_or_not(real[spread(len(real), num)], own[spread(len(own), num)])}
    every = np.concatenate([real, analyses.embeddings(embedder, sets.reference)])
    rows["at_random"] = {"auc": at_random(every, len(every) // 2)}
    return {"rows": rows, "clips": len(real), **({"left_out": left_out} if left_out else {})}


SECTION = ReportSection(
    title="Real or not",
    measure=measure,
    note="How well a linear classifier tells clips of the set from real ones that it has not seen, AUC: 0.5 is what "
    "guessing scores, 1 what never fails. `reference` is other real music, `opus` real clips through Opus at 24 kbps; "
    "the interval of `at_random` is what sets score that do not differ.",
    orders=orders("auc", "reference>noise reference>codec at_random>noise at_random>codec", higher=False),
    by_embedder=True,
)
