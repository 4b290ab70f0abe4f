"""Training of w2v-BERT and export of its semantic tokenizer, as a Task of the training loop (`musiclm.train.loop`)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from musiclm.core.artifact import save_artifact
from musiclm.models.w2vbert.cues import CueWeights
from musiclm.models.w2vbert.loss import code_entropy
from musiclm.models.w2vbert.model import (
    FRAME_RATE_HZ,
    W2vBert,
    W2vBertConfig,
    draw_mask,
    gumbel_temperature,
    hidden_places,
)
from musiclm.models.w2vbert.tokenizer import SemanticTokenizer, fit_tokenizer
from musiclm.nn.parts import WHOLE, BatchPart, through
from musiclm.train.loop import Update

MOST_FIT_CLIPS = 64  # at a time, by one process


@runtime_checkable
class ClipSource(Protocol):
    """Where training audio comes from; `musiclm.data.corpus.clips.ClipSampler` is one."""

    def batch(self, step: int, batch_size: int, rows: slice = slice(None)) -> tuple[Float[Tensor, "b 1 s"], Any, Any]:
        """Rows of a batch, a pure function of `step`: audio, tracks, starts."""


@dataclass(frozen=True, kw_only=True)
class W2vBertTaskConfig:
    """The model and what training it needs beside the loop's settings."""

    model: W2vBertConfig = field(default_factory=W2vBertConfig)
    crop_s: float = 5.12  # training crops; also the window of the tokenizer
    gain_db: float = 6.0  # each crop is turned up or down by up to this, so that codes do not spend themselves on level
    gumbel_start: float = 2.0  # temperature of the quantizer's draws at step 0
    gumbel_end: float = 0.5
    gumbel_decay: float = 0.9985  # per step; wav2vec 2.0 takes 300 000 steps for what takes 1000 here
    layer: int = 2  # the tokenizer's layer; chosen by `musiclm.evaluate.probes`
    num_clusters: int = 1024
    # beside the layer's features where clusters are made; None: features alone, as published
    cues: CueWeights | None = field(default_factory=CueWeights)
    harmony: bool = False  # whether the notes of two registers get codes of their own
    num_fit_clips: int = 400  # training crops that k-means sees: 400 of 5.12 s are 51 200 frames, 50 a cluster

    def __post_init__(self) -> None:
        if round(self.crop_s * FRAME_RATE_HZ) < 2 * self.model.mask_span:
            raise ValueError(
                f"crop_s {self.crop_s} is too short for masks of {self.model.mask_span} frames; "
                f"use at least {2 * self.model.mask_span / FRAME_RATE_HZ} s"
            )
        if not 1 <= self.layer <= self.model.conformer.num_layers:
            raise ValueError(f"layer is {self.layer}; the model has 1..{self.model.conformer.num_layers}")


class W2vBertTask:
    """Trains w2v-BERT on crops and exports a SemanticTokenizer.

    Args:
        clips: training crops of config.crop_s.
        validation: crops of held-out tracks; the same ones every time.
    """

    name = "w2vbert"
    ema_group = "model"
    whole_batch = True  # its diversity

    def __init__(
        self,
        config: W2vBertTaskConfig,
        clips: ClipSource,
        validation: Float[Tensor, "n 1 s"],
        batch_size: int,
        seed: int = 0,
    ) -> None:
        self.config, self.clips, self.validation = config, clips, validation
        self.batch_size, self.seed = batch_size, seed
        torch.manual_seed(seed)
        self.model = W2vBert(config.model)
        self.groups: dict[str, nn.Module] = {"model": self.model}
        num_hidden = round(config.model.mask_fraction * round(config.crop_s * FRAME_RATE_HZ))
        # an upper bound of skill by luck: fewer candidates remain where codes repeat, and the logged baseline says how
        # many
        self.baseline = {"contrastive_accuracy": 1.0 / num_hidden}

    def batch(self, step: int, part: BatchPart = WHOLE) -> dict[str, Tensor]:
        rows, batch_size = part.rows(self.batch_size), self.batch_size
        audio, *_ = self.clips.batch(step, batch_size, rows)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        gain_db = (2 * torch.rand(batch_size, 1, 1, generator=generator) - 1)[rows] * self.config.gain_db
        hidden = self._mask(audio, generator, batch_size)[rows]
        return {"audio": audio * 10 ** (gain_db / 20), "hidden": hidden, "places": hidden_places(hidden)}

    def _mask(self, audio: Float[Tensor, "_ 1 s"], generator: torch.Generator, batch_size: int) -> Tensor:
        model = self.config.model
        num_frames = audio.shape[-1] // model.frame_samples
        return draw_mask(batch_size, num_frames, model.mask_span, model.mask_fraction, generator)

    def start(self, device: torch.device) -> None:
        """Mel statistics and the quantizer's first centroids, from the first batches."""
        audio = torch.cat([self.clips.batch(step, self.batch_size)[0] for step in range(max(1, 96 // self.batch_size))])
        self.model.fit_statistics(audio.to(device), self.seed)

    def updates(self, batch: dict[str, Tensor], step: int) -> Iterator[Update]:
        config = self.config
        temperature = gumbel_temperature(step, config.gumbel_start, config.gumbel_end, config.gumbel_decay)
        loss, log = through(self.model, self._losses, batch, temperature)
        yield Update(group="model", loss=loss, log={**log, "gumbel_temperature": temperature})

    def _losses(self, batch: dict[str, Tensor], temperature: float) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self.model(batch["audio"], batch["hidden"], temperature, batch["places"])
        return losses.total, {
            "contrastive": losses.contrastive.loss,
            "contrastive_accuracy": losses.contrastive.accuracy,
            "contrastive_baseline": losses.contrastive.baseline,
            "masked": losses.masked.loss,
            "masked_accuracy": losses.masked.accuracy,
            "batch_entropy": losses.masked.unigram_entropy,
            "perplexity": losses.diversity.perplexity,
        }

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Both losses on held-out crops under fixed masks, and the unigram entropy (nats) for comparison."""
        assert isinstance(module, W2vBert)
        device = next(module.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)
        parts, codes = [], []
        for audio in self.validation.split(self.batch_size):
            losses = module(audio.to(device), self._mask(audio, generator, len(audio)).to(device))
            size = audio.shape[0]
            parts.append(
                torch.stack(
                    [
                        losses.contrastive.loss * size,
                        losses.contrastive.accuracy * size,
                        losses.contrastive.baseline * size,
                        losses.masked.loss * size,
                        losses.masked.accuracy * size,
                    ]
                )
            )
            codes.append(losses.codes.flatten(0, 1)[None])
        contrastive, accuracy, baseline, masked, masked_accuracy = (
            torch.stack(parts).sum(0) / len(self.validation)
        ).tolist()
        entropy = float(code_entropy(torch.cat(codes, dim=1), self.config.model.codebook_size))
        self.baseline = {"contrastive_accuracy": baseline, "masked": entropy}
        return {
            "contrastive": contrastive,
            "contrastive_accuracy": accuracy,
            "contrastive_baseline": baseline,
            "masked": masked,
            "masked_accuracy": masked_accuracy,
            "unigram_entropy": entropy,
            "code_perplexity": float(torch.tensor(entropy).exp()),
        }

    def fit(self, module: W2vBert, layer: int | None = None) -> SemanticTokenizer:
        """A tokenizer of `module` (config.layer by default), k-means fitted on training crops without gain."""
        config = self.config
        num = min(self.batch_size, MOST_FIT_CLIPS)
        num_batches = -(-config.num_fit_clips // num)
        # steps from 10 million on: crops the training steps do not share, and the same ones at every call
        clips = (self.clips.batch(10_000_000 + i, num)[0] for i in range(num_batches))
        return fit_tokenizer(
            module,
            clips,
            layer=config.layer if layer is None else layer,
            num_clusters=config.num_clusters,
            seed=self.seed,
            window_s=config.crop_s,
            context_s=config.crop_s / 8,
            cue_weights=config.cues,
            harmony=config.harmony,
        )

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes the tokenizer (artifact kind "semantic") with the layers up to config.layer, in half precision."""
        assert isinstance(module, W2vBert)
        tokenizer = self.fit(module)
        facts = {**info, "baseline": self.baseline}
        save_artifact(folder, "semantic", tokenizer.config, tokenizer, facts, dtype=torch.float16)
