"""Training SoundStream's decoder alone, beside an encoder and codebooks that stay: `musiclm train soundstream-decoder`.

Every code of every recording stays what it was, and with it what learned from codes. The decoder is given codes as
generation gives them, mostly of as few levels as are played, and learns against discriminators what they leave open.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from musiclm.core.artifact import codes_hash, read_config, save_artifact
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.soundstream.task import CodecTask, CodecTaskConfig
from musiclm.nn.parts import draw_once
from musiclm.nn.rvq import training_state


@dataclass(frozen=True, kw_only=True)
class DecoderTaskConfig(CodecTaskConfig):
    """What the decoder hears. Its sizes are those of the codec that training begins with."""

    played_levels: int = 4  # in most batches codes have as many levels as generation decodes ...
    played_share: float = 0.7  # ... in this share of them; the rest have 1..levels

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.played_share <= 1:
            raise ValueError(f"played_share is {self.played_share}; it must be in [0, 1]")


class DecoderTask(CodecTask):
    """Trains the decoder of the codec in the artifact `start`.

    Raises: ArtifactError if `start` holds no codec; ValueError if the settings do not fit its sizes.
    """

    name = "soundstream-decoder"

    def __init__(self, config: DecoderTaskConfig, corpus: Path, batch_size: int, seed: int, start: Path) -> None:
        self.config = config
        torch.manual_seed(seed)
        model = SoundStream.from_artifact(start)
        config.check_fits(model.config)
        if not 1 <= config.played_levels <= model.config.levels:
            raise ValueError(f"played_levels must lie in 1..{model.config.levels}, got {config.played_levels}")
        self.codes_of = codes_hash(read_config(start))
        for part in (model.encoder, model.rvq):
            part.requires_grad_(False)
        super().__init__(config, model, corpus, batch_size, seed)

    def start(self, device: torch.device) -> None:
        """Nothing: all weights are there."""

    @torch.no_grad()
    def _latent(self, batch: Float[Tensor, "b 1 s"], step: int) -> tuple[Tensor, Tensor, dict[str, float | Tensor]]:
        """Latents of the codes that the codec gives outside training, in float32; one draw of how many levels."""
        levels = draw_once(lambda: int(torch.randint(1, self.model.config.levels + 1, ())))
        if draw_once(lambda: float(torch.rand(()))) < self.config.played_share:
            levels = self.config.played_levels
        with torch.autocast(batch.device.type, enabled=False):
            latent = self.model.dequantize(self.model.encode(batch, levels))
        return latent, batch.new_zeros(()), {}

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes the codec in half precision, with the hash of the one whose codes it gives."""
        facts = {**info, "baseline": self.baseline, "codes_of": self.codes_of}
        save_artifact(
            folder, "soundstream", self.model.config, module, facts, torch.float16, skip=training_state(module)
        )
