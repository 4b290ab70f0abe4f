"""A melody to follow (MusicLM, section 3.4), as codes: of a sound file, hummed, sung or played, or a MIDI file."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.core.artifact import file_hash
from musiclm.core.audio import SAMPLE_RATE_HZ, AudioError, probe, read_blocks
from musiclm.core.streams import TokenSpec
from musiclm.generate.checks import MAX_DURATION_S, MIN_DURATION_S
from musiclm.generate.take import MelodyFile, Take, check_fit
from musiclm.models.lm.melody import by_frame
from musiclm.models.melody.model import MelodyEncoder
from musiclm.models.melody.pitches import PitchTracker

MIDI_SUFFIXES = (".mid", ".midi")
MOST_MIDI_BYTES = 1_000_000  # hours of music; its events take a few hundred times as much memory
DRUM_CHANNEL = 9
LEVEL = 0.1  # root mean square to which a melody is brought: how loud it was hummed says nothing
SILENT = 1e-4  # below which there is nothing to bring there


@dataclass(frozen=True)
class Melody:
    """What music is to follow."""

    file: MelodyFile
    codes: Int[Tensor, "1 q m"]
    spec: TokenSpec
    encoder: str  # hash of the codes of the model that made these (`musiclm.core.artifact.codes_hash`)

    @classmethod
    def of_take(cls, take: Take, encoder: MelodyEncoder | PitchTracker) -> "Melody | None":
        """What a take by this encoder follows. Raises: ArtifactError if its codes do not fit."""
        if take.about.melody is None or take.melody is None:
            return None
        check_fit(take.melody, encoder.spec)
        codes = torch.from_numpy(take.melody.astype(np.int64))[None].to(_device_of(encoder))
        return cls(take.about.melody, codes, encoder.spec, encoder.codes_hash)

    def after(self, num_samples: int, sample_rate_hz: int) -> "Melody | None":
        """What is left of it after so many samples of the sound, as seen from there; None if nothing is."""
        file = self.file.later(-num_samples)
        left = file.start_samples + self.seconds * sample_rate_hz > 0
        return replace(self, file=file) if left else None

    @property
    def seconds(self) -> float:
        return self.codes.shape[2] / (self.spec.frame_rate_hz or 1.0)

    def frames(
        self, target: TokenSpec, start_samples: int, num_frames: int, sample_rate_hz: int
    ) -> Int[Tensor, "1 q t"]:
        """Codes by frame of a target of `num_frames` frames, the first of which is at a sample of the sound."""
        rate_hz = target.frame_rate_hz or 0.0
        first = round((start_samples - self.file.start_samples) * rate_hz / sample_rate_hz)
        return by_frame(self.codes, self.spec.frame_rate_hz or 0.0, rate_hz, num_frames, first)


def _device_of(encoder: MelodyEncoder | PitchTracker) -> torch.device:
    return next(encoder.spectra.buffers()).device


def is_midi(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in MIDI_SUFFIXES


def begins_as_midi(path: Path) -> bool:
    """By its bytes. Raises: OSError."""
    with open(path, "rb") as file:
        return file.read(4) == b"MThd"


def check_melody_file(path: Path) -> None:
    """Raises: AudioError for a file that is missing, or that is neither sound nor MIDI by its head."""
    if not is_midi(path):
        probe(path)
        return
    if not path.is_file():
        raise AudioError(f"{path}: no such file")
    if not begins_as_midi(path) or path.stat().st_size > MOST_MIDI_BYTES:
        raise AudioError(f"{path}: no MIDI file, or one above {MOST_MIDI_BYTES // 1_000_000} MB; give another")


@torch.inference_mode()
def melody_of(path: str | Path, encoder: MelodyEncoder | PitchTracker) -> Melody:
    """Of the first ten minutes of a file. Of MIDI the highest notes, drums aside, are the melody.

    Raises: AudioError for a file that is no sound or no MIDI, is shorter than 0.5 s, or silent; ImportError, in one
    line, if MIDI can't be read for want of a package.
    """
    path = Path(path)
    audio = melody_sound(path)
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    if rms < SILENT:
        raise AudioError(f"{path}: is silent; there is no melody to follow")
    # a last frame that is not full is one all the same
    step = round(SAMPLE_RATE_HZ / (encoder.spec.frame_rate_hz or 1.0))
    audio = np.pad(audio * np.float32(LEVEL / rms), (0, -len(audio) % step))
    codes = encoder.encode(torch.from_numpy(audio)[None, None].to(_device_of(encoder)))
    file = MelodyFile(name=path.name, hash=file_hash(path))
    return Melody(file, codes, encoder.spec, encoder.codes_hash)


def melody_sound(path: Path) -> Float[np.ndarray, " s"]:
    """What of a file is listened to, mono at 24 kHz: the first ten minutes of a sound, or the highest line of a MIDI
    file by plain tones.

    Raises: as `melody_of`, but for silence.
    """
    check_melody_file(path)
    audio = _midi_sound(path) if is_midi(path) else _sound(path)
    if len(audio) < MIN_DURATION_S * SAMPLE_RATE_HZ:
        raise AudioError(
            f"{path}: has {len(audio) / SAMPLE_RATE_HZ:.2f} s, too short for a melody; give {MIN_DURATION_S} s or more"
        )
    return audio


def _sound(path: Path) -> Float[np.ndarray, " s"]:
    most, blocks, total = round(MAX_DURATION_S * SAMPLE_RATE_HZ), [], 0
    for block in read_blocks(path):
        blocks.append(block[0])
        total += block.shape[1]
        if total >= most:
            break
    return np.concatenate(blocks)[:most].astype(np.float32)


def _midi_sound(path: Path) -> Float[np.ndarray, " s"]:
    """The highest line of a MIDI file, by plain tones."""
    notes = highest_line(_midi_notes(path))
    if not notes:
        raise AudioError(f"{path}: has no notes besides drums; there is no melody to follow")
    out = np.zeros(round(max(end for _, end, _ in notes) * SAMPLE_RATE_HZ) + 1, np.float32)
    for start_s, end_s, pitch in notes:
        first, last = round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
        time_s = np.arange(last - first) / SAMPLE_RATE_HZ
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        partials = [k for k in range(1, 7) if k * hertz < 10_000] or [1]
        tone = sum(np.sin(2 * np.pi * k * hertz * time_s) / k for k in partials)
        edges = np.minimum(1, np.minimum(time_s, time_s[::-1]) / 0.01)
        out[first:last] += (0.2 * tone * edges * np.exp(-time_s)).astype(np.float32)
    return out


def _midi_notes(path: Path) -> list[tuple[float, float, int]]:
    """(start, end, pitch) of all notes but drums, seconds, of the first ten minutes."""
    try:
        import mido
    except ImportError as error:
        raise ImportError("the package mido is not here, which reads MIDI; pip install mido") from error
    notes: list[tuple[float, float, int]] = []
    sounding: dict[tuple[int, int], float] = {}
    now = 0.0
    try:
        for message in mido.MidiFile(path):
            if not 0 <= message.time < float("inf"):
                raise ValueError(f"an event comes {message.time} s after the one before")
            now += message.time
            if now > MAX_DURATION_S:
                break
            if message.type not in ("note_on", "note_off") or message.channel == DRUM_CHANNEL:
                continue
            key = (message.channel, message.note)
            if key in sounding:
                notes.append((sounding.pop(key), now, message.note))
            if message.type == "note_on" and message.velocity:
                sounding[key] = now
    except Exception as error:  # mido has one of its own, and lets many others through
        raise AudioError(f"{path}: is a damaged MIDI file ({' '.join(str(error).split())}); export it again") from error
    notes += [(start, min(now, MAX_DURATION_S, start + 2.0), pitch) for (_, pitch), start in sounding.items()]
    return [note for note in notes if note[1] > note[0]]


def highest_line(notes: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Of notes (start, end, pitch) those parts during which no higher one sounds, in order.

    A lower note goes on after a higher one that ended before it.
    """
    edges = sorted({at for start, end, _ in notes for at in (start, end)})
    starts = sorted(notes)
    line: list[tuple[float, float, int]] = []
    held: list[tuple[int, float, float]] = []  # (-pitch, -start, end), a heap: the highest first, the latest of equals
    upcoming = 0
    for begin, end in zip(edges, edges[1:], strict=False):
        while upcoming < len(starts) and starts[upcoming][0] <= begin:
            start, stop, pitch = starts[upcoming]
            heapq.heappush(held, (-pitch, -start, stop))
            upcoming += 1
        while held and held[0][2] <= begin:
            heapq.heappop(held)
        if not held:
            continue
        pitch, started = -held[0][0], -held[0][1]
        if line and line[-1][1] == begin and line[-1][2] == pitch and started < begin:
            line[-1] = (line[-1][0], end, pitch)
        else:
            line.append((begin, end, pitch))
    return [note for note in line if note[1] - note[0] >= 0.02]
