"""The codec metrics put clips in an order that is known, and agree with cases worked by hand."""

import numpy as np
import pytest

from musiclm.evaluate.codec import mel_distance_db, pitch_correlation, si_sdr_db

RATE = 24000


def tone(hz: float, seconds: float = 2.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * sum(np.sin(2 * np.pi * hz * k * t) / k for k in (1, 2, 3))).astype(np.float32)


def noise(seconds: float = 2.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def test_mel_distance_of_a_louder_clip_is_its_gain() -> None:
    clip = noise()
    assert mel_distance_db(clip, clip) == 0
    assert mel_distance_db(clip * 2, clip) == pytest.approx(6.02, abs=0.05)
    with pytest.raises(ValueError, match="can't be compared"):
        mel_distance_db(clip, clip[:-1])


def test_si_sdr_by_hand() -> None:
    rng = np.random.default_rng(1)
    signal = rng.normal(size=48000)
    signal -= signal.mean()
    error = rng.normal(size=48000)
    error -= error.mean()
    error -= (
        signal * (error @ signal) / (signal @ signal)
    )  # orthogonal, so that the ratio of energies is the whole story
    error *= np.linalg.norm(signal) / np.linalg.norm(error) / 10
    assert si_sdr_db(signal + error, signal) == pytest.approx(20, abs=1e-6)
    assert si_sdr_db(3 * (signal + error), signal) == pytest.approx(20, abs=1e-6)


def test_pitch_correlation_hears_what_mels_do_not() -> None:
    clip = tone(220)
    assert pitch_correlation(clip, clip) == pytest.approx(1)
    assert pitch_correlation(-0.5 * clip, clip) == pytest.approx(1), "neither level nor polarity counts"
    near, far = (pitch_correlation(tone(220 * 2 ** (cents / 1200)), clip) for cents in (3, 50))
    assert near > 0.95 and far < 0.2, (near, far)
    rng = np.random.default_rng(2)
    wobble = np.cumsum(220 * 2 ** (rng.normal(0, 0.03, len(clip) // 240).repeat(240)) / RATE) * 2 * np.pi
    wavering = (0.3 * sum(np.sin(k * wobble) / k for k in (1, 2, 3))).astype(np.float32)
    assert pitch_correlation(wavering, clip[: len(wavering)]) < near - 0.05
    assert abs(pitch_correlation(noise(), clip)) < 0.3
    assert pitch_correlation(np.zeros_like(clip), clip) == 0
    with pytest.raises(ValueError, match="at least 16384"):
        pitch_correlation(clip[:1000], clip[:1000])
