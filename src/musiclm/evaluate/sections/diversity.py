"""How much a prompt's clips differ from seed to seed, beside clips of other prompts and of other real tracks."""

import numpy as np
from jaxtyping import Float

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.bootstrap import bootstrap, mean
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import NAN, Figures, ReportSection, point
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.analysers import MUSICNN


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    prompts = sets.seed_prompts
    first = analyses.embeddings(MUSICNN, sets.generated)[prompts]
    again = analyses.embeddings(MUSICNN, sets.seeds).reshape(len(prompts), sets.config.seeds_per_prompt, -1)
    groups = np.concatenate([first[:, None], again], 1)
    rows = {
        "generated": {
            "other_seeds": bootstrap(mean, np.array([variety(group) for group in groups])),
            "other_prompts": point(variety(first)),
        }
    }
    for clips in (sets.real, sets.noise) if sets.has_corpus else ():
        rows[clips.name] = {"other_prompts": point(variety(analyses.embeddings(MUSICNN, clips)))}
    return {"rows": rows}


def variety(embeddings: Float[np.ndarray, "n d"]) -> float:
    """Mean cosine distance between different clips of a set, 0 (all alike) to 2; nan for one clip."""
    alike = cosines(embeddings, embeddings)
    return float(1 - alike[~np.eye(len(alike), dtype=bool)].mean()) if len(alike) > 1 else NAN


def cosines(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Of all pairs of rows."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9) for x in (a, b))
    return a @ b.T


SECTION = ReportSection(
    title="From seed to seed",
    measure=measure,
    note="Cosine distance of the judge's embeddings, higher is more varied.",
    orders=orders("other_prompts", "real>noise"),
    needs_corpus=False,
)
