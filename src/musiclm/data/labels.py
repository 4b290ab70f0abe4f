"""Weak labels of real music: what captions for MuLan are written from (`musiclm.data.captions.weak`).

Tags come from a tagger (`musiclm.listen.tagger`); tempo, level, brightness and key are measured; title, genre and game
are what the manifest says. Every figure carries its confidence, and nothing is turned into a word here: the caption
writer drops what is uncertain. Labels are kept as JSON lines beside the corpus, one line per 10 s window, written as
they are made, so that an interrupted run goes on where it stopped.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from musiclm.core.engines import Engine, LocalEngine, jobs_for, run_in_order
from musiclm.core.features import SAMPLE_RATE_HZ, LogMel
from musiclm.core.theory import estimate_key
from musiclm.core.threads import num_threads
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import Track, load_manifest
from musiclm.listen.tagger import MTT_TAGS, Tagger, pieces

WINDOW_S = 10.0
WINDOWS_PER_UNIT = 16  # a unit of work: seconds of one core
LONGEST_LINE = 1 << 20  # bytes, in the file of labels
LABELS_FILE = "labels.jsonl"


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What is known, or likely, about one window of a track."""

    track: str  # id in the manifest
    start_s: float
    tags: dict[str, float] = field(default_factory=dict)  # MTT tag -> score in [0, 1]; scores below 0.02 left out
    tempo_bpm: float = 0.0
    tempo_confidence: float = 0.0  # height of the autocorrelation's peak, 0..1
    onset_rate_hz: float = 0.0  # clear onsets a second
    level_db: float = -120.0  # RMS, full scale
    range_db: float = 0.0  # loud (95th percentile) minus soft (10th) tenths of a second
    brightness_hz: float = 0.0  # spectral centroid, median over time
    bass_share: float = 0.0  # of the power, below 150 Hz
    key: str = ""  # "D minor"
    key_confidence: float = 0.0  # correlation with the key's profile
    key_margin: float = 0.0  # over the best key that is neither it nor its relative
    title: str = ""
    genre: str = ""
    package: str = ""
    origin: str = ""  # path inside its source


@dataclass(frozen=True)
class Tempo:
    bpm: float
    confidence: float
    onset_rate_hz: float


def measure_tempo(log_mel: NDArray[np.float32], frame_rate_hz: float) -> Tempo:
    """Tempo of a `f t` log-mel by the autocorrelation of its flux, weighted to favour tempi near 120.

    The confidence is the autocorrelation at the beat over that at lag zero. Octaves stay ambiguous: words such as
    "fast" need more.
    """
    flux = np.maximum(np.diff(log_mel, axis=1), 0).mean(0)
    if flux.size < 4 * frame_rate_hz or float(flux.max()) < 1e-3:
        return Tempo(0.0, 0.0, 0.0)
    size = max(3, int(0.5 * frame_rate_hz) | 1)
    padded = np.pad(flux, size // 2, mode="edge")
    local = np.convolve(padded, np.ones(size) / size, mode="valid")
    onset = flux - local
    peaks = (
        (onset[1:-1] > onset[:-2]) & (onset[1:-1] >= onset[2:]) & (onset[1:-1] > max(0.05, 1.0 * float(onset.std())))
    )
    rate = float(peaks.sum() / (flux.size / frame_rate_hz))
    onset = np.maximum(onset, 0)
    onset = onset - onset.mean()
    spectrum = np.abs(np.fft.rfft(onset, 2 * onset.size)) ** 2
    auto = np.fft.irfft(spectrum)[: onset.size]
    auto = auto / np.maximum(1.0 - np.arange(onset.size) / onset.size, 0.3)  # fewer terms at long lags
    if auto[0] <= 0:
        return Tempo(0.0, 0.0, rate)
    bpms = np.arange(50.0, 200.5, 0.5)
    lags = 60.0 * frame_rate_hz / bpms
    grid = np.arange(auto.size)
    at_beat = np.interp(lags, grid, auto) / auto[0]
    at_bar = np.interp(np.minimum(2 * lags, auto.size - 1), grid, auto) / auto[0]
    prior = np.exp(-0.5 * (np.log2(bpms / 120.0) / 0.7) ** 2)
    best = int(np.argmax((at_beat + 0.5 * at_bar) * prior))
    return Tempo(float(bpms[best]), float(np.clip(at_beat[best], 0, 1)), rate)


def chroma(power: NDArray[np.float64], sample_rate_hz: int, n_fft: int) -> NDArray[np.float64]:
    """Energy per pitch class, from C, of an average power spectrum; 55 Hz to 2 kHz, amplitudes compressed."""
    hz = np.arange(power.size) * sample_rate_hz / n_fft
    band = (hz >= 55) & (hz <= 2000)
    pitch = 69 + 12 * np.log2(hz[band] / 440.0)
    near = np.abs(pitch - np.round(pitch)) < 0.35  # bins between two pitches say nothing
    classes = np.round(pitch[near]).astype(int) % 12
    return np.bincount(classes, weights=np.sqrt(power[band][near]), minlength=12).astype(np.float64)


class Labeller:
    """Measures windows of 24 kHz audio. `tagger=None` leaves the tags out."""

    def __init__(self, tagger: Tagger | None) -> None:
        self.tagger = tagger
        self.log_mel = LogMel(n_fft=1024, hop=240, num_mels=40, fmin_hz=30.0, floor=1e-4)

    @torch.no_grad()
    def __call__(self, audio: NDArray[np.float32], track: str, start_s: float) -> Labels:
        """Labels of one window; the manifest's words are added by `label_corpus`."""
        x = torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))
        tags = {}
        if self.tagger is not None:
            scores = self.tagger(pieces(audio, (0.2, 0.8))).mean(0).tolist()  # two cost 60 % of the whole window
            tags = {tag: round(score, 3) for tag, score in zip(MTT_TAGS, scores, strict=True) if score >= 0.02}
        tempo = measure_tempo(self.log_mel(x[None])[0].numpy(), SAMPLE_RATE_HZ / 240)
        n_fft = 8192
        spectrum = torch.stft(x, n_fft, 2048, window=torch.hann_window(n_fft), return_complex=True).abs().square()
        power = spectrum.mean(1).double().numpy()
        hz = np.arange(power.size) * SAMPLE_RATE_HZ / n_fft
        magnitude = spectrum.sqrt().double().numpy()
        centroid = (hz[:, None] * magnitude).sum(0) / np.maximum(magnitude.sum(0), 1e-9)
        key = estimate_key(chroma(power, SAMPLE_RATE_HZ, n_fft))
        blocks = x[: x.numel() // 2400 * 2400].view(-1, 2400).square().mean(1).clamp(min=1e-12).log10().mul(10).numpy()
        return Labels(
            track=track,
            start_s=round(start_s, 3),
            tags=tags,
            tempo_bpm=tempo.bpm,
            tempo_confidence=round(tempo.confidence, 3),
            onset_rate_hz=round(tempo.onset_rate_hz, 2),
            level_db=round(10 * math.log10(max(float(x.square().mean()), 1e-12)), 2),
            range_db=round(float(np.percentile(blocks, 95) - np.percentile(blocks, 10)), 2),
            brightness_hz=round(float(np.median(centroid)), 1),
            bass_share=round(float(power[hz < 150].sum() / max(power.sum(), 1e-12)), 3),
            key=key.name if key else "",
            key_confidence=round(key.correlation, 3) if key else 0.0,
            key_margin=round(key.margin_unrelated, 3) if key else 0.0,
        )


def window_starts(seconds: float, most: int, every_s: float = 20.0) -> list[float]:
    """Starts of a window every `every_s` or so of a track, `most` at most; the first ones are the most spread."""
    count = max(1, min(most, round(seconds / every_s)))
    room = max(0.0, seconds - WINDOW_S)
    starts = [room * (i + 0.5) / count for i in range(count)]
    order = sorted(range(count), key=lambda i: (i * 0.6180339887) % 1.0)
    return [round(starts[i], 3) for i in order]


def load_labels(path: Path) -> list[Labels]:
    """The labels written so far; a last line cut short by a crash is left out. An absent file is no labels."""
    return list(_read_labels(path))


def _read_labels(path: Path) -> Iterator[Labels]:
    if not Path(path).is_file():
        return
    known = {f.name for f in dataclasses.fields(Labels)}
    with open(path) as lines:
        for line in lines:
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                continue
            if unknown := sorted(set(values) - known):
                raise ValueError(f"{path} has labels {unknown} this version does not know; label again")
            yield Labels(**values)


def label_corpus(
    corpus_dir: Path,
    tagger: Tagger | None,
    *,
    windows_per_track: int = 6,
    path: Path | None = None,
    engine: Engine | None = None,
) -> Iterator[Labels]:
    """Labels the windows of a corpus that have no labels yet and appends them to `labels.jsonl`; yields each as it is
    written.

    Without a tagger the labels are what can be measured: tempo, key, level, brightness and the like.

    Goes round by round, one window of every track first, so that a run cut short has seen all the music. The file is
    the same wherever `engine` works, and however often it was stopped; by default a process a core, if there is enough
    to do.
    """
    corpus_dir = Path(corpus_dir).absolute()
    path = Path(path) if path is not None else corpus_dir / LABELS_FILE
    tracks = load_manifest(corpus_dir)
    _drop_cut_line(path)
    done = {(labels.track, labels.start_s) for labels in _read_labels(path)}
    todo = [
        (track, starts[place])
        for place in range(windows_per_track)
        for track in tracks
        if place < len(starts := window_starts(track.seconds, windows_per_track))
        and (track.id, starts[place]) not in done
    ]
    units = [todo[first : first + WINDOWS_PER_UNIT] for first in range(0, len(todo), WINDOWS_PER_UNIT)]
    work = functools.partial(_label, Labeller(tagger), corpus_dir)
    with contextlib.ExitStack() as stack:
        chosen = engine or stack.enter_context(LocalEngine(jobs_for(len(units))))
        file = stack.enter_context(open(path, "a"))
        for _, found in run_in_order(chosen, work, units, lambda unit: f"track {unit[0][0].id}"):
            for labels in found:
                file.write(json.dumps(dataclasses.asdict(labels)) + "\n")
                file.flush()
                yield labels


def _label(labeller: Labeller, corpus_dir: Path, windows: list[tuple[Track, float]]) -> list[Labels]:
    with num_threads(1):  # processes share the cores, and results are the same in every process
        return [
            dataclasses.replace(
                labeller(read_clip(corpus_dir, track, start_s, WINDOW_S), track.id, start_s),
                title=track.title,
                genre=track.genre,
                package=track.package,
                origin=track.origin,
            )
            for track, start_s in windows
        ]


def _drop_cut_line(path: Path) -> None:
    """Takes off a last line that was cut short, so that the next one stands alone."""
    if path.is_file():
        with open(path, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LONGEST_LINE))
            tail = file.read()
            if not tail.endswith(b"\n"):
                file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
