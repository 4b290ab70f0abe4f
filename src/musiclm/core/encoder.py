"""Sound as a file that is sent while it is still being made: to a listener, or into a pipe.

libsndfile writes here into memory, as `musiclm.core.audio.write_blocks` has it write into a file, so the bytes are
the same: those of WAV and Opus to the last one. A FLAC that is sent can't say yet what its header has of the whole, a
checksum and the sizes of frames; these are the bytes that differ.
"""

import io
from collections.abc import Mapping

import numpy as np
import soundfile
from jaxtyping import Float

from musiclm.core.audio import WRITE_FORMATS, native_tags, to_16_bit
from musiclm.core.tags import with_ogg_serial

STREAMED = (".wav", ".flac", ".opus")  # MP3 says at its beginning how long it is, once it is whole
_PIECE = 1 << 15  # samples that are encoded at a time


class StreamEncoder:
    """Bytes of a sound file, as far as they are final, for blocks of mono samples."""

    def __init__(self, suffix: str, num_samples: int, sample_rate_hz: int, tags: Mapping[str, str]) -> None:
        """suffix: one of STREAMED. num_samples: that there will be."""
        assert suffix in STREAMED, suffix
        self._wav = suffix == ".wav"
        self._ogg = suffix == ".opus"
        self._sink = _Sink()
        self._file = _open(self._sink, suffix, sample_rate_hz, tags)
        self._head = _wav_head(num_samples, sample_rate_hz, tags) if self._wav else b""
        self._sent = 0

    def push(self, audio: Float[np.ndarray, " s"]) -> bytes:
        """What the next samples add to the file; may be nothing yet."""
        samples = to_16_bit(audio)
        if self._wav:
            return self._after_head(samples.astype("<i2").tobytes())
        for start in range(0, len(samples), _PIECE):
            self._file.write(samples[start : start + _PIECE])
        return self._taken()

    def close(self) -> bytes:
        """The end of the file."""
        if self._wav:
            return self._after_head(b"")
        self._file.close()
        return self._taken()

    def _after_head(self, samples: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + samples

    def _taken(self) -> bytes:
        data = self._sink.take()
        return with_ogg_serial(data) if self._ogg else data


def _open(sink: "_Sink", suffix: str, sample_rate_hz: int, tags: Mapping[str, str]) -> soundfile.SoundFile:
    sound_format, subtype = WRITE_FORMATS[suffix]
    file = soundfile.SoundFile(sink, "w", sample_rate_hz, 1, format=sound_format, subtype=subtype)
    for name, value in native_tags(tags).items():
        setattr(file, name, value)
    return file


def _wav_head(num_samples: int, sample_rate_hz: int, tags: Mapping[str, str]) -> bytes:
    """What stands before the samples of a WAV file, by writing as much silence."""
    sink = _Sink(keep_head=True)
    with _open(sink, ".wav", sample_rate_hz, tags) as file:
        for start in range(0, num_samples, _PIECE):
            file.write(np.zeros(min(_PIECE, num_samples - start), np.int16))
    return bytes(sink.head[: sink.size - 2 * num_samples])


class _Sink(io.RawIOBase):
    """A file that libsndfile writes into. What was taken of it is gone; what is then written over is lost."""

    def __init__(self, keep_head: bool = False) -> None:
        self.size = self._at = self._begins = 0
        self.head = bytearray()
        self._rest = bytearray()
        self._keep_head = keep_head

    def take(self) -> bytes:
        """What was written since."""
        data, self._rest, self._begins = bytes(self._rest), bytearray(), self.size
        return data

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        data = bytes(data)
        kept, begins = (self.head, 0) if self._keep_head else (self._rest, self._begins)
        place = self._at - begins
        if place >= 0 and not (self._keep_head and place > _HEAD_BYTES):
            kept[place : place + len(data)] = data
        self._at += len(data)
        self.size = max(self.size, self._at)
        return len(data)


_HEAD_BYTES = 1 << 17  # more than any head with tags
