"""A synthesizer and a drum machine, for parts that a soundfont would play with one keyboard's presets: oscillators,
filter, envelope, echo.

Every note is read from two wavetables of its pitch, one with the filter open and one with it closed; an envelope blends
them, which sounds like a moving filter for the price of two lookups. No table has a partial above `HIGHEST_HZ`, so
nothing folds back. Strokes of a drum machine are made once and then placed. Each part's patch is drawn around its
instrument's, so that pieces do not all have one sound. 24 kHz mono float32.
"""

import math
import random
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.signal
from jaxtyping import Float

from musiclm.arrange.compose.grooves import KEYS
from musiclm.arrange.score import Part, Score
from musiclm.arrange.timeline import DRUM_KEYS
from musiclm.core.audio import SAMPLE_RATE_HZ

HIGHEST_HZ = 11_000.0
TABLE_BITS = 12
DRUM_MACHINES = ("electronic drum kit", "808 drum machine")
Audio = Float[np.ndarray, " s"]
Wave = Literal["saw", "square", "pulse", "bell"]


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One sound of the synthesizer."""

    wave: Wave = "saw"
    voices: int = 3  # oscillators side by side
    detune_cents: float = 9.0  # of the outermost ones
    sub: float = 0.0  # level of a sine an octave below
    open_hz: float = 6000.0  # cut-off of the filter when the envelope has opened it
    closed_hz: float = 600.0  # and at rest
    resonance: float = 0.3  # 0 to 1
    attack_s: float = 0.005
    decay_s: float = 0.4  # of the filter
    sustain: float = 0.4  # where the filter comes to rest: 0 closed, 1 open
    release_s: float = 0.08
    fall_s: float = math.inf  # in which a struck sound dies away
    echo: float = 0.0  # level of the first of three repeats, a dotted eighth apart


PATCHES: dict[str, Patch] = {
    "saw lead": Patch(detune_cents=8, open_hz=7000, closed_hz=1800, echo=0.3),
    "square lead": Patch(wave="square", voices=2, detune_cents=4, closed_hz=1800, sustain=0.6, echo=0.25),
    "charang lead": Patch(wave="pulse", detune_cents=10, open_hz=8000, closed_hz=1500, resonance=0.5, echo=0.2),
    "polysynth": Patch(voices=5, detune_cents=14, open_hz=8000, closed_hz=900, decay_s=0.3, sustain=0.3, release_s=0.15,
        echo=0.2),
    "synth strings": Patch(voices=5, detune_cents=12, open_hz=4500, closed_hz=1500, resonance=0.0, attack_s=0.1,
        decay_s=1.0, sustain=0.7, release_s=0.35),
    "synth brass": Patch(detune_cents=7, open_hz=5000, closed_hz=700, attack_s=0.03, decay_s=0.5, sustain=0.5,
        release_s=0.12),
    "warm pad": Patch(voices=4, detune_cents=10, open_hz=1600, closed_hz=500, resonance=0.1, attack_s=0.35, decay_s=2.0,
        sustain=0.6, release_s=0.7),
    "sweep pad": Patch(voices=4, detune_cents=12, open_hz=5000, closed_hz=400, resonance=0.5, attack_s=0.5, decay_s=4.0,
        sustain=0.1, release_s=0.8),
    "halo pad": Patch(wave="pulse", voices=4, detune_cents=12, open_hz=3000, closed_hz=700, attack_s=0.6, decay_s=3.0,
        sustain=0.5, release_s=1.0),
    "crystal synth": Patch(wave="bell", voices=2, detune_cents=5, open_hz=9000, closed_hz=2000, decay_s=0.5,
        sustain=0.0, release_s=0.4, fall_s=1.2, echo=0.35),
    "synth bass": Patch(voices=2, detune_cents=5, sub=0.6, open_hz=2500, closed_hz=250, resonance=0.4, decay_s=0.22,
        sustain=0.15, release_s=0.05),
    "rubber synth bass": Patch(wave="square", voices=1, sub=0.4, open_hz=1800, closed_hz=200, resonance=0.8,
        decay_s=0.15, sustain=0.1),
}  # fmt: skip


def can_play(instrument: str) -> bool:
    return instrument in PATCHES or instrument in DRUM_MACHINES


def play(score: Score, part: Part, num_samples: int) -> Audio:
    """A part's stem, `num_samples` long; the same score gives the same samples.

    Raises: KeyError for an instrument it has no sound for.
    """
    rng = random.Random(f"{score.style}/{score.seed}/synth/{part.instrument}/{part.role}")
    kit = DrumMachine(part.instrument == "808 drum machine", rng) if part.instrument in DRUM_MACHINES else None
    patch = None if kit else vary(PATCHES[part.instrument], rng)
    stem = np.zeros(num_samples, np.float32)
    for note in part.notes:
        start = round(score.seconds_at(note.start) * SAMPLE_RATE_HZ)
        end = round(score.seconds_at(note.start + note.duration) * SAMPLE_RATE_HZ)
        sound = kit.stroke(note.pitch) if kit else tone(patch, note.pitch, max(end - start, SAMPLE_RATE_HZ // 100), rng)  # type: ignore[arg-type]
        sound = sound[: max(0, num_samples - start)]
        stem[start : start + len(sound)] += sound * np.float32((note.velocity / 127) ** 1.6)
    if patch and patch.echo:
        delay, dry = round(0.75 * 60 / score.tempo_bpm * SAMPLE_RATE_HZ), stem.copy()
        for repeat in range(1, 4):
            stem[repeat * delay :] += np.float32(patch.echo**repeat) * dry[: max(0, num_samples - repeat * delay)]
    return stem


def vary(patch: Patch, rng: random.Random) -> Patch:
    """A patch like it; two of five have no echo."""

    def near(value: float, ratio: float) -> float:
        return value * ratio ** rng.uniform(-1, 1)

    return replace(
        patch,
        detune_cents=near(patch.detune_cents, 1.5),
        open_hz=near(patch.open_hz, 1.4),
        closed_hz=near(patch.closed_hz, 1.5),
        resonance=min(0.9, near(patch.resonance, 1.5)),
        attack_s=near(patch.attack_s, 1.3),
        decay_s=near(patch.decay_s, 1.6),
        echo=patch.echo if rng.random() < 0.6 else 0.0,
    )


def tone(patch: Patch, pitch: int, held: int, rng: random.Random) -> Audio:
    """One note, its key held for `held` samples, with its release."""
    num = held + round(patch.release_s * SAMPLE_RATE_HZ)
    opened, closed = _tables(patch.wave, pitch, patch.open_hz, patch.closed_hz, patch.resonance)
    time = np.arange(num, dtype=np.uint32)
    bright, dark = np.zeros(num, np.float32), np.zeros(num, np.float32)
    for voice in range(patch.voices):
        place = 2 * voice / (patch.voices - 1) - 1 if patch.voices > 1 else 0.0
        phase = _phase(time, pitch + place * patch.detune_cents / 100, rng.getrandbits(32))
        bright += opened[phase]
        dark += closed[phase]
    seconds = time / np.float32(SAMPLE_RATE_HZ)
    rise = np.minimum(1, seconds / patch.attack_s)
    swept = patch.sustain + (1 - patch.sustain) * np.exp(-np.maximum(seconds - patch.attack_s, 0) / patch.decay_s)
    sound = (dark + (rise * swept).astype(np.float32) * (bright - dark)) / np.float32(math.sqrt(patch.voices))
    if patch.sub:
        sound += np.float32(patch.sub) * _sine()[_phase(time, pitch - 12, 0)]
    level = rise * np.exp(-3 * seconds / np.float32(patch.fall_s))
    level[held:] *= np.linspace(1, 0, num - held) ** 2
    return sound * level.astype(np.float32)


def _phase(time: np.ndarray, pitch: float, start: int) -> np.ndarray:
    """Place in a table at each moment: a 32-bit counter that wraps round once a period."""
    step = np.uint32(_hertz(pitch) / SAMPLE_RATE_HZ * 2**32)
    return (time * step + np.uint32(start)) >> np.uint32(32 - TABLE_BITS)


def _hertz(pitch: float) -> float:
    return 440 * 2 ** ((pitch - 69) / 12)


@lru_cache(maxsize=1)
def _sine() -> Audio:
    return np.sin(2 * np.pi * np.arange(1 << TABLE_BITS) / (1 << TABLE_BITS)).astype(np.float32)


@lru_cache(maxsize=512)
def _tables(wave: Wave, pitch: int, open_hz: float, closed_hz: float, resonance: float) -> tuple[Audio, Audio]:
    """One period with the filter open and one with it closed: 24 dB an octave, with a peak where it begins."""
    size, first_hz = 1 << TABLE_BITS, _hertz(pitch)
    partials = np.arange(1, int(HIGHEST_HZ / first_hz) + 1)
    level = {
        "saw": 1 / partials,
        "square": (partials % 2) / partials,
        "pulse": np.abs(np.sin(np.pi * 0.25 * partials)) / partials,
        "bell": np.isin(partials, (1, 3, 4, 7, 11, 16)) / partials**0.7,
    }[wave]
    tables = []
    for cut_hz in (open_hz, closed_hz):
        ratio = partials * first_hz / max(cut_hz, 1.2 * first_hz)
        passed = (1 + 2.5 * resonance * np.exp(-((3 * np.log2(ratio)) ** 2))) / (1 + ratio**4)
        spectrum = np.zeros(size // 2 + 1, np.complex128)
        spectrum[partials] = -0.3j * size * level * passed
        tables.append(np.fft.irfft(spectrum, size).astype(np.float32))
    return tables[0], tables[1]


class DrumMachine:
    """Strokes on the keys of the General MIDI drum map, each made once, tuned by `rng`.

    `deep`: a kick that rings, short hats and snare.
    """

    def __init__(self, deep: bool, rng: random.Random) -> None:
        self.deep = deep
        self.noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(3 * SAMPLE_RATE_HZ).astype(np.float32)
        self.tuning = 2 ** rng.uniform(-0.25, 0.25)
        self.strokes: dict[int, Audio] = {}

    def stroke(self, key: int) -> Audio:
        if key not in self.strokes:
            self.strokes[key] = self._make(key)
        return self.strokes[key]

    def _make(self, key: int) -> Audio:
        if key in DRUM_KEYS["kick"]:
            low_hz, high_hz, lasts_s = (45, 160, 0.7) if self.deep else (52, 240, 0.28)
            return _sum(self._sweep(low_hz, high_hz, 0.03, lasts_s), 0.3 * self._hiss(3000, 0.004))
        if key in DRUM_KEYS["snare"]:
            return _sum(0.6 * self._sweep(180, 260, 0.01, 0.16), 0.5 * self._hiss(1500, 0.12 if self.deep else 0.18))
        if key in DRUM_KEYS["clap"]:
            hands = [
                np.pad(self._hiss(900, lasts_s, 2400), (start, 0))
                for start, lasts_s in ((0, 0.012), (260, 0.012), (520, 0.012), (780, 0.12))
            ]
            return 0.6 * _sum(*hands)
        if key in DRUM_KEYS["rim"]:
            return 0.6 * self._sweep(900, 1700, 0.004, 0.04)
        if key in DRUM_KEYS["tom"]:
            tom_hz = 1.5 * _hertz(key - 3)
            return self._sweep(tom_hz, 1.8 * tom_hz, 0.05, 0.4)
        if key == KEYS["cowbell"]:
            return self._ring((540, 800), 0.25)
        if key == KEYS["open"]:
            return 0.4 * self._hiss(6500, 0.25)
        if key in DRUM_KEYS["hi-hat"]:
            return 0.45 * self._hiss(7000, 0.03 if self.deep else 0.04)
        if key in DRUM_KEYS["crash"]:
            return 0.4 * self._hiss(4000, 0.9)
        if key in DRUM_KEYS["ride"]:
            return 0.25 * self._hiss(6000, 0.35)
        return 0.35 * self._hiss(5000, 0.06)  # a shaker, and whatever else shakes

    def _sweep(self, low_hz: float, high_hz: float, fast_s: float, lasts_s: float) -> Audio:
        """A sine that falls from one pitch to another and dies away."""
        time_s = np.arange(int(1.2 * lasts_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        hertz = self.tuning * (low_hz + (high_hz - low_hz) * np.exp(-time_s / fast_s))
        wave = np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE_HZ)
        return (wave * np.exp(-4 * time_s / lasts_s)).astype(np.float32)

    def _hiss(self, above_hz: float, lasts_s: float, below_hz: float | None = None) -> Audio:
        """Noise of a band that dies away."""
        num = int(2.5 * lasts_s * SAMPLE_RATE_HZ) + 64
        band, kind = ((above_hz, below_hz), "bandpass") if below_hz else (above_hz, "highpass")
        sos = scipy.signal.butter(2, band, kind, fs=SAMPLE_RATE_HZ, output="sos")
        noise = scipy.signal.sosfilt(sos, self.noise[:num])
        return (noise * np.exp(-2.5 * np.arange(num) / SAMPLE_RATE_HZ / lasts_s)).astype(np.float32)

    def _ring(self, tones_hz: tuple[float, ...], lasts_s: float) -> Audio:
        """Square waves that die away."""
        time_s = np.arange(int(lasts_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        wave = np.sum([np.sign(np.sin(2 * np.pi * hertz * self.tuning * time_s)) for hertz in tones_hz], axis=0)
        return (0.25 * wave * np.exp(-5 * time_s / lasts_s)).astype(np.float32)


def _sum(*sounds: Float[np.ndarray, " _"]) -> Audio:
    """From one start, each as long as it is."""
    total = np.zeros(max(map(len, sounds)), np.float32)
    for sound in sounds:
        total[: len(sound)] += sound
    return total
