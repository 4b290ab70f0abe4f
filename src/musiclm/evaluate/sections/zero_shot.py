"""MuLan as a tagger of held-out clips.

For each of the judge's tags the AUC of the tag's name for the quarter of clips that the judge scores highest.
"""

import numpy as np
import torch

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.bootstrap import area_under_curve, bootstrap, mean
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import Figures, ReportSection
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.judge import MSD_TAGS


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    tags = np.concatenate([analyses.tags(sets.real), analyses.tags(sets.reference)])
    audio = sets.embed_audio([*sets.real, *sets.reference])
    rng, mulan = np.random.default_rng(sets.seed), sets.model.mulan
    areas, shuffled = {}, []
    for index, tag in enumerate(MSD_TAGS):
        with torch.no_grad():
            similarity = audio @ mulan.embed_text([f"{tag} music"])[0].cpu().numpy()
        likely = tags[:, index] >= np.quantile(tags[:, index], 0.75)
        areas[tag] = bootstrap(area_under_curve, similarity, likely, draws=200)
        shuffled.append(area_under_curve(similarity, rng.permutation(likely)))
    mean_auc = bootstrap(mean, np.array([area.value for area in areas.values()]))
    rows = {"mulan": {"mean_auc": mean_auc}, "shuffled": {"mean_auc": bootstrap(mean, np.array(shuffled))}}
    return {"rows": rows, "tags": areas}


SECTION = ReportSection(title="MuLan as a tagger", measure=measure, orders=orders("mean_auc", "mulan>shuffled"))
