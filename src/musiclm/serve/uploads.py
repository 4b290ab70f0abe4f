"""What is sent to go on from, or to be followed: taken for what its bytes are, whatever it says it is."""

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import soundfile

from musiclm.core.audio import SAMPLE_RATE_HZ, AudioError, read_blocks
from musiclm.generate.checks import MIN_DURATION_S
from musiclm.generate.melody import MIDI_SUFFIXES, MOST_MIDI_BYTES, begins_as_midi, melody_sound
from musiclm.serve.store import MAX_NAME_CHARACTERS, Entry, Store

# libsndfile's name of a format -> suffix that the file gets
KINDS = {"WAV": ".wav", "WAVEX": ".wav", "FLAC": ".flac", "OGG": ".ogg", "MP3": ".mp3", "AIFF": ".aiff"}
MIDI_SUFFIX = MIDI_SUFFIXES[0]
SENT_WITHIN_S = 300.0
MAX_CHANNELS = 8


class NotSound(ValueError):
    """What was sent is no sound of a kind that is taken. The message is one line."""


async def receive(
    body: AsyncIterator[bytes], name: str, store: Store, max_sound_s: float, limiter: anyio.CapacityLimiter
) -> Entry:
    """Keeps an upload. limiter: of how many are decoded at a time, which takes a core each.

    Raises: NotSound; AudioError for a sound that is damaged, too short or too long; TimeoutError
    for one that takes too long to come; OSError for a disk that is full."""
    handle, path = tempfile.mkstemp(dir=store.work, suffix=".upload")
    temporary = Path(path)
    try:
        with os.fdopen(handle, "wb") as file, anyio.fail_after(SENT_WITHIN_S):
            async for piece in body:
                await anyio.to_thread.run_sync(file.write, piece)
        return await anyio.to_thread.run_sync(_keep, temporary, name, store, max_sound_s, limiter=limiter)
    finally:
        temporary.unlink(missing_ok=True)


def _keep(temporary: Path, name: str, store: Store, max_sound_s: float) -> Entry:
    suffix = _kind(temporary)
    named = temporary.with_suffix(suffix)
    os.replace(temporary, named)
    try:
        duration_s = _length_s(named, max_sound_s) if suffix != MIDI_SUFFIX else _melody_s(named)
        return store.add_upload(named, suffix, name[:MAX_NAME_CHARACTERS], duration_s)
    except AudioError as error:
        raise AudioError(str(error).replace(str(named), "the upload")) from None
    finally:
        named.unlink(missing_ok=True)


def _kind(path: Path) -> str:
    """The suffix that fits the bytes of a file. Raises: NotSound."""
    if begins_as_midi(path):
        if path.stat().st_size > MOST_MIDI_BYTES:
            raise NotSound(f"the upload is a MIDI file above {MOST_MIDI_BYTES // 1_000_000} MB; send a smaller one")
        return MIDI_SUFFIX
    try:
        info = soundfile.info(str(path))
        suffix = KINDS.get(info.format)
    except (soundfile.LibsndfileError, RuntimeError):
        suffix = None
    if suffix is not None and info.channels > MAX_CHANNELS:  # which would all be held in memory
        raise NotSound(f"the upload has {info.channels} channels; send {MAX_CHANNELS} or fewer")
    if suffix is None:
        raise NotSound(
            "the upload is no sound that can be read here; send WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF or MIDI"
        )
    return suffix


def _melody_s(path: Path) -> float:
    """Seconds of a MIDI file's melody. Raises: AudioError for one without; NotSound if MIDI can't be read here."""
    try:
        return len(melody_sound(path)) / SAMPLE_RATE_HZ
    except ImportError as error:
        raise NotSound(f"this service can't read MIDI: {error}") from None


def _length_s(path: Path, most_s: float) -> float:
    """Seconds of sound, by decoding all of it: headers lie. Raises: AudioError."""
    num = 0
    for block in read_blocks(path):
        num += block.shape[1]
        if num > most_s * SAMPLE_RATE_HZ:
            raise AudioError(f"the upload is longer than {most_s:g} s; send a part of it")
    if num < MIN_DURATION_S * SAMPLE_RATE_HZ:
        raise AudioError(f"the upload has {num / SAMPLE_RATE_HZ:.2f} s of sound; send {MIN_DURATION_S} s or more")
    return num / SAMPLE_RATE_HZ
