"""Soundfonts by the Debian package that brings them, and the two renderers that play them."""

import math
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from musiclm.arrange import limits
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.packages import need
from musiclm.arrange.score import Part, Score
from musiclm.core.audio import SAMPLE_RATE_HZ

FOLDERS = (Path("/usr/share/sounds/sf2"), Path("/usr/share/sounds/sf3"), Path("/usr/share/soundfonts"))
_LAYER_DB = 1.5
_GAP_S = 6.0  # of silence between the stems of one fluidsynth run, for notes to die away
_DRUM_CHANNEL = 9


class RenderError(ValueError):
    """Nothing to render with. The message is one line and names the package to install."""


class PieceError(RenderError):
    """One piece can't be rendered; others can."""


@dataclass(frozen=True, kw_only=True)
class Soundfont:
    package: str  # Debian's
    file: str
    licence: str
    weight: float  # how often it is drawn
    chip_weight: float  # the same for styles whose sound may be a chip's
    held_out: bool = False
    fluidsynth_only: bool = False  # symusic 0.5.9 plays it wrongly: see decision 005
    is_chip: bool = False  # imitates everything by a sound chip, where others have samples
    lacks: tuple[str, ...] = ()  # instruments that come out silent, or all but
    lacks_keys: tuple[int, ...] = ()  # drums that do
    folder: Path | None = None  # where it was found

    def can_play(self, score: Score) -> bool:
        """Whether every part will sound."""
        for part in score.parts:
            if part.instrument in self.lacks:
                return False
            if INSTRUMENTS[part.instrument].on_drum_channel and any(
                note.pitch in self.lacks_keys for note in part.notes
            ):
                return False
        return True

    @property
    def path(self) -> Path:
        assert self.folder is not None, "only soundfonts that were found have a path"
        return self.folder / self.file


SOUNDFONTS = (
    Soundfont(package="fluid-soundfont-gm", file="FluidR3_GM.sf2", licence="MIT", weight=3, chip_weight=2,
        fluidsynth_only=True),
    Soundfont(package="musescore-general-soundfont-small", file="MuseScore_General_Lite.sf3", licence="MIT", weight=5,
        chip_weight=2, lacks=("orchestral drums",), lacks_keys=(39,)),
    Soundfont(package="fluidr3mono-gm-soundfont", file="FluidR3Mono_GM.sf3", licence="MIT", weight=0.3, chip_weight=0.3,
        fluidsynth_only=True),
    Soundfont(package="opl3-soundfont", file="OPL-3_FM_128M.sf2", licence="CC BY-SA / GPL-3", weight=0.25,
        chip_weight=5, is_chip=True, fluidsynth_only=True, lacks_keys=(77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87)),
    Soundfont(package="timgm6mb-soundfont", file="TimGM6mb.sf2", licence="GPL-2", weight=0.8, chip_weight=1,
        held_out=True, fluidsynth_only=True, lacks=("tin whistle",)),
)  # fmt: skip


def find_soundfonts(folders: Sequence[Path] = FOLDERS) -> list[Soundfont]:
    """Those of `SOUNDFONTS` that are installed.

    Raises: RenderError, which names packages, if none is that may be trained on.
    """
    found = []
    for font in SOUNDFONTS:
        folder = next((folder for folder in folders if (folder / font.file).is_file()), None)
        if folder:
            found.append(Soundfont(**{**font.__dict__, "folder": folder}))
    if not any(not font.held_out for font in found):
        packages = ", ".join(font.package for font in SOUNDFONTS if not font.held_out)
        raise RenderError(f"no soundfont to render with; install one of the Debian packages {packages}")
    return found


def check_renderers(names: Sequence[str]) -> None:
    """Raises: RenderError or ImportError, naming the package to install, if a renderer is missing."""
    if "symusic" in names:
        need("symusic")
    if "fluidsynth" in names and shutil.which("fluidsynth") is None:
        raise RenderError("the program fluidsynth is not here; install the Debian package fluidsynth")


def render_stems(score: Score, path: Path, renderer: str, num_samples: int) -> list[Float[np.ndarray, " s"]]:
    """Each part alone, mono at 24 kHz, `num_samples` long, as loud as the soundfont has it.

    Raises: RenderError if the renderer is missing or can't read the soundfont, PieceError if it fails on this piece or
    takes too long.
    """
    if not path.is_file():
        raise RenderError(f"{path}: no such soundfont; install the Debian package that brings {path.name}")
    if renderer == "symusic":
        return [_symusic_stem(score, part, path, num_samples) for part in score.parts]
    return _fluidsynth_stems(score, path, num_samples)


@lru_cache(maxsize=4)
def _synthesizer(path: Path) -> Any:
    # Most of the first note's time goes into resampling its samples; sf3 ones cost twenty times more at quality 2.
    quality = 2 if path.suffix == ".sf2" else 0
    return need("symusic").Synthesizer(sf_path=str(path), sample_rate=SAMPLE_RATE_HZ, quality=quality)


def _symusic_stem(score: Score, part: Part, path: Path, num_samples: int) -> Float[np.ndarray, " s"]:
    """One part. symusic plays every note at full level, whatever its velocity, so notes go out in layers of equal
    velocity (in steps of 1.5 dB), each turned down as a soundfont player would: 40 dB a decade."""
    symusic = need("symusic")
    instrument = INSTRUMENTS[part.instrument]
    drums = instrument.on_drum_channel
    program = instrument.program if (drums, instrument.program) in _presets(path) else 0
    layers: dict[int, list[tuple[int, int, int, int]]] = {}
    for note in _milliseconds(score, part):
        layers.setdefault(round(40 * math.log10(127 / note[3]) / _LAYER_DB), []).append(note)
    stem = np.zeros(num_samples, np.float32)
    for layer, notes in sorted(layers.items()):
        sheet = symusic.Score(500)  # at 120 quarters a minute a tick is a millisecond
        sheet.tempos.append(symusic.Tempo(0, 120))
        track = symusic.Track(part.instrument, program=program, is_drum=drums)
        for start_ms, end_ms, pitch, _ in notes:
            track.notes.append(symusic.Note(start_ms, end_ms - start_ms, pitch, 127))
        sheet.tracks.append(track)
        audio = np.asarray(_synthesizer(path).render(sheet, stereo=False), np.float32)[0][:num_samples]
        stem[: len(audio)] += audio * np.float32(10 ** (-layer * _LAYER_DB / 20))
    return stem


@lru_cache(maxsize=8)
def _presets(path: Path) -> frozenset[tuple[bool, int]]:
    """(is a kit, program) of every preset; symusic is silent where one is missing.

    Raises: RenderError if the file is no soundfont.
    """
    data = path.read_bytes()
    at = data.rfind(b"phdr")
    if data[:4] != b"RIFF" or at < 0:
        raise RenderError(f"{path}: is no soundfont; install the package that brings it again")
    (size,) = struct.unpack_from("<I", data, at + 4)
    heads = (struct.unpack_from("<HH", data, at + 8 + place + 20) for place in range(0, size - 38, 38))
    return frozenset((bank == 128, program) for program, bank in heads if bank in (0, 128))


def _fluidsynth_stems(score: Score, path: Path, num_samples: int) -> list[Float[np.ndarray, " s"]]:
    """All stems in one run, one after another on one channel each, so that the soundfont is loaded once."""
    mido = need("mido")
    check_renderers(["fluidsynth"])
    span_ms = round((num_samples / SAMPLE_RATE_HZ + _GAP_S) * 1000)
    events: list[tuple[int, int, Any]] = []
    for index, part in enumerate(score.parts):
        instrument = INSTRUMENTS[part.instrument]
        channel = _DRUM_CHANNEL if instrument.on_drum_channel else index % 9
        at = index * span_ms
        events.append((at, 0, mido.Message("program_change", channel=channel, program=instrument.program)))
        for start_ms, end_ms, pitch, velocity in _milliseconds(score, part):
            on = mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)
            off = mido.Message("note_off", channel=channel, note=pitch)
            events += [(at + start_ms, 2, on), (at + end_ms, 1, off)]
    events.sort(key=lambda event: event[:2])
    track = mido.MidiTrack()
    now = 0
    for at, _, message in events:
        track.append(message.copy(time=at - now))
        now = at
    with tempfile.TemporaryDirectory() as scratch:
        midi, raw = Path(scratch, "stems.mid"), Path(scratch, "stems.raw")
        mido.MidiFile(tracks=[track], ticks_per_beat=500).save(midi)
        command: list[str] = ["fluidsynth", "-q", "-ni", "-R", "0", "-C", "0", "-g", "0.4", "-r", str(SAMPLE_RATE_HZ)]
        command += ["-O", "s16", "-T", "raw", "-F", str(raw), str(path), str(midi)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limits.RENDER_S)
        except subprocess.TimeoutExpired:
            raise PieceError(f"fluidsynth took longer than {limits.RENDER_S:.0f} s") from None
        if done.returncode != 0 or not raw.is_file():
            raise PieceError(f"fluidsynth failed on {path.name}: {' '.join(done.stderr.split())[:200]}")
        stereo = np.fromfile(raw, "<i2").reshape(-1, 2)
    mono = stereo.astype(np.float32).mean(axis=1) / 32768
    starts = [index * span_ms * SAMPLE_RATE_HZ // 1000 for index in range(len(score.parts))]
    return [_fit(mono[start : start + num_samples], num_samples) for start in starts]


def _milliseconds(score: Score, part: Part) -> list[tuple[int, int, int, int]]:
    """(start, end, pitch, velocity) of every note."""
    out = []
    for note in part.notes:
        start = round(score.seconds_at(note.start) * 1000)
        end = max(start + 10, round(score.seconds_at(note.start + note.duration) * 1000))
        out.append((start, end, note.pitch, note.velocity))
    return out


def _fit(audio: np.ndarray, num_samples: int) -> Float[np.ndarray, " s"]:
    return np.pad(audio[:num_samples], (0, max(0, num_samples - len(audio))))
