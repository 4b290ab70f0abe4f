"""What semantic tokens hold: small probes on held-out music (AudioLM, section 3.3, probes phonetics; here it is music).

Frame targets, 25 a second, computed from the audio: chroma (what is played), onset strength (when), loudness (how
loud). They are the cues that a tokenizer may have been made with (`musiclm.models.w2vbert.cues`); what a token keeps of
tags (with what, in which style), the clip target, it was not made for. Every figure is `skill` = 1 - error / error of
always answering the training mean, a squared error over all dimensions: 0 is knowing nothing, 1 is knowing all, below 0
worse than nothing.

A probe answers, for each token, the mean target that token had in training music: it is the best that a reader of
single tokens can do. The baseline is the same with the tokens shuffled in time and over clips.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from musiclm.data.corpus.clips import eval_clips
from musiclm.data.corpus.manifest import Track
from musiclm.models.w2vbert.cues import cues_of

FRAME_TARGETS = ("chroma", "onset", "loudness")
TagScores = Callable[[Float[Tensor, "b 1 s"]], Float[Tensor, "b n"]]  # clip-level targets, e.g. logits of a tagger


def skill(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"], train_mean: Float[Tensor, " d"]) -> float:
    """1 - squared error / squared error of answering train_mean; dimensions weigh by their spread."""
    baseline = (target - train_mean).square().sum()
    return float(1 - (target - predicted).square().sum() / baseline.clamp(min=1e-12))


def token_probe(
    train_codes: Int[Tensor, "n q"],
    train_target: Float[Tensor, "n d"],
    test_codes: Int[Tensor, "m q"],
    test_target: Float[Tensor, "m d"],
    num_codes: int,
    prior: float = 5.0,
) -> float:
    """Skill of answering each token's mean target; each level after the first answers what those before left over.

    A token seen n times is drawn to the overall mean as if seen `prior` times there.
    """
    mean = train_target.mean(0)
    left, answer = train_target - mean, mean.repeat(len(test_codes), 1)
    for level in range(train_codes.shape[1]):
        own = train_codes[:, level]
        sums = torch.zeros(num_codes, train_target.shape[1]).index_add_(0, own, left)
        table = sums / (torch.bincount(own, minlength=num_codes)[:, None] + prior)
        left = left - table[own]
        answer = answer + table[test_codes[:, level]]
    return skill(answer, test_target, mean)


def histogram(codes: Int[Tensor, "b q t"], num_codes: int) -> Float[Tensor, "b k"]:
    """Square root of each clip's share of every token of every level: what a clip-level probe reads."""
    return F.one_hot(codes, num_codes).float().mean(2).sqrt().flatten(1)


@dataclass(frozen=True)
class ProbeClips:
    """Audio and targets of one side of the split."""

    audio: Float[Tensor, "b 1 s"]
    targets: dict[str, Float[Tensor, "b t _"]]
    tags: Float[Tensor, "b n"] | None


def load_probe_clips(
    corpus_dir: Path, tracks: Sequence[Track], crop_s: float, num: int, seed: int, tag_scores: TagScores | None
) -> ProbeClips:
    """Clips spread over the tracks with all their targets."""
    audio, _, _ = eval_clips(corpus_dir, tracks, crop_s, num, seed)
    targets: dict[str, list[Tensor]] = {name: [] for name in FRAME_TARGETS}
    tags = []
    for part in audio.split(8):
        for name, value in cues_of(part).items():
            targets[name].append(value)
        if tag_scores is not None:
            tags.append(tag_scores(part))
    return ProbeClips(audio, {name: torch.cat(v) for name, v in targets.items()}, torch.cat(tags) if tags else None)


def probe_tokens(
    train_codes: Int[Tensor, "b q t"],
    test_codes: Int[Tensor, "c q u"],
    train: ProbeClips,
    test: ProbeClips,
    num_codes: int,
) -> dict[str, float]:
    """Token probes for every frame target, and a ridge on token histograms for the tags. A slow frame answers for all
    that lie in it."""

    def rows(codes: Int[Tensor, "b q t"], targets: Float[Tensor, "b u n"]) -> tuple[Tensor, Tensor]:
        own = codes.transpose(1, 2).flatten(0, 1)
        if codes.shape[2] > targets.shape[1]:  # codes that are faster than targets: what sounds when each begins
            targets = targets[:, torch.arange(codes.shape[2]) * targets.shape[1] // codes.shape[2]]
        times = targets.shape[1] // codes.shape[2]
        return own, targets[:, : codes.shape[2] * times].reshape(len(own), -1)

    found = {
        name: token_probe(*rows(train_codes, train.targets[name]), *rows(test_codes, test.targets[name]), num_codes)
        for name in FRAME_TARGETS
    }
    if train.tags is not None and test.tags is not None:
        bags = histogram(train_codes, num_codes), histogram(test_codes, num_codes)
        found["tags"] = clip_ridge(bags[0], train.tags, bags[1], test.tags)
    return found


def clip_ridge(train_x: Tensor, train_tags: Tensor, test_x: Tensor, test_tags: Tensor) -> float:
    """A ridge for few clips and many features, in the kernel form; its strength is chosen on the last quarter."""
    cut = max(1, len(train_x) * 3 // 4)
    scores = {
        strength: _kernel_ridge(train_x[:cut], train_tags[:cut], train_x[cut:], train_tags[cut:], strength)
        for strength in (0.01, 0.1, 1.0, 10.0)
    }
    return _kernel_ridge(train_x, train_tags, test_x, test_tags, max(scores, key=lambda s: scores[s]))


def _kernel_ridge(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, strength: float) -> float:
    mean, target_mean = train_x.mean(0), train_y.mean(0)
    spread = (train_x - mean).square().sum(1).mean().sqrt().clamp(min=1e-6)
    x, query = ((train_x - mean) / spread).double(), ((test_x - mean) / spread).double()
    alpha = torch.linalg.solve(
        x @ x.T + strength * torch.eye(len(x), dtype=torch.double), (train_y - target_mean).double()
    )
    return skill((query @ x.T @ alpha).float() + target_mean, test_y, target_mean)
