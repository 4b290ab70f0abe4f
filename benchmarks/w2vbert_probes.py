"""What every layer of a trained w2v-BERT holds, and its semantic tokens, by probes on validation and test tracks.

    python benchmarks/w2vbert_probes.py CORPUS RUN [--layer 2] [--out benchmarks/w2vbert_probes.json]

RUN is the stage's folder (RUNS/w2vbert): probing every layer takes the whole network, which the artifact does not hold.
Tags are the logits of the MTT tagger, which no semantic token was trained on. Without --layer the best layer is chosen.

The token probes of `musiclm.evaluate.probes` are made of each layer's tokens, of as many k-means clusters of plain
log-mel frames, and of tokens shuffled in time and over clips (the baseline). Linear probes (ridge regression) on the
features before k-means say what quantization lost.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from musiclm.core.artifact import git_revision, read_config
from musiclm.core.config import from_json
from musiclm.data.corpus.manifest import load_manifest
from musiclm.evaluate.probes import (
    FRAME_TARGETS,
    ProbeClips,
    TagScores,
    clip_ridge,
    load_probe_clips,
    probe_tokens,
    skill,
)
from musiclm.listen.tagger import Tagger, pieces
from musiclm.models.w2vbert.model import W2vBert, stack_mel
from musiclm.models.w2vbert.task import W2vBertTaskConfig
from musiclm.nn.kmeans import assign, kmeans
from musiclm.train.loop import STATE_FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--layer", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/w2vbert_probes.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = from_json(W2vBertTaskConfig, json.loads((arguments.run / "recipe.json").read_text())["task"])
    model = W2vBert(config.model)
    with safe_open(arguments.run / STATE_FILE, "pt") as state:
        model.load_state_dict({k[4:]: state.get_tensor(k) for k in state.keys() if k.startswith("ema.")})  # noqa: SIM118
    tagger = Tagger.load()

    def tags(audio: torch.Tensor) -> torch.Tensor:
        scores = [tagger(pieces(clip[0].numpy())).mean(0) for clip in audio]
        return torch.logit(torch.stack(scores).clamp(1e-4, 1 - 1e-4))

    report = probe_semantic_tokens(
        model,
        arguments.corpus,
        layer=arguments.layer,
        num_train_clips=360,
        num_test_clips=120,
        kmeans_iterations=12,
        crop_s=config.crop_s,
        tag_scores=tags,
    )
    info = read_config(arguments.run / "artifact")["info"]
    report.save(
        arguments.out,
        what="tags: logits of the MTT tagger of musicnn",
        steps=info["step"],
        training_seconds=round(info["seconds"]),
        validation=info["metrics"],
        git_revision=git_revision(),
    )
    for name in (
        "layer",
        "tokens",
        "mel_tokens",
        "shuffled_tokens",
        "tokens_used",
        "token_entropy_bits",
        "token_layers",
    ):
        print(name, getattr(report, name))


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
        Path(path).write_text(json.dumps({**more, **asdict(self)}, indent=1) + "\n")


@torch.no_grad()
def layer_features(model: W2vBert, audio: Float[Tensor, "b 1 s"]) -> list[Float[Tensor, "b t d"]]:
    """Features of every layer, the Conformer's input first, then a last entry: the four 10 ms log-mel frames of each
    frame.
    """
    parts = []
    for clip in audio.split(8):
        parts.append([*model.hidden_states(clip), stack_mel(model.front_end.mel_frames(clip))])
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]


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
        found["tags"] = clip_ridge(train_x.mean(1), train.tags, test_x.mean(1), test.tags)
    return found


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
    """Probes every layer of a pretrained model on tracks of the validation and test splits, and the tokens of some
    layers.

    Args:
        layer: whose tokens count; None takes the one with the best mean skill over chroma, onset and tags (loudness is
            left out: it is the easiest to hold and the least to do with what the tokens are for).
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

    def tokens_of(index: int) -> tuple[Int[Tensor, "b 1 t"], Int[Tensor, "c 1 t"]]:
        x, y = train_layers[index], test_layers[index]
        flat = x.flatten(0, 1)
        mean, std = flat.mean(0), flat.std(0).clamp(min=1e-4)
        centroids = kmeans((flat - mean) / std, num_clusters, kmeans_iterations, seed)
        found = [assign(((z - mean) / std).flatten(0, 1), centroids).view(len(z), 1, -1) for z in (x, y)]
        return found[0], found[1]

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


if __name__ == "__main__":
    main()
