"""Means of librosa's measures (`musiclm.listen.music`), by set; and how much clips of a set differ from one another."""

from dataclasses import fields

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import Figures, ReportSection, means, point
from musiclm.evaluate.sections.diversity import variety
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.analysers import LIBROSA, MUSICNN
from musiclm.listen.music import Description


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    names = [field.name for field in fields(Description) if field.name != "key"]
    return {
        "rows": {
            clips.name: {
                **means(analyses.of(LIBROSA, clips), names),
                "variety": point(variety(analyses.embeddings(MUSICNN, clips))),
            }
            for clips in sets.short()
        }
    }


SECTION = ReportSection(
    title="What the music is like",
    measure=measure,
    orders=orders(
        "beat_strength periodicity_2s periodicity_8s tonal_clarity repetition variety",
        "real>noise",
    ),
    needs_corpus=False,
)
