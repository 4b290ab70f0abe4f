"""How music is drawn: the settings of every stage, and the random source of each."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from musiclm.generate.steer import Steer
from musiclm.generate.storm import StormSampling
from musiclm.nn.sampling import Sampling

Acoustic = Literal["storm", "ar"]
MOST_STRENGTH = 100.0  # of steering: as sure as anything, and logits stay finite


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """How codes are drawn. Temperatures default to the bundle's own choice, made on validation pieces."""

    semantic: Sampling = field(default_factory=Sampling)
    coarse: Sampling = field(default_factory=lambda: Sampling(temperature=0.95))
    fine: Sampling = field(default_factory=lambda: Sampling(temperature=0.4))
    acoustic: Acoustic = "storm"
    storm: StormSampling = field(default_factory=StormSampling)
    levels: int | None = None  # acoustic levels that become sound; all by default
    # keeps time, a tempo and a key, where the bundle's semantic codes tell them
    steer: Steer = field(default_factory=Steer)

    def __post_init__(self) -> None:
        if self.acoustic not in ("storm", "ar"):
            raise ValueError(f"acoustic must be storm or ar, got {self.acoustic!r}")
        if self.levels is not None and self.levels < 1:
            raise ValueError(f"levels is {self.levels}; it must be 1 or more")
        for name in ("beat", "tempo", "key", "again"):
            strength = getattr(self.steer, name)
            if strength > MOST_STRENGTH:
                raise ValueError(f"the strength of {name} is {strength}; it must lie between 0 and {MOST_STRENGTH:g}")


def item_generator(seed: int, stage: str) -> torch.Generator:
    """The random source of one stage of one item."""
    offset = sum(ord(letter) * 257**i for i, letter in enumerate(stage))
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + offset) % 2**63)
