"""MuLan cycle consistency (MusicLM, section 5): cosine of prompt and clip by MuLan, beside shuffled pairs."""

import numpy as np

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.bootstrap import bootstrap, mean
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import Figures, ReportSection, point
from musiclm.evaluate.sets import ClipSets


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    text, rows = sets.embed_prompts(), {}
    controls = (sets.retrieved, sets.train, sets.noise) if sets.has_corpus else ()
    for clips in (sets.generated, *controls):
        audio = sets.embed_audio(list(clips))
        every = text @ audio[np.resize(np.arange(len(audio)), len(text))].T
        off = every[~np.eye(len(every), dtype=bool)]
        rows[clips.name] = {"mcc": bootstrap(mean, np.diag(every)), "shuffled": point(float(off.mean()))}
    return {"rows": rows, "note": "MuLan judges a model that was conditioned on it: this favours the model"}


SECTION = ReportSection(
    title="MuLan cycle consistency",
    measure=measure,
    orders=orders("mcc", "retrieved>train retrieved>noise"),
    needs_corpus=False,
)
