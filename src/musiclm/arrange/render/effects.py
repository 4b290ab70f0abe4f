"""Sound of the mix: rooms, distortion, filters, ducking, levels.

Arrays in, arrays of the same length out; 24 kHz mono float32.
"""

from functools import lru_cache

import numpy as np
import scipy.ndimage
import scipy.signal
from jaxtyping import Float

from musiclm.arrange.styles.recipe import Room
from musiclm.core.audio import SAMPLE_RATE_HZ

Audio = Float[np.ndarray, " s"]

CEILING = 0.95
# seconds until 60 dB down, seconds before the first reflection, cut-off in Hz of what is reflected
ROOMS: dict[Room, tuple[float, float, float]] = {
    "dry": (0.12, 0.002, 6000.0),
    "studio": (0.35, 0.004, 6000.0),
    "spring": (1.5, 0.025, 3500.0),
    "club": (0.8, 0.010, 5000.0),
    "chamber": (1.1, 0.012, 6500.0),
    "hall": (2.0, 0.022, 5500.0),
    "church": (3.8, 0.035, 4000.0),
    "space": (5.0, 0.050, 3500.0),
}
_FRAME = SAMPLE_RATE_HZ // 100


@lru_cache(maxsize=32)
def impulse_response(room: Room, seed: int) -> Audio:
    """A room's answer to a click: a few early reflections, then noise that dies away, faster in the treble.

    Energy 1.
    """
    decay_s, delay_s, cut_hz = ROOMS[room]
    rng = np.random.default_rng(seed)
    length = int((delay_s + decay_s) * SAMPLE_RATE_HZ)
    time_s = np.arange(length) / SAMPLE_RATE_HZ
    noise = rng.standard_normal(length)
    low, high = _split(noise, cut_hz / 3)
    tail = low * 10 ** (-3 * time_s / decay_s) + high * 10 ** (-3 * time_s / (0.55 * decay_s))
    tail[: int(delay_s * SAMPLE_RATE_HZ)] = 0
    if room == "spring":  # a spring rings at its own length
        tail = (
            tail + 0.6 * np.roll(tail, int(0.037 * SAMPLE_RATE_HZ)) + 0.4 * np.roll(tail, int(0.074 * SAMPLE_RATE_HZ))
        )
        tail[: int(delay_s * SAMPLE_RATE_HZ)] = 0
    for _ in range(6):
        place = int((delay_s * rng.uniform(0.5, 2.5) + 0.002) * SAMPLE_RATE_HZ)
        if place < length:
            tail[place] += rng.choice((-1, 1)) * rng.uniform(2, 6)
    tail = low_pass(tail.astype(np.float32), cut_hz)
    return (tail / np.sqrt(np.sum(tail**2) + 1e-12)).astype(np.float32)


def add_room(audio: Audio, room: Room, seed: int) -> Audio:
    """The reflections alone, at the level of the sound that caused them."""
    wet = scipy.signal.oaconvolve(audio, impulse_response(room, seed))[: len(audio)]
    return wet.astype(np.float32)


def low_pass(audio: Audio, cut_hz: float) -> Audio:
    return _filter(audio, "lowpass", cut_hz)


def high_pass(audio: Audio, cut_hz: float) -> Audio:
    return _filter(audio, "highpass", cut_hz)


def distort(audio: Audio, drive: float) -> Audio:
    """Guitar through an amplifier: soft clipping after a treble lift, then the loudspeaker's roll-off. 0: nothing."""
    if drive <= 0:
        return audio
    peak = float(np.abs(audio).max(initial=0.0))
    if peak < 1e-6:
        return audio
    gain = 1 + 14 * drive**2
    shaped = np.tanh(high_pass(audio, 90.0) / peak * gain) / np.tanh(gain)
    return low_pass((shaped * peak).astype(np.float32), 5200.0)


def saturate(audio: Audio, drive: float) -> Audio:
    """Warmth for a whole mix; quiet places stay as they are."""
    if drive <= 0:
        return audio
    level = float(np.sqrt(np.mean(audio**2)) + 1e-9)
    knee = level * (6.0 - 4.0 * drive)
    return (np.tanh(audio / knee) * knee).astype(np.float32)


def duck(num_samples: int, beats_s: list[float], depth: float) -> Audio:
    """A gain that drops on each of the given moments and comes back within a fifth of a second."""
    gain = np.ones(num_samples, np.float32)
    if depth <= 0:
        return gain
    shape = (1 - depth * np.exp(-np.arange(int(0.3 * SAMPLE_RATE_HZ)) / (0.09 * SAMPLE_RATE_HZ))).astype(np.float32)
    for beat in beats_s:
        start = int(beat * SAMPLE_RATE_HZ)
        part = gain[start : start + len(shape)]
        np.minimum(part, shape[: len(part)], out=part)
    return gain


def compress(audio: Audio, ratio: float = 1.6) -> Audio:
    """Evens out peaks of some tenths of a second; sections stay as loud against each other as the ratio lets them."""
    frames = len(audio) // _FRAME + 1
    padded = np.pad(audio, (0, frames * _FRAME - len(audio)))
    level = np.sqrt(np.mean(padded.reshape(frames, _FRAME) ** 2, axis=1))
    level = np.maximum(level, scipy.ndimage.maximum_filter1d(level, 3))
    level = scipy.ndimage.uniform_filter1d(level, 15)
    if level.max(initial=0.0) < 1e-6:
        return audio
    threshold = np.sqrt(np.mean(level**2)) * 1.2
    gain = np.where(level > threshold, (np.maximum(level, threshold) / threshold) ** (1 / ratio - 1), 1.0)
    smooth = np.interp(np.arange(len(audio)), (np.arange(frames) + 0.5) * _FRAME, gain)
    return (audio * smooth).astype(np.float32)


def limit(audio: Audio, ceiling: float = CEILING) -> Audio:
    """Turns peaks down, 4 ms ahead of them, so that nothing passes the ceiling and nothing is clipped."""
    reach = SAMPLE_RATE_HZ // 250
    peaks = scipy.ndimage.maximum_filter1d(np.abs(audio), 2 * reach + 1, mode="nearest")
    gain = ceiling / np.maximum(peaks, ceiling)
    gain = scipy.ndimage.uniform_filter1d(gain, reach, mode="nearest")
    return np.clip(audio * gain, -ceiling, ceiling).astype(np.float32)  # the clip mends rounding alone


def active_rms(audio: Audio) -> float:
    """Root mean square of the frames that sound at all: those within 35 dB of the loudest. 0 if nothing does."""
    frames = len(audio) // (5 * _FRAME)
    if frames == 0:
        return 0.0
    power = np.mean(audio[: frames * 5 * _FRAME].reshape(frames, -1) ** 2, axis=1)
    loudest = float(power.max())
    return float(np.sqrt(np.mean(power[power >= loudest * 10**-3.5]))) if loudest > 1e-12 else 0.0


def _filter(audio: Audio, kind: str, cut_hz: float) -> Audio:
    sos = scipy.signal.butter(2, min(cut_hz, SAMPLE_RATE_HZ * 0.49), kind, fs=SAMPLE_RATE_HZ, output="sos")
    return scipy.signal.sosfilt(sos, audio).astype(np.float32)


def _split(audio: np.ndarray, cut_hz: float) -> tuple[np.ndarray, np.ndarray]:
    low = low_pass(audio.astype(np.float32), cut_hz)
    return low, audio - low
