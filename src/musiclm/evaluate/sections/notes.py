"""Notes that basic-pitch transcribes (`musiclm.listen.notes`), by set: how many begin, and how many keys sound at once.

Music without a bass line or without chords has fewer keys sounding below middle C than real music.
"""

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import Figures, ReportSection, means
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.analysers import NOTES

FIGURES = ("keys_below_c4", "keys_above_c4", "note_density", "polyphony")


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    return {"rows": {clips.name: means(analyses.of(NOTES, clips), FIGURES) for clips in sets.short()}}


SECTION = ReportSection(
    title="Notes and registers",
    measure=measure,
    note="`keys_below_c4` and `keys_above_c4`: keys sounding at once below middle C and from it upwards, mean over all "
    "frames; `polyphony`: over the frames in which any sounds; `note_density`: notes begun a second. Neither way is "
    "better: real music stands beside.",
    orders=orders(" ".join(FIGURES), "real>noise"),
    needs_corpus=False,
)
