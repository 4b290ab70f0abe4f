"""What training a preset takes on given GPUs, before any is rented: `musiclm plan`.

Each stage's own networks run forward and backward without data and without memory (PyTorch's fake tensors, bf16
autocast). What they would keep for the backward pass is added up, and operations are counted, both as functions of the
rows in a batch. So these figures are simulated, not measured: kernels' own buffers are not in them, and seconds follow
from a utilisation that is assumed.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.streams import STAGES
from musiclm.models.lm.model import TokenLM
from musiclm.models.lm.task import LmTaskConfig
from musiclm.models.mulan.model import WINDOW_S, MuLan, contrastive_loss
from musiclm.models.mulan.task import MuLanTaskConfig, Trained
from musiclm.models.soundstream.bands import BandsDecoder, BandsEncoder
from musiclm.models.soundstream.bands_task import BandsTaskConfig
from musiclm.models.soundstream.discriminator import Discriminators
from musiclm.models.soundstream.loss import (
    SpectralLoss,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.soundstream.task import SoundStreamTaskConfig
from musiclm.models.storm.model import SoundStorm
from musiclm.models.storm.task import StormTaskConfig
from musiclm.models.w2vbert.loss import contrastive_loss as masked_contrastive_loss
from musiclm.models.w2vbert.loss import masked_prediction_loss
from musiclm.models.w2vbert.model import FRAME_RATE_HZ, W2vBert, stack_mel
from musiclm.models.w2vbert.task import W2vBertTaskConfig
from musiclm.nn.block import blocks
from musiclm.train.loop import TrainConfig
from musiclm.train.recipes import Preset

ROWS = 2  # that are counted, so that a shape with rows is no weight's
CAPTION_TOKENS = 64  # of a text, assumed
STORM_MASKED = 2 / math.pi  # share of frames that SoundStorm learns from: the mean of its cosine
GIGA = 1e9


@dataclass(frozen=True)
class Sketch:
    """A stage without data."""

    groups: dict[str, nn.Module]
    losses: Callable[[int], list[Tensor]]  # of so many rows
    places: int  # of a row that the largest network sees: ids, frames or pieces
    audio_s: float  # of a row


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a stage's networks hold and do, bytes in fp32 and bf16 as training has them."""

    parameters: int
    trained: int
    largest_block: int  # parameters of one layer, which comes whole where the others lie in shards
    outside_blocks: int  # parameters in no layer
    row_bytes: float  # kept for the backward pass, for each row
    recomputed_row_bytes: float  # the same with --recompute
    row_flop: float  # forward and backward
    places: int
    audio_s: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """GPUs of one kind. The last two are assumptions."""

    gpus: int = 1
    memory_gb: float = 80.0
    tflops: float = 989.0  # a second, dense bf16: an H100's
    utilisation: float = 0.35  # of that, by what is counted here
    usable: float = 0.9  # of the memory; the rest is the driver's, kernels' and lost between pieces

    def __post_init__(self) -> None:
        if self.gpus < 1 or self.memory_gb <= 0 or self.tflops <= 0 or not 0 < self.utilisation <= 1:
            raise ValueError(
                f"a plan needs at least one GPU, memory and operations above 0 and a utilisation in (0, 1], got {self}"
            )


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """How a stage would train."""

    stage: str
    counted: Counted
    steps: int
    batch_size: int
    gpus: int  # that it is planned for: as many as its batch divides into
    accumulate: int
    recompute: bool
    shard: bool
    memory_gb: dict[str, float]  # of one GPU, by part
    step_s: float
    days: float
    warnings: list[str] = field(default_factory=list)

    @property
    def flags(self) -> str:
        """What to add to `musiclm train`."""
        flags = [f"--accumulate {self.accumulate}"] if self.accumulate > 1 else []
        return " ".join([*flags, *(["--recompute"] if self.recompute else []), *(["--shard"] if self.shard else [])])


# -- sketches: the networks of a stage on inputs of the right shapes


def _ids(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long)


def _lm(task: LmTaskConfig) -> Sketch:
    model = TokenLM(task.model)
    layout, spec = model.layout, model.layout.target_spec
    frames = {part.stream: layout.num_frames(i, layout.stage.crop_s) for i, part in enumerate(layout.parts)}
    prefix, target = layout.prefix_length(frames), layout.crop_frames() * layout.places_per_frame
    length = prefix + target - 1

    def losses(rows: int) -> list[Tensor]:
        x = model.embedding(_ids(rows, length))
        hidden, _ = model.transformer(x, torch.arange(float(length)))
        hidden = hidden[:, prefix - 1 :]
        if task.model.depth_width:
            own = model.embedding(_ids(rows, target, spec.levels))
            hidden = model.depth(hidden[:, :, None] + own.cumsum(2), slice(None))
        else:
            hidden = hidden.unflatten(1, (-1, spec.levels))
        logits = torch.einsum("btqd,qvd->btqv", hidden, model.head).float()
        return [F.cross_entropy(logits.flatten(0, 2), _ids(logits[..., 0].numel()))]

    return Sketch({"model": model}, losses, length, layout.stage.crop_s)


def _storm(task: StormTaskConfig) -> Sketch:
    config = task.model
    model = SoundStorm(config)
    assert config.acoustic.frame_rate_hz is not None and config.semantic.frame_rate_hz is not None
    frames = round(task.crop_s * config.acoustic.frame_rate_hz)
    units = round(task.crop_s * config.semantic.frame_rate_hz)
    levels = config.acoustic.levels

    def losses(rows: int) -> list[Tensor]:
        mulan = _ids(rows, config.mulan.levels, 1) if config.mulan_levels else None
        hidden = model(_ids(rows, levels, frames), _ids(rows, config.semantic.levels, units), mulan)
        if config.history_layers:
            hidden, _ = model.with_history(hidden, _ids(rows, levels, frames))
        if config.depth_width:
            masked = round(rows * frames * STORM_MASKED)
            beside = (_ids(masked, levels), _ids(masked, levels)) if config.series else None
            logits = model.all_depth_logits(hidden.flatten(0, 1)[:masked], _ids(masked, levels), beside).flatten(0, 1)
        else:
            logits = model.logits_per_row(hidden, _ids(rows)).flatten(0, 1)
        return [F.cross_entropy(logits, _ids(len(logits)))]

    return Sketch({"model": model}, losses, frames, task.crop_s)


def _w2vbert(task: W2vBertTaskConfig) -> Sketch:
    config = task.model
    model = W2vBert(config)
    frames = round(task.crop_s * FRAME_RATE_HZ)
    hidden = round(config.mask_fraction * frames)

    def losses(rows: int) -> list[Tensor]:
        mel = model.front_end.mel_frames(torch.zeros(rows, 1, frames * config.frame_samples))
        targets = model.quantizer(stack_mel(mel)[:, :hidden], 1.0)
        states = model.conformer.hidden_states(model.project(model.front_end(mel)))
        outputs = model.contrastive_out(states[config.contrastive_layers][:, :hidden]).float()
        vectors = model.target_out(targets.vectors).float()
        contrastive = masked_contrastive_loss(outputs, vectors, targets.codes, config.contrastive_temperature)
        logits = model.masked_out(states[-1][:, :hidden]).float()
        logits = logits.view(rows, hidden, config.num_codebooks, config.codebook_size)
        return [contrastive.loss + masked_prediction_loss(logits, targets.codes).loss]

    return Sketch({"model": model}, losses, frames, task.crop_s)


def _mulan(task: MuLanTaskConfig) -> Sketch:
    model = MuLan(task.model)
    audio = task.model.audio

    def losses(rows: int) -> list[Tensor]:
        mels = torch.zeros(rows, task.seconds_per_clip, audio.num_mels, audio.frames_per_s)
        of_audio = F.normalize(model.audio.head(model.audio(mels, _ids(rows, task.seconds_per_clip))), dim=-1)
        texts = rows * task.captions_per_clip
        if task.model.text_trained_layers:
            keep = torch.ones(texts, CAPTION_TOKENS, dtype=torch.bool)
            pooled = model.text_encoder(_ids(texts, CAPTION_TOKENS), keep)
        else:
            pooled = torch.zeros(texts, task.model.text.width)
        of_text = F.normalize(model.text(pooled), dim=-1).unflatten(0, (rows, -1))
        same = torch.zeros(rows, rows, dtype=torch.bool)
        found = [
            contrastive_loss(of_audio, of_text[:, k], model.log_scale, same).loss for k in range(task.captions_per_clip)
        ]
        return [torch.stack(found).mean()]

    places = min(task.seconds_per_clip, WINDOW_S) * audio.tokens_per_s
    return Sketch({"model": Trained(model)}, losses, places, float(task.seconds_per_clip))


def _soundstream(task: SoundStreamTaskConfig | BandsTaskConfig) -> Sketch:
    model = SoundStream(task.model)
    samples = round(task.crop_s * SAMPLE_RATE_HZ)
    frames = samples // task.model.samples_per_frame
    if isinstance(task, BandsTaskConfig):
        encoder, decoder = model.encoder, model.decoder
        assert isinstance(encoder, BandsEncoder) and isinstance(decoder, BandsDecoder)

        def bands(rows: int) -> list[Tensor]:
            with torch.no_grad():
                target = model.magnitudes(torch.zeros(rows, 1, samples))
            output = decoder(encoder.encode(target))
            return [torch.stack([(o - t).square().mean() for o, t in zip(output, target, strict=True)]).mean()]

        return Sketch({"generator": model}, bands, frames, task.crop_s)
    discriminators = Discriminators(task.discriminator)
    with unset_fake_temporarily():  # filters are chosen by their values
        spectral = SpectralLoss(SAMPLE_RATE_HZ, task.spectral_windows, task.num_mels)
    crop = round(task.adversary_crop_s * SAMPLE_RATE_HZ)

    def losses(rows: int) -> list[Tensor]:
        audio = torch.zeros(rows, 1, samples)
        decoded = model.decoder(model.latents(audio))
        real, fake = audio[..., :crop], decoded[..., :crop]
        judged = discriminator_loss(discriminators(real), discriminators(fake.detach()))
        discriminators.requires_grad_(False)
        judged_fake = discriminators(fake)
        held = [[x.detach() for x in layers] for layers in judged_fake]
        total = adversarial_loss(judged_fake) + feature_loss(held, judged_fake)
        discriminators.requires_grad_(True)
        return [judged, total + sum(spectral(decoded, audio))]

    return Sketch({"generator": model, "discriminator": discriminators}, losses, frames, task.crop_s)


def sketch(task: Any) -> Sketch:
    """The networks of a task's configuration and their losses, built where this is called."""
    kinds: dict[type, Callable[[Any], Sketch]] = {
        LmTaskConfig: _lm, StormTaskConfig: _storm, W2vBertTaskConfig: _w2vbert, MuLanTaskConfig: _mulan,
        SoundStreamTaskConfig: _soundstream, BandsTaskConfig: _soundstream,
    }  # fmt: skip
    return kinds[type(task)](task)


# -- counting


class _Attention(torch.autograd.Function):
    """Fused attention as GPUs have it: it keeps queries, keys, values and output, and makes the weights again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        out = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        ctx.save_for_backward(query, key, value, out)
        ctx.bias = bias
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, _ = ctx.saved_tensors
        weights = query @ key.transpose(-1, -2)
        of_weights = gradients[0] @ value.transpose(-1, -2)
        bias = ctx.bias
        of_bias = None if bias is None or not bias.requires_grad else torch.zeros_like(bias)
        return of_weights @ key, of_weights.transpose(-1, -2) @ query, weights.transpose(-1, -2) @ gradients[0], of_bias


@contextlib.contextmanager
def _fused_attention() -> Iterator[None]:
    """Attention of the networks is `_Attention`, whatever kernel this machine would choose."""
    plain = F.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
        return _Attention.apply(query, key, value, attn_mask)  # type: ignore[no-untyped-call,no-any-return]

    F.scaled_dot_product_attention = fused  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


class _Operations(TorchDispatchMode):
    """Counts floating-point operations, as torch's FlopCounterMode does, without its look at modules."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


@dataclass
class _Kept:
    """What autograd keeps: bytes, each storage once, without weights and their copies in bf16."""

    weights: list[nn.Parameter]
    seen: set[int] = field(default_factory=set)
    alive: list[Tensor] = field(default_factory=list)  # a storage's number may not be used again
    total: int = 0

    def __post_init__(self) -> None:
        self.seen |= {weight.untyped_storage()._cdata for weight in self.weights}
        self.shapes = {shape for w in self.weights if w.ndim > 1 for shape in (w.shape, w.shape[::-1])}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        copied = tensor.dtype == torch.bfloat16 and tensor.shape in self.shapes
        if storage._cdata not in self.seen and not copied:
            self.seen.add(storage._cdata)
            self.alive.append(tensor)
            self.total += storage.nbytes()
        return tensor


def _run(drawn: Sketch, rows: int) -> tuple[float, float, float]:
    """Bytes kept, bytes kept with layers computed again, operations, all for `rows` rows."""
    kept = _Kept([p for module in drawn.groups.values() for p in module.parameters()])
    inside: list[int] = []
    inputs = 0
    handles = []
    for module in drawn.groups.values():
        for block in blocks(module):

            def before(_: nn.Module, arguments: tuple[Any, ...]) -> None:
                nonlocal inputs
                inside.append(-kept.total)
                inputs += arguments[0].numel() * arguments[0].element_size()

            def after(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
                inside[-1] += kept.total

            handles += [block.register_forward_pre_hook(before), block.register_forward_hook(after)]
    with _Operations() as counter:
        with (
            torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor),
            torch.autocast("cpu", dtype=torch.bfloat16),
        ):
            losses = drawn.losses(rows)
        for loss in losses:
            loss.backward(retain_graph=True)
    for handle in handles:
        handle.remove()
    again = kept.total - sum(inside) + inputs + max(inside, default=0)
    return float(kept.total), float(again), float(counter.total)


def count(task: Any) -> Counted:
    """What a stage's networks hold and do. Layers of a stack are alike, so that one and two of each tell of all."""
    depths = _depths(task)
    ones = [1] * len(depths)
    one = asdict(_count(_as_deep(task, ones)))
    found = dict(one)
    for place, depth in enumerate(depths):
        two = asdict(_count(_as_deep(task, [*ones[:place], 2, *ones[place + 1 :]])))
        for name in one:
            found[name] += (depth - 1) * (two[name] - one[name])
    return _least(Counted(**found))


def _least(counted: Counted) -> Counted:
    """To compute the only layer of a stack again saves nothing."""
    return replace(counted, recomputed_row_bytes=min(counted.recomputed_row_bytes, counted.row_bytes))


def _depths(task: Any) -> list[int]:
    """Layers of each stack that may be shortened."""
    if isinstance(task, LmTaskConfig):
        return [task.model.transformer.num_layers]
    if isinstance(task, StormTaskConfig | W2vBertTaskConfig):
        return [task.model.conformer.num_layers]
    if isinstance(task, MuLanTaskConfig):
        text = task.model.text.num_layers
        alike = task.model.text_trained_layers in (0, text)
        return [task.model.audio.num_layers, *([text] if alike else [])]
    return []


def _as_deep(task: Any, depths: list[int]) -> Any:
    """A task with stacks of these depths."""
    if not depths:
        return task
    model, (depth, *rest) = task.model, depths
    if isinstance(task, LmTaskConfig):
        return replace(task, model=replace(model, transformer=replace(model.transformer, num_layers=depth)))
    if isinstance(task, MuLanTaskConfig):
        model = replace(model, audio=replace(model.audio, num_layers=depth))
        if rest:
            trained = rest[0] if model.text_trained_layers else 0
            text = replace(model.text, num_layers=rest[0])
            # both at once: neither fits the other's old value
            model = replace(model, text=text, text_trained_layers=trained)
        return replace(task, model=model)
    model = replace(model, conformer=replace(model.conformer, num_layers=depth), **_first_layer(task))
    return replace(task, model=model, **({"layer": 1} if isinstance(task, W2vBertTaskConfig) else {}))


def _first_layer(task: Any) -> dict[str, int]:
    """w2v-BERT's contrastive loss, wherever it is, costs the same after the first layer."""
    return {"contrastive_layers": 1} if isinstance(task, W2vBertTaskConfig) else {}


def _count(task: Any) -> Counted:
    """Runs a stage's networks, every layer, without memory. See the module's head."""
    with FakeTensorMode(allow_non_fake_inputs=True), _fused_attention():
        drawn = sketch(task)
        for module in drawn.groups.values():
            module.train()
        row_bytes, again, flop = (found / ROWS for found in _run(drawn, ROWS))
        everything = [p for module in drawn.groups.values() for p in module.parameters()]
        layers = [sum(p.numel() for p in block.parameters()) for m in drawn.groups.values() for block in blocks(m)]
        total = sum(p.numel() for p in everything)
        return Counted(
            parameters=total,
            trained=sum(p.numel() for p in everything if p.requires_grad),
            largest_block=max(layers, default=0),
            outside_blocks=total - sum(layers),
            row_bytes=row_bytes,
            recomputed_row_bytes=again,
            row_flop=flop,
            places=drawn.places,
            audio_s=drawn.audio_s,
        )


# -- planning


def memory(counted: Counted, machine: Machine, rows: int, recompute: bool, shard: bool) -> dict[str, float]:
    """GB of one GPU by part, for `rows` rows at a time."""
    share = machine.gpus if shard else 1
    whole = counted.largest_block * 2 + counted.outside_blocks if shard else 0  # the next layer is fetched meanwhile
    parts = {
        "weights": 4 * counted.parameters / share + 4 * whole,
        "bf16 copies": 2 * (counted.largest_block * 2 + counted.outside_blocks if shard else counted.parameters),
        "gradients": 4 * counted.trained / share + (4 * whole if shard else 0),
        "Adam": 8 * counted.trained / share,
        "moving average": 4 * counted.parameters / share,
        "activations": rows * (counted.recomputed_row_bytes if recompute else counted.row_bytes),
    }
    return {name: value / GIGA for name, value in parts.items()}


def plan_stage(stage: str, task: Any, loop: TrainConfig, machine: Machine, counted: Counted | None = None) -> StagePlan:
    """The first of these that fits: all rows at once, fewer at a time, layers computed again, weights in shards."""
    counted = counted or count(task)
    can_shard = machine.gpus > 1 and stage != "soundstream"
    warnings = []
    gpus = machine.gpus
    if loop.batch_size % gpus:
        gpus = max(n for n in range(1, min(machine.gpus, loop.batch_size) + 1) if loop.batch_size % n == 0)
        warnings.append(
            f"batch_size {loop.batch_size} does not divide into {machine.gpus} processes; this is planned for {gpus}. "
            f"Set {stage}.train.batch_size to a multiple of {machine.gpus}"
        )
    rows = loop.batch_size // gpus
    used = replace(machine, gpus=gpus)
    limit = machine.memory_gb * machine.usable
    choices = [
        (rows // fewer, recompute, shard)
        for shard in ((False, True) if can_shard else (False,))
        for recompute in (False, True)
        for fewer in (n for n in range(1, rows + 1) if rows % n == 0)
    ]
    fitting = [c for c in choices if sum(memory(counted, used, *c).values()) <= limit]
    # as few changes as will do; layers are computed again rather than rows taken singly
    at_once, recompute, shard = max(
        fitting, key=lambda c: (not c[2], min(c[0], 8), not c[1], c[0]), default=choices[-1]
    )
    parts = memory(counted, used, at_once, recompute, shard)
    if not fitting:
        needed = sum(parts.values()) / machine.usable
        larger = (
            "a larger --gpu-memory"
            if machine.gpus > 1
            else "more --gpus (weights are then cut into shards) or a larger --gpu-memory"
        )
        warnings.append(
            f"one row at a time, with --recompute{' and --shard' if can_shard else ''}, takes "
            f"{needed:.0f} GB; it needs {larger}, "
            "or a shorter crop"
        )
    # a step that computes layers again runs them forward once more: a third of the operations
    again = 4 / 3 if recompute else 1.0
    flop = counted.row_flop * loop.batch_size
    step_s = again * flop / (gpus * machine.tflops * 1e12 * machine.utilisation)
    return StagePlan(
        stage=stage,
        counted=counted,
        steps=loop.steps,
        batch_size=loop.batch_size,
        gpus=gpus,
        accumulate=rows // at_once,
        recompute=recompute,
        shard=shard,
        memory_gb=parts,
        step_s=step_s,
        days=step_s * loop.steps / 86_400,
        warnings=warnings,
    )


def plan(preset: Preset, machine: Machine, stages: tuple[str, ...] = STAGES) -> list[StagePlan]:
    """Every stage of a preset. Raises: ValueError for a stage that it has not."""
    recipes = {stage: preset.recipe(stage) for stage in stages}
    return [plan_stage(stage, recipe.task, recipe.train, machine) for stage, recipe in recipes.items()]
