"""The acoustic decoders of a bundle."""

from dataclasses import replace

import torch

from musiclm.core.artifact import ArtifactError
from musiclm.core.bundle import Bundle
from musiclm.generate.acoustic import AcousticDecoder
from musiclm.generate.autoregressive import ArAcoustic
from musiclm.generate.config import GenerateConfig
from musiclm.generate.storm import StormAcoustic
from musiclm.models.lm.model import TokenLM
from musiclm.models.storm.frames import FrameDrawer
from musiclm.models.storm.model import SoundStorm


class Decoders:
    """Makes them of models that are loaded when first asked for."""

    def __init__(self, bundle: Bundle, device: torch.device, num_levels: int) -> None:
        """num_levels: of the codec."""
        self.bundle, self.device, self.num_levels = bundle, device, num_levels
        self._storm: SoundStorm | None = None
        self._drawer: FrameDrawer | None = None
        self._coarse: TokenLM | None = None
        self._fine: TokenLM | None = None

    def of(self, config: GenerateConfig) -> AcousticDecoder:
        """See `MusicLM.acoustic_decoder`."""
        if config.acoustic == "storm":
            if self._storm is None:
                self._storm = SoundStorm.from_artifact(self.bundle.part("storm")).to(self.device).eval()
                self._drawer = FrameDrawer(self._storm) if self._storm.config.series else None
            return StormAcoustic(self._storm, config.storm, self._drawer)
        if "coarse" not in self.bundle.parts:
            raise ArtifactError(
                f"the bundle {self.bundle.name} has no coarse and fine stages, which the decoder ar needs; leave the "
                "decoder out, or train them: musiclm train coarse, musiclm train fine"
            )
        if self._coarse is None:
            self._coarse = TokenLM.from_artifact(self.bundle.part("coarse")).to(self.device).eval()
        num_levels = config.levels or self.num_levels
        if num_levels <= self._coarse.layout.target_spec.levels:
            return ArAcoustic(self._coarse, None, config.coarse)  # no finer level becomes sound
        if self._fine is None:
            self._fine = TokenLM.from_artifact(self.bundle.part("fine")).to(self.device).eval()
        return ArAcoustic(self._coarse, self._fine, config.coarse, config.fine)

    def with_temperatures(
        self, config: GenerateConfig, coarse: float | None, fine: float | None, storm: float | None
    ) -> GenerateConfig:
        """See `MusicLM.with_temperatures`."""
        for stage, temperature in (("coarse", coarse), ("fine", fine), ("storm", storm)):
            if temperature is None:
                continue
            decoder = self.of(config)
            if (stage == "storm") != isinstance(decoder, StormAcoustic):
                raise ValueError(
                    f"the {stage} temperature does nothing here: the acoustic decoder is {config.acoustic}"
                )
            if stage == "fine" and isinstance(decoder, ArAcoustic) and decoder.fine is None:
                raise ValueError(
                    f"the fine temperature does nothing here: {config.levels} levels become sound, all of the coarse "
                    "stage"
                )
            config = replace(config, **{stage: replace(getattr(config, stage), temperature=temperature)})
        return config
