"""What the semantic tokens of a trained w2v-BERT hold, by probes on validation and test tracks: musiclm.evaluate.probes.

    python benchmarks/w2vbert_probes.py CORPUS RUN [--layer 2] [--out benchmarks/w2vbert_probes.json]

RUN is the stage's folder (RUNS/w2vbert): probing every layer takes the whole network, which the artifact does not hold. Tags are the logits of
the MTT tagger, which no semantic token was trained on. Without --layer the best layer is chosen.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors import safe_open

from musiclm.core.artifact import git_revision, read_config
from musiclm.core.audio import resample
from musiclm.core.config import from_json
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.evaluate.probes import probe_semantic_tokens
from musiclm.listen.tagger import SAMPLE_RATE_HZ as TAGGER_RATE_HZ
from musiclm.listen.tagger import Tagger
from musiclm.models.w2vbert.model import W2vBert
from musiclm.models.w2vbert.task import W2vBertTaskConfig
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
        low = [torch.as_tensor(resample(clip.numpy(), SAMPLE_RATE_HZ, TAGGER_RATE_HZ)[0]) for clip in audio]
        return torch.logit(tagger(torch.stack(low).float()).clamp(1e-4, 1 - 1e-4))

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


if __name__ == "__main__":
    main()
