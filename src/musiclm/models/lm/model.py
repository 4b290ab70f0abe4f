"""TokenLM: one decoder-only language model for every stage (MusicLM section 3.2, AudioLM section 3).

Which ids come in what order is the layout's affair (`musiclm.models.lm.stages`); here are the embedding, the
transformer and the logits. Target id j belongs to level j mod levels, so only that level's codes can follow: the head
holds one matrix per level and computes that slice alone, never the whole vocabulary.

With `depth_width` a frame of several levels is one place of the sequence: its ids' embeddings are summed, and a small
network (`musiclm.nn.depth`) predicts the levels of the next frame in turn. The transformer then runs once a frame, not
once an id.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import load_model
from musiclm.core.streams import MELODY, SEMANTIC, TokenSpec
from musiclm.models.lm.melody import MelodyCondition, by_frame
from musiclm.models.lm.pointer import Past, Pointer
from musiclm.models.lm.stages import SPECS, STAGES, Layout, split_levels
from musiclm.nn.depth import Depth
from musiclm.nn.embedding import project_codebooks
from musiclm.nn.transformer import KvCache, StaticStep, Transformer, TransformerConfig

KIND = "lm"


@dataclass(frozen=True, kw_only=True)
class TokenLMConfig:
    """A stage and the size of its model.

    MusicLM: `TransformerConfig` of 24 x 1024, 16 heads, feed-forward 4096, T5 positions.
    """

    stage: str  # "semantic", "coarse" or "fine" (musiclm.models.lm.stages.STAGES)
    transformer: TransformerConfig
    mulan_levels: int = 12  # of the MuLan condition; fewer bring text and audio codes closer, the paper uses 12
    cumulative_mulan: bool = False  # MuLan id k enters as the sum of the embeddings of ids 0..k (see TokenLM.embed)
    depth_width: int = 0  # hidden width of the network that predicts a frame's levels in turn; 0 is none, as published
    crop_s: float | None = None  # longest sequence in training and at generation; None is the stage's, as published
    coarse_levels: int = 4  # acoustic levels of the coarse stage; the fine stage has the rest
    specs: tuple[TokenSpec, ...] = field(default=SPECS)  # the streams the model was trained on
    pointer_heads: int = 0  # of the pointer to earlier frames (`musiclm.models.lm.pointer`); 0 is none, as published
    melody_levels: int = 0  # of the melody that the target can be told of, frame by frame; 0: of none. Semantic stage

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage is {self.stage!r}; it must be one of {', '.join(STAGES)}")
        if self.mulan_levels < 1:
            raise ValueError(f"mulan_levels is {self.mulan_levels}; it must be at least 1")
        if self.crop_s is not None and not 1 <= self.crop_s <= 600:
            raise ValueError(f"crop_s is {self.crop_s}; it must lie in 1..600 s, or be None for the stage's own")
        if self.depth_width < 0:
            raise ValueError(f"depth_width is {self.depth_width}; it must be 0 or more")
        if self.pointer_heads < 0 or (self.pointer_heads and not self.depth_width):
            raise ValueError(f"pointer_heads is {self.pointer_heads}; it must be 0 or more, and needs a depth_width")
        _ = self.layout  # raises if the streams do not fit
        if self.melody_levels and self.stage != SEMANTIC.name:
            raise ValueError(f"melody_levels is {self.melody_levels}; only the semantic stage is told of a melody")
        _ = self.melody  # raises if there are not as many levels

    @property
    def layout(self) -> Layout:
        stage = split_levels(STAGES[self.stage], self.coarse_levels, self.specs)
        if self.crop_s is not None:
            stage = replace(stage, crop_s=self.crop_s)
        return Layout(stage, self.specs, self.mulan_levels, whole_frames=self.depth_width > 0)

    @property
    def melody(self) -> TokenSpec | None:
        """The levels of the melody's codes that the model reads; None: it reads none."""
        if not self.melody_levels:
            return None
        return next((spec for spec in self.specs if spec.name == MELODY.name), MELODY).slice(0, self.melody_levels)


@dataclass(frozen=True)
class LmLoss:
    """Cross-entropies in nats per id."""

    total: Float[Tensor, ""]  # over all ids that count
    per_level: Float[Tensor, " q"]


class TokenLM(nn.Module):
    """Next-id logits of one stage."""

    def __init__(self, config: TokenLMConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = config.layout
        width, target = config.transformer.width, self.layout.target_spec
        self.embedding = nn.Embedding(self.layout.num_ids, width)
        self.transformer = Transformer(config.transformer)
        self.head = nn.Parameter(torch.empty(target.levels, target.codebook_size, width))
        nn.init.normal_(self.head, std=0.02)
        if config.depth_width:
            self.depth = Depth(width, config.depth_width, target.levels)
        if config.pointer_heads:
            self.pointer = Pointer(width, target.levels, config.pointer_heads)
        if config.melody is not None:
            self.melody = MelodyCondition(config.melody, width)
        self.artifact_hash = ""

    @classmethod
    def from_artifact(cls, folder: Path) -> "TokenLM":
        """Loads a trained model in evaluation mode. Raises ArtifactError when the folder is not one."""
        model, artifact = load_model(folder, KIND, TokenLMConfig, cls)
        model.artifact_hash = artifact.hash
        return model

    def read(
        self,
        ids: Int[Tensor, "b l"],
        positions: Float[Tensor, " l"],
        cache: KvCache | None = None,
        told: Float[Tensor, "b l d"] | None = None,
        step: StaticStep | None = None,
    ) -> tuple[Float[Tensor, "b l d"], KvCache | None]:
        """Hidden states after each id, and the cache moved on.

        told: `told_of` the place after each id. step: computes them, in place of the transformer.
        """
        x = self.embed(ids, 0 if cache is None else cache.length)
        x = x if told is None else x + told
        if step is not None and cache is not None:
            return step(x, positions, cache)
        return self.transformer(x, positions, cache)

    def told_of(self, melody: Int[Tensor, "b q t"]) -> Float[Tensor, "b l d"]:
        """What a melody, codes by frame of the target (`by_frame`), adds to the place before each of the target's."""
        assert self.config.melody is not None, "this model reads no melody"
        return self.melody(melody[:, : self.config.melody_levels]).repeat_interleave(self.layout.places_per_frame, 1)

    def embed(self, ids: Int[Tensor, "b l"], start: int = 0) -> Float[Tensor, "b l d"]:
        """Embeddings of ids that begin at place `start` of the sequence.

        With `cumulative_mulan` the MuLan condition comes as ever finer versions of one vector, as its quantizer means
        it, rather than as vectors of residuals: the norms ahead of each layer would make the smallest residual as loud
        as the first.
        """
        x = self.embedding(ids)
        stop = 1 + self.layout.specs[0].levels
        if not self.config.cumulative_mulan or start > 0 or not self.layout.specs[0].per_clip:
            return x
        return torch.cat([x[:, :1], x[:, 1:stop].cumsum(1), x[:, stop:]], 1)

    def read_codes(
        self,
        codes: Int[Tensor, "b q n"],
        start: int,
        cache: KvCache,
        told: Float[Tensor, "b l d"] | None = None,
        step: StaticStep | None = None,
    ) -> tuple[Float[Tensor, "b l d"], KvCache | None]:
        """`read` of whole target frames, the first of which is frame `start`."""
        x = self.embed_codes(codes)
        x = x if told is None else x + told
        first = start * self.layout.places_per_frame
        positions = self.layout.target_positions(first, first + x.shape[1], x.device)
        return (step or self.transformer)(x, positions, cache)

    def embed_codes(self, codes: Int[Tensor, "b q n"]) -> Float[Tensor, "b l d"]:
        """Embeddings of target frames, one a place."""
        x = self.embedding(self.layout.target_ids(codes))
        return x.unflatten(1, (-1, codes.shape[1])).sum(2) if self.config.depth_width else x

    def state_after(self, state: Float[Tensor, "b d"], ids: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """With `depth_width`: what the next level of a frame is predicted from, an id of it being known."""
        return state + self.embedding(ids)

    def logits(self, hidden: Float[Tensor, "*b d"], level: int, past: Past | None = None) -> Float[Tensor, "*b v"]:
        """Logits of the codes of a target level, float32. past: what a model with a pointer may point to."""
        if self.config.depth_width:
            hidden = self.depth(hidden[..., None, :], slice(level, level + 1))[..., 0, :]
        logits = F.linear(hidden, self.head[level]).float()
        return logits if past is None else self.pointer.mix(past, logits, hidden, level)

    def forward(
        self,
        prefix: Int[Tensor, "b c"],
        prefix_positions: Float[Tensor, " c"],
        target: Int[Tensor, "b q t"],
        context: Int[Tensor, "b q t"] | None = None,
        melody: Int[Tensor, "b m t"] | None = None,
    ) -> Float[Tensor, "b q t v"]:
        """Logits for every target code given the prefix (`Layout.prefix`) and the codes before it, those of `context`
        if it is given, and the melody's codes, by frame of the target (`by_frame`).

        With `depth_width` the lower levels of the same frame are always those of `target`.
        """
        levels = target.shape[1]
        x = torch.cat([self.embed(prefix), self.embed_codes(target if context is None else context)[:, :-1]], 1)
        positions = self.layout.target_positions(0, x.shape[1] - prefix.shape[1], x.device)
        if melody is not None:
            told = self.told_of(melody)
            x = torch.cat([x[:, : prefix.shape[1] - 1], x[:, prefix.shape[1] - 1 :] + told], 1)
        hidden, _ = self.transformer(x, torch.cat([prefix_positions, positions]))
        hidden = hidden[:, prefix.shape[1] - 1 :]  # what comes before each place
        if self.config.depth_width:
            own = self.embedding(self.layout.target_ids(target)).unflatten(1, (-1, levels))
            below = torch.cat([torch.zeros_like(own[:, :, :1]), own[:, :, :-1].cumsum(2)], 2)
            states = self.depth(hidden[:, :, None] + below, slice(None))  # b t q d
            logits = torch.einsum("btqd,qvd->bqtv", states, self.head).float()
            if not self.config.pointer_heads:
                return logits
            return self.pointer(hidden, states, logits, target, target if context is None else context)
        hidden = hidden.unflatten(1, (-1, levels))
        return torch.stack([self.logits(hidden[:, :, level], level) for level in range(levels)], dim=1)

    def loss(
        self,
        conditions: Mapping[str, Int[Tensor, "b _q _t"]],
        target: Int[Tensor, "b q t"],
        num_frames: Mapping[str, Int[Tensor, " b"]] | None = None,
        drop: Bool[Tensor, " b"] | None = None,
        context: Int[Tensor, "b q t"] | None = None,
    ) -> LmLoss:
        """Cross-entropy of the target's levels (`Layout.target_codes`) given the conditions (whole streams by name).

        A melody among them, at its own rate, is read if the model reads melodies; `NO_MELODY` stands where there is
        none.

        num_frames: real frames of each item by stream; later ones do not count. drop: items whose MuLan condition is
        left out.
        context: what the model reads in the target's place; the target itself if None.
        """
        prefix, positions = self.layout.prefix(conditions, drop, num_frames)
        target = target.long()
        melody = None if self.config.melody is None else conditions.get(MELODY.name)
        if melody is not None:
            assert self.config.melody is not None
            rates = (self.config.melody.frame_rate_hz or 0.0, self.layout.target_spec.frame_rate_hz or 0.0)
            melody = by_frame(melody, *rates, target.shape[2])
        logits = self(prefix, positions, target, None if context is None else context.long(), melody)
        losses = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none").view(target.shape)
        name = self.layout.target_spec.name
        if num_frames is None or name not in num_frames:
            return LmLoss(losses.mean(), losses.mean(dim=(0, 2)))
        real = torch.arange(target.shape[2], device=target.device) < num_frames[name][:, None]
        per_level = (losses * real[:, None]).sum(dim=(0, 2)) / real.sum().clamp(min=1)
        return LmLoss(per_level.mean(), per_level)

    @torch.no_grad()
    def start_embeddings(self, stream: str, vectors: Float[Tensor, "q v c"], seed: int = 0) -> None:
        """Starts the embeddings of a stream's ids from what its codes mean.

        See `project_codebooks`; MuLan's levels are all scaled as the first is where they are summed. A no-op for a
        stage without that stream.
        """
        if stream == MELODY.name and self.config.melody is not None:
            self.melody.start(vectors, seed)
        for index, part in enumerate(self.layout.parts):
            if part.stream != stream:
                continue
            like_first = self.layout.specs[index].per_clip and self.config.cumulative_mulan
            width = self.embedding.weight.shape[1]
            # levels of a semantic frame are no residuals of one vector
            rows = project_codebooks(
                vectors[part.start : part.stop],
                width,
                seed,
                like_first=like_first,
                apart=stream == SEMANTIC.name and part.stop > 1,
            ).flatten(0, 1)
            offset = self.layout.offsets[index]
            self.embedding.weight[offset : offset + rows.shape[0]] = rows.to(self.embedding.weight)
