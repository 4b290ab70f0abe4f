"""Sound files as tests look at them."""

from pathlib import Path

import numpy as np

from musiclm.core.audio import probe, read_blocks


def read_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """A whole file at its own rate: (audio in [-1, 1], of shape (channels, samples), sample_rate_hz)."""
    info = probe(path)
    return np.concatenate(list(read_blocks(path, sample_rate_hz=None, mono=False)), axis=1), info.sample_rate_hz
