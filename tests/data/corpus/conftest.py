"""Small music-like signals, so that the corpus tests need no files."""

import numpy as np
import pytest

from musiclm.core.audio import write_audio


def melody(seed, seconds=3.0, rate_hz=24000):
    """A random tune with an envelope: pieces of different seeds are as unlike as pieces are."""
    generator = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    note = np.minimum((t * 8).astype(int), int(seconds * 8))
    hz = 220 * 2 ** (generator.integers(0, 24, note.max() + 1) / 12)
    level = generator.uniform(0.05, 0.5, note.max() + 1)
    audio = level[note] * np.sin(2 * np.pi * np.cumsum(hz[note]) / rate_hz) * np.exp(-3 * (t * 8 % 1))
    return (audio + 0.01 * generator.standard_normal(len(t))).astype(np.float32)


@pytest.fixture
def music(tmp_path):
    """A folder of twelve pieces at two depths, in several formats."""
    root = tmp_path / "music"
    for number in range(12):
        suffix = (".wav", ".flac", ".ogg", ".mp3")[number % 4]
        folder = root / f"album {number // 6}"
        folder.mkdir(parents=True, exist_ok=True)
        write_audio(folder / f"piece {chr(97 + number)}{suffix}", melody(number), tags={"title": f"No. {number}"})
    return root
