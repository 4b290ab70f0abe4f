"""The voice sings what is written, as people do: near the pitch, sliding, trembling."""

import random
from dataclasses import replace

import numpy as np
import pytest

from musiclm.arrange.render.voice import MANNERS, RANGES, Manner, Sung, draw_singer, perform

RATE_HZ = 24000
STEADY = {"tuning": 0.0, "error": 0.0, "drift": 0.0, "vibrato": 0.0, "scoop": 0.0, "breath": 0.0}


def heard(audio: np.ndarray, at_s: float, low_hz: float, high_hz: float) -> float:
    """MIDI pitch around a moment, by autocorrelation."""
    piece = audio[round((at_s - 0.06) * RATE_HZ) : round((at_s + 0.06) * RATE_HZ)].astype(np.float64)
    lags = np.arange(int(RATE_HZ / high_hz), int(RATE_HZ / low_hz) + 2)
    likeness = np.array([piece[:-lag] @ piece[lag:] / len(piece[lag:]) for lag in lags])
    best = int(likeness[1:-1].argmax()) + 1
    a, b, c = likeness[best - 1 : best + 2]
    lag = lags[best] + 0.5 * (a - c) / (a - 2 * b + c)
    return 69 + 12 * np.log2(RATE_HZ / lag / 440)


@pytest.mark.parametrize("manner", MANNERS)
def test_notes_are_sung_at_their_pitch(manner: Manner) -> None:
    low, high = RANGES[manner]
    pitches = [low + 3, low + 7, high - 6, low + 5]
    notes = [Sung(0.1 + 0.6 * i, 0.6 + 0.6 * i, pitch) for i, pitch in enumerate(pitches)]
    singer = replace(draw_singer(manner, random.Random(1)), **STEADY)
    audio = perform(notes, singer, 3 * RATE_HZ, random.Random(2))
    assert audio.shape == (3 * RATE_HZ,) and audio.dtype == np.float32 and np.abs(audio).max() == pytest.approx(0.5)
    for i, pitch in enumerate(pitches):
        near = 440 * 2 ** ((pitch - 69) / 12)
        assert heard(audio, 0.45 + 0.6 * i, near / 1.4, near * 1.4) == pytest.approx(pitch, abs=0.15)
    assert np.abs(audio[round(2.6 * RATE_HZ) :]).max() < 0.01, "silence after the last note"


def test_singers_differ_and_a_seed_repeats_them() -> None:
    notes = [Sung(0.0, 0.5, 60), Sung(0.5, 1.0, 64)]
    same, again, other = (
        perform(notes, draw_singer("sing", random.Random(seed)), RATE_HZ, random.Random(seed)) for seed in (1, 1, 2)
    )
    assert same.tobytes() == again.tobytes() != other.tobytes()
    tunings = [draw_singer("hum", random.Random(seed)).tuning for seed in range(30)]
    assert -0.36 < min(tunings) < -0.2 and 0.2 < max(tunings) < 0.36


def test_notes_slide_into_one_another_and_long_ones_tremble() -> None:
    singer = replace(draw_singer("whistle", random.Random(0)), **{**STEADY, "glide_s": 0.3, "legato": 1.0})
    notes = [Sung(0.0, 1.0, 72), Sung(1.0, 2.0, 84)]
    audio = perform(notes, singer, 2 * RATE_HZ, random.Random(0))
    assert 75 < heard(audio, 1.15, 400, 1300) < 81, "halfway"
    audio = perform([Sung(0.0, 2.0, 72)], replace(singer, vibrato=0.8, vibrato_hz=3.0), 2 * RATE_HZ, random.Random(0))
    places = [heard(audio, at, 400, 700) for at in np.arange(0.8, 1.8, 0.05)]
    assert max(places) - min(places) > 0.5


def test_one_note_at_a_time_and_nothing_of_nothing() -> None:
    singer = replace(draw_singer("sing", random.Random(0)), **STEADY)
    together = [Sung(0.0, 1.0, 55), Sung(0.0, 1.0, 67)]
    audio = perform(together, singer, RATE_HZ, random.Random(0))
    assert heard(audio, 0.7, 150, 600) == pytest.approx(67, abs=0.15), "the highest"
    assert not perform([], singer, 100, random.Random(0)).any()
