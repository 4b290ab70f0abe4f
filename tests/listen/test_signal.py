"""Meter readings of signals whose readings are known."""

import math

import numpy as np
import pytest

from musiclm.listen.signal import bandwidth_hz, sanity, seam_ratio

RATE = 24000
TIME = np.arange(4 * RATE) / RATE


def test_a_sine_reads_as_the_standard_says() -> None:
    # ITU-R BS.1770: a full-scale sine of 997 Hz in one channel reads -3.01 LUFS
    found = sanity(np.sin(2 * np.pi * 997 * TIME))
    assert found.loudness_lufs == pytest.approx(-3.01, abs=0.1)
    assert found.silent_share == 0 and abs(found.dc_offset) < 1e-3
    assert sanity(0.1 * np.sin(2 * np.pi * 997 * TIME)).loudness_lufs == pytest.approx(-23.01, abs=0.1)


def test_faults_are_seen() -> None:
    loud = np.clip(3 * np.sin(2 * np.pi * 220 * TIME), -1, 1)
    # |3 sin| >= 0.999 for all but 2 asin(0.333) / pi of the time
    assert sanity(loud).clipped_share == pytest.approx(1 - 2 * math.asin(0.333) / math.pi, abs=0.01)
    half = np.where(TIME < 2, 0.3 * np.sin(2 * np.pi * 220 * TIME), 0)
    assert sanity(half).silent_share == pytest.approx(0.5, abs=0.03)
    assert sanity(0.1 * np.sin(2 * np.pi * 220 * TIME) + 0.2).dc_offset == pytest.approx(0.2, abs=1e-3)
    assert sanity(np.zeros(RATE)).loudness_lufs == -70


def test_bandwidth_of_filtered_noise() -> None:
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(len(TIME)))
    hz = np.fft.rfftfreq(len(TIME), 1 / RATE)
    muffled = np.fft.irfft(np.where(hz < 4000, spectrum, 0))
    assert bandwidth_hz(muffled) == pytest.approx(4000, rel=0.02)
    assert bandwidth_hz(np.fft.irfft(spectrum)) > 11500
    assert bandwidth_hz(np.zeros(100)) == 0


def test_loud_bass_hides_no_treble() -> None:
    hiss = 0.005 * np.random.default_rng(0).standard_normal(len(TIME))
    assert bandwidth_hz(0.5 * np.sin(2 * np.pi * 60 * TIME) + hiss) > 11000


def test_a_seam_is_seen_and_none_where_there_is_none() -> None:
    tone, other = np.sin(2 * np.pi * 440 * TIME), np.sin(2 * np.pi * 3000 * TIME)
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(TIME))
    glued = np.where(TIME < 2, tone, other) + noise
    assert seam_ratio(glued, [2.0]) > 1.6
    assert seam_ratio(tone + noise, [2.0]) == pytest.approx(1, abs=0.3)
    assert math.isnan(seam_ratio(tone, [9.0]))


def test_the_ratio_at_a_seam_is_that_of_it_to_all_other_places() -> None:
    """By plain loops: the change between frames that touch, at the seam and a hop to either side, against others."""
    clip = np.random.default_rng(1).standard_normal(RATE) * np.where(np.arange(RATE) < RATE // 2, 0.1, 0.4)
    spectra = []
    for start in range(0, RATE - 511, 256):
        spectra.append(np.log(np.abs(np.fft.rfft(clip[start : start + 512] * np.hanning(512))) + 1e-4))
    changes = [float(np.sqrt(np.square(b - a).sum())) for a, b in zip(spectra, spectra[2:], strict=False)]
    middle = round(0.5 * RATE / 256) - 1
    at = [k for k in range(len(changes)) if abs(k - middle) <= 1]
    rest = [changes[k] for k in range(len(changes)) if k not in at]
    wanted = np.mean([changes[k] for k in at]) / np.mean(rest)
    assert wanted > 1.2 and seam_ratio(clip, [0.5]) == pytest.approx(wanted, rel=1e-6)


def test_too_short() -> None:
    with pytest.raises(ValueError, match="half a second"):
        sanity(np.zeros(100))
