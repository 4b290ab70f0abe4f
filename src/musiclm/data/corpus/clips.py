"""Clips: fixed-length pieces cut from the corpus, at random for training and spread evenly for evaluation."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from musiclm.core.audio import SAMPLE_RATE_HZ
from musiclm.core.unicode import name_bytes
from musiclm.data.corpus.manifest import CorpusError, Track

SILENT_CLIP_DB = -60.0  # clips with a lower rms teach nothing (and their level can't be normalised)
_DRAWS = 8


def read_clip(
    corpus_dir: str | Path, track: Track, start_s: float = 0.0, duration_s: float | None = None
) -> Float[np.ndarray, " s"]:
    """Samples [start_s, start_s + duration_s) of a track, in [-1, 1]; zeros where the track has ended already.

    The length is round(duration_s * 24000) exactly; without a duration the clip reaches to the track's end.

    Raises: CorpusError if the audio is missing or damaged, ValueError for a negative start or duration.
    """
    if not start_s >= 0 or (duration_s is not None and not duration_s >= 0):
        raise ValueError(f"a clip from {start_s} s, {duration_s} s long: neither may be negative")
    path = Path(corpus_dir) / track.path
    start = round(start_s * SAMPLE_RATE_HZ)
    try:
        with soundfile.SoundFile(name_bytes(path)) as file:
            num_samples = max(0, file.frames - start) if duration_s is None else round(duration_s * SAMPLE_RATE_HZ)
            out = np.zeros(num_samples, np.float32)
            if start < file.frames and num_samples:
                file.seek(start)
                wanted = min(num_samples, file.frames - start)
                read = file.read(wanted, dtype="float32")
                if len(read) < wanted:
                    raise RuntimeError(f"it ends {(wanted - len(read)) / SAMPLE_RATE_HZ:.2f} s too soon")
                out[: len(read)] = read
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise CorpusError(
            f"{path}: can't be read ({error}); delete it and build the corpus again: only what is missing is made"
        ) from error
    return out


class ClipSampler:
    """Random clips for training. A batch is a pure function of (seed, step), so a resumed run sees the same clips.

    Every second of music is equally likely: tracks are drawn by length. Nearly silent clips are drawn again
    a few times. Clips of tracks shorter than the crop are padded with zeros at the end.

    Raises: CorpusError if there are no tracks, ValueError if the crop is not positive.
    """

    def __init__(self, corpus_dir: str | Path, tracks: Sequence[Track], crop_s: float, seed: int = 0) -> None:
        if not tracks:
            raise CorpusError(
                f"{corpus_dir}: no tracks to draw clips from; build a larger corpus or choose another split"
            )
        if not crop_s > 0:
            raise ValueError(f"crop_s is {crop_s}; it must be positive")
        self.corpus_dir = Path(corpus_dir)
        # Sorted: the same tracks in another order (a manifest still growing, a filter) give the same clips.
        self.tracks = sorted(tracks, key=lambda track: track.id)
        self.crop_s = crop_s
        self.seed = seed
        seconds = np.array([track.seconds for track in self.tracks])
        self._cumulative = np.cumsum(seconds) / seconds.sum()

    def clip(self, step: int, index: int) -> tuple[Float[np.ndarray, " s"], Track, float]:
        """Clip `index` of batch `step`: (audio, track, start_s). It doesn't depend on the batch's size."""
        generator = np.random.default_rng([self.seed, step, index])
        for _ in range(_DRAWS):
            track = self.tracks[min(int(np.searchsorted(self._cumulative, generator.random())), len(self.tracks) - 1)]
            start_s = generator.random() * max(0.0, track.seconds - self.crop_s)
            audio = read_clip(self.corpus_dir, track, start_s, self.crop_s)
            if rms_db(audio) >= SILENT_CLIP_DB:
                break
        return audio, track, start_s

    def batch(
        self, step: int, batch_size: int, rows: slice = slice(None)
    ) -> tuple[Float[Tensor, "b 1 s"], list[Track], list[float]]:
        """The clips of a step, or some rows of them: (audio, their tracks, where in the track each starts, in
        seconds)."""
        return _stack([self.clip(step, index) for index in range(batch_size)[rows]])


def eval_clips(
    corpus_dir: str | Path, tracks: Sequence[Track], crop_s: float, num: int, seed: int = 0
) -> tuple[Float[Tensor, "b 1 s"], list[Track], list[float]]:
    """`num` clips for evaluation: one of each track in turn, in an order fixed by the seed, then a second one of each.

    The first n of a larger set are the smaller set. Where a clip lies depends on seed, track and round alone, so a
    corpus that has grown keeps its clips. Nearly silent places are passed over. Raises: CorpusError if there are no
    tracks.
    """
    if not tracks:
        raise CorpusError(f"{corpus_dir}: no tracks to evaluate on; build a larger corpus or choose another split")

    def order(track: Track) -> bytes:
        return hashlib.sha256(f"{seed} {track.id}".encode()).digest()

    ordered = sorted(tracks, key=order)
    clips = []
    for number in range(num):
        track = ordered[number % len(ordered)]
        generator = np.random.default_rng([*order(track), number // len(ordered)])
        for _ in range(_DRAWS):
            start_s = generator.random() * max(0.0, track.seconds - crop_s)
            audio = read_clip(corpus_dir, track, start_s, crop_s)
            if rms_db(audio) >= SILENT_CLIP_DB:
                break
        clips.append((audio, track, start_s))
    return _stack(clips)


def rms_db(audio: Float[np.ndarray, " s"]) -> float:
    """Level in dB relative to full scale; -120 for silence."""
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-12))


def _stack(
    clips: list[tuple[Float[np.ndarray, " s"], Track, float]],
) -> tuple[Float[Tensor, "b 1 s"], list[Track], list[float]]:
    audio = torch.from_numpy(np.stack([clip for clip, _, _ in clips]))[:, None]
    return audio, [track for _, track, _ in clips], [start_s for _, _, start_s in clips]
