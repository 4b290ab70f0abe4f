"""A voice that hums or sings and a mouth that whistles: one line of notes with what soundfonts lack, pitch that moves.

Notes slide into one another, long ones tremble, nobody is quite in tune and nobody's tuning is A = 440 Hz. Sums of
sines under a curve of pitch; 24 kHz mono float32.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.ndimage
from jaxtyping import Float

from musiclm.core.audio import SAMPLE_RATE_HZ

Audio = Float[np.ndarray, " s"]
Manner = Literal["hum", "sing", "whistle"]
MANNERS: tuple[Manner, ...] = ("hum", "sing", "whistle")
# where each is at home, MIDI: hums and songs of low and high voices, whistles about two octaves above
RANGES: dict[Manner, tuple[int, int]] = {"hum": (45, 69), "sing": (48, 76), "whistle": (72, 96)}
HIGHEST_HZ = 8000.0
_RATE_HZ = 200  # of the curves
# first three formants of five vowels, Hz (Peterson and Barney 1952, men; women's lie about a sixth higher)
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
_NASAL_HZ = (250, 1000, 2200)


@dataclass(frozen=True)
class Sung:
    """A note of a line: seconds, and MIDI pitch."""

    start_s: float
    end_s: float
    pitch: float


@dataclass(frozen=True, kw_only=True)
class Singer:
    """How one person does it."""

    manner: Manner
    tuning: float  # semitones off A = 440 Hz, all the way
    error: float  # semitones, deviation of a note
    drift: float  # semitones, how far the whole wanders
    glide_s: float  # from note to note
    scoop: float  # semitones below a note that begins after a rest
    vibrato_hz: float
    vibrato: float  # semitones either way, on notes held for half a second
    legato: float  # 1: notes run together; 0: each begins anew
    breath: float  # level of noise
    tilt_db: float  # per octave, how fast overtones fall
    tract: float  # length of the vocal tract against a man's: formants are divided by it


def draw_singer(manner: Manner, rng: random.Random) -> Singer:
    """Somebody, trained or not."""
    steady = rng.random()  # 1 is a trained singer
    return Singer(
        manner=manner,
        tuning=rng.uniform(-0.35, 0.35),
        error=0.05 + 0.15 * (1 - steady),
        drift=0.05 + 0.15 * (1 - steady),
        glide_s=rng.uniform(0.03, 0.14),
        scoop=rng.choice((0.0, rng.uniform(0.3, 2.0))),
        vibrato_hz=rng.uniform(4.5, 6.8),
        vibrato=rng.uniform(0.0, 0.6) if manner != "hum" else rng.uniform(0.0, 0.25),
        legato=rng.uniform(0.0, 1.0),
        breath=rng.uniform(0.0, 0.08) if manner != "whistle" else rng.uniform(0.02, 0.25),
        tilt_db={"hum": rng.uniform(10, 16), "sing": rng.uniform(6, 11), "whistle": rng.uniform(25, 40)}[manner],
        tract=rng.uniform(0.8, 1.05),
    )


def perform(notes: Sequence[Sung], singer: Singer, num_samples: int, rng: random.Random) -> Audio:
    """The line, one note at a time (a later one cuts the one before), `num_samples` long, peak at most 0.5."""
    out = np.zeros(num_samples, np.float32)
    line = _one_at_a_time(notes)
    if not line or not num_samples:
        return out
    noise = np.random.default_rng(rng.getrandbits(32))
    num = num_samples * _RATE_HZ // SAMPLE_RATE_HZ + 2
    pitch, level = _curves(line, singer, num, rng, noise)
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    cycles = np.cumsum(_spread(hertz, num_samples), dtype=np.float64) / SAMPLE_RATE_HZ
    formants = _formants(line, singer, num, rng)
    for partial in range(1, int(HIGHEST_HZ / hertz.min()) + 1):
        gain = level * _gain(partial, hertz, formants, singer.tilt_db)
        if gain.max() < 2e-3:
            continue
        phase = (2 * np.pi * np.mod(partial * cycles, 1.0)).astype(np.float32)
        out += _spread(gain, num_samples) * np.sin(phase)
    if singer.breath:
        # breath has the colour of what it goes with: noise turned up to the pitch
        hiss = scipy.ndimage.uniform_filter1d(
            noise.standard_normal(num_samples), 24 if singer.manner == "whistle" else 8
        )
        carrier = np.sin(2 * np.pi * cycles) if singer.manner == "whistle" else 1.0
        out += (singer.breath * 3 * _spread(level, num_samples) * hiss * carrier).astype(np.float32)
    peak = float(np.abs(out).max())
    return out * np.float32(0.5 / peak) if peak > 0 else out


def _one_at_a_time(notes: Sequence[Sung]) -> list[Sung]:
    """In order, each ending where the next begins at the latest; of those that begin together the highest."""
    line: list[Sung] = []
    for note in sorted(notes, key=lambda note: (note.start_s, note.pitch)):
        if line and note.start_s - line[-1].start_s < 0.03:
            line[-1] = Sung(line[-1].start_s, max(line[-1].end_s, note.end_s), note.pitch)
            continue
        if line and line[-1].end_s > note.start_s:
            line[-1] = Sung(line[-1].start_s, note.start_s, line[-1].pitch)
        line.append(note)
    return line


def _curves(
    line: Sequence[Sung], singer: Singer, num: int, rng: random.Random, noise: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """MIDI pitch and level at `_RATE_HZ`."""
    time_s = np.arange(num) / _RATE_HZ
    pitch, level = np.full(num, float(line[0].pitch)), np.zeros(num)
    tremble = np.zeros(num)
    for index, note in enumerate(line):
        before = line[index - 1] if index else None
        joined = before is not None and note.start_s - before.end_s < 0.08
        target = note.pitch + rng.gauss(0, singer.error)
        if joined:
            origin = pitch[min(num - 1, round(note.start_s * _RATE_HZ) - 1)]
        else:
            origin = target - (singer.scoop if rng.random() < 0.6 else 0.0)
        since = time_s - note.start_s
        moved = 1 / (1 + np.exp(-np.clip((since - singer.glide_s / 2) / (singer.glide_s / 8), -30, 30)))
        later = since >= 0
        pitch[later] = (origin + (target - origin) * moved)[later]
        held = later & (time_s < note.end_s)
        tremble[held] = np.clip((since[held] - 0.25) / 0.3, 0, 1)
        attack, release = (0.02, 0.06) if singer.manner != "hum" else (0.04, 0.08)
        shape = np.clip(since / attack, 0, 1) * np.clip((note.end_s + release - time_s) / release, 0, 1)
        if joined:  # a dip between notes that run together
            shape = np.maximum(shape, singer.legato * (np.abs(since) < attack))
        level = np.maximum(level, shape * 10 ** (rng.uniform(-3, 0) / 20))
    walk = np.cumsum(noise.standard_normal(num)) / np.sqrt(2 * _RATE_HZ)
    walk = singer.drift * np.tanh(walk - scipy.ndimage.uniform_filter1d(walk, 6 * _RATE_HZ))
    rate = 2 * np.pi * singer.vibrato_hz * (1 + 0.05 * walk)
    pitch = pitch + singer.tuning + walk + singer.vibrato * tremble * np.sin(np.cumsum(rate) / _RATE_HZ)
    return pitch, level


def _formants(line: Sequence[Sung], singer: Singer, num: int, rng: random.Random) -> np.ndarray:
    """Three resonances at `_RATE_HZ`, Hz; a vowel a note, changing within 50 ms."""
    if singer.manner != "sing":
        return np.tile(np.array(_NASAL_HZ)[:, None] / singer.tract, num)
    out = np.empty((3, num))
    vowel = rng.choice(_VOWELS)
    out[:] = np.array(vowel)[:, None]
    for note in line:
        if rng.random() < 0.6:
            vowel = rng.choice(_VOWELS)
        out[:, max(0, round(note.start_s * _RATE_HZ)) :] = np.array(vowel)[:, None]
    return scipy.ndimage.uniform_filter1d(out, _RATE_HZ // 20, axis=1) / singer.tract


def _gain(partial: int, hertz: np.ndarray, formants: np.ndarray, tilt_db: float) -> np.ndarray:
    """Level of an overtone: it falls with its number, and stands out near a resonance."""
    fall = 10 ** (-tilt_db * np.log2(partial) / 20)
    if tilt_db > 20:  # lips have no vocal tract behind them
        return np.where(partial * hertz < HIGHEST_HZ, fall, 0.0)
    ratio = partial * hertz / formants
    width = np.array((0.25, 0.14, 0.1))[:, None]
    resonance = (np.array((1.0, 0.7, 0.4))[:, None] / (1 + ((ratio - 1) / width) ** 2)).sum(0)
    return np.where(partial * hertz < HIGHEST_HZ, fall * (0.15 + resonance), 0.0)


def _spread(curve: np.ndarray, num_samples: int) -> Float[np.ndarray, " s"]:
    """A curve at the rate of sound, by straight lines."""
    step = SAMPLE_RATE_HZ // _RATE_HZ
    ramp = (np.arange(step) / step).astype(np.float32)
    curve = curve.astype(np.float32)
    return (curve[:-1, None] + np.diff(curve)[:, None] * ramp).ravel()[:num_samples]
