"""The modality gap of a joint embedding: measuring it, and closing it after training.

Contrastive towers leave the two kinds of vectors in two cones (Liang et al., arXiv 2203.02053). Retrieval does not
mind, since it only ranks; the quantizer does: text in another cone hits other codes than the audio it describes, and a
language model that learned from audio codes is then asked with codes it never saw. `fit_space` closes it in four steps:
subtract each modality's mean; draw text to the audio around it (`MuLan.project_text`), as far as the validation pairs
say; fit the quantizer on windows, on means of windows and on text; and let its first levels be as coarse as the data
asks for (`fit_quantizer`).
"""

from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from musiclm.models.mulan.model import MuLan
from musiclm.nn.kmeans import assign, kmeans
from musiclm.nn.precision import double
from musiclm.nn.rvq import ResidualVQ


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Ranking n candidates for n queries, the right one being the query's pair."""

    num: int
    recall_1: float
    recall_10: float
    median_rank: float
    mean_reciprocal_rank: float
    baseline_recall_1: float
    baseline_recall_10: float
    baseline_median_rank: float


def rank_of_pair(queries: Float[Tensor, "n d"], candidates: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Rank of candidate i among all for query i, from 1; ties count half against."""
    similarity = queries @ candidates.T
    own = similarity.diagonal()[:, None]
    above = (similarity > own).sum(1)
    ties = (similarity == own).sum(1) - 1
    return above + ties // 2 + 1


def retrieval(queries: Float[Tensor, "n d"], candidates: Float[Tensor, "n d"]) -> Retrieval:
    """Recall at 1 and 10, median rank and mean reciprocal rank, each beside what guessing scores."""
    ranks = double(rank_of_pair(queries, candidates))
    n = ranks.numel()
    return Retrieval(
        num=n,
        recall_1=float((ranks <= 1).double().mean()),
        recall_10=float((ranks <= 10).double().mean()),
        median_rank=float(ranks.median()),
        mean_reciprocal_rank=float((1 / ranks).mean()),
        baseline_recall_1=1 / n,
        baseline_recall_10=min(1.0, 10 / n),
        baseline_median_rank=(n + 1) / 2,
    )


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far text lies from the audio it describes."""

    mean_distance: float  # between the mean text and the mean audio vector; vectors have length 1
    paired_cosine: float
    shuffled_cosine: float
    agreement: list[float]  # per level: share of pairs whose text and audio hit the same code
    agreement_shuffled: list[float]  # the same with the pairs mixed up
    decoded_cosine: float  # of the text's decoded codes with the paired audio vector
    decoded_cosine_shuffled: float
    decoded_reciprocal_rank: float  # text -> audio by decoded codes of both
    level_1_reciprocal_rank: float  # the same by the first level alone


def measure_gap(
    audio: Float[Tensor, "n d"],
    text: Float[Tensor, "n d"],
    codes_audio: Int[Tensor, "n q"],
    codes_text: Int[Tensor, "n q"],
    rvq: ResidualVQ,
) -> Gap:
    """Figures for n pairs and their codes.

    "Shuffled" pairs text i with audio i + n/3, which is another piece if pieces are adjacent.
    """
    n = audio.shape[0]
    other = torch.arange(n).roll(-max(1, n // 3))
    decoded = F.normalize(rvq.decode(codes_text), dim=-1)
    decoded_audio = F.normalize(rvq.decode(codes_audio), dim=-1)
    first, first_audio = (F.normalize(rvq.decode(c[:, :1]), dim=-1) for c in (codes_text, codes_audio))
    return Gap(
        mean_distance=float((audio.mean(0) - text.mean(0)).norm()),
        paired_cosine=float((audio * text).sum(1).mean()),
        shuffled_cosine=float((audio[other] * text).sum(1).mean()),
        agreement=[round(float(x), 4) for x in double(codes_audio == codes_text).mean(0)],
        agreement_shuffled=[round(float(x), 4) for x in double(codes_audio[other] == codes_text).mean(0)],
        decoded_cosine=float((decoded * audio).sum(1).mean()),
        decoded_cosine_shuffled=float((decoded * audio[other]).sum(1).mean()),
        decoded_reciprocal_rank=retrieval(decoded, decoded_audio).mean_reciprocal_rank,
        level_1_reciprocal_rank=retrieval(first, first_audio).mean_reciprocal_rank,
    )


@runtime_checkable
class Quantizes(Protocol):
    """A joint embedding: MuLan, or another in its place."""

    rvq: Any

    def quantize(self, embedding: Float[Tensor, "b d"]) -> Int[Tensor, "b q 1"]: ...


@torch.no_grad()
def gap_of(model: Quantizes, audio: Float[Tensor, "n d"], text: Float[Tensor, "n d"]) -> Gap:
    """The gap of a model as it stands; `audio` and `text` are its embeddings of n pairs."""
    codes_audio, codes_text = model.quantize(audio)[..., 0], model.quantize(text)[..., 0]
    return measure_gap(audio, text, codes_audio, codes_text, model.rvq)


@dataclass(frozen=True)
class TowerOutputs:
    """Outputs of the towers before centring, row i to row i: audio features, and the text encoder's pooled output."""

    audio: Float[Tensor, "n d"]
    text: Float[Tensor, "n d2"]


@torch.no_grad()
def fit_space(
    model: MuLan,
    train: TowerOutputs,
    more_text: Float[Tensor, "m d2"],
    more_audio: Float[Tensor, "k d"],
    tracks: list[str],
    validation: TowerOutputs,
    seed: int = 0,
    projection: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Fits means, quantizer and projection of `model` in place; returns the gap on `validation` before and after, as
    JSON.

    `more_text` are further captions of the training windows, so that the text mean and the codes do not rest on one
    wording; `more_audio` are features of further windows without captions. `tracks` names the track of each training
    window and then of each further one: means over windows of one track are quantized too (MusicLM, section 3.1).
    """
    model.audio_mean.zero_()
    model.text_mean.zero_()
    model.text_pull.zero_()
    features, pooled = torch.cat([train.audio, more_audio]), torch.cat([train.text, more_text])
    raw_audio, raw_text = model.audio_vectors(features), model.text_vectors(pooled)
    model.rvq.fit_kmeans(raw_audio, seed=seed)
    before = gap_of(model, model.audio_vectors(validation.audio), model.text_vectors(validation.text))

    model.audio_mean.copy_(raw_audio.mean(0))
    model.text_mean.copy_(raw_text.mean(0))
    audio, text = model.audio_vectors(features), model.text_vectors(pooled)
    held_audio, held_text = model.audio_vectors(validation.audio), model.text_vectors(validation.text)
    model.rvq.fit_kmeans(audio, seed=seed)
    centred = gap_of(model, held_audio, held_text)

    rows = torch.cat([audio, _averages(audio, tracks, seed)])
    sizes = fit_quantizer(model.rvq, rows, seed)
    model.memory.copy_(F.normalize(kmeans(audio, model.memory.shape[0], seed=seed), dim=-1))
    coarse = gap_of(model, held_audio, held_text)

    choice = fit_projection(model, held_audio, held_text, projection)
    projected = model.project_text(
        text[torch.randperm(len(text), generator=torch.Generator().manual_seed(seed))[: len(rows)]]
    )
    fit_quantizer(model.rvq, torch.cat([rows, projected]), seed)
    after = gap_of(model, held_audio, model.project_text(held_text))
    return {
        "before": asdict(before),
        "centred": asdict(centred),
        "coarse_to_fine": asdict(coarse),
        "after": asdict(after),
        "text_pull": choice[0],
        "text_temperature": choice[1],
        "codes_per_level": sizes,
    }


@torch.no_grad()
def fit_projection(
    model: MuLan, audio: Float[Tensor, "n d"], text: Float[Tensor, "n d"], fixed: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Sets how far text is drawn to audio (`MuLan.project_text`) so that decoded codes of n texts and of their audio
    are nearest to each other, against mixed-up pairs, or as `fixed` says; returns the pull and the temperature. The
    vectors are the towers', centred."""
    best, choice = -1.0, fixed or (0.0, 0.05)
    for pull in (0.0, 0.5, 0.75, 1.0) if fixed is None else ():
        for temperature in (0.03, 0.05, 0.08, 0.12) if pull else (0.05,):
            model.text_pull.fill_(pull)
            model.text_heat.fill_(temperature)
            gap = gap_of(model, audio, model.project_text(text))
            value = (
                gap.decoded_reciprocal_rank
                + gap.level_1_reciprocal_rank
                + gap.decoded_cosine
                - gap.decoded_cosine_shuffled
            )
            if value > best:
                best, choice = value, (pull, temperature)
    model.text_pull.fill_(choice[0])
    model.text_heat.fill_(choice[1])
    return choice


def fit_quantizer(rvq: ResidualVQ, rows: Float[Tensor, "n d"], seed: int = 0, rows_per_code: int = 64) -> list[int]:
    """Fits every level by k-means with only as many codes as the data can bear; returns how many each level uses.

    On few tracks, 1024 codes at the first level are the tracks themselves: a text never hits the code of "its" audio,
    and a language model learns a code as the name of a track. So the first level has a code for every `rows_per_code`
    rows, each next level twice as many, up to the codebook's size; with the paper's millions of clips that is 1024
    everywhere. Codes beyond are copies of earlier ones, which are never chosen (ties go to the lower index).
    """
    residual, sizes = rows.float(), []
    for level in range(rvq.levels):
        size = max(2, min(rvq.codebook_size, (len(rows) << level) // rows_per_code))
        centroids = kmeans(residual, size, seed=seed + level)
        copies = torch.arange(rvq.codebook_size) % size
        rvq.codebooks[level] = centroids[copies]
        rvq.counts[level].fill_(1.0)
        rvq.sums[level] = rvq.codebooks[level]
        residual = residual - centroids[assign(residual, centroids)]
        sizes.append(size)
    rvq.started.fill_(True)
    return sizes


def _averages(audio: Float[Tensor, "n d"], tracks: list[str], seed: int) -> Float[Tensor, "m d"]:
    """Normalised means over random windows of one track, one for each window there is."""
    generator = torch.Generator().manual_seed(seed)
    by_track: dict[str, list[int]] = {}
    for index, track in enumerate(tracks):
        by_track.setdefault(track, []).append(index)
    rows = []
    for members in by_track.values():
        for _ in members:
            count = int(torch.randint(1, len(members) + 1, (1,), generator=generator))
            picked = torch.randperm(len(members), generator=generator)[:count]
            rows.append(audio[torch.tensor(members)[picked]].mean(0))
    return F.normalize(torch.stack(rows), dim=-1)
