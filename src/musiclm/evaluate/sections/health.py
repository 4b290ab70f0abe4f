"""Means of the meter's figures (`musiclm.listen.signal`), by set."""

from dataclasses import fields

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.controls import orders
from musiclm.evaluate.section import Figures, ReportSection, means
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.analysers import METER
from musiclm.listen.signal import Sanity


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    names = [field.name for field in fields(Sanity)]
    broken = (sets.broken,) if sets.has_corpus else ()
    return {"rows": {clips.name: means(analyses.of(METER, clips), names) for clips in (*sets.short(), *broken)}}


SECTION = ReportSection(
    title="Meter readings",
    measure=measure,
    note="`broken` is real music muffled, overdriven, offset, partly silent and cut at the seams: every meter must "
    "show it.",
    orders=(
        *orders("clipped_share silent_share dc_offset seam_ratio", "real>broken", higher=False),
        *orders("bandwidth_hz", "real>broken"),
    ),
    needs_corpus=False,
)
