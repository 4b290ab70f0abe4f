"""Melodies in renditions, made in a moment: each sound has overtones of its own, every third one a chord beside it."""

from pathlib import Path

import numpy as np
import soundfile

from musiclm.core.artifact import write_atomic
from musiclm.data.corpus.manifest import Split
from musiclm.data.corpus.melodies import SETTINGS_FILE, Rendition, save_renditions

RATE_HZ = 24000
SECONDS = 6.0


def tone(pitch: float, seconds: float, tilt: float) -> np.ndarray:
    """A tone whose k-th overtone has the level k ** -tilt."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    partials = [k for k in range(1, 9) if k * hertz < 11_000]
    wave = sum(k**-tilt * np.sin(2 * np.pi * k * hertz * time_s) for k in partials)
    return 0.2 * wave * np.minimum(1, np.minimum(time_s, time_s[::-1]) / 0.02)


def line(notes: list[tuple[float, float, int]], seconds: float, tilt: float) -> np.ndarray:
    out = np.zeros(round(seconds * RATE_HZ))
    for start, end, pitch in notes:
        sound = tone(pitch, end - start, tilt)
        first = round(start * RATE_HZ)
        out[first : first + len(sound)] += sound[: len(out) - first]
    return out


def draw_notes(random: np.random.Generator) -> list[tuple[float, float, int]]:
    starts = np.arange(0, SECONDS - 0.1, 0.35)
    return [(float(at), float(at) + 0.33, int(60 + random.integers(0, 12))) for at in starts]


def write_melodies(folder: Path, num: int = 14, renditions: int = 3, seed: int = 0) -> Path:
    """`num` melodies of which one in seven is validated on and one tested."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    found = []
    for melody in range(num):
        split: Split = "validation" if melody % 7 == 5 else "test" if melody % 7 == 6 else "train"
        written = draw_notes(random)
        for index in range(renditions):
            tempo, octave = 1 + 0.04 * (index - 1), (index + melody) % 3 - 1
            notes = [(a / tempo, b / tempo, pitch + 12 * octave) for a, b, pitch in written]
            sides = np.zeros((round(SECONDS / tempo * RATE_HZ), 2))
            sides[:, 0] = line(notes, SECONDS / tempo, 0.7 + index)
            if index % 3 == 2:
                sides[:, 1] = sum(tone(p, SECONDS / tempo, 1.0) for p in (48, 52 + melody % 2, 55))
            path = f"audio/{melody}-{index}.flac"
            soundfile.write(folder / path, 0.5 * sides / np.abs(sides).max(), RATE_HZ, "PCM_16")
            found.append(
                Rendition(
                    melody=melody,
                    split=split,
                    path=path,
                    sound=f"tilt {index}",
                    backing="chords" if index % 3 == 2 else "none",
                    octave=octave,
                    tempo=tempo,
                    seconds=len(sides) / RATE_HZ,
                    notes=tuple(notes),
                )
            )
    save_renditions(folder, found)
    write_atomic(folder / SETTINGS_FILE, '{"soundfonts": ["sines: public domain"]}')
    return folder
