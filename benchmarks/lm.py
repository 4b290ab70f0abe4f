"""Speed of the token models of a preset on random codes: training, and decoding ten seconds.

    python benchmarks/lm.py [--preset base] [--threads 1] [--out benchmarks/lm.jsonl]

Counts processor seconds (of all threads), not the clock, so that other work on the machine changes little. Appends a JSON line per run.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from musiclm.artifact import git_revision
from musiclm.lm.model import TokenLM
from musiclm.lm.sample import ArAcoustic, generate_semantic
from musiclm.nn.sampling import Sampling
from musiclm.presets import LmRecipe, StormRecipe, load_preset
from musiclm.storm.model import SoundStorm
from musiclm.storm.sample import StormAcoustic
from musiclm.storm.task import draw_masking, masked_losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/lm.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    preset = load_preset(arguments.preset)
    line = {"git_revision": git_revision(), "preset": arguments.preset, "threads": arguments.threads}
    models = {}
    for stage in ("semantic", "coarse", "fine"):
        recipe = getattr(preset, stage)
        models[stage] = TokenLM(recipe.task.model)
        line[stage] = {"parameters": size(models[stage]), "train_audio_s_per_cpu_s": train_lm(models[stage], recipe)}
        print(stage, line[stage], flush=True)
    storm = SoundStorm(preset.storm.task.model)
    line["storm"] = {"parameters": size(storm), "train_audio_s_per_cpu_s": train_storm(storm, preset.storm)}
    print("storm", line["storm"], flush=True)
    line["decode_10_s_cpu_s"] = decode(models, storm)
    print(line["decode_10_s_cpu_s"], flush=True)
    with open(arguments.out, "a") as file:
        file.write(json.dumps(line) + "\n")


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def codes(batch: int, frames: int, like: LmRecipe | StormRecipe) -> dict[str, torch.Tensor]:
    """Random streams of `frames` semantic frames."""
    model = like.task.model
    specs = model.specs if isinstance(like, LmRecipe) else (model.mulan, model.semantic, model.acoustic)  # type: ignore[union-attr]
    length = {"mulan": 1, "semantic": frames, "acoustic": 2 * frames}
    return {s.name: torch.randint(0, s.codebook_size, (batch, s.levels, length[s.name])) for s in specs}


def step(model: torch.nn.Module, loss: Callable[[], torch.Tensor], audio_s: float) -> float:
    """Seconds of audio that a processor second trains on."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, foreach=True)

    def once() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    once()
    return round(audio_s / seconds(once, 3), 2)


def train_lm(model: TokenLM, recipe: LmRecipe) -> float:
    batch, crop_s = recipe.train.batch_size, model.layout.stage.crop_s
    streams = codes(batch, round(25 * crop_s), recipe)
    target = model.layout.target_codes(streams)
    return step(model.train(), lambda: model.loss(streams, target).total, batch * crop_s)


def train_storm(model: SoundStorm, recipe: StormRecipe) -> float:
    batch, frames = recipe.train.batch_size, round(25 * recipe.task.crop_s)
    streams, num_frames = codes(batch, frames, recipe), torch.full((batch,), 2 * frames)
    generator = torch.Generator().manual_seed(0)

    def loss() -> torch.Tensor:
        levels = model.config.acoustic.levels
        masking = draw_masking(num_frames, 2 * frames, levels, recipe.task, generator)
        return masked_losses(model, streams, num_frames, masking).sum() / masking.masked.sum()

    return step(model.train(), loss, batch * recipe.task.crop_s)


def decode(models: dict[str, TokenLM], storm: SoundStorm) -> dict[str, float]:
    """Processor seconds for ten seconds of music at batch 1."""
    for model in (*models.values(), storm):
        model.eval()
    layout = models["semantic"].layout
    mulan = torch.zeros(1, layout.specs[0].levels, 1, dtype=torch.long)
    one = [torch.Generator().manual_seed(0)]
    semantic = torch.zeros(1, 1, 250, dtype=torch.long)
    ar = ArAcoustic(models["coarse"], models["fine"])
    work = {
        "semantic": lambda: generate_semantic(models["semantic"], mulan, 250, Sampling(top_p=0.95), one),
        "semantic_guided": lambda: generate_semantic(models["semantic"], mulan, 250, Sampling(guidance=3), one),
        "storm": lambda: StormAcoustic(storm).generate(semantic, mulan, one),
        "ar": lambda: ar.generate(semantic, mulan, one),
    }
    return {name: round(seconds(call), 2) for name, call in work.items()}


if __name__ == "__main__":
    main()
