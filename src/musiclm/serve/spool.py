"""Sound in the making, on disk: one writes, any number read, each at its own pace, and memory stays what it is."""

import os
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16

from musiclm.core.audio import to_16_bit


class Spool:
    """Mono samples of 16 bits. The file has no name, so it is gone with the last who holds it, whatever ends the
    process."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this)
        self.num_samples = 0

    def append(self, audio: Float[np.ndarray, " s"]) -> None:
        """Raises: OSError for a disk that is full."""
        data = to_16_bit(audio).tobytes()
        at = 2 * self.num_samples
        while data:
            written = os.pwrite(self._file.fileno(), data, at)
            data, at = data[written:], at + written
        self.num_samples += len(audio)

    def read(self, start: int, most: int) -> Int16[np.ndarray, " s"]:
        """Samples from `start` on, as many as are there but no more than `most`."""
        num = max(0, min(most, self.num_samples - start))
        return np.frombuffer(os.pread(self._file.fileno(), 2 * num, 2 * start), np.int16)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
