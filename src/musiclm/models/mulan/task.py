"""Training MuLan: windows of the corpus, a caption drawn for each, and the contrastive loss (MuLan, section 3.3).

Captions of a track are those that the corpus brings along (`musiclm.data.corpus.captions`), else they are written from its weak labels.

The decoding is done once: log-mels of every labelled window (two seconds wider, for random starts) are kept as float16 on disk, and while
the text encoder is frozen so are its outputs for a pool of captions per window. A step then costs the audio tower alone, and
only half of each window's seconds go through it (as FLIP does with image patches), which doubles the number of clips a minute.

Beside the contrastive loss a linear head predicts the tagger's scores and the measured level, brightness and onset rate from the
audio features: on a few thousand windows that teaches the tower more per step than matching sentences alone. Windows without labels
have no part in it. It is dropped at export.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterator
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
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.data.captions.weak import captions
from musiclm.data.corpus.captions import load_captions
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import RENDERED, Track, load_manifest
from musiclm.data.labels import LABELS_FILE, MTT_TAGS, Labels, load_labels
from musiclm.models.mulan.gap import Pairs, fit_space, retrieval
from musiclm.models.mulan.model import WINDOW_S, MuLan, MuLanConfig, contrastive_loss
from musiclm.models.mulan.text import Pretrained, tokenize
from musiclm.train.loop import Update

CAPTIONED_WINDOWS = 6  # of a track that brings captions along, spread evenly: as many as are labelled of others
CONTEXT_S = WINDOW_S + 2  # cached around each window, so that training starts anywhere in two seconds


@dataclass(frozen=True, kw_only=True)
class MuLanTaskConfig:
    """How MuLan is trained. tiny: captions_per_window 2, model as in `AudioConfig`; base: the defaults; paper: seconds_per_clip 10."""

    model: MuLanConfig = field(default_factory=MuLanConfig)
    captions_per_window: int = 6  # pool per window, drawn once and encoded once while the text encoder is frozen
    captions_per_clip: int = 2  # of the pool, in one step
    seconds_per_clip: int = 5  # of the ten, in one step
    mask_mels: int = 10  # SpecAugment: widest of two frequency masks
    mask_frames: int = 12  # SpecAugment: widest time mask in each second
    stretch_s: int = (
        16  # of every training track, embedded at 1 s stride for the quantizer at export; 0: labelled windows only
    )
    rendered_share: float | None = (
        None  # of the clips in a step, of rendered tracks; None: as many as theirs of the tracks
    )
    tag_weight: float = 1.0  # of the head that predicts tags and measures; 0 leaves it out
    # of the text side alone: how firmly captions without a tempo in numbers are held where they lay before
    text_anchor: float = 0.0
    # how far text is drawn to audio (0 to 1) and over how wide a neighbourhood (heat of a softmax); None: as validation pairs ask for
    projection: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.seconds_per_clip <= WINDOW_S:
            raise ValueError(f"seconds_per_clip must lie in 1..{WINDOW_S}, got {self.seconds_per_clip}")
        check_shares(self, "rendered_share")
        if self.text_anchor < 0:
            raise ValueError(f"text_anchor is {self.text_anchor}; it must be 0 or more")
        if self.projection and not (0 <= self.projection[0] <= 1 and self.projection[1] > 0):
            raise ValueError(f"projection is {self.projection}; it must be a pull between 0 and 1 and a heat above 0")
        if not 1 <= self.captions_per_clip <= self.captions_per_window:
            raise ValueError(
                f"captions_per_clip must lie in 1..captions_per_window ({self.captions_per_window}), got {self.captions_per_clip}"
            )


MEASURES = ("level_db", "range_db", "brightness_hz", "onset_rate_hz", "bass_share")


class Trained(nn.Module):
    """What the optimiser moves: the model, and the head that is not exported."""

    def __init__(self, model: MuLan) -> None:
        super().__init__()
        self.mulan = model
        self.tags = nn.Linear(model.config.audio.width, len(MTT_TAGS) + len(MEASURES))


class MuLanTask:
    """See `musiclm.train.loop.Task`.

    Raises: ValueError where the corpus has neither captions nor labels, or too few tracks in train or validation.
    """

    name = "mulan"
    ema_group = "model"

    def __init__(
        self,
        config: MuLanTaskConfig,
        corpus_dir: Path,
        *,
        batch_size: int,
        seed: int = 0,
        pretrained: Pretrained,
        cache_dir: Path | None = None,
    ) -> None:
        if asdict(pretrained.config) != asdict(config.model.text):
            raise ValueError(
                f"the text encoder given is {pretrained.config}, the configuration says {config.model.text}; make them equal"
            )
        self.config, self.batch_size, self.seed = config, batch_size, seed
        self.corpus_dir = Path(corpus_dir)
        tokenizer = Tokenizer.from_str(pretrained.tokenizer_json)
        torch.manual_seed(seed)
        model = MuLan(config.model, tokenizer)
        model.text_encoder.load_state_dict(pretrained.state)
        self.model = Trained(model)
        self.groups: dict[str, nn.Module] = {"model": self.model}
        self.windows = load_windows(Path(corpus_dir))
        self.data = WindowCache(
            self.windows,
            Path(corpus_dir),
            Path(cache_dir or Path(corpus_dir) / "mulan_cache"),
            model,
            config.captions_per_window,
        )
        split = np.array([window.track.split for window in self.windows])
        rendered = np.array([window.track.source == RENDERED for window in self.windows])
        self.train, self.held = np.flatnonzero(split == "train"), np.flatnonzero((split == "validation") & ~rendered)
        self.held_rendered = np.flatnonzero((split == "validation") & rendered)
        if len(self.held) < 2:
            self.held, self.held_rendered = self.held_rendered, self.held
        self.by_track: list[NDArray[np.int64]] = _grouped(self.windows, self.train)
        if len(self.by_track) < 2 or len(self.held) < 2:
            raise ValueError(
                f"MuLan needs captioned or labelled windows of two training tracks and two of validation, got {len(self.by_track)} tracks and "
                f"{len(self.held)} windows; label the corpus ('musiclm label') or build a larger one"
            )
        self.targets = _targets([window.labels for window in self.windows], self.train)
        scores = self.targets[self.train, : len(MTT_TAGS)]
        scores = scores[~scores.isnan().any(1)]
        unigram = (
            F.binary_cross_entropy(scores.mean(0).expand_as(scores).clamp(1e-4, 1 - 1e-4), scores)
            if len(scores)
            else 0.0
        )
        b = batch_size
        self.chance = {
            "contrastive": math.log(b),
            "audio_to_text": 1 / b,
            "text_to_audio": 1 / b,
            "tags": float(unigram),
            "measures": 1.0,
        }
        for prefix, n in (("", len(self.held)), ("rendered_", len(self.held_rendered))):
            if n > 1:
                self.chance |= {
                    f"{prefix}loss_validation": math.log(n),
                    f"{prefix}text_to_audio_r1": 1 / n,
                    f"{prefix}text_to_audio_r10": min(1.0, 10 / n),
                    f"{prefix}audio_to_text_r10": min(1.0, 10 / n),
                    f"{prefix}median_rank": (n + 1) / 2,
                }

    def start(self, device: torch.device) -> None:
        """Standardises the log-mels by the training windows' statistics."""
        # float64: a float32 sum depends on where NumPy put the array, and a run must repeat to the bit
        sample = torch.tensor(self.data.mels[self.train[:: max(1, len(self.train) // 500)]], dtype=torch.float64)
        tower = self.model.mulan.audio
        tower.mel_mean.copy_(sample.mean((0, 2)))
        tower.mel_std.copy_(sample.std((0, 2)).clamp(min=0.1))

    def batch(self, step: int) -> dict[str, Tensor]:
        """A clip of as many tracks as fit (so that few negatives are false), captions from each window's pool."""
        rng = np.random.default_rng([self.seed, step])
        picked = np.concatenate([self._pick(rng, tracks, num) for tracks, num in self._parts(rng) if num])
        per_s, context = self.data.frames_per_step_s, self.data.mels.shape[2]
        last = context - (WINDOW_S - 1) * per_s - self.config.model.audio.frames_per_s
        seconds, where = [], []
        for window in picked:
            start = int(rng.integers(0, last + 1))
            kept = np.sort(rng.permutation(WINDOW_S)[: self.config.seconds_per_clip])
            seconds.append(self.data.cut(int(window), start, kept))
            where.append(kept)
        choices = rng.permuted(np.tile(np.arange(self.config.captions_per_window), (self.batch_size, 1)), axis=1)[
            :, : self.config.captions_per_clip
        ]
        batch = {
            "mels": torch.tensor(np.stack(seconds), dtype=torch.float32),  # copied: aligned as torch likes it
            "where": torch.from_numpy(np.stack(where)),
            "same": self._same(picked, choices),
            "targets": self.targets[picked],
        }
        if self.data.pooled is not None:
            batch["pooled"] = torch.tensor(self.data.pooled[picked[:, None], choices], dtype=torch.float32)
        else:
            texts = [self.data.captions[w][c] for w, row in zip(picked, choices, strict=True) for c in row]
            assert self.model.mulan.tokenizer is not None
            batch["ids"], batch["keep"] = tokenize(self.model.mulan.tokenizer, texts, self.config.model.text.max_tokens)
        return batch

    def _parts(self, rng: np.random.Generator) -> list[tuple[list[int], int]]:
        """Tracks, by their places in `by_track`, and how many clips of a step are drawn from them."""
        everything = list(range(len(self.by_track)))
        if self.config.rendered_share is None:
            return [(everything, self.batch_size)]
        is_rendered = [self.windows[group[0]].track.source == RENDERED for group in self.by_track]
        rendered = [i for i in everything if is_rendered[i]]
        real = [i for i in everything if not is_rendered[i]]
        num = int(self.config.rendered_share * self.batch_size + rng.random())
        for tracks, wanted, kind in ((rendered, num, "rendered"), (real, self.batch_size - num, "real")):
            if wanted and not tracks:
                raise ValueError(
                    f"rendered_share is {self.config.rendered_share}, but no {kind} track can be trained on"
                )
        return [(rendered, num), (real, self.batch_size - num)]

    def _pick(self, rng: np.random.Generator, tracks: list[int], num: int) -> NDArray[np.int64]:
        """A window of each of `num` tracks, again from the first one where there are fewer."""
        order = [self.by_track[tracks[i]] for i in rng.permutation(len(tracks))]
        return np.array([rng.choice(order[i % len(order)]) for i in range(num)])

    def _same(self, picked: NDArray[np.int64], choices: NDArray[np.int64]) -> Bool[Tensor, "k b b"]:
        """For each of the clip's captions: pairs of one piece or of one caption, which are no negatives."""
        piece = np.array([self.windows[w].track.piece for w in picked])
        found = []
        for column in choices.T:
            text = np.array([self.data.captions[w][c].lower() for w, c in zip(picked, column, strict=True)])
            found.append((piece[:, None] == piece) | (text[:, None] == text))
        return torch.from_numpy(np.stack(found))

    def updates(self, batch: dict[str, Tensor], step: int) -> Iterator[Update]:
        model = self.model.mulan
        mels = spec_augment(batch["mels"], model.audio.mel_mean, self.config.mask_mels, self.config.mask_frames)
        features = model.audio(mels, batch["where"])
        audio = F.normalize(model.audio.head(features), dim=-1)
        if "pooled" in batch:
            pooled = batch["pooled"]
        else:
            pooled = model.text_encoder(batch["ids"], batch["keep"]).unflatten(0, (mels.shape[0], -1))
        text = F.normalize(model.text(pooled), dim=-1)
        results = [contrastive_loss(audio, text[:, k], model.log_scale, same) for k, same in enumerate(batch["same"])]
        loss = torch.stack([result.loss for result in results]).mean()
        log: dict[str, float | Tensor] = {
            "contrastive": loss,
            "audio_to_text": torch.stack([r.audio_to_text for r in results]).mean(),
            "text_to_audio": torch.stack([r.text_to_audio for r in results]).mean(),
            "temperature": (-model.log_scale).exp(),
        }
        labelled = ~batch["targets"].isnan().any(1)
        if self.config.tag_weight and bool(labelled.any()):
            targets, num_tags = batch["targets"][labelled], len(MTT_TAGS)
            predicted = self.model.tags(features[labelled])
            tags = F.binary_cross_entropy_with_logits(predicted[:, :num_tags], targets[:, :num_tags])
            measures = F.mse_loss(predicted[:, num_tags:], targets[:, num_tags:])
            log |= {"tags": tags, "measures": measures}
            # tags is a mean over fifty mostly tiny entropies: ten brings it to the size of the others
            loss = loss + self.config.tag_weight * (10 * tags + measures)
        yield Update(group="model", loss=loss, log=log)

    @torch.no_grad()
    def features(self, model: MuLan, windows: NDArray[np.int64]) -> Float[Tensor, "n d"]:
        """Audio features of whole windows, from the cache."""
        parts = []
        for some in np.array_split(windows, max(1, len(windows) // 64)):
            mels = np.stack([self.data.cut(int(w), self.data.begins[w], np.arange(WINDOW_S)) for w in some])
            parts.append(model.audio(torch.tensor(mels, dtype=torch.float32).to(model.log_scale.device)).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def pooled(self, model: MuLan, windows: NDArray[np.int64], caption: int) -> Float[Tensor, "n d"]:
        """Text features of caption number `caption` of each window's pool."""
        if self.data.pooled is not None:
            return torch.tensor(self.data.pooled[windows, caption], dtype=torch.float32)
        return encode_texts(model, [self.data.captions[w][caption] for w in windows])

    @torch.no_grad()
    def stretches(self, model: MuLan) -> tuple[Float[Tensor, "n d"], list[Track]]:
        """Audio features of every window in a stretch of each training track, labelled or not, and the track of each."""
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
        """Loss and retrieval on the windows of the validation split, one caption each; chance is in `self.chance`.

        Where there are real and rendered tracks the figures are of the real ones; `rendered_*` of the others.
        """
        figures: dict[str, float] = {}
        for prefix, windows in (("", self.held), ("rendered_", self.held_rendered)):
            if len(windows) > 1:
                audio, text, log_scale = self.pairs(module, windows)
                same = torch.zeros(len(windows), len(windows), dtype=torch.bool, device=audio.device)
                loss = contrastive_loss(audio, text, log_scale, same).loss
                found, back = retrieval(text, audio), retrieval(audio, text)
                figures |= {
                    f"{prefix}loss_validation": float(loss),
                    f"{prefix}text_to_audio_r1": found.recall_1,
                    f"{prefix}text_to_audio_r10": found.recall_10,
                    f"{prefix}audio_to_text_r10": back.recall_10,
                    f"{prefix}median_rank": found.median_rank,
                }
        return figures

    def pairs(
        self, module: nn.Module, windows: NDArray[np.int64]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], Float[Tensor, ""]]:
        """Vectors of windows and of a caption of each, and the loss's scale."""
        assert isinstance(module, Trained)
        model, device = module.mulan, module.mulan.log_scale.device
        audio = F.normalize(model.audio.head(self.features(model, windows).to(device)), dim=-1)
        text = F.normalize(model.text(self.pooled(model, windows, 0).to(device)), dim=-1)
        return audio, text, model.log_scale

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Fits means, quantizer and projection (`musiclm.models.mulan.gap`), then writes the artifact with the gap's figures."""
        assert isinstance(module, Trained)
        model = module.mulan
        train = Pairs(self.features(model, self.train), self.pooled(model, self.train, 0))
        more = [self.pooled(model, self.train, k) for k in range(1, self.config.captions_per_window)]
        held = Pairs(self.features(model, self.held), self.pooled(model, self.held, 0))
        stretches, owners = self.stretches(model)
        tracks = [self.windows[w].track for w in self.train] + owners
        device = model.log_scale.device
        text = torch.cat(more) if more else train.text[:0]
        ids = [track.id for track in tracks]
        gap = fit_space(model.to("cpu"), train, text, stretches, ids, held, self.seed, self.config.projection)
        model.to(device)
        windows = {"train": len(self.train), "train_tracks": len(self.by_track), "validation": len(self.held)}
        model.save(folder, {**info, "windows": windows, "chance": self.chance, "gap_validation": gap})


def spec_augment(
    mels: Float[Tensor, "b w f t"], fill: Float[Tensor, " f"], mask_mels: int, mask_frames: int
) -> Float[Tensor, "b w f t"]:
    """Two masks over mels for a whole clip, one over time in half of its seconds, and a little gain (SpecAugment; 1904.08779)."""
    b, w, f, t = mels.shape
    device = mels.device
    mels = mels + (torch.rand(b, 1, 1, 1, device=device) - 0.5) * 0.4  # ln: about +-1.7 dB, too little to belie "quiet"

    def span(count: tuple[int, ...], size: int, longest: int) -> Bool[Tensor, "..."]:
        width = (torch.rand(*count, 1, device=device) * (longest + 1)).floor()
        start = (torch.rand(*count, 1, device=device) * (size - width + 1)).floor()
        place = torch.arange(size, device=device)
        return (place >= start) & (place < start + width)

    hidden = span((b,), f, mask_mels) | span((b,), f, mask_mels)
    in_time = span((b, w), t, mask_frames) & (torch.rand(b, w, 1, device=device) < 0.5)
    masked = hidden[:, None, :, None] | in_time[:, :, None, :]
    return torch.where(masked, fill[:, None], mels)


@dataclass(frozen=True)
class Window:
    """Ten seconds of a track about which something is known: labels, or captions that came with the corpus."""

    track: Track
    start_s: float
    labels: Labels | None = None
    captions: tuple[str, ...] = ()

    def pool(self, count: int) -> list[str]:
        """`count` captions, always the same: drawn from those it has, or written from its labels."""
        if self.labels is not None:
            return [captions(self.labels, random.Random(f"{self.track.id} {self.start_s} {k}")) for k in range(count)]
        rng = random.Random(f"{self.track.id} {self.start_s}")
        turns = [rng.sample(self.captions, len(self.captions)) for _ in range(-(-count // len(self.captions)))]
        return [text for turn in turns for text in turn][:count]


def load_windows(corpus_dir: Path) -> list[Window]:
    """Windows of the tracks in the manifest, in the manifest's order: some captioned ones of a track with captions, else the labelled ones.

    Captions of tracks outside the training split are in held-out wording, where there is some. Raises: ValueError if there are none.
    """
    tracks = {track.id: track for track in load_manifest(corpus_dir)}
    captioned: dict[str, list[Window]] = {}
    for one in load_captions(corpus_dir):
        if one.track in tracks:
            found = captioned.setdefault(one.track, [])
            unseen = one.unseen if tracks[one.track].split != "train" else ()
            found.append(Window(tracks[one.track], one.start_s, captions=unseen or one.captions))
    windows = []
    for found in captioned.values():
        step = max(1.0, len(found) / CAPTIONED_WINDOWS)
        windows += [found[int(k * step)] for k in range(min(CAPTIONED_WINDOWS, len(found)))]
    windows += [
        Window(tracks[x.track], x.start_s, labels=x)
        for x in load_labels(corpus_dir / LABELS_FILE)
        if x.track in tracks and x.track not in captioned
    ]
    if not windows:
        raise ValueError(
            f"{corpus_dir} has neither captions nor labels for its tracks; make labels first ('musiclm label {corpus_dir}')"
        )
    place = {name: i for i, name in enumerate(tracks)}
    return sorted(windows, key=lambda w: (place[w.track.id], w.start_s))


class WindowCache:
    """Log-mels and captions of windows, in memory and on disk: each window is decoded once and each caption encoded once, ever."""

    def __init__(self, windows: list[Window], corpus_dir: Path, folder: Path, model: MuLan, pool: int) -> None:
        audio = model.config.audio
        self.frames_per_s, self.frames_per_step_s = audio.frames_per_s, SAMPLE_RATE_HZ // audio.hop
        if SAMPLE_RATE_HZ % audio.hop:
            raise ValueError(f"hop must divide {SAMPLE_RATE_HZ}, got {audio.hop}: the cache cuts whole seconds")
        folder.mkdir(parents=True, exist_ok=True)
        # the frame of its context at which a window's labelled ten seconds begin
        self.begins = [round((w.start_s - _context_start(w)) * self.frames_per_step_s) for w in windows]
        self.captions = [window.pool(pool) for window in windows]
        front = f"{audio.num_mels}-{audio.n_fft}-{audio.hop}"
        self.mels = cached_rows(
            folder / f"mels-{front}.npz",
            [f"{w.track.sha256} {w.start_s}" for w in windows],
            lambda missing: np.stack([_context_mel(windows[i], corpus_dir, model) for i in missing]),
        )
        self.pooled: NDArray[np.float16] | None = None
        if model.config.text_trained_layers == 0:
            texts = [caption for row in self.captions for caption in row]
            digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.text_encoder.parameters()))
            self.captions_file = folder / f"captions-{digest.hexdigest()[:16]}.npz"
            rows = cached_rows(
                self.captions_file,
                texts,
                lambda missing: encode_texts(model, [texts[i] for i in missing]).numpy().astype(np.float16),
            )
            self.pooled = rows.reshape(len(windows), pool, -1)

    def cut(self, window: int, start: int, kept: NDArray[np.int64]) -> NDArray[np.float16]:
        """Seconds `kept` of the ten that begin at frame `start` of a window's context, as `AudioTower.mels` would make them."""
        mels = self.mels[window]
        return np.stack([mels[:, start + k * self.frames_per_step_s :][:, : self.frames_per_s] for k in kept])


def cached_rows(
    path: Path, keys: list[str], make: Callable[[list[int]], NDArray[np.float16]], every: int = 1024
) -> NDArray[np.float16]:
    """A row for each key, from the file at `path` or from `make(indices)`, and then kept there, so that no row is made twice."""
    known: dict[str, int] = {}
    stored: list[NDArray[np.float16]] = []
    if path.exists():
        with np.load(path) as file:
            known = {key: i for i, key in enumerate(file["keys"].tolist())}
            stored = [file["rows"]]
    fresh = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}  # first place of each new key
    missing = sorted(fresh.values())
    for begin in range(0, len(missing), every):
        some = missing[begin : begin + every]
        stored.append(make(some))
        known |= {keys[i]: len(known) + place for place, i in enumerate(some)}
        temporary = path.with_name(f".{path.name}.part.npz")
        stored = [np.concatenate(stored)]
        np.savez(temporary, keys=np.array(list(known)), rows=stored[0])
        temporary.replace(path)
    return stored[0][[known[key] for key in keys]]


def _context_start(window: Window) -> float:
    """Where a window's cached context begins in its track: a second early, where there is room."""
    return max(0.0, min(window.start_s - 1, window.track.seconds - CONTEXT_S))


@torch.no_grad()
def _context_mel(window: Window, corpus_dir: Path, model: MuLan) -> NDArray[np.float16]:
    audio = read_clip(corpus_dir, window.track, _context_start(window), min(CONTEXT_S, window.track.seconds))
    size = CONTEXT_S * SAMPLE_RATE_HZ
    audio = (
        np.resize(audio, size) if audio.size < size else audio[:size]
    )  # a short track is repeated, as in embed_audio
    return model.audio.log_mel(torch.from_numpy(audio)[None])[0].numpy().astype(np.float16)


@torch.no_grad()
def encode_texts(model: MuLan, texts: list[str]) -> Float[Tensor, "n d"]:
    """Pooled text features of many texts, each distinct one encoded once, texts of like length together."""
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    parts = [model.encode_text(distinct[i : i + 64]) for i in range(0, len(distinct), 64)]
    rows = torch.cat(parts)
    place = {text: i for i, text in enumerate(distinct)}
    return rows[torch.tensor([place[text] for text in texts])]


def _grouped(windows: list[Window], indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    groups: dict[str, list[int]] = {}
    for i in indices:
        groups.setdefault(windows[i].track.id, []).append(int(i))
    return [np.array(group) for group in groups.values()]


def _targets(labels: list[Labels | None], train: NDArray[np.int64]) -> Float[Tensor, "n k"]:
    """Tag scores, then the measures standardised over the labelled training windows; not a number for windows without labels."""
    unknown = float("nan")
    tags = np.array([[x.tags.get(tag, 0.0) if x else unknown for tag in MTT_TAGS] for x in labels])
    measures = np.array([[getattr(x, name) if x else unknown for name in MEASURES] for x in labels])
    place = MEASURES.index("brightness_hz")
    measures[:, place] = np.log(np.maximum(measures[:, place], 50.0))
    known = measures[train][~np.isnan(measures[train]).any(1)]
    mean, std = (known.mean(0), known.std(0) + 1e-6) if len(known) else (0.0, 1.0)
    return torch.from_numpy(np.concatenate([tags, ((measures - mean) / std).clip(-4, 4)], axis=1)).float()
