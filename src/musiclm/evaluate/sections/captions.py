"""Divergence of the judge's tags from those of a real clip.

`generated` from the clip retrieved for the prompt; as controls `real` clips through the codec from themselves, and
training clips and noise, which have nothing to do with them, from `real`.
"""

import numpy as np

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.bootstrap import bootstrap
from musiclm.evaluate.controls import orders
from musiclm.evaluate.distance import posterior_divergence
from musiclm.evaluate.section import Figures, ReportSection, point
from musiclm.evaluate.sets import ClipSets


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    generated, retrieved, real = (analyses.tags(clips) for clips in (sets.generated, sets.retrieved, sets.real))
    rng = np.random.default_rng(sets.seed)
    shuffled = [posterior_divergence(generated, retrieved[rng.permutation(len(retrieved))]) for _ in range(20)]
    rows = {
        "generated": {"kld": bootstrap(posterior_divergence, generated, retrieved, draws=300)},
        "generated_shuffled": {"kld": point(float(np.mean(shuffled)))},
    }
    for clips in (sets.codec, sets.train, sets.noise):
        own = analyses.tags(clips)[: len(real)]
        rows[clips.name] = {"kld": bootstrap(posterior_divergence, own, real[: len(own)], draws=300)}
    return {"rows": rows}


SECTION = ReportSection(
    title="Tags of generated against retrieved clips",
    measure=measure,
    note="Kullback-Leibler divergence of tag posteriors, nats, lower is better; `generated` against the real clip "
    "retrieved for the prompt.",
    orders=orders("kld", "codec>train codec>noise", higher=False),
)
