"""Training of one stage over the token store, as a Task of the loop (`musiclm.train.loop`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from musiclm.core.artifact import save_artifact
from musiclm.core.config import check_shares
from musiclm.data.store import ENCODER_OF, Crops, StoreError, TokenStore
from musiclm.models.lm.model import KIND, TokenLM, TokenLMConfig
from musiclm.models.lm.stages import STAGES
from musiclm.train.loop import Update


@dataclass(frozen=True, kw_only=True)
class LmTaskConfig:
    """The model and what training it needs beside the loop's settings."""

    model: TokenLMConfig
    condition_dropout: float = 0.1  # share of items without MuLan condition, which is what guidance needs
    mulan_noise: float = (
        0.0  # longest vector of random direction added to the MuLan embedding (of length 1) before quantizing
    )
    # up to this share of the codes that later ones are predicted from are others of the batch, a share drawn for each item: what a model
    # hears of itself when it makes music is never all right
    context_noise: float = 0.0
    start_from_codebooks: bool = True  # embeddings begin as projections of the quantizers' vectors
    rendered_share: float | None = None  # of training crops, of rendered tracks; None: as large as theirs of the hours
    num_validation: int = 32  # fixed crops of the validation split

    def __post_init__(self) -> None:
        if not 0 <= self.condition_dropout < 1:
            raise ValueError(f"condition_dropout is {self.condition_dropout}; it must be in [0, 1)")
        if self.mulan_noise < 0:
            raise ValueError(f"mulan_noise is {self.mulan_noise}; it must be 0 or more")
        check_shares(self, "rendered_share", "context_noise")
        if self.num_validation < 2:
            raise ValueError(f"num_validation is {self.num_validation}; it takes two crops to swap conditions")


class LmTask:
    """Trains a TokenLM on crops of a store's train split; validates on fixed crops of its validation split.

    Figures: `loss`, `level_K` (nats per id; `chance` holds what code frequencies alone score), and for each condition `worth_STREAM`: how much
    the loss rises when the crop gets the condition of another crop; `worth_mulan_over_none`: when it gets none.
    """

    ema_group = "model"

    def __init__(
        self,
        config: LmTaskConfig,
        store: TokenStore,
        batch_size: int,
        seed: int = 0,
        validation_split: str = "validation",
    ) -> None:
        """Raises: StoreError if the store holds other streams than the model reads."""
        self.config, self.store, self.batch_size, self.seed = config, store, batch_size, seed
        stage = STAGES[config.model.stage]
        needed = {part.stream for part in (*stage.conditions, stage.target)}
        if not {spec for spec in config.model.specs if spec.name in needed} <= set(store.specs):
            raise StoreError(
                f"{store.folder} holds streams {store.specs}, the model reads {config.model.specs}; set `specs` to match"
            )
        torch.manual_seed(seed)
        self.model = TokenLM(config.model)
        self.layout = self.model.layout
        self.name = config.model.stage
        self.groups: dict[str, nn.Module] = {"model": self.model}
        crops = store.eval_crops(validation_split, self.layout.stage.crop_s, config.num_validation)
        self.validation = self._batch(crops, store.streams(crops))
        target = self.layout.parts[-1]
        frames = self.validation["num_frames"][target.stream]
        unigram = store.unigram_loss(target.stream, self.validation["streams"][target.stream], frames)
        unigram = unigram[target.start : target.stop]
        self.chance = {"loss": float(unigram.mean())}
        self.chance |= {f"level_{target.start + k}": float(value) for k, value in enumerate(unigram)}

    def batch(self, step: int) -> dict[str, Any]:
        """A pure function of (seed, step): "streams" by name, "num_frames" by name, "drop", and "context" if that is noised."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        length_s, share = self.layout.stage.crop_s, self.config.rendered_share
        crops = self.store.crops("train", length_s, self.batch_size, self.seed, step, share)
        streams = self.store.streams(crops, self.config.mulan_noise, generator)
        drop = torch.rand(self.batch_size, generator=generator) < self.config.condition_dropout
        batch = {**self._batch(crops, streams), "drop": drop}
        if self.config.context_noise:
            batch["context"] = self._noised(self.layout.target_codes(batch["streams"]), generator)
        return batch

    def _noised(self, codes: Int[Tensor, "b q t"], generator: torch.Generator) -> Int[Tensor, "b q t"]:
        """Codes of which some are replaced by codes of the same level from anywhere in the batch."""
        b, q, t = codes.shape
        hit = torch.rand(b, q, t, generator=generator) < self.config.context_noise * torch.rand(
            b, 1, 1, generator=generator
        )
        places = torch.randint(b * t, (b, q, t), generator=generator)
        others = torch.stack([codes[:, level].flatten()[places[:, level]] for level in range(q)], dim=1)
        return torch.where(hit, others, codes)

    def _batch(self, crops: Crops, streams: dict[str, Tensor]) -> dict[str, Any]:
        num_frames = {"semantic": crops.num_frames, "acoustic": crops.num_frames * self.store.ratio}
        needed = {part.stream for part in self.layout.parts}
        return {
            "streams": {name: codes for name, codes in streams.items() if name in needed},
            "num_frames": {name: frames for name, frames in num_frames.items() if name in needed},
        }

    def start(self, device: torch.device) -> None:
        """Embeddings begin from what codes mean."""
        if self.config.start_from_codebooks:
            for stream, vectors in self.store.codebooks.items():
                self.model.start_embeddings(stream, vectors, self.seed)

    def updates(self, batch: dict[str, Any], step: int) -> Iterator[Update]:
        target = self.layout.target_codes(batch["streams"])
        loss = self.model.loss(batch["streams"], target, batch["num_frames"], batch["drop"], batch.get("context"))
        yield Update(group="model", loss=loss.total, log=self._levels(loss.per_level))

    def validate(self, module: nn.Module) -> dict[str, float]:
        assert isinstance(module, TokenLM)
        streams = self.validation["streams"]
        loss, per_level = self._loss(module, streams, None)
        figures = {"loss": loss} | {name: float(value) for name, value in self._levels(per_level).items()}
        for part in self.layout.parts[:-1]:
            other = {**streams, part.stream: streams[part.stream].roll(1, 0)}
            figures[f"worth_{part.stream}"] = self._loss(module, other, None)[0] - loss
            if part.stream == "mulan":
                drop = torch.ones(self.config.num_validation, dtype=torch.bool)
                figures["worth_mulan_over_none"] = self._loss(module, streams, drop)[0] - loss
        return figures

    @torch.no_grad()
    def _loss(self, module: TokenLM, conditions: dict[str, Tensor], drop: Tensor | None) -> tuple[float, Tensor]:
        """Loss over the validation crops under some conditions; the targets are always their own."""
        device = module.embedding.weight.device
        target = self.layout.target_codes(self.validation["streams"])
        total, num = torch.zeros(target.shape[1]), 0
        for start in range(0, len(target), self.batch_size):
            rows = slice(start, start + self.batch_size)
            frames = {name: value[rows].to(device) for name, value in self.validation["num_frames"].items()}
            loss = module.loss(
                {name: codes[rows].to(device) for name, codes in conditions.items()},
                target[rows].to(device),
                frames,
                None if drop is None else drop[rows].to(device),
            )
            weight = int(frames[self.layout.target_spec.name].sum())
            total, num = total + loss.per_level.cpu() * weight, num + weight
        per_level = total / num
        return float(per_level.mean()), per_level

    def _levels(self, per_level: Tensor) -> dict[str, float | Tensor]:
        if len(per_level) == 1:
            return {}
        first = self.layout.parts[-1].start
        return {f"level_{first + level}": value.detach() for level, value in enumerate(per_level)}

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes the artifact (kind "lm"), half precision, with the hashes of the encoders behind the streams it reads or writes."""
        encoders = {ENCODER_OF[part.stream] for part in self.layout.parts}
        facts = {
            "stage": self.name,
            "encoders": {name: self.store.encoders[name] for name in sorted(encoders)},
            "chance": self.chance,
            "train_hours": round(self.store.hours("train"), 2),
        }
        save_artifact(folder, KIND, self.config.model, module, {**info, **facts}, dtype=torch.float16)
