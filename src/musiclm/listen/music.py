"""What music is made of, measured by librosa, which had no part in training: beat, key, density, form, variety.

- tempo_bpm: of the tracked beats; octaves stay ambiguous.
- pulse_bpm: the centre of gravity of the onset envelope's spectrum from 30 to 600 a minute, on a log scale: how fast it
  goes, with no beat to be chosen and so no octave to be missed (docs/decisions/004-who-judges.md).
- beat_strength: the tempogram's autocorrelation at the beat, 0 to 1; higher is a clearer pulse.
- periodicity_2s, periodicity_8s: the onset envelope's autocorrelation at its best lag from 0.3 to 1.5 s, in windows of
  so long, -1 to 1. Music that has a pulse but drifts loses more of it from two seconds to eight than music that keeps
  time. nan for clips shorter than a window.
- beat_jitter: standard deviation of the intervals between beats over their mean; lower is steadier.
- key, tonal_clarity: the best of 24 Krumhansl-Kessler profiles and its correlation with the mean chroma, -1 to 1;
  higher is more tonal.
- onset_density: onsets a second; `musiclm.listen.notes` counts notes.
- percussive_share: of the energy, after harmonic-percussive separation, 0 to 1; high with drums, low without.
- brightness_hz: median spectral centroid. bass_share: of the energy, below 150 Hz.
- repetition: how far the clip's likeness to itself rises again at a lag of two seconds or more, over its lowest at
  shorter lags, 0 to 2; high is a loop, low a drone, noise, or one thing after another.
- change: how much one quarter of the clip differs from the next, as a share of how much half seconds differ, 0 to 2;
  low is standing still.

Neither way is better for most of them: they are read beside real music.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.theory import estimate_key, parse_key

Clip = Float[np.ndarray, " s"]
HOP = 512
MIN_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Description:
    """One clip; see the module."""

    tempo_bpm: float
    pulse_bpm: float
    beat_strength: float
    periodicity_2s: float
    periodicity_8s: float
    beat_jitter: float
    key: str
    tonal_clarity: float
    onset_density: float
    percussive_share: float
    brightness_hz: float
    bass_share: float
    repetition: float
    change: float


def describe(clip: Clip) -> Description:
    """Of a clip at 24 kHz. Raises: ValueError if it is shorter than `MIN_S` or librosa is missing."""
    try:
        import librosa
    except ImportError:
        raise ValueError("librosa is not installed; run: pip install 'musiclm[eval]'") from None
    if len(clip) < MIN_S * SAMPLE_RATE_HZ:
        raise ValueError(f"a clip of {len(clip) / SAMPLE_RATE_HZ:.2f} s; wanted {MIN_S} s or more")
    clip = np.asarray(clip, np.float32)
    complex_spectrum = librosa.stft(clip, n_fft=2048, hop_length=HOP)
    magnitude = np.abs(complex_spectrum)
    power = magnitude**2
    mel = librosa.feature.melspectrogram(S=power, sr=SAMPLE_RATE_HZ, n_mels=64)
    envelope = librosa.onset.onset_strength(S=librosa.power_to_db(mel), sr=SAMPLE_RATE_HZ, hop_length=HOP)
    tempo, beats = librosa.beat.beat_track(onset_envelope=envelope, sr=SAMPLE_RATE_HZ, hop_length=HOP, trim=False)
    # a third of a second: shorter windows do not tell the semitones of a bass apart
    chroma = librosa.feature.chroma_stft(y=clip, sr=SAMPLE_RATE_HZ, n_fft=8192, hop_length=HOP)
    key, clarity = find_key(chroma.mean(1))
    onsets = librosa.onset.onset_detect(onset_envelope=envelope, sr=SAMPLE_RATE_HZ, hop_length=HOP)
    harmonic, percussive = librosa.decompose.hpss(magnitude)
    total = float(np.square(harmonic).sum() + np.square(percussive).sum())
    hz = librosa.fft_frequencies(sr=SAMPLE_RATE_HZ, n_fft=2048)
    centroid = (hz[:, None] * magnitude).sum(0) / np.maximum(magnitude.sum(0), 1e-9)
    timbre = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=13)[1:]
    repetition, change = form(chroma, timbre)
    return Description(
        tempo_bpm=float(np.atleast_1d(tempo)[0]),
        pulse_bpm=pulse(envelope),
        beat_strength=beat_strength(envelope, beats),
        periodicity_2s=periodicity(envelope, 2.0),
        periodicity_8s=periodicity(envelope, 8.0),
        beat_jitter=jitter(beats),
        key=key,
        tonal_clarity=clarity,
        onset_density=len(onsets) / (len(clip) / SAMPLE_RATE_HZ),
        percussive_share=float(np.square(percussive).sum()) / max(total, 1e-12),
        brightness_hz=float(np.median(centroid)),
        bass_share=float(power[hz < 150].sum() / max(float(power.sum()), 1e-12)),
        repetition=repetition,
        change=change,
    )


def pulse(envelope: Float[np.ndarray, " t"]) -> float:
    """Geometric mean, a minute, of the rates in the onset envelope's Fourier tempogram (8 s); 0 without onsets."""
    import librosa

    rate_hz, window = SAMPLE_RATE_HZ, 384
    spectrum = librosa.feature.fourier_tempogram(onset_envelope=envelope, sr=rate_hz, hop_length=HOP, win_length=window)
    strength = np.abs(spectrum).mean(1)
    rates = librosa.fourier_tempo_frequencies(sr=rate_hz, hop_length=HOP, win_length=window)
    inside = (rates > 30) & (rates < 600)
    total = float(strength[inside].sum())
    return float(np.exp(strength[inside] @ np.log(rates[inside]) / total)) if total > 1e-9 else 0.0


def beat_strength(envelope: Float[np.ndarray, " t"], beats: Any) -> float:
    """Autocorrelation of the onset envelope at the mean beat interval over that at 0. 0 without beats."""
    if len(beats) < 3:
        return 0.0
    lag = round(float(np.diff(beats).mean()))
    x = envelope - envelope.mean()
    energy = float(x @ x)
    if energy <= 0 or not 0 < lag < len(x) // 2:
        return 0.0
    near = [float(x[: -(lag + d)] @ x[lag + d :]) / energy for d in (-1, 0, 1) if lag + d > 0]
    return float(np.clip(max(near) * len(x) / (len(x) - lag), 0, 1))


def periodicity(envelope: Float[np.ndarray, " t"], window_s: float) -> float:
    """Mean over windows, half overlapping, of the autocorrelation at its best lag from 0.3 to 1.5 s over that at 0.

    0 without onsets, nan if too short.
    """
    width, shortest, longest = (round(s * SAMPLE_RATE_HZ / HOP) for s in (window_s, 0.3, 1.5))
    if len(envelope) < width:
        return float("nan")
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(envelope, np.float64), width)[:: width // 2]
    windows = windows - windows.mean(1, keepdims=True)
    energy = np.square(windows).sum(1)
    # longer lags have fewer products
    lags = np.arange(shortest, min(longest, width - 1) + 1)
    at = np.stack([(windows[:, : width - lag] * windows[:, lag:]).sum(1) * width / (width - lag) for lag in lags])
    return float((at.max(0) / np.maximum(energy, 1e-9)).mean())


def jitter(beats: Any) -> float:
    """Standard deviation of beat intervals over their mean; nan with fewer than three intervals."""
    intervals = np.diff(np.asarray(beats, np.float64))
    return float(intervals.std() / intervals.mean()) if len(intervals) >= 3 else float("nan")


def find_key(pitch_classes: Float[np.ndarray, " 12"]) -> tuple[str, float]:
    """The key whose profile correlates best with twelve energies, and that correlation; ("", 0) for a flat one."""
    found = estimate_key(pitch_classes)
    return (found.name, found.correlation) if found else ("", 0.0)


def form(chroma: Float[np.ndarray, "12 t"], timbre: Float[np.ndarray, "m t"]) -> tuple[float, float]:
    """(repetition, change); see the module. 0 and 0 for clips of less than four seconds or so."""
    fine, coarse = (_blocks(chroma, timbre, block_s) for block_s in (0.25, 0.5))
    if len(fine) < 16:
        return 0.0, 0.0
    x = fine / np.maximum(np.linalg.norm(fine, axis=1, keepdims=True), 1e-9)
    alike = x @ x.T
    by_lag = np.array([np.diagonal(alike, lag).mean() for lag in range(len(x) // 2 + 1)])
    # the best lag alone would praise a clip of a few still parts, which is like itself at every short lag
    risen = [by_lag[lag] - by_lag[1:lag].min() for lag in range(8, len(by_lag))]
    quarters = [part.mean(0) for part in np.array_split(coarse, 4)]
    steps = [float(np.square(a - b).sum()) / 4 for a, b in zip(quarters, quarters[1:], strict=False)]
    return max(0.0, float(max(risen))), float(np.mean(steps))


def _blocks(chroma: Float[np.ndarray, "12 t"], timbre: Float[np.ndarray, "m t"], block_s: float) -> np.ndarray:
    """Both features averaged over blocks, then centred and scaled by row: (blocks, 12 + m), of mean square 1 for chroma
    and 1 for timbre.
    """
    step = max(1, round(SAMPLE_RATE_HZ / HOP * block_s))
    count = chroma.shape[1] // step
    rows = []
    for part in (chroma, timbre):
        means = part[:, : count * step].reshape(len(part), count, step).mean(2)
        rows.append((means - means.mean(1, keepdims=True)) / (means.std(1, keepdims=True) + 1e-6) / np.sqrt(len(part)))
    return np.concatenate(rows).T


def chroma_blocks(clip: Clip, block_s: float = 0.5) -> Float[np.ndarray, "t 12"]:
    """Chroma of a clip averaged over blocks, each centred and of unit length; zeros where no pitch stands out."""
    import librosa

    chroma = librosa.feature.chroma_stft(
        y=np.asarray(clip, np.float32), sr=SAMPLE_RATE_HZ, n_fft=8192, hop_length=HOP, tuning=0.0
    )
    step = round(SAMPLE_RATE_HZ / HOP * block_s)
    count = chroma.shape[1] // step
    blocks = chroma[:, : count * step].reshape(12, count, step).mean(2).T
    blocks = blocks - blocks.mean(1, keepdims=True)
    length = np.linalg.norm(blocks, axis=1, keepdims=True)
    return np.where(length > 1e-3, blocks / np.maximum(length, 1e-9), 0.0)


def passage_likeness(a: Float[np.ndarray, "t 12"], b: Float[np.ndarray, "u 12"]) -> float:
    """How much alike two clips' chroma blocks are where they overlap best, by half of the shorter one at least: -1 to
    1, 1 for a passage taken over.
    """
    products = a @ b.T
    least = max(1, min(products.shape) // 2)
    shifts = range(-(len(a) - least), len(b) - least + 1)
    return max(float(np.diagonal(products, shift).mean()) for shift in shifts)


def chroma_agreement(a: Clip, b: Float[np.ndarray, " r"]) -> float:
    """Mean over frames of the correlation of two clips' chroma, -1 to 1: do they play the same notes at the same time?

    Frames without pitch count 0. The end of the longer clip does not count.
    """
    import librosa

    first, second = (
        librosa.feature.chroma_stft(y=np.asarray(x, np.float32), sr=SAMPLE_RATE_HZ, n_fft=8192) for x in (a, b)
    )
    num = min(first.shape[1], second.shape[1])
    x, y = (part[:, :num] - part[:, :num].mean(0) for part in (first, second))
    return float(((x * y).sum(0) / np.maximum(np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0), 1e-9)).mean())


def onset_agreement(a: Clip, b: Float[np.ndarray, " r"]) -> float:
    """Correlation of two clips' onset envelopes, -1 to 1: do they strike at the same time? 0 if one never does."""
    import librosa

    first, second = (librosa.onset.onset_strength(y=np.asarray(x, np.float32), sr=SAMPLE_RATE_HZ) for x in (a, b))
    num = min(len(first), len(second))
    x, y = (part[:num] - part[:num].mean() for part in (first, second))
    return float(x @ y / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-9))


def same_tempo(asked_bpm: float, found_bpm: float, tolerance: float = 0.08) -> bool:
    """Whether a tempo is the one asked for, or its half or double, within `tolerance`."""
    return found_bpm > 0 and any(abs(found_bpm * factor / asked_bpm - 1) <= tolerance for factor in (0.5, 1.0, 2.0))


def key_score(asked: str, found: str) -> float:
    """MIREX weights: 1 for the same key, 0.5 for a fifth off, 0.3 for the relative, 0.2 for the parallel, else 0.

    Keys as "D minor".

    Raises: ValueError for a name that is no key.
    """
    if not found:
        return 0.0
    (tonic, mode), (other, other_mode) = parse_key(asked), parse_key(found)
    if (tonic, mode) == (other, other_mode):
        return 1.0
    if mode == other_mode and (other - tonic) % 12 in (5, 7):
        return 0.5
    if mode != other_mode and (other - tonic) % 12 == (9 if mode == "major" else 3):
        return 0.3
    return 0.2 if tonic == other else 0.0
