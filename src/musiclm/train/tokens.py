"""What the tasks that learn from the token store share: settings, conditions with noise and dropout, baselines, and
what shuffling a condition costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from musiclm.core.config import check_shares
from musiclm.core.streams import ENCODER_OF, MULAN
from musiclm.data.store import TokenStore
from musiclm.nn.parts import WHOLE, BatchPart


@dataclass(frozen=True, kw_only=True)
class TokenTaskConfig:
    """Settings of a stage that learns from the token store."""

    condition_dropout: float = 0.1  # share of items without MuLan condition, which is what guidance needs
    # longest vector of random direction added to the MuLan embedding (of length 1) before quantizing
    mulan_noise: float = 0.0
    start_from_codebooks: bool = True  # embeddings begin as projections of the quantizers' vectors
    rendered_share: float | None = None  # of training crops, of rendered tracks; None: as large as theirs of the hours
    num_validation: int  # fixed crops of the validation split

    @property
    def streams(self) -> tuple[str, ...]:
        """What the stage reads of the store, and so what it waits for."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        check_shares(self, "rendered_share")
        if not 0 <= self.condition_dropout < 1:
            raise ValueError(f"condition_dropout is {self.condition_dropout}; it must be in [0, 1)")
        if self.mulan_noise < 0:
            raise ValueError(f"mulan_noise is {self.mulan_noise}; it must be 0 or more")
        if self.mulan_noise and MULAN.name not in self.streams:
            raise ValueError(f"mulan_noise is {self.mulan_noise}, but this stage has no MuLan condition; leave it at 0")
        if self.num_validation < 2:
            raise ValueError(f"num_validation is {self.num_validation}; it takes two crops to swap conditions")


@dataclass(frozen=True)
class TokenBatch:
    """Training crops as codes."""

    streams: dict[str, Tensor]  # whole streams by name
    num_frames: dict[str, Tensor]  # frames of each item that are real, by stream
    drop: Bool[Tensor, " b"]  # items that learn without their MuLan condition
    generator: torch.Generator  # for what else the task draws
    all_frames: Int[Tensor, " b2"]  # frames of the store's clock that are real, of every item of the whole batch


def draw(
    store: TokenStore,
    config: TokenTaskConfig,
    crop_s: float,
    batch_size: int,
    seed: int,
    step: int,
    part: BatchPart = WHOLE,
) -> TokenBatch:
    """Crops of the train split, their MuLan condition noised: a pure function of the arguments. batch_size: of the
    whole."""
    rows = part.rows(batch_size)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    crops = store.crops("train", crop_s, batch_size, seed, step, config.rendered_share, rows)
    streams = store.streams(crops, config.mulan_noise, generator)
    drop = (torch.rand(batch_size, generator=generator) < config.condition_dropout)[rows]
    frames = _read(config, store.num_frames(crops))
    return TokenBatch(_read(config, streams), frames, drop, generator, torch.tensor(crops.all_frames))


def rows_of(batch: TokenBatch, rows: slice) -> TokenBatch:
    """Some items of a whole batch."""
    streams, frames = ({name: x[rows] for name, x in by.items()} for by in (batch.streams, batch.num_frames))
    return replace(batch, streams=streams, num_frames=frames, drop=batch.drop[rows])


def noised(codes: Int[Tensor, "b q f"], share: float, generator: torch.Generator) -> Int[Tensor, "b q f"]:
    """Codes of which up to `share`, drawn for each item, are replaced by others of their level from anywhere in the
    batch."""
    b, q, f = codes.shape
    hit = torch.rand(b, q, f, generator=generator) < share * torch.rand(b, 1, 1, generator=generator)
    places = torch.randint(b * f, (b, q, f), generator=generator)
    others = torch.stack([codes[:, level].flatten()[places[:, level]] for level in range(q)], dim=1)
    return torch.where(hit, others, codes)


def held_out(
    store: TokenStore, config: TokenTaskConfig, crop_s: float, split: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Streams and real frames, by stream, of the crops that a stage is validated on."""
    crops = store.eval_crops(split, crop_s, config.num_validation)
    return _read(config, store.streams(crops)), _read(config, store.num_frames(crops))


def _read(config: TokenTaskConfig, by_stream: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of all streams of the store those that the stage reads."""
    return {name: value for name, value in by_stream.items() if name in config.streams}


def unigram_baseline(
    store: TokenStore, stream: str, codes: Tensor, num_frames: Tensor, levels: slice
) -> dict[str, float]:
    """What code frequencies alone score on some levels of `codes`: `loss`, and `level_K` of each."""
    unigram = store.unigram_loss(stream, codes, num_frames)[levels]
    each = {f"level_{(levels.start or 0) + k}": float(value) for k, value in enumerate(unigram)}
    return {"loss": float(unigram.mean()), **each}


def shuffled_costs(
    streams: Mapping[str, Tensor],
    conditions: Sequence[str],
    loss: Callable[[dict[str, Tensor]], float],
    unshuffled: float,
) -> dict[str, float]:
    """`shuffled_STREAM` for each condition: by how much the loss rises when a crop gets that of another crop."""
    return {f"shuffled_{name}": loss({**streams, name: streams[name].roll(1, 0)}) - unshuffled for name in conditions}


@runtime_checkable
class StartsEmbeddings(Protocol):
    """A model over codes."""

    def start_embeddings(self, stream: str, vectors: Float[Tensor, "q v c"], seed: int = 0) -> None: ...


def start_embeddings(model: StartsEmbeddings, store: TokenStore, config: TokenTaskConfig, seed: int) -> None:
    """Embeddings begin from what codes mean, unless the settings say otherwise."""
    if config.start_from_codebooks:
        for stream, vectors in store.codebooks.items():
            model.start_embeddings(stream, vectors, seed)


def token_facts(store: TokenStore, config: TokenTaskConfig, baseline: Mapping[str, float]) -> dict[str, Any]:
    """What an artifact says of its tokens: the encoders behind them, what their frequencies alone score, hours."""
    return {
        "encoders": {encoder: store.encoders[encoder] for encoder in sorted(ENCODER_OF[s] for s in config.streams)},
        "baseline": dict(baseline),
        "train_hours": round(store.hours("train"), 2),
    }
