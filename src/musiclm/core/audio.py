"""Audio files: read (whole or streamed), resample, mix to mono, write with tags.

Everything in the project is float32 in [-1, 1] and, between the files, mono at 24 kHz. Files are read by libsndfile
(wav, flac, ogg, opus, mp3, ...); what it can't open (tracker modules, aac, ...) goes through an `ffmpeg` program where
there is one. Streamed reading never holds more than a block, so a three-hour file costs no more memory than a short
one.
"""

import contextlib
import io
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from jaxtyping import Float, Int16

from musiclm.core import containers, output
from musiclm.core.tags import fix_ogg_serial, prepend_id3, read_info, with_ogg_serial
from musiclm.core.unicode import escaped_json, name_bytes, printable

SAMPLE_RATE_HZ = 24000
MIN_RATE_HZ, MAX_RATE_HZ = 8000, 192000

TRACKER_SUFFIXES = frozenset({".mod", ".xm", ".it", ".s3m", ".mptm", ".stm", ".med", ".mtm", ".umx", ".669"})
SNDFILE_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".rf64", ".caf"}
)
FFMPEG_SUFFIXES = TRACKER_SUFFIXES | {
    ".m4a",
    ".aac",
    ".wma",
    ".mp4",
    ".mka",
    ".webm",
    ".ape",
    ".wv",
    ".ac3",
    ".mpc",
    ".tta",
}
AUDIO_SUFFIXES = SNDFILE_SUFFIXES | FFMPEG_SUFFIXES

# suffix -> (libsndfile format, subtype)
WRITE_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
# The only tags libsndfile can store; write_audio puts any other into the comment, as JSON.
_NATIVE_TAGS = frozenset(
    {"title", "copyright", "software", "artist", "comment", "date", "album", "license", "tracknumber", "genre"}
)
_BLOCK_FRAMES = 1 << 18
_WRITE_FRAMES = 1 << 15


class AudioError(ValueError):
    """A file that can't be read or written as audio. The message is one line: which file, what is wrong, what to do."""


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    sample_rate_hz: int
    channels: int
    seconds: float | None  # None: not known before decoding
    tags: dict[str, str] = field(default_factory=dict)  # title, artist, genre, license, ... where the file has them


@dataclass(frozen=True, kw_only=True)
class _Decoder:
    info: AudioInfo
    blocks: Iterator[np.ndarray]  # float32 (frames, channels)


class _SequentialFile(soundfile.SoundFile):
    """A file read from front to back. soundfile seeks to where it is after each read of a seekable file, and an MP3
    loses there the bits it keeps from earlier frames: a click of 0.2 at the start of every block."""

    def seekable(self) -> bool:
        return False


def probe(path: str | Path) -> AudioInfo:
    """Rate, channels, length and tags of a file, without decoding it.

    Raises: AudioError if the file is missing, empty or not audio.
    """
    with _open(Path(path)) as decoder:
        return decoder.info


def read_blocks(
    path: str | Path, *, sample_rate_hz: int | None = SAMPLE_RATE_HZ, mono: bool = True
) -> Iterator[Float[np.ndarray, "c s"]]:
    """Streams a file block by block (about 250 000 frames each), resampled and, if `mono`, mixed to one channel.

    The blocks joined are exactly what `resample` gives of the whole file. `sample_rate_hz` None keeps the file's own
    rate. Mixing is the mean over channels.

    Raises: AudioError, possibly after some blocks, if the file turns out damaged, truncated or without a sample.
    """
    path = Path(path)
    with _open(path) as decoder:
        blocks = _checked(path, decoder.blocks, mono)
        yield from resample_blocks(blocks, decoder.info.sample_rate_hz, sample_rate_hz or decoder.info.sample_rate_hz)


def _checked(path: Path, blocks: Iterable[np.ndarray], mono: bool) -> Iterator[np.ndarray]:
    frames = 0
    for block in blocks:
        frames += len(block)
        if mono and block.shape[1] > 1:
            # The mean over channels, as a product: numpy's mean over so short an axis takes five times as long.
            block = block @ np.full((block.shape[1], 1), 1 / block.shape[1], np.float32)
        if not np.isfinite(block).all():
            raise AudioError(f"{path}: holds NaN or infinite samples; export it again")
        yield np.ascontiguousarray(block.T)
    if frames == 0:
        raise AudioError(f"{path}: holds no audio (0 samples); leave it out or export it again")


def resample_blocks(
    blocks: Iterable[Float[np.ndarray, "c s"]], from_hz: int, to_hz: int
) -> Iterator[Float[np.ndarray, "c t"]]:
    """`resample` of audio that comes in blocks: joined, they are what it gives on the whole."""
    if from_hz == to_hz:
        yield from blocks
        return
    stream, channels = None, 0
    for block in blocks:
        if stream is None:
            channels = len(block)
            stream = soxr.ResampleStream(from_hz, to_hz, channels, dtype="float32", quality="HQ")
        out = stream.resample_chunk(block.T)
        if len(out):
            yield np.ascontiguousarray(out.T)
    if stream is not None:
        yield np.ascontiguousarray(stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T)


def load(path: str | Path, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Float[np.ndarray, " s"]:
    """A whole file, mono, at `sample_rate_hz`. Raises: AudioError."""
    return np.concatenate(list(read_blocks(path, sample_rate_hz=sample_rate_hz)), axis=1)[0]


def resample(audio: Float[np.ndarray, "c s"], from_hz: float, to_hz: float) -> Float[np.ndarray, "c t"]:
    """Resamples by soxr (HQ); the length becomes s * to_hz / from_hz, rounded.

    Raises: AudioError for a rate below 1 Hz.
    """
    if from_hz < 1 or to_hz < 1:
        raise AudioError(f"can't resample from {from_hz} to {to_hz} Hz: both rates must be positive")
    if from_hz == to_hz:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, from_hz, to_hz, quality="HQ").T)


def write_audio(
    path: str | Path,
    audio: Float[np.ndarray, "..."],
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """`write_blocks` of one block, (s,) or (c, s)."""
    audio = np.asarray(audio, np.float32)
    return write_blocks(path, [audio[None] if audio.ndim == 1 else audio], sample_rate_hz, tags)


def write_blocks(
    path: str | Path,
    blocks: Iterable[Float[np.ndarray, "c s"]],
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Writes audio that comes in blocks as wav, flac, ogg, opus or mp3, by the suffix, from samples of 16 bits.

    So the WAV of some sound, written as another format, gives the bytes that the sound itself gives. Tags other than
    libsndfile's own (title, artist, comment, ...) are stored as JSON in the comment. Samples outside [-1, 1] are
    clipped. The file appears under its name only when whole. MP3 is written at twice a rate below 32 kHz:
    below it libsndfile's encoder makes frames that overrun their bit count, which decoders read differently.

    Raises: AudioError for an unknown suffix, a missing folder, no samples, NaN, or a disk that is full or read-only.
    """
    path = Path(path)
    check_writable(path)
    sound_format, subtype = WRITE_FORMATS[path.suffix.lower()]
    given = _Given(blocks)
    blocks = given
    if sound_format == "MP3" and sample_rate_hz < 32000:
        rounded = (to_16_bit(block).astype(np.float32) / 32768 for block in given)
        blocks, sample_rate_hz = resample_blocks(rounded, sample_rate_hz, 2 * sample_rate_hz), 2 * sample_rate_hz
    try:
        with output.replacing(path) as temporary:
            _write(temporary, path, blocks, sample_rate_hz, sound_format, subtype, native_tags(tags or {}))
    except (OSError, RuntimeError, AssertionError) as error:
        if given.failed:  # what made the music, not the disk
            raise
        reason = _one_line(_reason(error)) or "the disk took only a part"
        raise AudioError(f"{path}: could not be written ({reason}); check free space and permissions") from error
    return path


class _Given:
    """Blocks that somebody else makes, and whether it was they who failed."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self.blocks, self.failed = blocks, False

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            yield from self.blocks
        except Exception:
            self.failed = True
            raise


def check_writable(path: str | Path, **options: Any) -> None:
    """Raises AudioError now for what `write_blocks` would refuse later: long work should not end on a wrong file name.

    options: those of `musiclm.core.output.check_output`.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITE_FORMATS:
        raise AudioError(f"{path}: can't write '{path.suffix}' files; use one of {', '.join(WRITE_FORMATS)}")
    try:
        output.check_output(path, **options)
    except output.OutputError as error:
        raise AudioError(str(error)) from None


def _write(
    temporary: Path,
    path: Path,
    blocks: Iterable[np.ndarray],
    rate_hz: int,
    sound_format: str,
    subtype: str,
    tags: Mapping[str, str],
) -> None:
    num_frames = 0
    with contextlib.ExitStack() as stack:
        file: soundfile.SoundFile | None = None
        for piece in _recut(_writable_blocks(path, blocks)):
            if file is None:
                file = stack.enter_context(
                    soundfile.SoundFile(
                        name_bytes(temporary), "w", rate_hz, piece.shape[1], format=sound_format, subtype=subtype
                    )
                )
                if sound_format != "MP3":  # there libsndfile mangles all but ASCII
                    for name, value in tags.items():
                        setattr(file, name, value)
            # libsndfile's MP3 encoder garbles two channels of 16-bit samples
            file.write(piece if sound_format != "MP3" else piece.astype(np.float32) / 32768)
            num_frames += len(piece)
    if num_frames == 0:
        raise AudioError(f"{path}: nothing to write, the audio has no samples")
    if sound_format == "OGG":
        fix_ogg_serial(temporary)
    elif sound_format == "MP3":
        prepend_id3(temporary, tags)
    # libsndfile does not report what fails while closing (a full disk), so count what arrived.
    written = soundfile.info(name_bytes(temporary)).frames
    if written < num_frames:
        raise OSError(f"{written} of {num_frames} frames arrived")


def ogg_bytes(audio: Float[np.ndarray, " s"], rate_hz: int) -> bytes:
    """A clip as an Ogg Vorbis file, for pages; the same clip gives the same bytes."""
    file = io.BytesIO()
    soundfile.write(file, audio, rate_hz, format="OGG", subtype="VORBIS")
    return with_ogg_serial(file.getvalue())


def to_16_bit(audio: Float[np.ndarray, "..."]) -> Int16[np.ndarray, "..."]:
    """Samples as files hold them: what is read of them is within half a step of what it was, and clipped to [-1, 1)."""
    return np.clip(np.rint(np.asarray(audio, np.float32) * np.float32(32768)), -32768, 32767).astype(np.int16)


def _writable_blocks(path: Path, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks as 16-bit frames (frames, channels). Raises: AudioError for what is no audio."""
    for block in blocks:
        block = np.asarray(block, np.float32)
        if block.ndim != 2:
            raise AudioError(f"{path}: audio of shape {block.shape} can't be written; give (s,) or (c, s)")
        if not np.isfinite(block).all():
            raise AudioError(f"{path}: not written, the audio holds NaN or infinite samples")
        yield to_16_bit(block.T)


def _recut(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames in pieces of one length, but for the last: the bytes of Vorbis depend on how frames come, and one long
    write of them overflows libsndfile's stack."""
    waiting: list[np.ndarray] = []
    num = 0
    for block in blocks:
        waiting.append(block)
        num += len(block)
        if num >= _WRITE_FRAMES:
            joined = np.concatenate(waiting)
            whole = num // _WRITE_FRAMES * _WRITE_FRAMES
            yield from (joined[start : start + _WRITE_FRAMES] for start in range(0, whole, _WRITE_FRAMES))
            waiting, num = [joined[whole:]], num - whole
    if num:
        yield np.concatenate(waiting)


def native_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as libsndfile can store them: its own, as text that is safe to store, all others as JSON in the comment."""
    native = {name: printable(str(value)) for name, value in tags.items() if name in _NATIVE_TAGS}
    other = {name: value for name, value in tags.items() if name not in _NATIVE_TAGS}
    if other:
        if "comment" in tags:
            other["comment"] = tags["comment"]
        native["comment"] = escaped_json(other)
    return native


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Decoder]:
    if not path.exists():
        raise AudioError(f"{path}: no such file; check the name")
    if not path.is_file():
        raise AudioError(f"{path}: not a file; give an audio file")
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: the file is empty (0 bytes); leave it out or copy it again")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise AudioError(f"{path}: can't be opened ({error.strerror}); check its permissions") from error
    with contextlib.ExitStack() as stack:
        file = None
        if path.suffix.lower() not in FFMPEG_SUFFIXES:
            try:
                file = stack.enter_context(_SequentialFile(name_bytes(path)))
            except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
                decoder = stack.enter_context(_ffmpeg(path, _reason(error)))
        else:
            decoder = stack.enter_context(_ffmpeg(path, "not a format of libsndfile"))
        if file is not None:
            try:
                streams = containers.streams(path, "MP3" if _is_mp3(file) else file.format)
            except containers.Truncated as error:
                raise AudioError(f"{path}: {error}; copy it again") from None
            seconds = _length_s(file, streams)
            tags = {name: value for name, value in file.copy_metadata().items() if value} | read_info(path)
            info = AudioInfo(sample_rate_hz=file.samplerate, channels=file.channels, seconds=seconds, tags=tags)
            decoder = _Decoder(info=info, blocks=_sndfile_blocks(path, streams, file))
        rate_hz = decoder.info.sample_rate_hz
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise AudioError(
                f"{path}: a sample rate of {rate_hz} Hz; only {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are read, resample it"
            )
        yield decoder


def _sndfile_blocks(
    path: Path, streams: Sequence[containers.Stream], first: soundfile.SoundFile
) -> Iterator[np.ndarray]:
    """All streams of a file, each to its end; `first` is the file as libsndfile sees it."""
    form = (first.samplerate, first.channels)
    before = 0
    for stream in streams:
        with contextlib.ExitStack() as stack:
            if _is_mp3(first):  # in a pipe, or only as much is read as the first frame's bitrate lets one guess
                try:
                    file = stack.enter_context(_SequentialFile(containers.pipe(containers.FilePart(path, stream))))
                except soundfile.LibsndfileError as error:
                    raise _damaged(path, before / form[0], error) from None
            elif stream.covers(path.stat().st_size):
                file = first
            else:
                file = stack.enter_context(_SequentialFile(stack.enter_context(containers.FilePart(path, stream))))
            if (file.samplerate, file.channels) != form:
                raise AudioError(
                    f"{path}: goes on after {before / form[0]:.1f} s with {file.samplerate} Hz and {file.channels} "
                    "channels, "
                    f"after {form[0]} Hz and {form[1]}; cut it in two"
                )
            frames = 0
            try:
                while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                    frames += len(block)
                    yield block
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise _damaged(path, (before + frames) / file.samplerate, error) from error
            promised = max(stream.promised or 0, file.frames if file.frames < 1 << 62 else 0)
            # A header that promises more than there is; some encoders are off by a few frames, hence the half second.
            if frames < promised - file.samplerate // 2:
                raise AudioError(
                    f"{path}: truncated, {frames / file.samplerate:.1f} of {promised / file.samplerate:.1f} s could "
                    "be read;"
                    " copy it again"
                )
            before += frames


def _is_mp3(file: soundfile.SoundFile) -> bool:
    """Also one in a WAV file."""
    return "MP3" in (file.format, file.subtype) or file.subtype == "MPEG_LAYER_III"


def _damaged(path: Path, after_s: float, error: Exception) -> AudioError:
    return AudioError(
        f"{path}: damaged after {after_s:.1f} s ({_one_line(_reason(error))}); leave it out or copy it again"
    )


def _length_s(file: soundfile.SoundFile, streams: Sequence[containers.Stream]) -> float | None:
    """Seconds that a file's structure tells; None where they would be a guess."""
    known = not _is_mp3(file) and len(streams) == 1 and file.frames < 1 << 62
    return file.frames / file.samplerate if known and 4 not in streams[0].patches else None


@contextlib.contextmanager
def _ffmpeg(path: Path, why: str) -> Iterator[_Decoder]:
    """Decodes by ffmpeg, to a pipe. Only local files may be opened: a playlist posing as music reaches no network."""
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        hint = (
            "install ffmpeg to read this kind"
            if path.suffix.lower() in FFMPEG_SUFFIXES
            else "leave it out or convert it to wav"
        )
        raise AudioError(f"{path}: not readable as audio ({_one_line(why)}); {hint}")
    safe = ["-v", "error", "-protocol_whitelist", "file,pipe"]
    name = f"file:{path}"
    entries = "stream=sample_rate,channels:format_tags=title,artist,genre,license,copyright"
    asked = subprocess.run(
        ["ffprobe", *safe, "-select_streams", "a:0", "-show_entries", entries, "-of", "json", name],
        capture_output=True,
    )
    answer = json.loads(asked.stdout or b"{}") if asked.returncode == 0 else {}
    if not answer.get("streams") or 0 in (
        int(answer["streams"][0].get(name, 0)) for name in ("sample_rate", "channels")
    ):
        raise AudioError(f"{path}: not audio, or damaged ({_one_line(why)}); leave it out or copy it again")
    rate_hz, channels = int(answer["streams"][0]["sample_rate"]), int(answer["streams"][0]["channels"])
    tags = {key.lower(): value for key, value in answer.get("format", {}).get("tags", {}).items() if value}
    info = AudioInfo(sample_rate_hz=rate_hz, channels=channels, seconds=None, tags=tags)
    command = ["ffmpeg", *safe, "-nostdin", "-xerror", "-i", name, "-map", "0:a:0", "-f", "f32le"]
    command += ["-ar", str(rate_hz), "-ac", str(channels), "pipe:1"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL)
        assert process.stdout is not None

        def blocks() -> Iterator[np.ndarray]:
            assert process.stdout is not None
            frames = 0
            while raw := process.stdout.read(4 * channels * _BLOCK_FRAMES):
                block = np.frombuffer(raw[: len(raw) // (4 * channels) * 4 * channels], "<f4").reshape(-1, channels)
                frames += len(block)
                yield block
            if process.wait() != 0:
                errors.seek(0)
                said = _one_line(errors.read().decode(errors="replace"))
                raise AudioError(
                    f"{path}: damaged after {frames / rate_hz:.1f} s ({said}); leave it out or copy it again"
                )

        try:
            yield _Decoder(info=info, blocks=blocks())
        finally:
            process.stdout.close()
            process.kill()
            process.wait()


def _reason(error: Exception) -> str:
    """What went wrong, without the name of the file, which may be one in the making."""
    return str(getattr(error, "error_string", error))


def _one_line(message: object) -> str:
    return " ".join(str(message).split())[:200]
