"""What MuLan learns from: windows of ten seconds, the captions of each, and what of both is computed once and kept.

Captions of a track are those that the corpus brings along (`musiclm.data.corpus.captions`), else they are written from
its weak labels. Log-mels of every window (two seconds wider, for random starts) are kept as float16 on disk, and while
the text encoder is frozen so are its outputs for a pool of captions per window.
"""

import hashlib
import math
import random
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.output import replacing
from musiclm.data.captions.weak import captions
from musiclm.data.corpus.captions import load_captions
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import RENDERED, Track, load_manifest
from musiclm.data.labels import LABELS_FILE, Labels, load_labels
from musiclm.models.mulan.gap import retrieval
from musiclm.models.mulan.model import WINDOW_S, MuLan, contrastive_loss

CAPTIONED_WINDOWS = 6  # of a track that brings captions along, spread evenly: as many as are labelled of others
CONTEXT_S = WINDOW_S + 2  # cached around each window, so that training starts anywhere in two seconds


@dataclass(frozen=True)
class DescribedWindow:
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
        passes = [rng.sample(self.captions, len(self.captions)) for _ in range(-(-count // len(self.captions)))]
        return [text for one_pass in passes for text in one_pass][:count]


def load_windows(corpus_dir: Path) -> list[DescribedWindow]:
    """Windows of the tracks in the manifest, in the manifest's order: some captioned ones of a track with captions,
    else the labelled ones.

    Captions of tracks outside the training split are in held-out wording, where there is some. Raises: ValueError if
    there are none.
    """
    tracks = {track.id: track for track in load_manifest(corpus_dir)}
    captioned: dict[str, list[DescribedWindow]] = {}
    for one in load_captions(corpus_dir):
        if one.track in tracks:
            found = captioned.setdefault(one.track, [])
            unseen = one.unseen if tracks[one.track].split != "train" else ()
            found.append(DescribedWindow(tracks[one.track], one.start_s, captions=unseen or one.captions))
    windows = []
    for found in captioned.values():
        step = max(1.0, len(found) / CAPTIONED_WINDOWS)
        windows += [found[int(k * step)] for k in range(min(CAPTIONED_WINDOWS, len(found)))]
    windows += [
        DescribedWindow(tracks[x.track], x.start_s, labels=x)
        for x in load_labels(corpus_dir / LABELS_FILE)
        if x.track in tracks and x.track not in captioned
    ]
    if not windows:
        raise ValueError(
            f"{corpus_dir} has neither captions nor labels for its tracks; make labels first ('musiclm label "
            f"{corpus_dir}')"
        )
    place = {name: i for i, name in enumerate(tracks)}
    return sorted(windows, key=lambda w: (place[w.track.id], w.start_s))


class WindowCache:
    """Log-mels and captions of windows, in memory and on disk: each is decoded or encoded once."""

    def __init__(self, windows: list[DescribedWindow], corpus_dir: Path, folder: Path, model: MuLan, pool: int) -> None:
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
        """Seconds `kept` of the ten from frame `start` of a window's context, as `AudioTower.mels` would make them."""
        mels = self.mels[window]
        return np.stack([mels[:, start + k * self.frames_per_step_s :][:, : self.frames_per_s] for k in kept])


def cached_rows(
    path: Path, keys: list[str], make: Callable[[list[int]], NDArray[np.float16]], every: int = 1024
) -> NDArray[np.float16]:
    """A row for each key, from the file at `path`, or from `make(indices)` and kept there: no row is made twice."""
    known, stored = _stored_rows(path)
    fresh = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}  # first place of each new key
    missing = sorted(fresh.values())
    for begin in range(0, len(missing), every):
        some = missing[begin : begin + every]
        stored.append(make(some))
        known |= {keys[i]: len(known) + place for place, i in enumerate(some)}
        stored = [np.concatenate(stored)]
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, keys=np.array(list(known)), rows=stored[0])
    return stored[0][[known[key] for key in keys]]


def _stored_rows(path: Path) -> tuple[dict[str, int], list[NDArray[np.float16]]]:
    """Places by key, and the rows; of a damaged file nothing, for all of it can be made again."""
    if not path.exists():
        return {}, []
    try:
        with np.load(path) as file:
            return {key: i for i, key in enumerate(file["keys"].tolist())}, [file["rows"]]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}, []


def _context_start(window: DescribedWindow) -> float:
    """Where a window's cached context begins in its track: a second early, where there is room."""
    return max(0.0, min(window.start_s - 1, window.track.seconds - CONTEXT_S))


@torch.no_grad()
def _context_mel(window: DescribedWindow, corpus_dir: Path, model: MuLan) -> NDArray[np.float16]:
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


class CaptionedWindows:
    """The windows of a corpus by split, with captions and what is kept of them.

    Raises: ValueError where the corpus has neither captions nor labels, or too few tracks in train or validation.
    """

    def __init__(
        self, corpus: Path, cache: Path, model: MuLan, captions_per_window: int, rendered_share: float | None
    ) -> None:
        """rendered_share: of the windows of a step, of rendered tracks; None: as many as theirs of the tracks."""
        self.corpus, self.captions_per_window, self.rendered_share = corpus, captions_per_window, rendered_share
        self.windows = load_windows(corpus)
        self.cache = WindowCache(self.windows, corpus, cache, model, captions_per_window)
        split = np.array([window.track.split for window in self.windows])
        rendered = np.array([window.track.source == RENDERED for window in self.windows])
        self.train, self.held = np.flatnonzero(split == "train"), np.flatnonzero((split == "validation") & ~rendered)
        self.held_rendered = np.flatnonzero((split == "validation") & rendered)
        if len(self.held) < 2:
            self.held, self.held_rendered = self.held_rendered, self.held
        self.by_track: list[NDArray[np.int64]] = _grouped(self.windows, self.train)
        if len(self.by_track) < 2 or len(self.held) < 2:
            raise ValueError(
                "MuLan needs captioned or labelled windows of two training tracks and two of validation, got "
                f"{len(self.by_track)} tracks and "
                f"{len(self.held)} windows; label the corpus ('musiclm label') or build a larger one"
            )

    @property
    def captions(self) -> list[list[str]]:
        """The pool of each window."""
        return self.cache.captions

    def pick(self, rng: np.random.Generator, num: int) -> NDArray[np.int64]:
        """A window each of as many training tracks as fit, so that few negatives are false."""
        return np.concatenate([self._of_tracks(rng, tracks, part) for tracks, part in self._parts(rng, num) if part])

    def _parts(self, rng: np.random.Generator, num: int) -> list[tuple[list[int], int]]:
        """Tracks, by their places in `by_track`, and how many windows of a step are drawn from them."""
        everything = list(range(len(self.by_track)))
        if self.rendered_share is None:
            return [(everything, num)]
        is_rendered = [self.windows[group[0]].track.source == RENDERED for group in self.by_track]
        rendered = [i for i in everything if is_rendered[i]]
        real = [i for i in everything if not is_rendered[i]]
        share = int(self.rendered_share * num + rng.random())
        for tracks, wanted, kind in ((rendered, share, "rendered"), (real, num - share, "real")):
            if wanted and not tracks:
                raise ValueError(f"rendered_share is {self.rendered_share}, but no {kind} track can be trained on")
        return [(rendered, share), (real, num - share)]

    def _of_tracks(self, rng: np.random.Generator, tracks: list[int], num: int) -> NDArray[np.int64]:
        """A window of each of `num` tracks, again from the first one where there are fewer."""
        order = [self.by_track[tracks[i]] for i in rng.permutation(len(tracks))]
        return np.array([rng.choice(order[i % len(order)]) for i in range(num)])

    def same(self, picked: NDArray[np.int64], choices: NDArray[np.int64]) -> Bool[Tensor, "k b b"]:
        """For each of the window's chosen captions: pairs of one piece or of one caption, which are no negatives."""
        # numbers in place of words: a batch of thousands has millions of pairs
        piece = np.unique([self.windows[w].track.piece for w in picked], return_inverse=True)[1]
        found = []
        for column in choices.T:
            words = [self.captions[w][c].lower() for w, c in zip(picked, column, strict=True)]
            text = np.unique(words, return_inverse=True)[1]
            found.append((piece[:, None] == piece) | (text[:, None] == text))
        return torch.from_numpy(np.stack(found))

    @torch.no_grad()
    def features(self, model: MuLan, windows: NDArray[np.int64]) -> Float[Tensor, "n d"]:
        """Audio features of whole windows, from the cache."""
        parts = []
        for some in np.array_split(windows, max(1, len(windows) // 64)):
            mels = np.stack([self.cache.cut(int(w), self.cache.begins[w], np.arange(WINDOW_S)) for w in some])
            parts.append(model.audio(torch.tensor(mels, dtype=torch.float32).to(model.log_scale.device)).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def pooled(self, model: MuLan, windows: NDArray[np.int64], caption: int) -> Float[Tensor, "n d"]:
        """Text features of caption number `caption` of each window's pool."""
        if self.cache.pooled is not None:
            return torch.tensor(self.cache.pooled[windows, caption], dtype=torch.float32)
        return encode_texts(model, [self.captions[w][caption] for w in windows])

    def validate(self, pairs: Callable[[NDArray[np.int64]], tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
        """Loss and retrieval on the windows of the validation split, one caption each; `baseline` has what guessing
        scores.

        pairs: vectors of windows and of a caption of each, and the loss's scale. Where there are real and rendered
        tracks the figures are of the real ones; `rendered_*` of the others.
        """
        figures: dict[str, float] = {}
        for prefix, windows in self._held_parts():
            audio, text, log_scale = pairs(windows)
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

    def baseline(self, batch_size: int) -> dict[str, float]:
        """What guessing scores, in training on `batch_size` pairs and in `validate`."""
        figures = {
            "contrastive": math.log(batch_size),
            "audio_to_text": 1 / batch_size,
            "text_to_audio": 1 / batch_size,
        }
        for prefix, windows in self._held_parts():
            n = len(windows)
            figures |= {
                f"{prefix}loss_validation": math.log(n),
                f"{prefix}text_to_audio_r1": 1 / n,
                f"{prefix}text_to_audio_r10": min(1.0, 10 / n),
                f"{prefix}audio_to_text_r10": min(1.0, 10 / n),
                f"{prefix}median_rank": (n + 1) / 2,
            }
        return figures

    def _held_parts(self) -> list[tuple[str, NDArray[np.int64]]]:
        parts = (("", self.held), ("rendered_", self.held_rendered))
        return [(prefix, windows) for prefix, windows in parts if len(windows) > 1]

    def counts(self) -> dict[str, int]:
        """For the artifact."""
        return {"train": len(self.train), "train_tracks": len(self.by_track), "validation": len(self.held)}


def _grouped(windows: list[DescribedWindow], indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    groups: dict[str, list[int]] = {}
    for i in indices:
        groups.setdefault(windows[i].track.id, []).append(int(i))
    return [np.array(group) for group in groups.values()]
