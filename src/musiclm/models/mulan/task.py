"""Training MuLan: windows of the corpus, a caption drawn for each, and the contrastive loss (MuLan, section 3.3).

Decoding and, while the text encoder is frozen, encoding captions is done once (`musiclm.models.mulan.windows`). A step
then costs the audio tower alone, and only half of each window's seconds go through it (as FLIP does with image
patches), which doubles the number of clips a minute.

Beside the contrastive loss a linear head predicts the tagger's scores and the measured level, brightness and onset rate
from the audio features: on a few thousand windows that teaches the tower more per step than matching sentences alone.
Windows without labels have no part in it. It is dropped at export.
"""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.config import check_shares
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import Track, load_manifest
from musiclm.data.labels import MTT_TAGS, Labels
from musiclm.models.mulan.gap import TowerOutputs, fit_space
from musiclm.models.mulan.model import WINDOW_S, MuLan, MuLanConfig, contrastive_loss
from musiclm.models.mulan.text import MINILM, SCRATCH, PretrainedBert, tokenize
from musiclm.models.mulan.windows import CaptionedWindows, load_windows
from musiclm.nn.parts import WHOLE, BatchPart, draw, gather, through
from musiclm.train.loop import Update


@dataclass(frozen=True, kw_only=True)
class CaptionTaskConfig:
    """What both trainings of MuLan, whole and text side alone, have to say of captions."""

    captions_per_window: int = 6  # pool per window, drawn once and encoded once while the text encoder is frozen
    # of the windows in a step, of rendered tracks; None: as many as theirs of the tracks
    rendered_share: float | None = None
    # how far text is drawn to audio (0 to 1) and over how wide a neighbourhood (temperature of a softmax); None: as
    # validation pairs ask for
    projection: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_shares(self, "rendered_share")
        if self.captions_per_window < 1:
            raise ValueError(f"captions_per_window is {self.captions_per_window}; it must be at least 1")
        if self.projection and not (0 <= self.projection[0] <= 1 and self.projection[1] > 0):
            raise ValueError(
                f"projection is {self.projection}; it must be a pull between 0 and 1 and a temperature above 0"
            )


@dataclass(frozen=True, kw_only=True)
class MuLanTaskConfig(CaptionTaskConfig):
    """How MuLan is trained. tiny: captions_per_window 2, model as in `AudioConfig`; base: the defaults; paper:
    seconds_per_clip 10.
    """

    model: MuLanConfig = field(default_factory=MuLanConfig)
    captions_per_clip: int = 2  # of the pool, in one step
    seconds_per_clip: int = 5  # of the ten, in one step
    mask_mels: int = 10  # SpecAugment: widest of two frequency masks
    mask_frames: int = 12  # SpecAugment: widest time mask in each second
    # of every training track, embedded at 1 s stride for the quantizer at export; 0: labelled windows only
    stretch_s: int = 16
    tag_weight: float = 1.0  # of the head that predicts tags and measures; 0 leaves it out
    # what the text encoder starts from: minilm, scratch, or a folder or hub id of a BERT
    # (`musiclm.models.mulan.text.first_encoder`)
    text_from: str = MINILM

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.seconds_per_clip <= WINDOW_S:
            raise ValueError(f"seconds_per_clip must lie in 1..{WINDOW_S}, got {self.seconds_per_clip}")
        if not 1 <= self.captions_per_clip <= self.captions_per_window:
            raise ValueError(
                f"captions_per_clip must lie in 1..captions_per_window ({self.captions_per_window}), got "
                f"{self.captions_per_clip}"
            )
        if self.text_from == SCRATCH and self.model.text_trained_layers < self.model.text.num_layers:
            raise ValueError(
                f"text_from is {SCRATCH}, so every layer must learn: set model.text_trained_layers to "
                f"{self.model.text.num_layers}"
            )


MEASURES = ("level_db", "range_db", "brightness_hz", "onset_rate_hz", "bass_share")


class Trained(nn.Module):
    """What the optimiser moves: the model, and the head that is not exported."""

    def __init__(self, model: MuLan) -> None:
        super().__init__()
        self.mulan = model
        self.tags = nn.Linear(model.config.audio.width, len(MTT_TAGS) + len(MEASURES))


def training_captions(corpus: Path, count: int) -> list[str]:
    """`count` captions of every window that is trained on."""
    return [text for window in load_windows(corpus) if window.track.split == "train" for text in window.pool(count)]


class MuLanTask:
    """See `musiclm.train.loop.Task`.

    Raises: ValueError where the corpus has neither captions nor labels, or too few tracks in train or validation.
    """

    name = "mulan"
    ema_group = "model"
    whole_batch = True  # its negatives

    def __init__(
        self,
        config: MuLanTaskConfig,
        corpus_dir: Path,
        *,
        batch_size: int,
        seed: int = 0,
        pretrained: PretrainedBert,
        cache_dir: Path | None = None,
    ) -> None:
        if asdict(pretrained.config) != asdict(config.model.text):
            raise ValueError(
                f"the text encoder given is {pretrained.config}, the configuration says {config.model.text}; make "
                "them equal"
            )
        self.config, self.batch_size, self.seed = config, batch_size, seed
        self.corpus_dir = Path(corpus_dir)
        tokenizer = Tokenizer.from_str(pretrained.tokenizer_json)
        torch.manual_seed(seed)
        model = MuLan(config.model, tokenizer)
        model.text_encoder.load_state_dict(pretrained.state)
        self.model = Trained(model)
        self.model.tags.requires_grad_(config.tag_weight > 0)
        self.groups: dict[str, nn.Module] = {"model": self.model}
        cache = Path(cache_dir or Path(corpus_dir) / "mulan_cache")
        self.data = CaptionedWindows(self.corpus_dir, cache, model, config.captions_per_window, config.rendered_share)
        self.targets = _targets([window.labels for window in self.data.windows], self.data.train)
        scores = self.targets[self.data.train, : len(MTT_TAGS)]
        scores = scores[~scores.isnan().any(1)]
        unigram = (
            F.binary_cross_entropy(scores.mean(0).expand_as(scores).clamp(1e-4, 1 - 1e-4), scores)
            if len(scores)
            else 0.0
        )
        self.baseline = {**self.data.baseline(batch_size), "tags": float(unigram), "measures": 1.0}

    def start(self, device: torch.device) -> None:
        """Standardises the log-mels by the training windows' statistics."""
        # float64: a float32 sum depends on where NumPy put the array, and a run must repeat to the bit
        cache, train = self.data.cache, self.data.train
        sample = torch.tensor(cache.mels[train[:: max(1, len(train) // 500)]], dtype=torch.float64)
        tower = self.model.mulan.audio
        tower.mel_mean.copy_(sample.mean((0, 2)))
        tower.mel_std.copy_(sample.std((0, 2)).clamp(min=0.1))

    def batch(self, step: int, part: BatchPart = WHOLE) -> dict[str, Tensor]:
        """A clip of as many tracks as fit, captions from each window's pool; "same" is always of all."""
        rows = part.rows(self.batch_size)
        rng = np.random.default_rng([self.seed, step])
        picked = self.data.pick(rng, self.batch_size)
        cache = self.data.cache
        per_s, context = cache.frames_per_step_s, cache.mels.shape[2]
        last = context - (WINDOW_S - 1) * per_s - self.config.model.audio.frames_per_s
        seconds, where = [], []
        for row, window in enumerate(picked):
            start = int(rng.integers(0, last + 1))
            kept = np.sort(rng.permutation(WINDOW_S)[: self.config.seconds_per_clip])
            if rows.start <= row < rows.stop:
                seconds.append(cache.cut(int(window), start, kept))
                where.append(kept)
        choices = rng.permuted(np.tile(np.arange(self.config.captions_per_window), (self.batch_size, 1)), axis=1)[
            :, : self.config.captions_per_clip
        ]
        labelled = ~self.targets[picked].isnan().any(1)
        batch = {
            "mels": torch.tensor(np.stack(seconds), dtype=torch.float32),  # copied: aligned as torch likes it
            "where": torch.from_numpy(np.stack(where)),
            "same": self.data.same(picked, choices),
            "targets": self.targets[picked[rows]],
            "labelled": labelled[rows].nonzero()[:, 0],
            **part.weight(labelled),
        }
        picked, choices = picked[rows], choices[rows]
        if cache.pooled is not None:
            batch["pooled"] = torch.tensor(cache.pooled[picked[:, None], choices], dtype=torch.float32)
        else:
            texts = [self.data.captions[w][c] for w, row in zip(picked, choices, strict=True) for c in row]
            assert self.model.mulan.tokenizer is not None
            batch["ids"], batch["keep"] = tokenize(self.model.mulan.tokenizer, texts, self.config.model.text.max_tokens)
        return batch

    def updates(self, batch: dict[str, Tensor], step: int) -> Iterator[Update]:
        loss, log = through(self.model, self._losses, batch)
        yield Update(group="model", loss=loss, log=log)

    def _losses(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
        model = self.model.mulan
        mels = spec_augment(batch["mels"], model.audio.mel_mean, self.config.mask_mels, self.config.mask_frames)
        features = model.audio(mels, batch["where"])
        audio = F.normalize(model.audio.head(features), dim=-1)
        if "pooled" in batch:
            pooled = batch["pooled"]
        else:
            pooled = model.text_encoder(batch["ids"], batch["keep"]).unflatten(0, (mels.shape[0], -1))
        text = F.normalize(model.text(pooled), dim=-1)
        every_audio, every_text = gather(audio), gather(text)  # negatives are those of the whole batch
        results = [
            contrastive_loss(every_audio, every_text[:, k], model.log_scale, same)
            for k, same in enumerate(batch["same"])
        ]
        loss = torch.stack([result.loss for result in results]).mean()
        log: dict[str, float | Tensor] = {
            "contrastive": loss,
            "audio_to_text": torch.stack([r.audio_to_text for r in results]).mean(),
            "text_to_audio": torch.stack([r.text_to_audio for r in results]).mean(),
            "temperature": (-model.log_scale).exp(),
        }
        labelled = batch["labelled"]  # found beforehand: to look for them would wait for a GPU
        if "weight" in batch and self.config.tag_weight:
            loss = loss + 0 * self.model.tags(features[:1]).sum()  # the head has a gradient in every part
        if self.config.tag_weight and len(labelled):
            targets, num_tags = batch["targets"][labelled], len(MTT_TAGS)
            predicted = self.model.tags(features[labelled])
            tags = F.binary_cross_entropy_with_logits(predicted[:, :num_tags], targets[:, :num_tags])
            measures = F.mse_loss(predicted[:, num_tags:], targets[:, num_tags:])
            if "weight" in batch:
                tags, measures = tags * batch["weight"], measures * batch["weight"]
            log |= {"tags": tags, "measures": measures}
            # tags is a mean over fifty mostly tiny entropies: ten brings it to the size of the others
            loss = loss + self.config.tag_weight * (10 * tags + measures)
        return loss, log

    @torch.no_grad()
    def segments(self, model: MuLan) -> tuple[Float[Tensor, "n d"], list[Track]]:
        """Audio features of every window in a part of each training track, labelled or not, and the track of each."""
        parts, owners = [torch.zeros(0, self.config.model.audio.width)], list[Track]()
        if self.config.stretch_s >= WINDOW_S:
            for track in (t for t in load_manifest(self.corpus_dir) if t.split == "train"):
                rng = random.Random(f"{self.seed} {track.id}")
                length = min(self.config.stretch_s, track.seconds)
                audio = read_clip(self.corpus_dir, track, rng.random() * (track.seconds - length), length)
                parts.append(model.window_features(torch.from_numpy(audio)[None].to(model.log_scale.device)).cpu())
                owners += [track] * len(parts[-1])
        return torch.cat(parts), owners

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """See `CaptionedWindows.validate`."""
        assert isinstance(module, Trained)
        return self.data.validate(lambda windows: self.pairs(module, windows))

    def pairs(
        self, module: nn.Module, windows: NDArray[np.int64]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], Float[Tensor, ""]]:
        """Vectors of windows and of a caption of each, and the loss's scale."""
        assert isinstance(module, Trained)
        model, device = module.mulan, module.mulan.log_scale.device
        audio = F.normalize(model.audio.head(self.data.features(model, windows).to(device)), dim=-1)
        text = F.normalize(model.text(self.data.pooled(model, windows, 0).to(device)), dim=-1)
        return audio, text, model.log_scale

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Fits means, quantizer and projection (`musiclm.models.mulan.gap`), then writes the artifact with figures."""
        assert isinstance(module, Trained)
        model = module.mulan
        data = self.data
        train = TowerOutputs(data.features(model, data.train), data.pooled(model, data.train, 0))
        more = [data.pooled(model, data.train, k) for k in range(1, self.config.captions_per_window)]
        held = TowerOutputs(data.features(model, data.held), data.pooled(model, data.held, 0))
        segments, owners = self.segments(model)
        tracks = [data.windows[w].track for w in data.train] + owners
        device = model.log_scale.device
        text = torch.cat(more) if more else train.text[:0]
        ids = [track.id for track in tracks]
        gap = fit_space(model.to("cpu"), train, text, segments, ids, held, self.seed, self.config.projection)
        model.to(device)
        model.save(folder, {**info, "windows": data.counts(), "baseline": self.baseline, "gap_validation": gap})


def spec_augment(
    mels: Float[Tensor, "b w f t"], fill: Float[Tensor, " f"], mask_mels: int, mask_frames: int
) -> Float[Tensor, "b w f t"]:
    """Two masks over mels for a clip, one over time in half of its seconds, a little gain (SpecAugment)."""
    b, w, f, t = mels.shape
    device = mels.device
    mels = (
        mels + (draw(lambda num: torch.rand(num, 1, 1, 1, device=device), b) - 0.5) * 0.4
    )  # ln: about +-1.7 dB, too little to belie "quiet"

    def span(count: tuple[int, ...], size: int, longest: int) -> Bool[Tensor, "..."]:
        _, *seconds = count
        width = (draw(lambda num: torch.rand(num, *seconds, 1, device=device), b) * (longest + 1)).floor()
        start = draw(lambda num: torch.rand(num, *seconds, 1, device=device), b)
        start = (start * (size - width + 1)).floor()
        place = torch.arange(size, device=device)
        return (place >= start) & (place < start + width)

    hidden = span((b,), f, mask_mels) | span((b,), f, mask_mels)
    in_time = span((b, w), t, mask_frames)
    in_time = in_time & (draw(lambda num: torch.rand(num, w, 1, device=device), b) < 0.5)
    masked = hidden[:, None, :, None] | in_time[:, :, None, :]
    return torch.where(masked, fill[:, None], mels)


def _targets(labels: list[Labels | None], train: NDArray[np.int64]) -> Float[Tensor, "n k"]:
    """Tag scores, then measures standardised over labelled training windows; NaN for windows without labels."""
    unknown = float("nan")
    tags = np.array([[x.tags.get(tag, 0.0) if x else unknown for tag in MTT_TAGS] for x in labels])
    measures = np.array([[getattr(x, name) if x else unknown for name in MEASURES] for x in labels])
    place = MEASURES.index("brightness_hz")
    measures[:, place] = np.log(np.maximum(measures[:, place], 50.0))
    known = measures[train][~np.isnan(measures[train]).any(1)]
    mean, std = (known.mean(0), known.std(0) + 1e-6) if len(known) else (0.0, 1.0)
    return torch.from_numpy(np.concatenate([tags, ((measures - mean) / std).clip(-4, 4)], axis=1)).float()
