"""Training of one stage over the token store, as a Task of the loop (`musiclm.train.loop`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from musiclm.core.artifact import save_artifact
from musiclm.core.config import check_shares
from musiclm.core.streams import MELODY, MULAN
from musiclm.data.store import StoreError, TokenStore
from musiclm.models.lm.melody import NO_MELODY, some_of_it
from musiclm.models.lm.model import KIND, TokenLM, TokenLMConfig
from musiclm.nn.parts import WHOLE, BatchPart, through
from musiclm.train.loop import Update
from musiclm.train.tokens import (
    TokenTaskConfig,
    draw,
    held_out,
    noised,
    rows_of,
    shuffled_costs,
    start_embeddings,
    token_facts,
    unigram_baseline,
)


@dataclass(frozen=True, kw_only=True)
class LmTaskConfig(TokenTaskConfig):
    """The model and what training it needs beside the loop's settings."""

    model: TokenLMConfig
    # up to this share of the codes that later ones are predicted from are others of the batch, a share drawn for each
    # item: what a model reads of its own past when it makes music is never all right
    context_noise: float = 0.0
    # of a model that reads melodies: items that learn without, so that it stays as good for them, and of the others
    # those that get one span of it alone, as of music that is longer than its melody
    melody_dropout: float = 0.5
    melody_span_share: float = 0.5
    # what tells of the melody learns alone: without one the model stays what it was begun from, to the bit
    melody_alone: bool = False
    num_validation: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self, "context_noise", "melody_dropout", "melody_span_share")
        if self.melody_alone and self.model.melody is None:
            raise ValueError("melody_alone is set for a model that reads no melody; set model.melody_levels as well")

    @property
    def streams(self) -> tuple[str, ...]:
        melody = () if self.model.melody is None else (MELODY.name,)
        return (*self.model.layout.streams, *melody)


class LmTask:
    """Trains a TokenLM on crops of a store's train split; validates on fixed crops of its validation split.

    Figures: `loss`, `level_K` (nats per id; `baseline` holds what code frequencies alone score), for each condition
    `shuffled_STREAM`: how much the loss rises when the crop gets the condition of another crop; and `dropped_mulan`:
    how much it rises when the crop gets no MuLan condition. All of these without a melody; of a model that reads
    melodies, `given_melody` and `shuffled_melody`: by how much the loss changes when the crop gets its own melody, or
    another crop's.
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
        if not {spec for spec in config.model.specs if spec.name in config.streams} <= set(store.specs):
            raise StoreError(
                f"{store.folder} holds streams {store.specs}, the model reads {config.model.specs}; set `specs` to "
                "match"
            )
        melody = config.model.melody
        if melody is not None and store.spec(MELODY.name).slice(0, melody.levels) != melody:
            raise StoreError(
                f"{store.folder} holds {store.spec(MELODY.name)}, the model reads {melody}; "
                "set melody_levels or specs to match"
            )
        torch.manual_seed(seed)
        self.model = TokenLM(config.model)
        if config.melody_alone:
            self.model.requires_grad_(False)
            self.model.melody.requires_grad_(True)
        self.layout = self.model.layout
        self.name = config.model.stage
        self.groups: dict[str, nn.Module] = {"model": self.model}
        streams, num_frames = held_out(store, config, self.layout.stage.crop_s, validation_split)
        self.validation: dict[str, Any] = {"streams": streams, "num_frames": num_frames}
        target = self.layout.parts[-1]
        self.baseline = unigram_baseline(
            store,
            target.stream,
            streams[target.stream],
            num_frames[target.stream],
            slice(target.start, target.stop),
        )

    def batch(self, step: int, part: BatchPart = WHOLE) -> dict[str, Any]:
        """A pure function of (seed, step): "streams" by name, "num_frames" by name, "drop", and "context" if that is
        noised; of a part its rows and its "weight"."""
        config, crop_s, rows = self.config, self.layout.stage.crop_s, part.rows(self.batch_size)
        if config.context_noise:  # what it reads comes from anywhere in the batch
            whole = draw(self.store, config, crop_s, self.batch_size, self.seed, step)
            drawn = rows_of(whole, rows)
        else:
            drawn = draw(self.store, config, crop_s, self.batch_size, self.seed, step, part)
        batch: dict[str, Any] = {"streams": drawn.streams, "num_frames": drawn.num_frames, "drop": drawn.drop}
        if config.context_noise:
            target = self.layout.target_codes(whole.streams)
            batch["context"] = noised(target, config.context_noise, drawn.generator)[rows]
        if config.model.melody is not None:
            shares = (config.melody_dropout, config.melody_span_share)
            melody = some_of_it(drawn.streams[MELODY.name], *shares, drawn.generator, rows, self.batch_size)
            batch["streams"] = {**drawn.streams, MELODY.name: melody}
        return batch | part.weight(drawn.all_frames)

    def start(self, device: torch.device) -> None:
        """Embeddings begin from what codes mean."""
        start_embeddings(self.model, self.store, self.config, self.seed)

    def updates(self, batch: dict[str, Any], step: int) -> Iterator[Update]:
        per_level, total = through(self.model, self._losses, batch)
        yield Update(group="model", loss=total, log=self._levels(per_level))

    def _losses(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """By level, and the mean."""
        target = self.layout.target_codes(batch["streams"])
        loss = self.model.loss(batch["streams"], target, batch["num_frames"], batch["drop"], batch.get("context"))
        weight = batch.get("weight", 1)
        return loss.per_level * weight, loss.total * weight

    def validate(self, module: nn.Module) -> dict[str, float]:
        assert isinstance(module, TokenLM)
        streams = self.validation["streams"]
        melody = streams.get(MELODY.name)
        if melody is not None:
            streams = {**streams, MELODY.name: torch.full_like(melody, NO_MELODY)}
        loss, per_level = self._loss(module, streams, None)
        figures = {"loss": loss} | {name: float(value) for name, value in self._levels(per_level).items()}
        conditions = [part.stream for part in self.layout.parts[:-1]]
        figures |= shuffled_costs(streams, conditions, lambda other: self._loss(module, other, None)[0], loss)
        if MULAN.name in conditions:
            drop = torch.ones(self.config.num_validation, dtype=torch.bool)
            figures["dropped_mulan"] = self._loss(module, streams, drop)[0] - loss
        if melody is not None:
            for name, given in (("given", melody), ("shuffled", melody.roll(1, 0))):
                figures[f"{name}_melody"] = self._loss(module, {**streams, MELODY.name: given}, None)[0] - loss
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
        """Writes the artifact (kind "lm"), half precision, with the hashes of the encoders behind the streams it reads
        or writes.
        """
        facts = {"stage": self.name, **token_facts(self.store, self.config, self.baseline)}
        save_artifact(folder, KIND, self.config.model, module, {**info, **facts}, dtype=torch.float16)
