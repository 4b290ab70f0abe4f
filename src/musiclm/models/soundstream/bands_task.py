"""Training the bands network: magnitudes of every band against the original's, RVQ, then discriminators of magnitudes. No audio is made.

Losses are relative to each example's own magnitudes, so quiet music counts as loud music does. What codes leave open, means and medians
smooth over; discriminators that look at pieces of each band's magnitudes give back the grain.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import save_artifact
from musiclm.data.corpus.clips import ClipSampler, eval_clips
from musiclm.data.corpus.manifest import load_manifest
from musiclm.models.soundstream.bands import BandsDecoder, BandsEncoder, fit_linear_path
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.loss import adversarial_loss, discriminator_loss, feature_loss
from musiclm.models.soundstream.model import SoundStream
from musiclm.nn.precision import full_precision
from musiclm.nn.rvq import GroupedVQ, perplexity, training_state
from musiclm.train.loop import Update

Spectra = list[Tensor]  # b t f of each band
LOG_FLOOR = 0.063  # of magnitudes to the power 0.3: 80 dB below a full-scale sine


@dataclass(frozen=True, kw_only=True)
class BandsTaskConfig:
    """Model, crops and loss weights."""

    model: SoundStreamConfig = field(default_factory=lambda: SoundStreamConfig(network="bands"))
    crop_s: float = 5.12
    # relative L1, relative root mean square, L1 of changes from spectrum to spectrum, L1 of logarithms
    weights: tuple[float, float, float, float] = (1.0, 1.0, 0.5, 0.3)
    commitment_weight: float = 0.25
    # how many codes of a frame an example is decoded from, and how often: the first level alone, and with the second of one band, two, all
    code_counts: tuple[int, ...] = (24, 28, 36, 48)
    code_count_shares: tuple[float, ...] = (0.35, 0.1, 0.15, 0.4)
    quantize_from_step: int = 200
    kmeans_batches: int = 16
    discriminator_patches: tuple[int, ...] = (8, 24)  # bins of a patch
    discriminator_channels: int = 48
    discriminator_from_step: int = 4000
    adversary_from_step: int = 4200
    adversary_crop_s: float = 1.28
    adversarial_weight: float = 0.1
    feature_weight: float = 1.0
    gain_db: float = 6.0  # random gain of +- this much
    eval_clips: int = 24
    eval_clip_s: float = 5.12

    def __post_init__(self) -> None:
        frame_s = self.model.samples_per_frame / self.model.sample_rate_hz
        for name in ("crop_s", "adversary_crop_s", "eval_clip_s"):
            frames = getattr(self, name) / frame_s
            if abs(frames - round(frames)) > 1e-6 or frames < 1:
                raise ValueError(f"{name} must be whole code frames of {frame_s} s, got {getattr(self, name)}")
        if self.model.network != "bands":
            raise ValueError(f"this task trains the network `bands`, got {self.model.network!r}")
        if self.adversary_crop_s > self.crop_s:
            raise ValueError(f"adversary_crop_s is {self.adversary_crop_s}, longer than crop_s, {self.crop_s}")
        least = self.model.levels // self.model.group_levels
        if len(self.code_counts) != len(self.code_count_shares) or not all(
            least <= count <= self.model.levels for count in self.code_counts
        ):
            raise ValueError(
                f"code_counts must lie in {least}..{self.model.levels} and have as many shares, got {self.code_counts}"
            )


class BandDiscriminator(nn.Module):
    """Magnitudes of one band in patches of `patch` bins and three spectra."""

    def __init__(self, width: int, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.pad = -width % patch
        self.inlet = nn.Conv2d(1, channels, (3, patch), (1, patch), padding=(1, 0))
        self.layers = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=(d, 1), dilation=(d, 1)) for d in (1, 2, 4)]
        )
        self.outlet = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, magnitude: Float[Tensor, "b t f"]) -> list[Tensor]:
        x = F.pad(4 * magnitude - 1, (0, self.pad))[:, None]
        x = F.leaky_relu(self.inlet(x), 0.2)
        out = [x]
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            out.append(x)
        return [*out, self.outlet(x)]


class BandDiscriminators(nn.Module):
    """Each band's, at each size of patch."""

    def __init__(self, config: BandsTaskConfig) -> None:
        super().__init__()
        rate, channels, patches = (
            config.model.sample_rate_hz,
            config.discriminator_channels,
            config.discriminator_patches,
        )
        self.of_band = [number for number in range(len(config.model.bands)) for _ in patches]
        self.networks = nn.ModuleList(
            [BandDiscriminator(band.width(rate), channels, patch) for band in config.model.bands for patch in patches]
        )

    def forward(self, spectra: Spectra) -> list[list[Tensor]]:
        return [network(spectra[band]) for network, band in zip(self.networks, self.of_band, strict=True)]


def magnitude_losses(output: Float[Tensor, "b t f"], target: Float[Tensor, "b t f"]) -> Float[Tensor, " 4"]:
    """Of one band: L1, root mean square error and L1 of changes, each over the same of the target (1 for silence as output), L1 of logarithms."""
    error = output - target
    size = target.abs().mean((1, 2)) + 0.01
    return torch.stack(
        [
            (error.abs().mean((1, 2)) / size).mean(),
            ((error.square().mean((1, 2)) + 1e-8).sqrt() / (target.square().mean((1, 2)).sqrt() + 0.01)).mean(),
            (error.diff(dim=1).abs().mean((1, 2)) / (target.diff(dim=1).abs().mean((1, 2)) + 0.002)).mean(),
            ((output.clamp(min=0) + LOG_FLOOR).log() - (target + LOG_FLOOR).log()).abs().mean(),
        ]
    )


LOSS_NAMES = ("l1", "rms", "change", "log")


class BandsTask:
    """The codec as the loop sees it: groups `generator` and `discriminator`."""

    name = "soundstream"
    ema_group = "generator"

    def __init__(self, config: BandsTaskConfig, corpus: Path, batch_size: int, seed: int) -> None:
        self.config, self.batch_size, self.seed = config, batch_size, seed
        tracks = load_manifest(corpus)
        self.sampler = ClipSampler(corpus, [t for t in tracks if t.split == "train"], config.crop_s, seed)
        held_out = [t for t in tracks if t.split == "validation"]
        self.eval_audio = eval_clips(corpus, held_out, config.eval_clip_s, config.eval_clips, seed)[0]
        torch.manual_seed(seed)
        self.model = SoundStream(config.model)
        self.discriminators = BandDiscriminators(config)
        self.groups: dict[str, nn.Module] = {"generator": self.model, "discriminator": self.discriminators}
        # what silence as output would score, discriminators that can't tell
        self.baseline = {"l1": 1.0, "rms": 1.0, "change": 1.0, "discriminator/loss": 2.0}

    @property
    def parts(self) -> tuple[BandsEncoder, BandsDecoder, GroupedVQ]:
        encoder, decoder, rvq = self.model.encoder, self.model.decoder, self.model.rvq
        assert isinstance(encoder, BandsEncoder) and isinstance(decoder, BandsDecoder) and isinstance(rvq, GroupedVQ)
        return encoder, decoder, rvq

    @torch.no_grad()
    def start(self, device: torch.device) -> None:
        """The linear paths. Codebooks start by k-means at `quantize_from_step`."""
        encoder, decoder, _ = self.parts
        spectra = [self.model.magnitudes(self.batch(step).to(device)) for step in range(self.config.kmeans_batches)]
        fit_linear_path(encoder, decoder, spectra)

    def batch(self, step: int) -> Float[Tensor, "b 1 s"]:
        """Crops with a random gain."""
        audio = self.sampler.batch(step, self.batch_size)[0]
        generator = torch.Generator().manual_seed(self.seed * 7919 + step)
        gain_db = (torch.rand(audio.shape[0], 1, 1, generator=generator) * 2 - 1) * self.config.gain_db
        return (audio * 10 ** (gain_db / 20)).clamp(-1, 1)

    def updates(self, batch: Float[Tensor, "b 1 s"], step: int) -> Iterator[Update]:
        """The discriminators' step (from `discriminator_from_step`), then the codec's."""
        config = self.config
        encoder, decoder, rvq = self.parts
        with torch.no_grad(), full_precision(batch.device):
            target = self.model.magnitudes(batch)
        latent = encoder.encode(target)
        log: dict[str, float | Tensor] = {}
        total: Tensor = latent.new_zeros(())
        if step >= config.quantize_from_step:
            if not rvq.started:
                self._start_codebooks(step, batch.device)
            drawn = torch.multinomial(torch.tensor(config.code_count_shares), batch.shape[0], replacement=True)
            drawn = torch.tensor(config.code_counts)[drawn].to(batch.device)
            quantized = rvq(latent, drawn)
            used = perplexity(quantized.codes, config.model.codebook_size)
            log |= {
                "commitment": quantized.commitment,
                "perplexity_min": used.min(),
                "gain_2": quantized.level_gain[-1],
            }
            total = total + config.commitment_weight * quantized.commitment
            latent = quantized.output
        output = decoder(latent)
        losses = torch.stack([magnitude_losses(o, t) for o, t in zip(output, target, strict=True)])
        mean = losses.mean(0)
        total = total + sum(weight * loss for weight, loss in zip(config.weights, mean, strict=True))
        log |= dict(zip(LOSS_NAMES, mean, strict=True))
        log |= {f"rms_band_{number + 1}": value for number, value in enumerate(losses[:, 1])}
        if step >= config.discriminator_from_step:
            real, fake = self._pieces(target, output)
            held = [part.detach() for part in fake]
            yield Update("discriminator", discriminator_loss(self.discriminators(real), self.discriminators(held)))
            if step >= config.adversary_from_step:
                self.discriminators.requires_grad_(False)
                with torch.no_grad():
                    real_layers = self.discriminators(real)
                fake_layers = self.discriminators(fake)
                adversarial, feature = adversarial_loss(fake_layers), feature_loss(real_layers, fake_layers)
                total = total + config.adversarial_weight * adversarial + config.feature_weight * feature
                log |= {"adversarial": adversarial, "feature": feature}
        yield Update("generator", total, log)
        self.discriminators.requires_grad_(True)

    def _pieces(self, target: Spectra, output: Spectra) -> tuple[Spectra, Spectra]:
        """The same random piece of original and decoded magnitudes."""
        model = self.config.model
        frames = round(self.config.crop_s * model.sample_rate_hz / model.samples_per_frame)
        length = round(self.config.adversary_crop_s * model.sample_rate_hz / model.samples_per_frame)
        start = int(torch.randint(0, frames - length + 1, ()))
        own = [
            slice(start * model.samples_per_frame // band.hop, (start + length) * model.samples_per_frame // band.hop)
            for band in model.bands
        ]
        return [t[:, s] for t, s in zip(target, own, strict=True)], [o[:, s] for o, s in zip(output, own, strict=True)]

    @torch.no_grad()
    def _start_codebooks(self, step: int, device: torch.device) -> None:
        """k-means on latents of several batches: one batch has fewer frames than a codebook has codes."""
        encoder, _, rvq = self.parts
        num = self.config.kmeans_batches
        with full_precision(device):
            spectra = [self.model.magnitudes(self.batch(step + ahead).to(device)) for ahead in range(num)]
            latents = torch.cat([encoder.encode(part) for part in spectra])
            rvq.fit_kmeans(latents.transpose(1, 2).flatten(0, 1), num_iterations=10, steps=num)

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Magnitude losses on held-out clips from every code of a frame and from the first level's alone; codebook use; how often a code repeats."""
        assert isinstance(module, SoundStream)
        device = next(module.parameters()).device
        every = module.config.levels
        figures: dict[str, float] = {}
        sums: dict[str, Tensor] = {}
        codes = []
        batches = self.eval_audio.to(device).split(8)
        for audio in batches:
            target = module.magnitudes(audio)
            found = module.encode(audio)
            codes.append(found)
            for label, count in (("", every), ("_first", every // module.config.group_levels)):
                output = module.decoder(module.dequantize(found[:, :count]))
                losses = torch.stack([magnitude_losses(o, t) for o, t in zip(output, target, strict=True)])
                sums[label] = sums.get(label, torch.zeros_like(losses)) + losses / len(batches)
                moved = [
                    o.clamp(min=0).diff(dim=1).abs().mean() / t.diff(dim=1).abs().mean()
                    for o, t in zip(output, target, strict=True)
                ]
                sums["moved" + label] = sums.get("moved" + label, torch.zeros(len(moved), device=device)) + torch.stack(
                    moved
                ) / len(batches)
        for label in ("", "_first"):
            figures |= {name + label: float(value) for name, value in zip(LOSS_NAMES, sums[label].mean(0), strict=True)}
            figures |= {f"rms_band_{number + 1}{label}": float(value) for number, value in enumerate(sums[label][:, 1])}
            # how much magnitudes change from spectrum to spectrum over what the original's do: less than 1 is blurred
            figures |= {
                f"moved_band_{number + 1}{label}": float(value) for number, value in enumerate(sums["moved" + label])
            }
        joined = torch.cat(codes).cpu()
        used = perplexity(joined, module.config.codebook_size)
        for number, slots in enumerate(self._first_slots()):
            figures[f"repeats_band_{number + 1}"] = float(
                (joined[:, slots, 1:] == joined[:, slots, :-1]).float().mean()
            )
            figures[f"perplexity_band_{number + 1}"] = float(used[slots].mean())
        return figures

    def _first_slots(self) -> list[list[int]]:
        """The codes of the first level at the last time of a frame, by band."""
        model = self.config.model
        found: list[list[int]] = [[] for _ in model.bands]
        for index, slot in enumerate(model.slots):
            if slot.level == 0 and slot.time == 0:
                found[slot.band].append(index)
        return found

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes the codec in half precision; the discriminators stay in the run's checkpoint."""
        facts = {**info, "baseline": self.baseline}
        save_artifact(
            folder, "soundstream", self.config.model, module, facts, torch.float16, skip=training_state(module)
        )
