"""Measures of music on music made up so that the answers are known."""

import numpy as np
import pytest

from musiclm.listen.music import (
    beat_strength,
    chroma_agreement,
    chroma_blocks,
    describe,
    find_key,
    form,
    jitter,
    key_score,
    onset_agreement,
    passage_likeness,
    periodicity,
    pulse,
    same_tempo,
)

RATE = 24000


def clicks(bpm: float, seconds: float = 10.0, seed: int = 0) -> np.ndarray:
    """Short bursts of noise on the beat."""
    rng = np.random.default_rng(seed)
    out = 0.001 * rng.standard_normal(round(seconds * RATE))
    for beat in range(int(seconds * bpm / 60)):
        start = round(beat * 60 / bpm * RATE)
        burst = rng.standard_normal(1200) * np.exp(-np.arange(1200) / 200)
        out[start : start + 1200] += burst[: len(out) - start]
    return (0.3 * out).astype(np.float32)


def chord(notes: list[int], seconds: float) -> np.ndarray:
    """Midi notes with a few partials."""
    time = np.arange(round(seconds * RATE)) / RATE
    hz = [440 * 2 ** ((note - 69) / 12) for note in notes]
    return sum(np.sin(2 * np.pi * f * k * time) / k for f in hz for k in (1, 2, 3)) * 0.05


def cadence(tonic: int, seconds: float = 10.0) -> np.ndarray:
    """I IV V I in major, twice."""
    triads = [[0, 4, 7], [5, 9, 12], [7, 11, 14], [0, 4, 7]] * 2
    return np.concatenate([chord([48 + tonic + n for n in triad], seconds / 8) for triad in triads]).astype(np.float32)


def noise(seconds: float = 10.0, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def test_a_click_track() -> None:
    found, hiss = describe(clicks(120)), describe(noise())
    assert same_tempo(120, found.tempo_bpm) and found.beat_jitter < 0.05
    assert found.beat_strength > 0.6 > 0.3 > hiss.beat_strength
    assert found.onset_density == pytest.approx(2, abs=0.3)
    assert found.percussive_share > 0.7


def test_a_cadence() -> None:
    found = describe(cadence(2))
    assert found.key == "D major" and found.tonal_clarity > 0.7 > describe(noise()).tonal_clarity
    assert found.percussive_share < 0.3 and found.brightness_hz < 1500 < describe(noise()).brightness_hz


def test_the_pulse_rises_with_the_tempo_and_knows_no_octaves() -> None:
    """Where the beat tracker takes 50 for 100 and 180 for 90, the order of pulses is still that of the tempi."""

    def notes(per_minute: int) -> np.ndarray:
        count = round(10 * per_minute / 60)
        return np.concatenate([chord([60 + k * 7 % 12, 64 + k * 5 % 12], 60 / per_minute) for k in range(count)])

    for make, tempi in ((clicks, (50, 80, 120, 180)), (notes, (40, 80, 160, 300))):
        found = [describe(make(tempo).astype(np.float32)).pulse_bpm for tempo in tempi]
        assert found == sorted(found) and found[-1] > 1.1 * found[0]
    assert pulse(np.zeros(470)) == 0.0


def test_what_repeats_and_what_changes() -> None:
    rng = np.random.default_rng(0)
    pattern = rng.standard_normal((12, 94))  # two seconds
    loop, random = np.tile(pattern, 6), rng.standard_normal((12, 564))
    assert form(loop, loop)[0] > 0.8 > 0.4 > form(random, random)[0]
    still = [np.repeat(rng.standard_normal((12, 1)), 282, 1) for _ in range(2)]
    two = np.concatenate(still, 1) + 0.01 * rng.standard_normal((12, 564))
    # one of three steps between quarters is the whole difference; one thing after another repeats nothing
    assert form(two, two)[1] == pytest.approx(2 / 3, abs=0.05) and form(two, two)[0] < 0.3
    assert form(loop, loop)[1] < 0.1
    assert form(loop[:, :100], loop[:, :100]) == (0.0, 0.0)


def test_beats() -> None:
    pulse = np.zeros(400)
    pulse[::20] = 1
    assert beat_strength(pulse, np.arange(0, 400, 20)) > 0.9
    assert beat_strength(np.random.default_rng(0).random(400), np.arange(0, 400, 20)) < 0.3
    assert beat_strength(pulse, [3]) == 0
    assert jitter([0, 10, 20, 30]) == 0 and jitter([0, 10, 20, 40]) > 0.2 and np.isnan(jitter([1, 2]))


def test_a_pulse_that_drifts_is_periodic_in_short_windows_only() -> None:
    rng = np.random.default_rng(0)

    def strokes(drift: float) -> np.ndarray:
        """An envelope with a stroke every half second, every interval off by up to `drift` of it."""
        out, time = 0.05 * rng.random(940), 0.0
        while time < 939:
            out[int(time)] += 1
            time += 23.4 * (1 + drift * rng.uniform(-1, 1))
        return np.convolve(out, np.hanning(7), "same")

    steady, drifting, hiss = strokes(0.02), strokes(0.2), rng.random(940)
    assert periodicity(steady, 2) > 0.7 and periodicity(steady, 8) > 0.7
    assert 0.25 < periodicity(drifting, 8) < periodicity(drifting, 2) - 0.15
    assert periodicity(hiss, 8) < 0.25 and periodicity(np.zeros(940), 2) == 0
    assert np.isnan(periodicity(steady[:300], 8)) and periodicity(steady[:300], 2) > 0.7


def test_keys() -> None:
    profile = np.zeros(12)
    profile[[9, 11, 0, 2, 4, 5, 7]] = 1
    profile[[9, 0, 4]] = 3
    assert find_key(profile)[0] == "A minor"
    assert find_key(np.ones(12)) == ("", 0.0)
    assert key_score("C major", "C major") == 1 and key_score("C major", "G major") == 0.5
    assert key_score("C major", "A minor") == 0.3 and key_score("A minor", "C major") == 0.3
    assert key_score("C major", "C minor") == 0.2 and key_score("C major", "F# major") == 0 == key_score("C major", "")
    assert key_score("Bb major", "A# major") == 1
    with pytest.raises(ValueError, match="no key"):
        key_score("H major", "C major")


def test_tempi_match_up_to_octaves() -> None:
    assert same_tempo(120, 125) and same_tempo(120, 60) and same_tempo(80, 160)
    assert not same_tempo(120, 100) and not same_tempo(120, 0)


def test_agreement_of_the_same_and_of_others() -> None:
    assert chroma_agreement(cadence(0), cadence(0)) > 0.99 > 0.6 > chroma_agreement(cadence(0), cadence(6))
    assert onset_agreement(clicks(120), clicks(120, seed=1)) > 0.8 > 0.4 > onset_agreement(clicks(120), clicks(97))


def test_too_short() -> None:
    with pytest.raises(ValueError, match="3.0 s or more"):
        describe(np.zeros(RATE, np.float32))


def test_a_passage_taken_over_is_found() -> None:
    tune, other = cadence(2), np.concatenate([cadence(9)[: 5 * RATE], cadence(4)[: 5 * RATE]])
    later = np.concatenate([noise(4.0), tune[: 6 * RATE]])  # its first six seconds, four seconds later
    blocks = chroma_blocks(tune)
    assert blocks.shape == (20, 12) and np.allclose(np.linalg.norm(blocks, axis=1), 1)
    assert passage_likeness(blocks, blocks) == pytest.approx(1)
    assert passage_likeness(blocks, chroma_blocks(later)) > 0.9 > 0.7 > passage_likeness(blocks, chroma_blocks(other))
    assert not chroma_blocks(np.zeros(5 * RATE, np.float32)).any()
