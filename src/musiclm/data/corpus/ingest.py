"""One original in, one FLAC out: decode, mix to mono 24 kHz, trim silence, hash, fingerprint. In constant memory."""

import base64
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from musiclm.core.audio import SAMPLE_RATE_HZ, AudioError, load, probe, read_blocks
from musiclm.core.unicode import name_bytes
from musiclm.data.corpus.manifest import CorpusError

FORMAT_VERSION = 1  # raise when the files on disk would come out different: every track is then decoded anew
SILENCE_DB = -60.0  # a 20 ms frame whose peak is below this is silent; leading and trailing ones are cut
SILENT_TRACK_DB = -55.0  # a track whose rms is below this is dropped
MIN_SECONDS = 1.0

_FRAME = SAMPLE_RATE_HZ // 50
_SILENCE = round(32767 * 10 ** (SILENCE_DB / 20))
_ENVELOPE_FRAME = SAMPLE_RATE_HZ // 10
_SEGMENTS = 64
_PENDING_BYTES = 1 << 24  # silence held in memory before it goes to a temporary file


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What is known of a decoded track; its audio lies in `audio/<id>.flac`."""

    id: str
    sha256: str
    seconds: float
    rms_db: float
    fingerprint: str  # base64 of uint8 (2, 64): level of the signal and of its first difference, in steps of 0.375 dB
    tags: dict[str, str]


class Silent(ValueError):
    """The original holds nothing to hear, or too little."""


def ingest(files: list[Path], audio_dir: Path) -> Ingested:
    """Decodes `files` (added up if there are several) into `audio_dir`.

    Raises: AudioError if a file can't be read, Silent if it is silent or shorter than a second, CorpusError if
    the result can't be written (which no other track would survive either).
    """
    temporary = audio_dir / f".{os.getpid()}-{hashlib.sha256(str(files).encode()).hexdigest()[:12]}.flac"
    digest = hashlib.sha256()
    envelope = Envelope()
    num_samples = 0
    try:
        with (
            _writing(temporary),
            soundfile.SoundFile(name_bytes(temporary), "w", SAMPLE_RATE_HZ, 1, "PCM_16", format="FLAC") as out,
        ):
            for block in _trimmed(_int16_blocks(files)):
                digest.update(block.astype("<i2").tobytes())
                envelope.add(block)
                num_samples += len(block)
                _write(out, block)
        if num_samples < MIN_SECONDS * SAMPLE_RATE_HZ:
            raise Silent("silent" if num_samples == 0 else f"too short ({num_samples / SAMPLE_RATE_HZ:.2f} s of sound)")
        if envelope.rms_db() < SILENT_TRACK_DB:
            raise Silent(f"nearly silent (rms {envelope.rms_db():.0f} dB)")
        if soundfile.info(name_bytes(temporary)).frames != num_samples:
            raise CorpusError(f"{audio_dir}: a track was written only in part; free some space and start again")
        sha256 = digest.hexdigest()
        os.replace(temporary, audio_dir / f"{sha256[:16]}.flac")
    finally:
        temporary.unlink(missing_ok=True)
    return Ingested(
        id=sha256[:16],
        sha256=sha256,
        seconds=num_samples / SAMPLE_RATE_HZ,
        rms_db=round(envelope.rms_db(), 1),
        fingerprint=envelope.fingerprint(),
        tags={name: value.strip() for name, value in probe(files[0]).tags.items()},
    )


class _writing:
    """Turns failures of the output (full disk, no permission) into CorpusError; reading errors pass untouched."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (soundfile.LibsndfileError, OSError)) and not isinstance(error, AudioError):
            free_mb = shutil.disk_usage(self.path.parent).free >> 20 if self.path.parent.is_dir() else 0
            raise CorpusError(
                f"{self.path.parent}: can't be written ({' '.join(str(error).split())}; {free_mb} MB free);"
                " make room or choose another --out, then start again: finished tracks are kept"
            ) from error


def _write(out: soundfile.SoundFile, block: np.ndarray) -> None:
    try:
        out.write(block)
    except AssertionError as error:  # soundfile's sign that fewer frames arrived
        raise OSError("the disk took only a part") from error


def _int16_blocks(files: list[Path]) -> Iterator[np.ndarray]:
    blocks: Iterable[np.ndarray]
    if len(files) == 1:
        blocks = (block[0] for block in read_blocks(files[0]))
    else:  # stems are short, and few
        stems = [load(path) for path in files]
        total = np.zeros(max(map(len, stems)), np.float32)
        for stem in stems:
            total[: len(stem)] += stem
        # Added stems may pass full scale together; one gain for the piece keeps their balance.
        blocks = np.array_split(total / max(1.0, float(np.abs(total).max())), max(1, len(total) // 240000))
    for block in blocks:
        yield np.rint(np.clip(block, -1.0, 1.0) * 32767.0).astype(np.int16)


def _trimmed(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Cuts silent frames from both ends. Silence is held back until sound follows it, on disk if it is long."""
    rest = np.zeros(0, np.int16)
    started = False
    with tempfile.SpooledTemporaryFile(max_size=_PENDING_BYTES) as pending:
        for block in blocks:
            block = np.concatenate([rest, block])
            whole = len(block) // _FRAME * _FRAME
            block, rest = block[:whole], block[whole:]
            # int32: the absolute value of -32768 is no int16.
            loud = np.flatnonzero(np.abs(block.reshape(-1, _FRAME).astype(np.int32)).max(axis=1, initial=0) > _SILENCE)
            if len(loud) == 0:
                if started:
                    pending.write(block.tobytes())
                continue
            first = 0 if started else loud[0] * _FRAME
            end = (loud[-1] + 1) * _FRAME
            yield from _drain(pending)
            started = True
            yield block[first:end]
            pending.write(block[end:].tobytes())
        if len(rest) and np.abs(rest.astype(np.int32)).max() > _SILENCE:
            yield from _drain(pending)
            yield rest


def _drain(pending: "tempfile.SpooledTemporaryFile[bytes] | BinaryIO") -> Iterator[np.ndarray]:
    pending.seek(0)
    while held := pending.read(1 << 20):
        yield np.frombuffer(held, np.int16)
    pending.seek(0)
    pending.truncate()


class Envelope:
    """Levels of 0.1 s frames of the signal and of its first difference (a cheap high band)."""

    def __init__(self) -> None:
        self.powers: list[np.ndarray] = []  # each (2, frames)
        self.rest = np.zeros(0, np.int16)

    def add(self, block: np.ndarray) -> None:
        block = np.concatenate([self.rest, block])
        whole = len(block) // _ENVELOPE_FRAME * _ENVELOPE_FRAME
        self.rest = block[whole:]
        frames = block[:whole].reshape(-1, _ENVELOPE_FRAME).astype(np.float32) / 32768.0
        high = np.diff(frames, axis=1)
        self.powers.append(np.stack([np.mean(frames**2, axis=1), np.mean(high**2, axis=1)]))

    def rms_db(self) -> float:
        power = np.concatenate(self.powers, axis=1)[0]
        return float(10 * np.log10(power.mean() + 1e-12))

    def fingerprint(self) -> str:
        power = np.concatenate(self.powers, axis=1)
        edges = np.linspace(0, power.shape[1], _SEGMENTS + 1).astype(int)
        pooled = np.stack([power[:, a : max(b, a + 1)].mean(axis=1) for a, b in itertools.pairwise(edges)], axis=1)
        levels_db = 10 * np.log10(pooled + 1e-10)
        return base64.b64encode(np.clip(np.rint(255 + levels_db / 0.375), 0, 255).astype(np.uint8).tobytes()).decode()
