"""Is what a prompt names there, concept by concept (`musiclm.evaluate.adherence`)?

Beside generated music stand real clips that MuLan finds for the prompts, and training clips and noise that have nothing
to do with them. What does not even find real clips of the prompts can't be held against generated ones.
"""

from dataclasses import asdict

import numpy as np

from musiclm.evaluate.adherence import Adherence, adherence, concept_scores
from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import Figures, ReportSection
from musiclm.evaluate.sets import ClipSets


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    controls = (sets.retrieved, sets.train, sets.noise) if sets.has_corpus else ()
    rows: dict[str, Adherence] = {}
    for clips in (sets.generated, *controls):
        tags, described, loudness = analyses.tags(clips), analyses.descriptions(clips), analyses.loudness_lufs(clips)
        order = np.resize(np.arange(len(tags)), len(sets.prompts))
        described = [described[i] for i in order]
        scores = concept_scores(tags[order], described, [loudness[i] for i in order])
        rows[clips.name] = adherence(sets.prompts, scores, described)
    found: Figures = {"rows": {name: asdict(row) for name, row in rows.items()}}
    if "retrieved" in rows:
        found["doubtful_concepts"] = [c for c, area in rows["retrieved"].concepts.items() if area.high < 0.5]
    return found


SECTION = ReportSection(
    title="Is what the prompt names in the music?",
    measure=measure,
    note="AUC of an independent analyser's score between clips whose prompt names the concept and clips whose prompt "
    "does not: 0.5 is what guessing scores. `retrieved` is the real clip that MuLan finds for each prompt.",
    orders=orders("mean_auc", "retrieved>train retrieved>noise"),
    needs_corpus=False,
)
