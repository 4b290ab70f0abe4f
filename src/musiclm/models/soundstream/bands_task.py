"""Training the bands network on magnitudes: the whole codec from nothing, or the decoder alone against discriminators.

No audio is made. Losses are relative to each example's own magnitudes, so quiet music counts as loud music does. The
codec learns from them alone: an adversary that reaches the encoder makes codes worse
(docs/decisions/013-three-bands.md). What codes leave open, means and medians smooth over; so the decoder learns on,
codes as they are, against discriminators that look at pieces of each band's magnitudes.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import codes_hash, read_config, save_artifact
from musiclm.data.corpus.clips import ClipSampler, eval_clips
from musiclm.data.corpus.manifest import load_manifest
from musiclm.models.soundstream.bands import BandsDecoder, BandsEncoder, fit_linear_path
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.loss import discriminator_loss, generator_losses
from musiclm.models.soundstream.model import SoundStream
from musiclm.nn.parts import WHOLE, BatchPart, draw, draw_once, own_batches, through
from musiclm.nn.precision import full_precision
from musiclm.nn.rvq import GroupedVQ, perplexity, training_state
from musiclm.train.loop import Update

Spectra = list[Tensor]  # b t f of each band
LOG_FLOOR = 0.063  # of magnitudes to the power 0.3: 80 dB below a full-scale sine


@dataclass(frozen=True, kw_only=True)
class BandsCodecConfig:
    """What both trainings share: crops and loss weights."""

    crop_s: float = 5.12
    # relative L1, relative root mean square, L1 of changes from spectrum to spectrum, L1 of logarithms
    weights: tuple[float, float, float, float] = (0.5, 2.0, 0.1, 0.3)
    # how many codes of a frame an example is decoded from, and how often: the first level alone, and with the second of
    # one band, two, all
    code_counts: tuple[int, ...] = (24, 28, 36, 48)
    code_count_shares: tuple[float, ...] = (0.35, 0.1, 0.15, 0.4)
    gain_db: float = 6.0  # random gain of +- this much
    eval_clips: int = 24
    eval_clip_s: float = 5.12

    def check_fits(self, model: SoundStreamConfig) -> None:
        """Raises: ValueError if the settings do not fit a codec of these sizes."""
        if model.network != "bands":
            raise ValueError(f"this task trains the network `bands`, got {model.network!r}")
        for name in ("crop_s", "adversary_crop_s", "eval_clip_s"):
            seconds = getattr(self, name, self.crop_s)
            frames = seconds * model.sample_rate_hz / model.samples_per_frame
            if abs(frames - round(frames)) > 1e-6 or frames < 1:
                frame_s = model.samples_per_frame / model.sample_rate_hz
                raise ValueError(f"{name} must be whole code frames of {frame_s} s, got {seconds}")
        least = model.levels // model.group_levels
        if len(self.code_counts) != len(self.code_count_shares) or not all(
            least <= count <= model.levels for count in self.code_counts
        ):
            raise ValueError(
                f"code_counts must lie in {least}..{model.levels} and have as many shares, got {self.code_counts}"
            )

    def draw_counts(self, batch: int) -> Int[Tensor, " b"]:
        """How many codes of a frame each example is decoded from."""
        shares = torch.tensor(self.code_count_shares)
        return torch.tensor(self.code_counts)[draw(lambda num: torch.multinomial(shares, num, replacement=True), batch)]


@dataclass(frozen=True, kw_only=True)
class BandsTaskConfig(BandsCodecConfig):
    """The codec from nothing."""

    model: SoundStreamConfig = field(
        default_factory=lambda: SoundStreamConfig(network="bands", levels=48, latent_dim=768)
    )
    commitment_weight: float = 0.25
    quantize_from_step: int = 100  # latents first learn what they are, then k-means starts the codebooks
    kmeans_batches: int = 32  # whose latents start the codebooks

    def __post_init__(self) -> None:
        self.check_fits(self.model)
        if self.model.every_bin:
            raise ValueError("every_bin is learned by the decoder alone: musiclm train soundstream-decoder")


@dataclass(frozen=True, kw_only=True)
class BandsDecoderTaskConfig(BandsCodecConfig):
    """The decoder alone. Its sizes are those of the codec that training begins with."""

    crop_s: float = 2.56
    code_count_shares: tuple[float, ...] = (0.7, 0.05, 0.1, 0.15)  # mostly what generation plays
    every_bin: bool = True  # the decoder learns to tell every bin of pooled bands (`SoundStreamConfig.every_bin`)
    discriminator_patches: tuple[int, ...] = (8, 24)  # bins of a patch
    discriminator_channels: int = 48
    adversary_from_step: int = 100  # before, the discriminators learn alone
    adversary_crop_s: float = 1.28
    adversarial_weight: float = 0.6
    feature_weight: float = 4.0
    calibration_batches: int = 32  # that `BandsDecoder.calibrate` compares with originals at the end; 0: none

    def __post_init__(self) -> None:
        if self.calibration_batches < 0:
            raise ValueError(f"calibration_batches is {self.calibration_batches}; it must be 0 or more")
        if self.adversary_crop_s > self.crop_s:
            raise ValueError(f"adversary_crop_s is {self.adversary_crop_s}, longer than crop_s, {self.crop_s}")


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

    def __init__(self, model: SoundStreamConfig, patches: Sequence[int], channels: int) -> None:
        super().__init__()
        self.of_band = [number for number in range(len(model.bands)) for _ in patches]
        self.networks = nn.ModuleList(
            [BandDiscriminator(width, channels, patch) for width in model.decoded_widths for patch in patches]
        )

    def forward(self, spectra: Spectra) -> list[list[Tensor]]:
        return [network(spectra[band]) for network, band in zip(self.networks, self.of_band, strict=True)]


def magnitude_losses(output: Float[Tensor, "b t f"], target: Float[Tensor, "b t f"]) -> Float[Tensor, " 4"]:
    """Of one band: L1, root mean square error and L1 of changes, each over the same of the target (1 for silence as
    output), L1 of logarithms.
    """
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


class BandsCodecTask:
    """What both trainings share: batches, losses, validation."""

    ema_group = "generator"

    def __init__(self, config: BandsCodecConfig, model: SoundStream, corpus: Path, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed, self.model = batch_size, seed, model
        self.crops = config
        tracks = load_manifest(corpus)
        self.sampler = ClipSampler(corpus, [t for t in tracks if t.split == "train"], config.crop_s, seed)
        held_out = [t for t in tracks if t.split == "validation"]
        self.eval_audio = eval_clips(corpus, held_out, config.eval_clip_s, config.eval_clips, seed)[0]
        self.groups: dict[str, nn.Module] = {"generator": model}
        self.baseline = {"l1": 1.0, "rms": 1.0, "change": 1.0}  # what silence as output would score

    @property
    def parts(self) -> tuple[BandsEncoder, BandsDecoder, GroupedVQ]:
        encoder, decoder, rvq = self.model.encoder, self.model.decoder, self.model.rvq
        assert isinstance(encoder, BandsEncoder) and isinstance(decoder, BandsDecoder) and isinstance(rvq, GroupedVQ)
        return encoder, decoder, rvq

    def batch(self, step: int, part: BatchPart = WHOLE) -> Float[Tensor, "b 1 s"]:
        """Crops with a random gain."""
        rows, num = part.rows(self.batch_size), self.batch_size
        audio = self.sampler.batch(step, num, rows)[0]
        generator = torch.Generator().manual_seed(self.seed * 7919 + step)
        gain_db = (torch.rand(num, 1, 1, generator=generator) * 2 - 1)[rows] * self.crops.gain_db
        return (audio * 10 ** (gain_db / 20)).clamp(-1, 1)

    @torch.no_grad()
    def magnitudes(self, batch: Float[Tensor, "b 1 s"]) -> Spectra:
        """The original's, in float32."""
        with full_precision(batch.device):
            return self.model.magnitudes(batch)

    def distance(self, output: Spectra, target: Spectra) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The weighted loss, and its terms by name."""
        losses = torch.stack([magnitude_losses(o, t) for o, t in zip(output, target, strict=True)])
        mean = losses.mean(0)
        total = torch.stack([w * loss for w, loss in zip(self.crops.weights, mean, strict=True)]).sum()
        bands = {f"rms_band_{number + 1}": value for number, value in enumerate(losses[:, 1])}
        return total, {**dict(zip(LOSS_NAMES, mean, strict=True)), **bands}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Of held-out clips decoded from every code of a frame and (`_first`) from the first level's alone: the terms
        of the loss, and `moved`: how much magnitudes change from spectrum to spectrum over what the original's do, less
        than 1 being blurred. Codebook use; how often a code is that of the frame before.
        """
        assert isinstance(module, SoundStream)
        every = module.config.levels
        totals: dict[str, list[float]] = {}
        codes = []
        for audio in self.eval_audio.to(next(module.parameters()).device).split(8):
            target = module.magnitudes(audio)
            codes.append(module.encode(audio))
            for label, count in (("", every), ("_first", every // module.config.group_levels)):
                output = module.decoder(module.dequantize(codes[-1][:, :count]))
                terms = self.distance(output, target)[1]
                for number, (o, t) in enumerate(zip(output, target, strict=True)):
                    moved = o.clamp(min=0).diff(dim=1).abs().mean() / t.diff(dim=1).abs().mean().clamp(min=1e-6)
                    terms[f"moved_band_{number + 1}"] = moved
                for name, value in terms.items():
                    totals.setdefault(name + label, []).append(float(value))
        figures = {name: sum(values) / len(values) for name, values in totals.items()}
        joined = torch.cat(codes).cpu()
        used = perplexity(joined, module.config.codebook_size)
        for number, slots in enumerate(self._first_slots()):
            repeated = joined[:, slots, 1:] == joined[:, slots, :-1]
            figures[f"repeats_band_{number + 1}"] = float(repeated.float().mean())
            figures[f"perplexity_band_{number + 1}"] = float(used[slots].mean())
        return figures

    def _first_slots(self) -> list[list[int]]:
        """The codes of the first level at the last time of a frame, by band."""
        model = self.model.config
        found: list[list[int]] = [[] for _ in model.bands]
        for index, slot in enumerate(model.slots):
            if slot.level == 0 and slot.time == 0:
                found[slot.band].append(index)
        return found


class BandsTask(BandsCodecTask):
    """The codec from nothing as the loop sees it."""

    name = "soundstream"

    def __init__(self, config: BandsTaskConfig, corpus: Path, batch_size: int, seed: int) -> None:
        self.config = config
        torch.manual_seed(seed)
        super().__init__(config, SoundStream(config.model), corpus, batch_size, seed)

    @torch.no_grad()
    def start(self, device: torch.device) -> None:
        """The linear paths. Codebooks start by k-means at `quantize_from_step`."""
        encoder, decoder, _ = self.parts
        spectra = [self.magnitudes(self.batch(step).to(device)) for step in range(self.config.kmeans_batches)]
        fit_linear_path(encoder, decoder, spectra)

    def updates(self, batch: Float[Tensor, "b 1 s"], step: int) -> Iterator[Update]:
        loss, log = through(self.model, self._losses, batch, step)
        yield Update("generator", loss, log)

    def _losses(self, batch: Float[Tensor, "b 1 s"], step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        encoder, decoder, rvq = self.parts
        target = self.magnitudes(batch)
        latent = encoder.encode(target)
        log: dict[str, float | Tensor] = {}
        total: Tensor = latent.new_zeros(())
        if step >= self.config.quantize_from_step:
            if not rvq.started:
                self._start_codebooks(step, batch.device)
            quantized = rvq(latent, self.config.draw_counts(batch.shape[0]).to(batch.device))
            used = perplexity(quantized.codes, self.config.model.codebook_size)
            log |= {"commitment": quantized.commitment, "perplexity_min": used.min()}
            log |= {"gain_last": quantized.level_gain[-1]}
            total = total + self.config.commitment_weight * quantized.commitment
            latent = quantized.output
        distance, terms = self.distance(decoder(latent), target)
        return total + distance, log | terms

    @torch.no_grad()
    def _start_codebooks(self, step: int, device: torch.device) -> None:
        """k-means on latents of several batches: one batch has fewer frames than a codebook has codes."""
        encoder, _, rvq = self.parts
        num = self.config.kmeans_batches
        with full_precision(device):
            spectra = [self.magnitudes(self.batch(step + ahead, part).to(device)) for ahead, part in own_batches(num)]
            latents = torch.cat([encoder.encode(part) for part in spectra])
            rvq.fit_kmeans(latents.transpose(1, 2).flatten(0, 1), num_iterations=10, steps=num)

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes the codec in half precision."""
        facts = {**info, "baseline": self.baseline}
        skip = training_state(module)
        save_artifact(folder, "soundstream", self.model.config, module, facts, torch.float16, skip=skip)


class BandsDecoderTask(BandsCodecTask):
    """The decoder of the codec in the artifact `start`, encoder and codebooks as they are; groups `generator` and
    `discriminator`.

    Raises: ArtifactError if `start` holds no codec; ValueError if the settings do not fit its sizes.
    """

    name = "soundstream-decoder"
    whole_batch = True  # losses relative to the batch's own size

    def __init__(self, config: BandsDecoderTaskConfig, corpus: Path, batch_size: int, seed: int, start: Path) -> None:
        self.config = config
        torch.manual_seed(seed)
        model = SoundStream.from_artifact(start)
        config.check_fits(model.config)
        if config.every_bin:
            model.tell_every_bin()
        self.codes_of = codes_hash(read_config(start))
        for part in (model.encoder, model.rvq):
            part.requires_grad_(False)
        super().__init__(config, model, corpus, batch_size, seed)
        self.discriminators = BandDiscriminators(
            model.config, config.discriminator_patches, config.discriminator_channels
        )
        self.groups["discriminator"] = self.discriminators
        self.baseline["discriminator/loss"] = 2.0  # of discriminators that can't tell

    def start(self, device: torch.device) -> None:
        """Nothing: all weights are there."""

    def updates(self, batch: Float[Tensor, "b 1 s"], step: int) -> Iterator[Update]:
        """The discriminators' step, then the decoder's."""
        config = self.config
        self.discriminators.requires_grad_(True)
        target = self.magnitudes(batch)
        output = through(self.model, self._decoded, batch)
        total, log = self.distance(output, target)
        real, fake = self._pieces(target, output)
        held = [part.detach() for part in fake]
        yield Update("discriminator", through(self.discriminators, self._discriminator_loss, real, held))
        if step >= config.adversary_from_step:
            adversarial, feature = generator_losses(self.discriminators, real, fake)
            total = total + config.adversarial_weight * adversarial + config.feature_weight * feature
            log |= {"adversarial": adversarial, "feature": feature}
        yield Update("generator", total, log)

    def _decoded(self, batch: Float[Tensor, "b 1 s"]) -> Spectra:
        """Magnitudes decoded from some of their codes."""
        _, decoder, _ = self.parts
        with torch.no_grad(), full_precision(batch.device):
            codes = self.model.encode(batch)  # those that language models learn, which hold
            counts = self.config.draw_counts(len(batch)).tolist()
            parts = [self.model.dequantize(own[None, :count]) for own, count in zip(codes, counts, strict=True)]
        return decoder(torch.cat(parts))

    def _discriminator_loss(self, real: Spectra, fake: Spectra) -> Tensor:
        return discriminator_loss(self.discriminators(real), self.discriminators(fake))

    def _pieces(self, target: Spectra, output: Spectra) -> tuple[Spectra, Spectra]:
        """The same random piece of original and decoded magnitudes."""
        model, config = self.model.config, self.config
        frame_s = model.samples_per_frame / model.sample_rate_hz
        frames, length = round(config.crop_s / frame_s), round(config.adversary_crop_s / frame_s)
        start = draw_once(lambda: int(torch.randint(0, frames - length + 1, ())))
        spans = [model.samples_per_frame // band.hop for band in model.bands]
        own = [slice(start * n, (start + length) * n) for n in spans]
        return [t[:, s] for t, s in zip(target, own, strict=True)], [o[:, s] for o, s in zip(output, own, strict=True)]

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes the codec in half precision, at the end of the training calibrated, with the hash of the one whose
        codes it gives."""
        assert isinstance(module, SoundStream)
        module = deepcopy(module)
        facts = {**info, "baseline": self.baseline, "codes_of": self.codes_of}
        if self.config.calibration_batches and info["step"] >= info["steps"]:
            facts["calibration"] = self.calibrate(module)
        skip = training_state(module)
        save_artifact(folder, "soundstream", self.model.config, module, facts, torch.float16, skip=skip)

    @torch.no_grad()
    def calibrate(self, module: SoundStream) -> list[float]:
        """`BandsDecoder.calibrate` on training music, decoded from the codes of the first level alone."""
        assert isinstance(module.decoder, BandsDecoder)
        first = module.config.levels // module.config.group_levels
        device = next(module.parameters()).device

        def pieces() -> Iterator[tuple[Spectra, Spectra]]:
            for step in range(self.config.calibration_batches):
                batch = self.batch(step).to(device)
                yield module.decoder(module.dequantize(module.encode(batch, first))), module.magnitudes(batch)

        with full_precision(device):
            return module.decoder.calibrate(pieces())
