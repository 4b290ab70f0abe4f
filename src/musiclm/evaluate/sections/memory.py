"""Has the bundle memorised training music?

The memorisation study (`musiclm.evaluate.memorisation`), training clips beside test clips; and how near each set lies
to clips of the training split, by the judge's embedding and by the best common passage of chroma.
"""

from dataclasses import asdict

import numpy as np
import torch

from musiclm.data.corpus.clips import eval_clips
from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.bootstrap import bootstrap, mean
from musiclm.evaluate.controls import orders
from musiclm.evaluate.memorisation import CONTINUATION_S, PROMPT_S, memorisation
from musiclm.evaluate.section import Figures, ReportSection
from musiclm.evaluate.sections.diversity import cosines
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.analysers import CHROMA, MUSICNN
from musiclm.listen.music import passage_likeness

STUDY_S = max(PROMPT_S) + CONTINUATION_S


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    return {"study": study(sets), **nearest(sets, analyses)}


def study(sets: ClipSets) -> list[dict[str, object]]:
    model, tokenizer, clips = sets.model, sets.tokenizer, {}
    for split in ("train", "test"):
        tracks = sets.tracks(split, least_s=STUDY_S)
        num = min(sets.config.num_memorisation, len(tracks))
        audio = eval_clips(sets.corpus, tracks, STUDY_S, num, sets.seed)[0].to(model.device)
        with torch.no_grad():
            codes = torch.cat([tokenizer.encode(clip[None]) for clip in audio]).cpu()
            mulan = torch.cat([model.mulan.audio_codes(clip[None]) for clip in audio]).cpu()
        clips[split] = codes, mulan
    rows = memorisation(model.semantic, clips, tokenizer.codebooks.double().cpu().numpy())
    return [asdict(row) for row in rows]


def nearest(sets: ClipSets, analyses: Analyses) -> Figures:
    """How much each clip is like the most alike of many training clips."""
    train = analyses.embeddings(MUSICNN, sets.training_tracks)
    passages = [np.array(row["chroma"]) for row in analyses.of(CHROMA, sets.training_tracks)]
    rows, suspects = {}, []
    for clips in (sets.generated, sets.real, sets.copied, sets.noise):
        alike = cosines(analyses.embeddings(MUSICNN, clips) - train.mean(0), train - train.mean(0))
        chroma = [np.array(row["chroma"]) for row in analyses.of(CHROMA, clips)]
        common = np.array([[passage_likeness(own, other) for other in passages] for own in chroma])
        rows[clips.name] = {
            "by_embedding": bootstrap(mean, alike.max(1), draws=300),
            "by_chroma": bootstrap(mean, common.max(1), draws=300),
        }
        if clips.name == "generated":
            tracks = sets.searched_tracks
            suspects = [
                {"clip": int(i), "chroma": float(common[i].max()), "track": tracks[int(common[i].argmax())].title}
                for i in np.argsort(-common.max(1))[:10]
            ]
    return {"rows": rows, "suspects": suspects}


SECTION = ReportSection(
    title="Memorisation",
    measure=measure,
    note="Greedy continuations of training clips against how they go on; the test split is the control.",
    orders=orders("by_embedding by_chroma", "copied>real copied>noise"),
)
