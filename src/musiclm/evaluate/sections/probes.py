"""What single semantic tokens say of chroma, onset, loudness and the judge's tags (`musiclm.evaluate.probes`)."""

import torch
from jaxtyping import Float
from torch import Tensor

from musiclm.evaluate.analyses import Analyses
from musiclm.evaluate.controls import orders
from musiclm.evaluate.probes import load_probe_clips, probe_tokens
from musiclm.evaluate.section import Figures, ReportSection
from musiclm.evaluate.sets import ClipSets
from musiclm.listen.analysers import MUSICNN, make_analyser


def measure(sets: ClipSets, analyses: Analyses) -> Figures:
    judge, config = make_analyser(MUSICNN), sets.config

    def tag_scores(audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b n"]:
        scores = torch.tensor([judge(clip[0].numpy())["tags"] for clip in audio])
        return torch.logit(scores.clamp(1e-4, 1 - 1e-4)).float()

    tokenizer, sides = sets.tokenizer, []
    for splits, num in ((("train",), config.num_probe), (("validation", "test"), config.num_probe // 3)):
        clips = load_probe_clips(sets.corpus, sets.tracks(*splits), config.probe_s, num, config.seed, tag_scores)
        with torch.no_grad():
            rows = [tokenizer.encode(clip[None].to(sets.model.device))[0] for clip in clips.audio]
        sides.append((clips, torch.stack(rows).cpu()))
    (train, train_codes), (test, test_codes) = sides
    num_codes = tokenizer.spec.codebook_size
    generator = torch.Generator().manual_seed(config.seed)
    frames = test_codes.transpose(1, 2).flatten(0, 1)
    mixed = frames[torch.randperm(len(frames), generator=generator)].unflatten(0, (len(test_codes), -1)).transpose(1, 2)
    codes = {"tokens": test_codes, "shuffled": mixed}
    return {"rows": {name: probe_tokens(train_codes, own, train, test, num_codes) for name, own in codes.items()}}


SECTION = ReportSection(
    title="What single semantic tokens know",
    measure=measure,
    note="Skill on held-out clips: 0 knows nothing, 1 knows all; `shuffled` is the baseline.",
    orders=orders("chroma onset loudness tags", "tokens>shuffled"),
)
