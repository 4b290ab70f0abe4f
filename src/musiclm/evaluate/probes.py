"""What semantic tokens hold: small probes on held-out music (AudioLM, section 3.3, probes phonetics; here it is music).

Frame targets, 25 a second, computed from the audio: chroma (what is played), onset strength (when), loudness (how loud). They are the cues that a
tokenizer may have been made with (`musiclm.w2vbert.cues`); what a token keeps of tags (with what, in which style), the clip target, it was not made for. Every figure is `skill` = 1 - error / error of always answering the training mean, a
squared error over all dimensions: 0 is knowing nothing, 1 is knowing all, below 0 worse than nothing.

A token probe answers, for each token, the mean target that token had in training music: it is the best that a reader of single
tokens can do. The same is done with as many k-means clusters of plain log-mel frames, and with the tokens shuffled in time and
over clips (chance). A linear probe (ridge regression) on the features before k-means says what quantization lost.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from musiclm.artifact import write_atomic
from musiclm.corpus.clips import eval_clips
from musiclm.corpus.manifest import Track, load_manifest
from musiclm.nn.kmeans import assign, kmeans
from musiclm.w2vbert.cues import cues_of
from musiclm.w2vbert.model import W2vBert, stack_mel

FRAME_TARGETS = ("chroma", "onset", "loudness")
TagScores = Callable[[Float[Tensor, "b 1 s"]], Float[Tensor, "b n"]]  # clip-level targets, e.g. logits of a tagger


def skill(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"], train_mean: Float[Tensor, " d"]) -> float:
    """1 - squared error / squared error of answering train_mean; dimensions weigh by their spread."""
    baseline = (target - train_mean).square().sum()
    return float(1 - (target - predicted).square().sum() / baseline.clamp(min=1e-12))


def token_probe(
    train_codes: Int[Tensor, " n"],
    train_target: Float[Tensor, "n d"],
    test_codes: Int[Tensor, " m"],
    test_target: Float[Tensor, "m d"],
    num_codes: int,
    prior: float = 5.0,
) -> float:
    """Skill of answering each token's mean target; a token seen n times is drawn to the overall mean as if seen `prior` times there."""
    mean = train_target.mean(0)
    sums = torch.zeros(num_codes, train_target.shape[1]).index_add_(0, train_codes, train_target)
    counts = torch.bincount(train_codes, minlength=num_codes)[:, None]
    table = (sums + prior * mean) / (counts + prior)
    return skill(table[test_codes], test_target, mean)


def linear_probe(
    train_x: Float[Tensor, "n c"],
    train_target: Float[Tensor, "n d"],
    test_x: Float[Tensor, "m c"],
    test_target: Float[Tensor, "m d"],
    ridge: float = 1e-3,
) -> float:
    """Skill of ridge regression on standardized features; `ridge` is per row."""
    mean, std = train_x.mean(0), train_x.std(0).clamp(min=1e-4)
    x, target_mean = ((train_x - mean) / std).double(), train_target.mean(0)
    gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(gram, x.T @ (train_target - target_mean).double())
    predicted = ((test_x - mean) / std).double() @ weights
    return skill(predicted.float() + target_mean, test_target, target_mean)


def histogram(codes: Int[Tensor, "b t"], num_codes: int) -> Float[Tensor, "b k"]:
    """Square root of each clip's share of every token: what a clip-level probe reads."""
    return F.one_hot(codes, num_codes).float().mean(1).sqrt()


@dataclass(frozen=True)
class ProbeClips:
    """Audio and targets of one side of the split."""

    audio: Float[Tensor, "b 1 s"]
    targets: dict[str, Float[Tensor, "b t n"]]
    tags: Float[Tensor, "b n"] | None


@dataclass(frozen=True)
class ProbeReport:
    """Skill per target; `layers` has one entry per layer of the model, 0 being the input of the Conformer."""

    num_clusters: int
    num_train_clips: int
    num_test_clips: int
    crop_s: float
    layers: dict[int, dict[str, float]]  # linear probes on the features of each layer
    token_layers: dict[int, dict[str, float]]  # token probes on each layer that was clustered
    tokens: dict[str, float]  # token_layers at `layer`
    layer: int
    mel_tokens: dict[str, float]
    shuffled_tokens: dict[str, float]
    tokens_used: int  # distinct tokens on the test clips
    token_entropy_bits: float  # of the tokens' distribution on the training clips; log2(num_clusters) at most

    def save(self, path: Path, **more: object) -> None:
        """Writes the report as JSON, with any further facts (revision, steps)."""
        write_atomic(path, json.dumps({**more, **asdict(self)}, indent=1) + "\n")


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


@torch.no_grad()
def layer_features(model: W2vBert, audio: Float[Tensor, "b 1 s"]) -> list[Float[Tensor, "b t d"]]:
    """Features of every layer, the Conformer's input first, then a last entry: the four 10 ms log-mel frames of each frame."""
    parts = []
    for clip in audio.split(8):
        parts.append([*model.hidden_states(clip), stack_mel(model.front_end.mel_frames(clip))])
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]


def probe_tokens(
    train_codes: Int[Tensor, "b t"], test_codes: Int[Tensor, "c t"], train: ProbeClips, test: ProbeClips, num_codes: int
) -> dict[str, float]:
    """Token probes for every frame target, and a ridge on token histograms for the tags."""
    found = {
        name: token_probe(
            train_codes.flatten(),
            train.targets[name].flatten(0, 1),
            test_codes.flatten(),
            test.targets[name].flatten(0, 1),
            num_codes,
        )
        for name in FRAME_TARGETS
    }
    if train.tags is not None and test.tags is not None:
        bags = histogram(train_codes, num_codes), histogram(test_codes, num_codes)
        found["tags"] = _clip_ridge(bags[0], train.tags, bags[1], test.tags)
    return found


def probe_features(
    train_x: Float[Tensor, "b t c"], test_x: Float[Tensor, "k t c"], train: ProbeClips, test: ProbeClips
) -> dict[str, float]:
    """Linear probes for every frame target, and for the tags on the clips' mean features."""
    found = {
        name: linear_probe(
            train_x.flatten(0, 1),
            train.targets[name].flatten(0, 1),
            test_x.flatten(0, 1),
            test.targets[name].flatten(0, 1),
        )
        for name in FRAME_TARGETS
    }
    if train.tags is not None and test.tags is not None:
        found["tags"] = _clip_ridge(train_x.mean(1), train.tags, test_x.mean(1), test.tags)
    return found


def _clip_ridge(train_x: Tensor, train_tags: Tensor, test_x: Tensor, test_tags: Tensor) -> float:
    """A ridge for few clips and many features: fitted in the kernel form, its strength chosen on the last quarter of training."""
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


@torch.no_grad()
def probe_semantic_tokens(
    model: W2vBert,
    corpus_dir: Path,
    *,
    layer: int | None = None,
    num_clusters: int = 1024,
    crop_s: float = 8.0,
    num_train_clips: int = 240,
    num_test_clips: int = 80,
    kmeans_iterations: int = 15,
    cluster_layers: Sequence[int] | None = None,
    tag_scores: TagScores | None = None,
    seed: int = 0,
) -> ProbeReport:
    """Probes every layer of a pretrained model on tracks of the validation and test splits, and the tokens of some layers.

    Args:
        layer: whose tokens count; None takes the one with the best mean skill over chroma, onset and tags (loudness is left out:
            it is the easiest to hold and the least to do with what the tokens are for).
        cluster_layers: layers to cluster; all but 0 by default.
        tag_scores: clip-level targets; without it the tags are left out.

    Raises: CorpusError if a split is empty, ValueError if `layer` is not among cluster_layers.
    """
    model = model.eval()
    tracks = load_manifest(corpus_dir)
    train = load_probe_clips(
        corpus_dir, [t for t in tracks if t.split == "train"], crop_s, num_train_clips, seed, tag_scores
    )
    test = load_probe_clips(
        corpus_dir, [t for t in tracks if t.split != "train"], crop_s, num_test_clips, seed, tag_scores
    )
    train_layers, test_layers = layer_features(model, train.audio), layer_features(model, test.audio)
    num_layers = model.config.conformer.num_layers
    cluster_layers = list(cluster_layers if cluster_layers is not None else range(1, num_layers + 1))
    if layer is not None and layer not in cluster_layers:
        raise ValueError(f"layer {layer} is not among the layers to cluster, {cluster_layers}")

    def tokens_of(index: int) -> tuple[Int[Tensor, "b t"], Int[Tensor, "c t"]]:
        x, y = train_layers[index], test_layers[index]
        flat = x.flatten(0, 1)
        mean, std = flat.mean(0), flat.std(0).clamp(min=1e-4)
        centroids = kmeans((flat - mean) / std, num_clusters, kmeans_iterations, seed)
        return tuple(assign(((z - mean) / std).flatten(0, 1), centroids).view(z.shape[:2]) for z in (x, y))  # type: ignore[return-value]

    codes = {index: tokens_of(index) for index in cluster_layers}
    token_layers = {index: probe_tokens(*pair, train, test, num_clusters) for index, pair in codes.items()}
    if layer is None:
        layer = max(token_layers, key=lambda index: sum(v for n, v in token_layers[index].items() if n != "loudness"))
    chosen = codes[layer]
    generator = torch.Generator().manual_seed(seed)
    shuffled = [z.flatten()[torch.randperm(z.numel(), generator=generator)].view_as(z) for z in chosen]
    counts = torch.bincount(chosen[0].flatten(), minlength=num_clusters).float()
    return ProbeReport(
        num_clusters=num_clusters,
        num_train_clips=num_train_clips,
        num_test_clips=num_test_clips,
        crop_s=crop_s,
        layers={i: probe_features(train_layers[i], test_layers[i], train, test) for i in range(num_layers + 1)},
        token_layers=token_layers,
        tokens=token_layers[layer],
        layer=layer,
        mel_tokens=probe_tokens(*tokens_of(num_layers + 1), train, test, num_clusters),
        shuffled_tokens=probe_tokens(shuffled[0], shuffled[1], train, test, num_clusters),
        tokens_used=int(chosen[1].unique().numel()),
        token_entropy_bits=float(torch.special.entr(counts / counts.sum()).sum() / torch.log(torch.tensor(2.0))),
    )
