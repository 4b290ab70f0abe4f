"""What semantic tokens keep: agreement of `resynthesis` with the clips it was made of.

`codec` is the most there can be, `other_clips` what clips agree that have nothing to do with one another.
"""

import numpy as np

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.bootstrap import bootstrap, mean
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import Figures, ReportSection
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.music import chroma_agreement, onset_agreement


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    real = list(sets.real)
    made = {clips.name: list(clips) for clips in (sets.codec, sets.resynthesis)}
    made["other_clips"] = real[1:] + real[:1]
    rows = {}
    for name, clips in made.items():
        pairs = list(zip(clips, real, strict=True))
        rows[name] = {
            figure: bootstrap(mean, np.array([compare(a, b) for a, b in pairs]))
            for figure, compare in (("chroma", chroma_agreement), ("onset", onset_agreement))
        }
    return {"rows": rows}


SECTION = ReportSection(
    title="What semantic tokens keep",
    measure=measure,
    orders=orders("chroma onset", "codec>resynthesis resynthesis>other_clips codec>other_clips"),
)
