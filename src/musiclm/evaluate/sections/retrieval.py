"""MuLan's retrieval and modality gap on labelled test tracks (`musiclm.evaluate.retrieval`)."""

from dataclasses import asdict

from musiclm.data.labels import LABELS_FILE, load_labels
from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.controls import orders
from musiclm.evaluate.retrieval import evaluate_retrieval
from musiclm.evaluate.section import Figures, ReportSection
from musiclm.evaluate.sets import ClipSets


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    labels = load_labels(sets.corpus / LABELS_FILE)
    found = asdict(evaluate_retrieval(sets.model.mulan, sets.corpus, sets.tracks("test"), labels))
    rows = {name: value for name, value in found.items() if isinstance(value, dict) and "recall_1" in value}
    for row in rows.values():
        baseline = {name: row.pop(f"baseline_{name}") for name in ("recall_1", "recall_10", "median_rank")}
    rows["baseline"] = baseline
    return {"rows": rows, **{name: value for name, value in found.items() if name not in rows}}


SECTION = ReportSection(
    title="MuLan's retrieval",
    measure=measure,
    orders=orders("recall_1 recall_10", "text_to_audio>baseline audio_to_text>baseline"),
)
