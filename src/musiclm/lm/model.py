"""TokenLM: one decoder-only language model for every stage (MusicLM section 3.2, AudioLM section 3).

Which ids come in what order is the layout's affair (`musiclm.lm.stages`); here are the embedding, the transformer and the logits.
Target id j belongs to level j mod levels, so only that level's codes can follow: the head holds one matrix per level and computes
that slice alone, never the whole vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.artifact import load_artifact, load_state
from musiclm.config import from_json
from musiclm.lm.stages import SPECS, STAGES, Layout
from musiclm.nn.transformer import KvCache, Transformer, TransformerConfig
from musiclm.tokens import TokenSpec

KIND = "lm"


@dataclass(frozen=True, kw_only=True)
class TokenLMConfig:
    """A stage and the size of its model. MusicLM: `TransformerConfig` of 24 x 1024, 16 heads, feed-forward 4096, T5 positions."""

    stage: str  # "semantic", "coarse" or "fine" (musiclm.lm.stages.STAGES)
    transformer: TransformerConfig
    mulan_levels: int = 12  # of the MuLan condition; fewer bring text and audio codes closer, the paper uses 12
    tie_embeddings: bool = False  # the head reuses the embeddings of the target's ids
    specs: tuple[TokenSpec, ...] = field(default=SPECS)  # the streams the model was trained on

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage is {self.stage!r}; it must be one of {', '.join(STAGES)}")
        if self.mulan_levels < 1:
            raise ValueError(f"mulan_levels is {self.mulan_levels}; it must be at least 1")
        Layout(STAGES[self.stage], self.specs, self.mulan_levels)  # raises if the streams do not fit

    @property
    def layout(self) -> Layout:
        return Layout(STAGES[self.stage], self.specs, self.mulan_levels)


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
        nn.init.normal_(self.embedding.weight, std=0.02 if config.tie_embeddings else 1.0)
        self.transformer = Transformer(config.transformer)
        if not config.tie_embeddings:
            self.head = nn.Parameter(torch.empty(target.levels, target.codebook_size, width))
            nn.init.normal_(self.head, std=0.02)
        # the transformer's norms make the scale of tied embeddings harmless inside, but the residual stream wants rms 1
        self.input_scale = 50.0 if config.tie_embeddings else 1.0
        self.artifact_hash = ""

    @classmethod
    def from_artifact(cls, folder: Path) -> "TokenLM":
        """Loads a trained model in evaluation mode. Raises ArtifactError when the folder is not one."""
        artifact = load_artifact(folder, KIND)
        model = cls(from_json(TokenLMConfig, artifact.config))
        load_state(model, artifact)
        model.artifact_hash = artifact.hash
        return model.eval()

    def read(
        self, ids: Int[Tensor, "b l"], positions: Float[Tensor, " l"], cache: KvCache | None = None
    ) -> tuple[Float[Tensor, "b l d"], KvCache | None]:
        """Hidden states after each id, and the cache moved on."""
        x = self.embedding(ids)
        return self.transformer(x if self.input_scale == 1.0 else x * self.input_scale, positions, cache)

    def logits(self, hidden: Float[Tensor, "*b d"], level: int) -> Float[Tensor, "*b v"]:
        """Logits of the codes of a target level, float32."""
        return F.linear(hidden, self._head()[level]).float()

    def forward(
        self,
        prefix: Int[Tensor, "b c"],
        prefix_positions: Float[Tensor, " c"],
        target: Int[Tensor, "b q t"],
    ) -> Float[Tensor, "b q t v"]:
        """Logits for every target code given the prefix (`Layout.prefix`) and the codes before it."""
        ids = self.layout.target_ids(target)
        levels, num_ids = target.shape[1], ids.shape[1]
        positions = self.layout.target_positions(0, num_ids - 1, ids.device)
        hidden, _ = self.read(torch.cat([prefix, ids[:, :-1]], 1), torch.cat([prefix_positions, positions]))
        hidden = hidden[:, prefix.shape[1] - 1 :].unflatten(1, (-1, levels))  # b t q d: what comes before each id
        return torch.stack([self.logits(hidden[:, :, level], level) for level in range(levels)], dim=1)

    def loss(
        self,
        streams: Mapping[str, Int[Tensor, "b _q _t"]],
        num_frames: Mapping[str, Int[Tensor, " b"]] | None = None,
        drop: Bool[Tensor, " b"] | None = None,
    ) -> LmLoss:
        """Cross-entropy of the target given the conditions; frames past `num_frames` of the target's stream do not count."""
        prefix, positions = self.layout.prefix(streams, drop, num_frames)
        target = self.layout.target_codes(streams).long()
        logits = self(prefix, positions, target)
        losses = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none").view(target.shape)
        name = self.layout.target_spec.name
        if num_frames is None or name not in num_frames:
            return LmLoss(losses.mean(), losses.mean(dim=(0, 2)))
        real = torch.arange(target.shape[2], device=target.device) < num_frames[name][:, None]
        per_level = (losses * real[:, None]).sum(dim=(0, 2)) / real.sum().clamp(min=1)
        return LmLoss(per_level.mean(), per_level)

    @torch.no_grad()
    def start_embeddings(self, stream: str, vectors: Float[Tensor, "q v c"], seed: int = 0) -> None:
        """Starts the embeddings of a condition from what its codes mean.

        The rows of each level become a random projection of the quantizer's vectors, scaled alike for all levels to the spread
        of the other embeddings. Codes near one another then start near one another, and one that training has seen rarely or
        never (text reaches codes that little audio does) is not noise. A no-op for a stage without that condition.
        """
        for index, part in enumerate(self.layout.parts[:-1]):
            if part.stream != stream:
                continue
            chosen = vectors[part.start : part.stop].float().cpu()
            width = self.embedding.weight.shape[1]
            generator = torch.Generator().manual_seed(seed)
            projected = chosen @ torch.randn(chosen.shape[-1], width, generator=generator)
            spread = 1.0 if self.input_scale == 1.0 else 0.02
            rows = projected.flatten(0, 1) * (spread / projected[0].std().clamp(min=1e-9))
            offset = self.layout.offsets[index]
            self.embedding.weight[offset : offset + rows.shape[0]] = rows.to(self.embedding.weight)

    def _head(self) -> Float[Tensor, "q v d"]:
        if not self.config.tie_embeddings:
            return self.head
        start, target = self.layout.target_offset, self.layout.target_spec
        rows = self.embedding.weight[start : start + target.num_ids]
        return rows.view(target.levels, target.codebook_size, -1)
