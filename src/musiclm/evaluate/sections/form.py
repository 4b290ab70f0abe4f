"""Repetition, change and steadiness of beat, by set of long clips."""

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import Figures, ReportSection, means
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.analysers import LIBROSA


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    names = ("repetition", "change", "beat_strength", "beat_jitter")
    return {"rows": {clips.name: means(analyses.of(LIBROSA, clips), names) for clips in sets.long_ones()}}


SECTION = ReportSection(
    title="Form over 40 seconds",
    measure=measure,
    note="`collage` is made of quarters of four real pieces: it must change more and repeat less.",
    orders=(
        *orders("repetition", "real_long>collage real_long>noise_long"),
        *orders("change", "collage>real_long real_long>noise_long"),
    ),
    needs_corpus=False,
)
