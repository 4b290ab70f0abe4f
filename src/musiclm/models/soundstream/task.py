"""Training SoundStream's published network: reconstruction from the first step, quantization and adversary when each
can help. That of the network `bands`: `musiclm.models.soundstream.bands_task`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from musiclm.core.artifact import save_artifact
from musiclm.data.corpus.clips import ClipSampler, eval_clips
from musiclm.data.corpus.manifest import load_manifest
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.discriminator import DiscriminatorConfig, Discriminators
from musiclm.models.soundstream.loss import SpectralLoss, discriminator_loss, generator_losses, roughness
from musiclm.models.soundstream.model import SoundStream
from musiclm.nn.parts import WHOLE, BatchPart, draw_once, own_batches, through
from musiclm.nn.rvq import ResidualVQ, perplexity, random_num_levels, training_state
from musiclm.train.loop import Update


@dataclass(frozen=True, kw_only=True)
class SoundStreamTaskConfig:
    """The model, when what of it learns, adversaries, crops and loss weights.

    The paper weighs adversarial 1, feature 100, reconstruction 1, on summed terms.
    """

    model: SoundStreamConfig = field(default_factory=SoundStreamConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    crop_s: float = 0.96
    spectral_windows: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    num_mels: int = 64
    linear_weight: float = 1.0  # relative L1 on mel magnitudes
    log_weight: float = 1.0  # log-mel distance
    adversarial_weight: float = 0.1
    feature_weight: float = 1.0
    discriminator_from_step: int = 2000  # the discriminators begin to learn; one that starts at once wins at once
    adversary_from_step: int = 2000  # and the codec begins to learn from them
    adversary_crop_s: float = 0.48  # of each crop, shown to the discriminators
    commitment_weight: float = 0.25
    full_depth_share: float = 0.4  # of the examples quantized with every level, the rest with 1..levels of them
    quantize_from_step: int = 300  # latents first learn what they are, then k-means starts the codebooks
    kmeans_batches: int = 32  # whose latents start the codebooks
    gain_db: float = 6.0  # random gain of +- this much
    eval_clips: int = 24
    eval_clip_s: float = 4.0

    def __post_init__(self) -> None:
        if self.discriminator_from_step > self.adversary_from_step:
            raise ValueError(
                f"discriminator_from_step must not come after adversary_from_step ({self.adversary_from_step}), "
                f"got {self.discriminator_from_step}"
            )

        model = self.model
        if model.network != "waveform":
            raise ValueError(f"this task trains the network `waveform`, got {model.network!r}")
        frame_s = model.samples_per_frame / model.sample_rate_hz
        for name in ("crop_s", "adversary_crop_s"):
            frames = getattr(self, name) / frame_s
            if abs(frames - round(frames)) > 1e-6 or frames < 1:
                raise ValueError(f"{name} must be whole code frames of {frame_s} s, got {getattr(self, name)}")


class SoundStreamTask:
    """A codec as the loop sees it: groups `generator` and `discriminator`."""

    name = "soundstream"
    ema_group = "generator"
    whole_batch = True  # losses relative to the batch's own size

    def __init__(self, config: SoundStreamTaskConfig, corpus: Path, batch_size: int, seed: int) -> None:
        self.config, self.batch_size, self.seed = config, batch_size, seed
        torch.manual_seed(seed)
        self.model = SoundStream(config.model)
        self.discriminators = Discriminators(config.discriminator)
        self.groups: dict[str, nn.Module] = {"generator": self.model, "discriminator": self.discriminators}
        tracks = load_manifest(corpus)
        self.sampler = ClipSampler(corpus, [t for t in tracks if t.split == "train"], config.crop_s, seed)
        held_out = [t for t in tracks if t.split == "validation"]
        self.eval_audio = eval_clips(corpus, held_out, config.eval_clip_s, config.eval_clips, seed)[0]
        self.spectral = SpectralLoss(config.model.sample_rate_hz, config.spectral_windows, config.num_mels)
        # what silence as output would score, and discriminators that can't tell
        self.baseline = {"mel_linear": 1.0, "discriminator/loss": 2.0}

    def start(self, device: torch.device) -> None:
        """Nothing: codebooks start by k-means at `quantize_from_step`."""

    def batch(self, step: int, part: BatchPart = WHOLE) -> Float[Tensor, "b 1 s"]:
        """Crops with a random gain and polarity."""
        rows, num = part.rows(self.batch_size), self.batch_size
        audio = self.sampler.batch(step, num, rows)[0]
        generator = torch.Generator().manual_seed(self.seed * 7919 + step)
        gain_db = (torch.rand(num, 1, 1, generator=generator) * 2 - 1)[rows] * self.config.gain_db
        sign = (torch.randint(0, 2, (num, 1, 1), generator=generator) * 2 - 1)[rows]
        return (audio * sign * 10 ** (gain_db / 20)).clamp(-1, 1)

    def updates(self, batch: Float[Tensor, "b 1 s"], step: int) -> Iterator[Update]:
        """The discriminators' step (from `adversary_from_step`), then the codec's."""
        config = self.config
        self.spectral.to(batch.device)
        self.discriminators.requires_grad_(True)
        decoded, total, log = through(self.model, self._decoded, batch, step)
        if step >= config.discriminator_from_step:
            real, fake = self._adversary_crops(batch, decoded)
            yield Update("discriminator", through(self.discriminators, self._discriminator_loss, real, fake.detach()))
        if step >= config.adversary_from_step:
            adversarial, feature = generator_losses(self.discriminators, real, fake)
            total = total + config.adversarial_weight * adversarial + config.feature_weight * feature
            log |= {"adversarial": adversarial, "feature": feature}
        linear, logarithmic = self.spectral(decoded, batch)
        total = total + config.linear_weight * linear + config.log_weight * logarithmic
        log |= {"mel_linear": linear, "mel_log": logarithmic}
        yield Update("generator", total, log)

    def _decoded(self, batch: Float[Tensor, "b 1 s"], step: int) -> tuple[Tensor, Tensor, dict[str, float | Tensor]]:
        """What the decoder makes, a loss of the quantizer's own, and figures of the quantizer."""
        latent, total, log = self._latent(batch, step)
        return self.model.decoder(latent), total, log

    def _discriminator_loss(self, real: Float[Tensor, "b 1 s"], fake: Float[Tensor, "b 1 s"]) -> Float[Tensor, ""]:
        return discriminator_loss(self.discriminators(real), self.discriminators(fake))

    def _adversary_crops(
        self, batch: Float[Tensor, "b 1 s"], decoded: Float[Tensor, "b 1 s"]
    ) -> tuple[Float[Tensor, "b 1 c"], Float[Tensor, "b 1 c"]]:
        """The same random piece of the original and of what was decoded."""
        length = round(self.config.adversary_crop_s * self.config.model.sample_rate_hz)
        start = draw_once(lambda: int(torch.randint(0, batch.shape[-1] - length + 1, ())))
        return batch[..., start : start + length], decoded[..., start : start + length]

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mel losses on held-out clips, and roughness over the original's (1: nothing blurred), at every level, at four
        and at the first alone; codebook use; how often the first code repeats.
        """
        assert isinstance(module, SoundStream)
        device = next(module.parameters()).device
        self.spectral.to(device)
        levels = self.model.config.levels
        totals: dict[str, list[float]] = {}
        codes = []
        for audio in self.eval_audio.to(device).split(4):
            whole = module.encode(audio)
            codes.append(whole)
            own = roughness(audio).clamp(min=1e-6)  # silence has none
            for name, value in {"": levels, "_1": 1, "_4": min(4, levels)}.items():
                decoded = module.decode(whole[:, :value])[..., : audio.shape[-1]]
                linear, logarithmic = self.spectral(decoded, audio)
                rough = roughness(decoded) / own
                for key, figure in (("mel_linear", linear), ("mel_log", logarithmic), ("roughness", rough)):
                    totals.setdefault(key + name, []).append(float(figure))
        figures = {name: sum(values) / len(values) for name, values in totals.items()}
        every = torch.cat(codes)
        figures["repeats_first"] = float((every[:, 0, 1:] == every[:, 0, :-1]).float().mean())
        used = perplexity(every, self.model.config.codebook_size)
        return figures | {f"perplexity_{level + 1}": float(value) for level, value in enumerate(used)}

    def _latent(self, batch: Float[Tensor, "b 1 s"], step: int) -> tuple[Tensor, Tensor, dict[str, float | Tensor]]:
        """Latents as the decoder gets them, their weighted commitment loss, and figures of the quantizer."""
        latent = self.model.latents(batch)
        if step < self.config.quantize_from_step:
            return latent, batch.new_zeros(()), {}
        if not bool(self.model.rvq.started):
            self._start_codebooks(step, batch.device)
        num_levels = random_num_levels(batch.shape[0], self.config.model.levels, self.config.full_depth_share)
        quantized = self.model.rvq(latent, num_levels.to(batch.device))
        used = perplexity(quantized.codes, self.config.model.codebook_size)
        log: dict[str, float | Tensor] = {
            "commitment": quantized.commitment,
            "perplexity_first": used[0],
            "perplexity_min": used.min(),
            "gain_last": quantized.level_gain[-1],
        }
        return quantized.output, self.config.commitment_weight * quantized.commitment, log

    @torch.no_grad()
    def _start_codebooks(self, step: int, device: torch.device) -> None:
        """k-means on latents of several batches: one batch has fewer frames than a codebook has codes."""
        num = self.config.kmeans_batches
        batches = [self.batch(step + ahead, part).to(device) for ahead, part in own_batches(num)]
        latents = torch.cat([self.model.latents(audio) for audio in batches])
        rvq = self.model.rvq
        assert isinstance(rvq, ResidualVQ)
        rvq.fit_kmeans(latents.transpose(1, 2).flatten(0, 1), num_iterations=10)
        # the averages count use per step: scale what k-means counted over all its frames
        scale = 1 / num
        rvq.counts.mul_(scale)
        rvq.sums.mul_(scale)

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes the codec in half precision; the discriminators stay in the run's checkpoint."""
        facts = {**info, "baseline": self.baseline}
        save_artifact(
            folder, "soundstream", self.config.model, module, facts, torch.float16, skip=training_state(module)
        )
