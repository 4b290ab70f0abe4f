"""Whole configurations: `tiny` trains in minutes, `base` is the bundled model, `large` is for a GPU and a day,
`paper` has the published sizes.

A recipe holds one stage's task and its loop. Everything can be overridden by name: `--set storm.task.crop_s=6`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

from musiclm.core.config import override
from musiclm.core.streams import ACOUSTIC, MULAN, SEMANTIC, STAGES, TRAINABLES, TokenSpec
from musiclm.models.lm.model import TokenLMConfig
from musiclm.models.lm.task import LmTaskConfig
from musiclm.models.melody.model import MelodyConfig
from musiclm.models.melody.task import MelodyTaskConfig
from musiclm.models.mulan.model import AudioConfig, MuLanConfig
from musiclm.models.mulan.task import MuLanTaskConfig
from musiclm.models.mulan.text import TextConfig
from musiclm.models.mulan.text_task import MuLanTextTaskConfig
from musiclm.models.soundstream.bands_task import BandsDecoderTaskConfig, BandsTaskConfig
from musiclm.models.soundstream.config import Band, SoundStreamConfig
from musiclm.models.soundstream.task import SoundStreamTaskConfig
from musiclm.models.storm.model import SoundStormConfig
from musiclm.models.storm.task import StormTaskConfig
from musiclm.models.w2vbert.cues import CueWeights
from musiclm.models.w2vbert.model import W2vBertConfig
from musiclm.models.w2vbert.task import W2vBertTaskConfig
from musiclm.nn.conformer import ConformerConfig
from musiclm.nn.transformer import TransformerConfig
from musiclm.train.loop import TrainConfig

TaskConfig = TypeVar("TaskConfig")


@dataclass(frozen=True, kw_only=True)
class Recipe(Generic[TaskConfig]):
    """What a stage learns, and how the loop trains it."""

    task: TaskConfig
    train: TrainConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A recipe for each of `musiclm.core.streams.TRAINABLES`, and settings of `train all`."""

    soundstream: Recipe[SoundStreamTaskConfig] | Recipe[BandsTaskConfig]
    w2vbert: Recipe[W2vBertTaskConfig]
    mulan: Recipe[MuLanTaskConfig]
    semantic: Recipe[LmTaskConfig]
    storm: Recipe[StormTaskConfig]
    coarse: Recipe[LmTaskConfig]
    fine: Recipe[LmTaskConfig]
    melody: Recipe[MelodyTaskConfig] | None = None  # optional: for a semantic stage with `melody_levels`
    # one side of a bundle's model, every code as it was; None where the preset has no such recipe
    soundstream_decoder: Recipe[BandsDecoderTaskConfig] | None = None
    mulan_text: Recipe[MuLanTextTaskConfig] | None = None
    label_windows_per_track: int = 6  # of 10 s, at most, that get captions
    max_seconds_per_track: float | None = None  # of a longer track only the middle becomes acoustic tokens
    speeds: tuple[float, ...] = ()  # training tracks become semantic tokens at these speeds as well

    def recipe(self, stage: str) -> Recipe[Any]:
        """The recipe of a stage. Raises: ValueError for an unknown stage, or one that the preset has no recipe for."""
        if stage not in TRAINABLES:
            raise ValueError(f"no stage {stage!r}; there are {', '.join(TRAINABLES)}")
        found: Recipe[Any] | None = getattr(self, TRAINABLES[stage].recipe)
        if found is None:
            raise ValueError(f"this preset has no recipe for {stage}; take another")
        return found


# the encoder of all-MiniLM-L6-v2 with the word pieces that `musiclm.models.mulan.text` keeps
MINILM = TextConfig(vocab_size=27628)


def tiny() -> Preset:
    """The whole chain in minutes on two CPU cores, for tests and a first look; it beats guessing and little more."""
    mulan = TokenSpec(name=MULAN.name, codebook_size=16, levels=12, frame_rate_hz=None)
    semantic = TokenSpec(name="semantic", codebook_size=64, levels=4, frame_rate_hz=12.5)
    acoustic = TokenSpec(name="acoustic", codebook_size=16, levels=12, frame_rate_hz=12.5)
    codec = SoundStreamConfig(
        network="bands",
        bands=(
            Band(n_fft=1920, hop=480, low_hz=20, high_hz=480, fold=4, groups=2, decimation=15, rounds=4),
            Band(n_fft=960, hop=480, low_hz=480, high_hz=12000, fold=2, groups=2, num_pooled=40, rounds=2),
        ),
        levels=12,
        codebook_size=16,
        group_dim=12,
        latent_dim=72,
        group_width=32,
        group_blocks=1,
        trunk_width=64,
        trunk_blocks=2,
        hold=0.4,
    )
    specs = (mulan, semantic, acoustic)
    transformer = TransformerConfig(width=64, num_layers=2, num_heads=2, ff_width=128, dropout=0.0)
    conformer = ConformerConfig(width=64, num_heads=2, num_layers=2, ff_width=128, kernel=5, dropout=0.0)

    def loop(steps: int, batch_size: int, rate: float) -> TrainConfig:
        return TrainConfig(
            steps=steps,
            batch_size=batch_size,
            learning_rate=rate,
            warmup_steps=10,
            ema_decay=0.98,
            validate_every=steps,
            save_every=50,
            log_every=max(1, steps // 5),
        )

    def lm(stage: str, batch_size: int) -> Recipe[LmTaskConfig]:
        depth_width = 64 if stage == "semantic" else 0
        model = TokenLMConfig(
            stage=stage,
            transformer=transformer,
            specs=specs,
            depth_width=depth_width,
            pointer_heads=1 if depth_width else 0,
        )
        return Recipe(task=LmTaskConfig(model=model, num_validation=4), train=loop(60, batch_size, 3e-3))

    return Preset(
        soundstream=Recipe(
            task=BandsTaskConfig(
                model=codec,
                crop_s=1.92,
                eval_clips=4,
                eval_clip_s=1.92,
                code_counts=(6, 8, 12),
                code_count_shares=(0.4, 0.2, 0.4),
                quantize_from_step=60,
                kmeans_batches=8,
            ),
            train=loop(160, 6, 2e-3),
        ),
        w2vbert=Recipe(
            task=W2vBertTaskConfig(
                model=W2vBertConfig(
                    conformer=conformer, contrastive_layers=1, num_codebooks=2, codebook_size=32, code_width=32
                ),
                crop_s=4.0,
                layer=2,
                num_clusters=64,
                harmony=True,
                cues=CueWeights(chroma=0.0),
                num_fit_clips=16,
            ),
            train=loop(80, 4, 2e-3),
        ),
        mulan=Recipe(
            task=MuLanTaskConfig(
                model=MuLanConfig(
                    audio=AudioConfig(channels=(8, 16), width=64, num_layers=1),
                    text=MINILM,
                    rvq_size=16,
                ),
                captions_per_window=2,
                captions_per_clip=1,
            ),
            train=loop(60, 8, 2e-3),
        ),
        melody=Recipe(
            task=MelodyTaskConfig(
                model=MelodyConfig(channels=(4, 6, 8), width=32, dim=16), num_validation=16, num_fit=256
            ),
            train=loop(30, 6, 3e-3),
        ),
        semantic=lm("semantic", 4),
        storm=Recipe(
            task=StormTaskConfig(
                model=SoundStormConfig(
                    conformer=conformer,
                    mulan_levels=2,
                    depth_width=64,
                    code_width=32,
                    series=codec.series,
                    history_layers=1,
                    acoustic=acoustic,
                    semantic=semantic,
                    mulan=mulan,
                ),
                crop_s=4.0,
                num_validation=4,
            ),
            train=loop(40, 8, 3e-3),  # sixteen clips are soon known by heart
        ),
        coarse=lm("coarse", 2),
        fine=lm("fine", 4),
        soundstream_decoder=Recipe(
            task=BandsDecoderTaskConfig(
                crop_s=1.92,
                eval_clips=4,
                eval_clip_s=1.92,
                code_counts=(6, 8, 12),
                code_count_shares=(0.4, 0.2, 0.4),
                discriminator_patches=(8,),
                discriminator_channels=8,
                adversary_from_step=5,
                adversary_crop_s=0.96,
            ),
            train=loop(20, 6, 1e-3),
        ),
        mulan_text=Recipe(task=MuLanTextTaskConfig(captions_per_window=2), train=loop(20, 8, 2e-3)),
    )


def paper() -> Preset:
    """The published sizes and, as far as stated, training settings.

    For GPUs: 430 M a stage, 350 M SoundStorm, 600 M w2v-BERT.
    """

    def loop(steps: int, batch_size: int, rate: float) -> TrainConfig:
        return TrainConfig(
            steps=steps, batch_size=batch_size, learning_rate=rate, warmup_steps=10_000, validate_every=5_000
        )

    def lm(stage: str) -> Recipe[LmTaskConfig]:
        transformer = TransformerConfig(width=1024, num_layers=24, num_heads=16, ff_width=4096, positions="t5")
        return Recipe(
            task=LmTaskConfig(model=TokenLMConfig(stage=stage, transformer=transformer)),
            train=loop(1_000_000, 256, 3e-4),
        )

    conformer = ConformerConfig(width=1024, num_heads=16, num_layers=24, ff_width=4096, kernel=5)
    return Preset(
        soundstream=Recipe(
            task=SoundStreamTaskConfig(
                model=SoundStreamConfig(network="waveform"),
                adversarial_weight=1.0,
                feature_weight=100.0,
                quantize_from_step=0,
                discriminator_from_step=0,
                adversary_from_step=0,
            ),
            train=loop(1_000_000, 64, 1e-4),
        ),
        w2vbert=Recipe(
            task=W2vBertTaskConfig(
                model=W2vBertConfig(
                    conformer=conformer,
                    contrastive_layers=12,
                    num_codebooks=1,
                    codebook_size=1024,
                    code_width=1024,
                    mask_span=10,
                    mask_fraction=0.45,
                    mask_bridge=False,
                ),
                gumbel_decay=0.999995,
                crop_s=30.0,
                # the 7th layer of the masked-prediction half
                layer=19,
                cues=None,
                # 1500 frames a cluster; with 10 000 clips their features would take 30 GB
                num_fit_clips=2_000,
            ),
            train=loop(400_000, 512, 1e-4),
        ),
        mulan=Recipe(
            task=MuLanTaskConfig(
                model=MuLanConfig(
                    audio=AudioConfig(
                        num_mels=128, channels=(64, 256), width=768, num_layers=12, num_heads=12, tokens_per_s=6
                    ),
                    text=TextConfig(width=768, num_layers=12, num_heads=12, feed_forward=3072, max_tokens=512),
                    text_trained_layers=12,
                ),
                seconds_per_clip=10,
                tag_weight=0.0,
                text_from="google-bert/bert-base-uncased",
            ),
            train=loop(300_000, 4096, 1e-4),
        ),
        semantic=lm("semantic"),
        storm=Recipe(
            task=StormTaskConfig(
                model=SoundStormConfig(
                    conformer=ConformerConfig(width=1024, num_heads=16, num_layers=12, ff_width=4096, kernel=5)
                ),
                crop_s=30.0,
                prompt_share=1.0,
                level_power=0.0,
                full_mask_share=0.0,
            ),
            train=loop(1_000_000, 256, 3e-4),
        ),
        coarse=lm("coarse"),
        fine=lm("fine"),
    )


def base() -> Preset:
    """The bundled model: 91 MB as it is stored, faster than real time on two CPU cores.

    Steps are what one would train afresh; how the bundle's own came to theirs: its model card.
    """
    # three bands: docs/decisions/013-three-bands.md
    acoustic = TokenSpec(name="acoustic", codebook_size=1024, levels=48, frame_rate_hz=12.5)
    # two registers of notes, and timbre and strokes of either half of 80 ms (docs/decisions/014-harmony-codes.md)
    semantic = TokenSpec(name="semantic", codebook_size=1024, levels=4, frame_rate_hz=12.5)
    specs = (MULAN, semantic, acoustic)
    # the first level of every group, 3 kbps: the codes that a small model can draw
    first = acoustic.slice(0, 24)
    # tokens hold their codes (docs/decisions/014-harmony-codes.md); training does not
    codec = SoundStreamConfig(network="bands", levels=48, latent_dim=768, hold=0.4)
    mulan_loop = TrainConfig(
        steps=900,
        batch_size=96,
        learning_rate=1e-3,
        warmup_steps=30,
        decay_fraction=0.4,
        weight_decay=0.05,
        ema_decay=0.98,
        validate_every=1000,  # each fits the quantizer anew, which takes minutes
        save_every=50,
    )
    return Preset(
        soundstream=Recipe(
            task=BandsTaskConfig(model=codec),
            # 0.4 to 0.5 s a step on two idle cores with AVX-512 BF16
            train=TrainConfig(steps=7000, batch_size=8, decay_fraction=0.35, save_every=100),
        ),
        w2vbert=Recipe(
            task=W2vBertTaskConfig(
                model=W2vBertConfig(
                    conformer=ConformerConfig(
                        width=192, num_heads=3, num_layers=4, ff_width=768, kernel=9, dropout=0.0
                    ),
                    contrastive_layers=2,
                    num_codebooks=2,
                    codebook_size=256,
                ),
                crop_s=5.12,
                layer=2,  # docs/decisions/032-w2vbert-at-small-scale.md
                harmony=True,
                cues=CueWeights(chroma=0.0, onset=0.5, loudness=0.2),
                num_fit_clips=320,
            ),
            train=TrainConfig(
                steps=2000, batch_size=6, learning_rate=9e-4, warmup_steps=100, decay_fraction=0.3, ema_decay=0.995
            ),
        ),
        mulan=Recipe(
            task=MuLanTaskConfig(model=MuLanConfig(text=MINILM)),
            train=mulan_loop,
        ),
        # docs/decisions/019-melody.md
        melody=Recipe(
            task=MelodyTaskConfig(),
            train=TrainConfig(
                steps=2000,
                batch_size=48,
                learning_rate=2e-3,
                warmup_steps=50,
                decay_fraction=0.4,
                ema_decay=0.99,
                validate_every=500,
                save_every=100,
            ),
        ),
        # steps a second of all of these: `musiclm bench`
        semantic=_lm(
            "semantic",
            specs=specs,
            num_layers=6,
            ff_width=512,
            crop_s=20.48,
            steps=9000,
            batch_size=8,
            context_noise=0.3,
            depth_width=512,
            pointer_heads=2,  # docs/decisions/026-pointer.md
            dropout=0.1,
        ),
        storm=Recipe(
            task=StormTaskConfig(
                model=SoundStormConfig(
                    conformer=ConformerConfig(
                        width=256, num_heads=4, num_layers=5, ff_width=1024, kernel=5, dropout=0.0
                    ),
                    mulan_levels=4,
                    depth_width=512,
                    code_width=40,
                    acoustic=first,
                    semantic=semantic,
                    series=codec.series[:24],
                    history_layers=3,
                ),
                crop_s=10.24,
                level_power=0.0,
                mulan_noise=0.3,
                context_noise=0.3,
            ),
            train=TrainConfig(steps=12_000, batch_size=8, learning_rate=1.5e-3, decay_fraction=0.3),
        ),
        # short crops: attention over the 3000 ids of 10 s would cost more than all the rest
        coarse=_lm(
            "coarse", specs=specs, num_layers=4, ff_width=512, crop_s=4.0, steps=1000, coarse_levels=first.levels
        ),
        fine=_lm(
            "fine",
            specs=specs,
            num_layers=4,
            ff_width=384,
            crop_s=1.04,
            steps=600,
            learning_rate=1e-3,
            coarse_levels=first.levels,
            mulan_noise=0.0,
        ),
        # docs/decisions/013-three-bands.md
        soundstream_decoder=Recipe(
            task=BandsDecoderTaskConfig(),
            train=TrainConfig(
                steps=4000,
                batch_size=8,
                learning_rate=5e-4,
                warmup_steps=50,
                decay_fraction=0.4,
                ema_decay=0.997,
                validate_every=250,
                save_every=100,
            ),
        ),
        # docs/decisions/008-text-side-alone.md
        mulan_text=Recipe(
            task=MuLanTextTaskConfig(anchor=10.0),
            train=replace(mulan_loop, steps=400, batch_size=512, learning_rate=5e-4),
        ),
        label_windows_per_track=3,
        max_seconds_per_track=120.0,
        speeds=(0.8909, 1.1225),  # two semitones down and up
    )


def _lm(
    stage: str,
    *,
    specs: tuple[TokenSpec, ...],
    num_layers: int,
    ff_width: int,
    crop_s: float,
    steps: int,
    batch_size: int = 4,
    learning_rate: float = 1.5e-3,
    context_noise: float = 0.0,
    mulan_noise: float = 0.3,
    coarse_levels: int = 4,
    depth_width: int = 0,
    pointer_heads: int = 0,
    dropout: float = 0.0,
) -> Recipe[LmTaskConfig]:
    # dropout only where a run is longer than an epoch. Four MuLan levels, and those noised: text agrees with audio on
    # the first ones only, and all twelve name a training clip as a fingerprint would
    width = {"semantic": 256, "coarse": 192, "fine": 128}[stage]
    transformer = TransformerConfig(width=width, num_layers=num_layers, num_heads=4, ff_width=ff_width, dropout=dropout)
    model = TokenLMConfig(
        stage=stage,
        transformer=transformer,
        mulan_levels=4,
        cumulative_mulan=True,
        crop_s=crop_s,
        specs=specs,
        coarse_levels=coarse_levels,
        depth_width=depth_width,
        pointer_heads=pointer_heads,
    )
    return Recipe(
        task=LmTaskConfig(model=model, mulan_noise=mulan_noise, context_noise=context_noise),
        train=TrainConfig(steps=steps, batch_size=batch_size, learning_rate=learning_rate, decay_fraction=0.3),
    )


def large() -> Preset:
    """Between `base` and `paper`: what `musiclm plan` says one H100 trains in about a day. Codes and stages are those
    of `base`.

    Nobody has trained it.
    """

    def loop(steps: int, batch_size: int, rate: float) -> TrainConfig:
        return TrainConfig(
            steps=steps,
            batch_size=batch_size,
            learning_rate=rate,
            warmup_steps=1000,
            decay_fraction=0.3,
            ema_decay=0.9995,
            log_every=50,
            validate_every=5000,
            save_every=1000,
        )

    def lm(
        recipe: Recipe[LmTaskConfig], num_layers: int, width: int, crop_s: float, steps: int
    ) -> Recipe[LmTaskConfig]:
        transformer = TransformerConfig(
            width=width, num_layers=num_layers, num_heads=width // 64, ff_width=width * 8 // 3 // 64 * 64, dropout=0.1
        )
        depth_width = 1024 if recipe.task.model.depth_width else 0
        model = replace(recipe.task.model, transformer=transformer, depth_width=depth_width, crop_s=crop_s)
        return Recipe(task=replace(recipe.task, model=model), train=loop(steps, 128, 6e-4))

    def conformer(num_layers: int, width: int) -> ConformerConfig:
        return ConformerConfig(
            width=width, num_heads=width // 64, num_layers=num_layers, ff_width=4 * width, kernel=5, dropout=0.1
        )

    old = base()
    assert old.w2vbert.task.model.num_codebooks == 2
    return replace(
        old,
        soundstream=replace(old.soundstream, train=loop(60_000, 64, 1e-3)),
        soundstream_decoder=None,
        w2vbert=Recipe(
            task=replace(
                old.w2vbert.task,
                model=replace(old.w2vbert.task.model, conformer=conformer(12, 512), contrastive_layers=6),
                crop_s=10.24,
                layer=6,
                gumbel_decay=0.9999,
                num_fit_clips=1000,
            ),
            train=loop(100_000, 64, 5e-4),
        ),
        mulan=Recipe(
            task=replace(
                old.mulan.task,
                model=MuLanConfig(
                    audio=AudioConfig(channels=(48, 192), width=512, num_layers=6, num_heads=8), text=MINILM
                ),
            ),
            train=loop(20_000, 1024, 5e-4),
        ),
        semantic=lm(old.semantic, 16, 1024, 30.72, 100_000),
        storm=Recipe(
            task=replace(
                old.storm.task,
                model=replace(old.storm.task.model, conformer=conformer(12, 768), depth_width=1024, code_width=64),
                crop_s=20.48,
            ),
            train=loop(150_000, 128, 5e-4),
        ),
        coarse=lm(old.coarse, 12, 512, 4.0, 50_000),
        fine=lm(old.fine, 12, 512, 1.04, 50_000),
    )


def fit_to_streams(preset: Preset, specs: Mapping[str, TokenSpec]) -> Preset:
    """The preset with its language models and SoundStorm built for these streams, by name, where theirs are others.

    A model may know the first levels of a stream only; that stays. Where there are no more acoustic levels than the
    coarse stage has, it gets the first half. Widths and lengths of crops stay too, and can be set.
    """

    def fitted(own: TokenSpec) -> TokenSpec:
        found = specs.get(own.name, own)
        return own if own.levels <= found.levels and own == replace(found, levels=own.levels) else found

    def lm(recipe: Recipe[LmTaskConfig]) -> Recipe[LmTaskConfig]:
        model = recipe.task.model
        new = {spec.name: specs.get(spec.name, spec) for spec in model.specs}  # the stages read whole streams
        levels, coarse = new[ACOUSTIC.name].levels, model.coarse_levels
        if levels <= coarse:
            coarse = max(1, levels // 2)
        if model.stage == "fine" and levels == 1:
            return recipe  # there is no such stage (`num_fine_levels`)
        changed = replace(
            model,
            specs=tuple(new.values()),
            coarse_levels=coarse,
            mulan_levels=min(model.mulan_levels, new[MULAN.name].levels),
        )
        return replace(recipe, task=replace(recipe.task, model=changed))

    storm = preset.storm.task.model
    joint = fitted(storm.mulan)
    acoustic, semantic = fitted(storm.acoustic), specs.get(SEMANTIC.name, storm.semantic)
    levels = min(storm.mulan_levels, joint.levels)
    series = storm.series if acoustic == storm.acoustic else ()  # nobody knows how levels of another codec follow
    changed = replace(
        storm,
        acoustic=acoustic,
        semantic=semantic,
        mulan=joint,
        mulan_levels=levels,
        series=series,
        history_layers=storm.history_layers if series else 0,
    )
    noise = preset.storm.task.context_noise if series else 0.0
    return replace(
        preset,
        semantic=lm(preset.semantic),
        coarse=lm(preset.coarse),
        fine=lm(preset.fine),
        storm=replace(preset.storm, task=replace(preset.storm.task, model=changed, context_noise=noise)),
    )


def num_fine_levels(preset: Preset) -> int:
    """Acoustic levels that the coarse stage leaves to a fine one."""
    model = preset.coarse.task.model
    return next(spec.levels for spec in model.specs if spec.name == ACOUSTIC.name) - model.coarse_levels


PRESETS = {"tiny": tiny, "base": base, "large": large, "paper": paper}


def load_preset(name: str) -> Preset:
    """A preset by name. Raises ValueError naming those there are."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]()


def configure(preset: str, stage: str, settings: Sequence[str]) -> Preset:
    """A preset with each `name=value` of `settings` applied, for training one stage or "all".

    Raises: ValueError for an unknown preset or stage, one without a recipe, an unknown setting, and a setting that
    training this stage does not read.
    """
    chosen = load_preset(preset)
    if stage == "all":
        unread = {one.recipe for one in TRAINABLES.values() if one.name not in STAGES}
        read = "the stages " + ", ".join(STAGES)
    else:
        chosen.recipe(stage)
        unread = {field.name for field in fields(chosen)} - {TRAINABLES[stage].recipe}
        read = stage
    changed = override(chosen, list(settings))
    for setting in settings:
        name = setting.partition("=")[0].strip()
        if name.split(".")[0].replace("-", "_") in unread:
            raise ValueError(f"--set {name} does nothing here: this training reads the settings of {read} alone")
    return changed
