"""Training of SoundStorm over the token store (SoundStorm, section 3.2), as a Task of the loop (`musiclm.train.loop`).

Each item draws a prompt (frames before a random cut, known at all levels), a level, and a share of that level's frames
to mask; the levels above are masked throughout, and the loss counts the masked codes of that level alone. Two
departures, both towards what decoding does: a share of the items has no prompt, and at levels after the first, which
are decoded in one pass, a share has every frame masked.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import large_matrices, save_artifact
from musiclm.core.config import check_shares
from musiclm.core.streams import MULAN
from musiclm.data.store import StoreError, TokenStore
from musiclm.models.storm.model import KIND, SoundStorm, SoundStormConfig
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
class StormTaskConfig(TokenTaskConfig):
    """The model and what training it needs beside the loop's settings."""

    model: SoundStormConfig
    crop_s: float = 10.0  # the paper: 30 s
    prompt_share: float = 0.5  # items with a prompt; the paper: all
    level_power: float = (
        1.0  # level k is drawn (with depth_width: weighs) in proportion to (k + 1)^-level_power; the paper: 0
    )
    full_mask_share: float = (
        0.5  # items at levels after the first whose frames are all masked; the paper: none on purpose
    )
    # as `LmTaskConfig.context_noise`, of the codes that are given: what decoding goes on from is never all right. Needs
    # a model with `series`
    context_noise: float = 0.0
    num_validation: int = 16  # each is read once per level and once per condition

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self, "prompt_share", "full_mask_share", "context_noise")
        if self.context_noise and not self.model.series:
            raise ValueError(f"context_noise is {self.context_noise}; it needs a model with series, or 0")
        if self.crop_s <= 0:
            raise ValueError(f"crop_s is {self.crop_s}; it must be above 0")

    @property
    def streams(self) -> tuple[str, ...]:
        conditions = (self.model.mulan, self.model.semantic) if self.model.mulan_levels else (self.model.semantic,)
        return tuple(spec.name for spec in (*conditions, self.model.acoustic))


@dataclass(frozen=True)
class Masking:
    """What is hidden from SoundStorm in a batch."""

    level: Int[Tensor, " b"]
    cut: Int[Tensor, " b"]  # frames before it are the prompt
    masked: Bool[Tensor, "b f"]  # of the level; all of them from the cut on


def draw_masking(
    num_frames: Int[Tensor, " b"],
    length: int,
    levels: int,
    config: StormTaskConfig,
    generator: torch.Generator,
) -> Masking:
    """A masking of crops of `length` frames, `num_frames` of them real; at least one real frame is masked."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    b = len(num_frames)
    weights = torch.arange(1.0, levels + 1) ** -config.level_power
    level = torch.multinomial(weights, b, replacement=True, generator=generator)
    cut = (rand(b) * num_frames).long() * (rand(b) < config.prompt_share)
    share = torch.cos(rand(b) * math.pi / 2)
    share = torch.where((level > 0) & (rand(b) < config.full_mask_share), 1.0, share)
    frame = torch.arange(length)
    free = (frame >= cut[:, None]) & (frame < num_frames[:, None])
    order = rand(b, length).masked_fill(~free, 2.0)
    masked = free & ((order < share[:, None]) | (order == order.min(dim=1, keepdim=True).values))
    return Masking(level, cut, masked)


def hide(codes: Int[Tensor, "b q f"], masking: Masking, mask_code: int) -> Int[Tensor, "b q f"]:
    """`codes` with the masked frames of the level, and all levels above from the cut on, replaced by `mask_code`."""
    level = torch.arange(codes.shape[1], device=codes.device)[:, None]
    frame = torch.arange(codes.shape[2], device=codes.device)
    own = masking.level[:, None, None]
    above = (level > own) & (frame >= masking.cut[:, None, None])
    return codes.masked_fill(above | ((level == own) & masking.masked[:, None]), mask_code)


def real_frames(num_frames: Int[Tensor, " b"], length: int) -> Bool[Tensor, "b f"] | None:
    """Which frames of crops are real; None if all are. Of tensors of the CPU, for it looks at them."""
    real = torch.arange(length) < num_frames[:, None]
    return None if bool(real.all()) else real


def masked_places(masked: Bool[Tensor, "b f"]) -> Int[Tensor, " n"]:
    """Numbers of the masked frames, those of the second item after those of the first."""
    return masked.flatten().nonzero()[:, 0]


def whole_frame_losses(
    model: SoundStorm,
    streams: dict[str, Tensor],
    real: Bool[Tensor, "b f"] | None,
    masked: Bool[Tensor, "b f"],
    context: Int[Tensor, "b q f"] | None = None,
    places: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, "n q"]:
    """Cross-entropies in nats of every level of the masked frames, for a model with `depth_width`.

    real: see `real_frames`. context: what stands in the place of the codes that are given; those themselves if None.
    places: `masked_places` of the mask, as found before it went to a GPU, which would have to be waited for.
    """
    where = masked_places(masked) if places is None else places

    def at_masked(x: Shaped[Tensor, "b f *_"]) -> Shaped[Tensor, "n *_"]:
        return x.flatten(0, 1)[where]

    codes = streams["acoustic"]
    known = (codes if context is None else context).masked_fill(masked[:, None], model.mask_code)
    hidden = model(known, streams["semantic"], streams.get(MULAN.name), real)
    if model.config.history_layers:
        hidden, _ = model.with_history(hidden, model.frames_before(codes if context is None else context))
    target = at_masked(codes.transpose(1, 2))
    neighbours = None
    if model.config.series:
        before, after = model.neighbours(codes, known, context)
        neighbours = at_masked(before.transpose(1, 2)), at_masked(after.transpose(1, 2))
    logits = model.all_depth_logits(at_masked(hidden), target, neighbours)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)


def masked_losses(
    model: SoundStorm,
    streams: dict[str, Tensor],
    real: Bool[Tensor, "b f"] | None,
    masking: Masking,
) -> Float[Tensor, "b f"]:
    """Cross-entropy in nats at the masked codes of each item's level, 0 elsewhere. real: see `real_frames`."""
    codes = streams["acoustic"]
    hidden = model(hide(codes, masking, model.mask_code), streams["semantic"], streams.get(MULAN.name), real)
    logits = model.logits_per_row(hidden, masking.level)
    target = codes.gather(1, masking.level[:, None, None].expand(-1, 1, codes.shape[2]))[:, 0]
    losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
    return losses * masking.masked


class StormTask:
    """Trains SoundStorm on crops of a store's train split.

    Figures on fixed crops of the validation split, without prompt: `level_K`, nats per code (the first level half
    masked at random, the others in the state in which decoding meets them; with `depth_width` half the frames masked
    whole; `baseline` holds what code frequencies alone score), `loss` their mean, `first_round`: the first level with
    every frame hidden, as decoding begins, and `shuffled_STREAM`: how much that rises when a crop gets the condition of
    another. (Half hidden, a model that has learned to read the frames it is given needs the condition less, and one
    that has not looks as if it listened better.)
    """

    name = "storm"
    ema_group = "model"

    def __init__(
        self,
        config: StormTaskConfig,
        store: TokenStore,
        batch_size: int,
        seed: int = 0,
        validation_split: str = "validation",
    ) -> None:
        """Raises: StoreError if the store holds other streams than the model reads."""
        self.config, self.store, self.batch_size, self.seed = config, store, batch_size, seed
        specs, acoustic = {getattr(config.model, name) for name in config.streams}, config.model.acoustic
        stored = set(store.specs)
        for spec in store.specs:  # a model may know the first levels only
            if spec.name == acoustic.name and spec.levels > acoustic.levels:
                stored = stored - {spec} | {spec.slice(0, acoustic.levels)}
        if not specs <= stored:
            raise StoreError(f"{store.folder} holds streams {store.specs}, the model reads {specs}; set them to match")
        torch.manual_seed(seed)
        self.model = SoundStorm(config.model)
        self.groups: dict[str, nn.Module] = {"model": self.model}
        streams, num_frames = held_out(store, config, config.crop_s, validation_split)
        levels = slice(0, acoustic.levels)
        self.baseline = unigram_baseline(store, "acoustic", streams["acoustic"], num_frames["acoustic"], levels)
        streams["acoustic"] = streams["acoustic"][:, levels]
        self.validation: dict[str, Any] = {"streams": streams, "num_frames": num_frames["acoustic"]}

    def batch(self, step: int, part: BatchPart = WHOLE) -> dict[str, Any]:
        """A pure function of (seed, step); of a part its rows and its "weight"."""
        config, rows = self.config, part.rows(self.batch_size)
        whole = WHOLE if config.context_noise else part  # noise comes from anywhere in the batch
        drawn = draw(self.store, config, config.crop_s, self.batch_size, self.seed, step, whole)
        context = None
        if config.context_noise:
            codes = drawn.streams["acoustic"][:, : config.model.acoustic.levels]
            context = noised(codes, config.context_noise, drawn.generator)[rows]
            drawn = rows_of(drawn, rows)
        streams, num_frames = drawn.streams, drawn.num_frames["acoustic"]
        if MULAN.name in streams:
            streams[MULAN.name] = streams[MULAN.name].masked_fill(drawn.drop[:, None, None], -1)
        streams["acoustic"] = streams["acoustic"][:, : self.config.model.acoustic.levels]
        _, levels, length = streams["acoustic"].shape
        all_frames = self.store.frames_of("acoustic", drawn.all_frames)
        masking = draw_masking(all_frames, length, levels, self.config, drawn.generator)
        return {
            "streams": streams,
            "real": real_frames(num_frames, length),
            "has_level_0": bool((masking.level[rows] == 0).any()),
            "masking": {"level": masking.level[rows], "cut": masking.cut[rows], "masked": masking.masked[rows]},
            "places": masked_places(masking.masked[rows]),
            **({} if context is None else {"context": context}),
            **part.weight(masking.masked),
        }

    def start(self, device: torch.device) -> None:
        """Embeddings begin from what codes mean."""
        start_embeddings(self.model, self.store, self.config, self.seed)

    def updates(self, batch: dict[str, Any], step: int) -> Iterator[Update]:
        masking = Masking(**batch["masking"])
        masked, share = masking.masked, batch.get("weight", 1)
        if self.config.model.depth_width:
            of_frames = through(
                self.model,
                whole_frame_losses,
                self.model,
                batch["streams"],
                batch["real"],
                masked,
                batch.get("context"),
                batch["places"],
            )
            losses = of_frames.mean(0) * share
            weight = torch.arange(1.0, len(losses) + 1, device=losses.device) ** -self.config.level_power
            last = len(losses) - 1
            levels: dict[str, float | Tensor] = {
                f"level_{k}": losses[k].detach() for k in sorted({0, 1, 3, last} & set(range(last + 1)))
            }
            yield Update(group="model", loss=(losses * weight).sum() / weight.sum(), log=levels)
            return
        losses = through(self.model, masked_losses, self.model, batch["streams"], batch["real"], masking)
        loss = losses.sum() / masked.sum() * share
        log: dict[str, float | Tensor] = {}
        if batch["has_level_0"]:  # known beforehand: to look at the levels would wait for a GPU
            first = masking.level == 0
            log = {"level_0": ((losses.detach().sum(1) / masked.sum(1)) * first).sum() / first.sum()}
        yield Update(group="model", loss=loss, log=log)

    def validate(self, module: nn.Module) -> dict[str, float]:
        assert isinstance(module, SoundStorm)
        streams = self.validation["streams"]
        levels = streams["acoustic"].shape[1]
        per_level = self._losses(module, streams, list(range(levels)))
        figures = {"loss": sum(per_level) / levels}
        figures |= {f"level_{level}": value for level, value in enumerate(per_level)}

        def first_round(under: dict[str, Tensor]) -> float:
            return self._losses(module, under, [0], hidden=1.0)[0]

        figures["first_round"] = first_round(streams)
        conditions = [name for name in streams if name != "acoustic"]
        return figures | shuffled_costs(streams, conditions, first_round, figures["first_round"])

    @torch.no_grad()
    def _losses(
        self, module: SoundStorm, streams: dict[str, Tensor], levels: list[int], hidden: float = 0.5
    ) -> list[float]:
        """Loss of some levels over the validation crops, in nats per masked code; `hidden` is the share of frames
        masked at the first level.
        """
        device = module.semantic.weight.device
        b, _, length = streams["acoustic"].shape
        num_frames = self.validation["num_frames"]
        real = torch.arange(length) < num_frames[:, None]
        first = real & (torch.rand(b, length, generator=torch.Generator().manual_seed(self.seed)) < hidden)
        totals, counts = torch.zeros(len(levels)), torch.zeros(len(levels))
        for start in range(0, b, self.batch_size):
            rows = slice(start, start + self.batch_size)
            real_here = real_frames(num_frames[rows], length)
            own = None if real_here is None else real_here.to(device)
            part = {name: codes[rows].to(device) for name, codes in streams.items()}
            if module.config.depth_width:
                losses = whole_frame_losses(module, part, own, first[rows].to(device))
                totals += losses.sum(0).cpu()[levels]
                counts += len(losses)
                continue
            for index, level in enumerate(levels):
                masked = (first if level == 0 else real)[rows].to(device)
                where = torch.full_like(num_frames[rows], level).to(device)
                masking = Masking(where, torch.zeros_like(where), masked)
                totals[index] += float(masked_losses(module, part, own, masking).sum())
                counts[index] += int(masked.sum())
        return (totals / counts).tolist()

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes the artifact (kind "storm"), large matrices as rows of int8 and the rest in half precision, with the
        hashes of the encoders behind its tokens.
        """
        facts = {"crop_s": self.config.crop_s, **token_facts(self.store, self.config, self.baseline)}
        rows = large_matrices(module)
        save_artifact(folder, KIND, self.config.model, module, {**info, **facts}, torch.float16, int8_rows=rows)
