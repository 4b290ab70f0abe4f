"""Sound that leaves while it is made: on the speakers (the library sounddevice, over PortAudio) or into a pipe."""

import struct
import threading
import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

from musiclm.core.audio import to_16_bit

UNKNOWN_BYTES = 0xFFFFFFFF  # in the header of a WAV that ends when its pipe does
HEADER_BYTES = 44
PATIENCE_S = 15.0  # with a device that stands still


class DeviceError(ValueError):
    """There is no way to the speakers. The message is one line: what is missing, what to do."""


class Speakers:
    """Plays blocks in turn; use as a context. `write` waits while enough sound is ready, which holds its maker back."""

    def __init__(self, sample_rate_hz: int, ahead_s: float) -> None:
        """ahead_s: more sound than this is not kept ready, but for the rest of a block.

        Raises: DeviceError if the library, PortAudio or a device is missing.
        """
        self.sample_rate_hz, self.ahead_s = sample_rate_hz, ahead_s
        self.underruns = 0  # times that the sound broke off, for want of more or because the device was served late
        self.missing_samples = 0  # that were wanted and not there
        self._ready: deque[np.ndarray] = deque()
        self._num_ready = 0
        self._begun = self._over = self._dry = self._stopped = False
        self._room = threading.Condition()
        self._stream = self._open()

    def _open(self) -> Any:
        try:
            import sounddevice
        except ImportError:
            raise DeviceError(
                "playing needs the library sounddevice; run: pip install 'musiclm[play]', "
                "or send the music on with -o -"
            ) from None
        except OSError as error:  # the library is there, PortAudio is not
            raise DeviceError(
                f"playing needs PortAudio ({error}); install it (Debian: apt install libportaudio2), "
                "or send the music on with -o -"
            ) from None
        except Exception as error:  # PortAudio is there and finds no sound system
            raise DeviceError(f"PortAudio can't begin ({error}); send the music on with -o -") from None
        try:
            return sounddevice.OutputStream(
                samplerate=self.sample_rate_hz,
                channels=1,
                dtype="float32",
                callback=self._fill,
                finished_callback=self._finish,
            )
        except sounddevice.PortAudioError as error:
            raise DeviceError(
                f"no sound device takes mono at {self.sample_rate_hz} Hz ({error}); send the music on with -o -"
            ) from None

    def __enter__(self) -> "Speakers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.abort()
        self._stream.close()

    def write(self, block: Float[np.ndarray, " s"]) -> None:
        """Adds a block; returns when no more than `ahead_s` was ready before it.

        Raises: DeviceError if the device takes nothing any more.
        """
        self._wait(self.ahead_s)
        with self._room:
            self._ready.append(np.asarray(block, np.float32))
            self._num_ready += len(block)
        if not self._begun:
            self._begun = True
            try:
                self._stream.start()
            except Exception as error:  # a PortAudioError, of a library that need not be there
                raise DeviceError(f"the sound device can't begin ({error}); is another program using it?") from None

    def drain(self) -> None:
        """Waits until all is played. Raises: DeviceError if the device takes nothing any more."""
        self._over = True
        self._wait(0.0)
        if self._begun:
            time.sleep(float(np.max(self._stream.latency)))

    def _wait(self, ahead_s: float) -> None:
        """Until no more than `ahead_s` is ready. Raises: DeviceError if that does not come."""
        with self._room:
            most = ahead_s * self.sample_rate_hz
            room = self._room.wait_for(lambda: self._stopped or self._num_ready <= most, PATIENCE_S)
            if self._stopped or not room:
                raise DeviceError(
                    "the sound device takes no more sound; was it unplugged? Begin anew, or send the music on with -o -"
                )

    def _finish(self) -> None:
        """What PortAudio calls, in a thread of its own, once a stream has ended: by `abort`, or because its device is
        gone.
        """
        with self._room:
            self._stopped = True
            self._room.notify_all()

    def _fill(self, out: Float[np.ndarray, "s 1"], num: int, _: object, status: Any) -> None:
        """What PortAudio calls, in a thread of its own, for the next samples. status: what went wrong before."""
        done = 0
        late = bool(status and status.output_underflow) and not self._dry
        with self._room:
            while self._ready and done < num:
                block = self._ready[0]
                part = block[: num - done]
                out[done : done + len(part), 0] = part
                done += len(part)
                if len(part) < len(block):
                    self._ready[0] = block[len(part) :]
                else:
                    self._ready.popleft()
            self._num_ready -= done
            self._room.notify_all()
        out[done:] = 0
        dry = done < num and not self._over
        if dry:
            self.missing_samples += num - done
        self.underruns += late + (dry and not self._dry)
        self._dry = dry


class Pipe:
    """Mono 16-bit PCM into a file that can't be gone back in, with a WAV header or without."""

    def __init__(self, file: BinaryIO, sample_rate_hz: int, raw: bool = False, num_samples: int | None = None) -> None:
        """num_samples: as many as will come, if that is known. Raises: BrokenPipeError and OSError, as `write` does."""
        self.file = file
        if not raw:
            file.write(wav_header(sample_rate_hz, num_samples))
            file.flush()

    def write(self, block: Float[np.ndarray, " s"]) -> None:
        """Adds a block. Raises: BrokenPipeError where the reader has left; OSError."""
        self.file.write(pcm16(block))
        self.file.flush()

    def write_all(self, blocks: Iterable[Float[np.ndarray, " s"]]) -> None:
        for block in blocks:
            self.write(block)


def pcm16(audio: Float[np.ndarray, " s"]) -> bytes:
    """Little-endian 16-bit samples, as files hold them."""
    return to_16_bit(audio).astype("<i2").tobytes()


def wav_header(sample_rate_hz: int, num_samples: int | None) -> bytes:
    """Of mono 16-bit PCM."""
    size = UNKNOWN_BYTES if num_samples is None else 2 * num_samples
    riff = UNKNOWN_BYTES if num_samples is None else size + HEADER_BYTES - 8
    form = struct.pack("<IHHIIHH", 16, 1, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)


__all__ = ["DeviceError", "Pipe", "Speakers"]
