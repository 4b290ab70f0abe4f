"""Sampled drum kits beside those of soundfonts: Hydrogen's (a drumkit.xml and samples) and avldrums.lv2's. Optional.

A kit plays the drum parts of an arranged piece, if it has every drum that they strike. Which one is drawn from the
piece's style and seed, each kit by a number of its own: where one is missing, only pieces
that it would have played change.
"""

import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from musiclm.arrange.render.soundfonts import RenderError, render_stems
from musiclm.arrange.score import Note, Part, Score
from musiclm.arrange.timeline import DRUM_KEYS
from musiclm.core.audio import SAMPLE_RATE_HZ, load

KIT_FOLDERS = (Path("/usr/share/hydrogen/data/drumkits"), Path("/usr/share/sounds/sf2"))
Audio = Float[np.ndarray, " s"]
_ACOUSTIC = ("drum kit", "room drum kit", "rock drum kit", "jazz drum kit")
_ELECTRONIC = ("electronic drum kit",)
_SOUNDFONT_WEIGHT = 2.0  # of leaving the drums to the soundfont
_CHOKE_S = 0.03  # in which an open hi-hat falls silent when it is closed
_CLOSED, _OPEN = (42, 44), 46
_LONGEST_S = 4.0
# of an instrument's name -> the drum it is; the first that fits counts. "": none that is played here
_NAMES: tuple[tuple[str, str], ...] = (
    (r"choke|swish|flink|semi.?open|hat free|roll|rimshot|crash/ride|dry|off\b", ""),
    (r"stick|side|rim", "rim"), (r"clap", "clap"), (r"kick|bass ?drum", "kick"), (r"snare", "snare"),
    (r"cowbell", "cowbell"), (r"tamb", "tambourine"), (r"splash", "splash"),
    (r"china", "china"), (r"bell|cup", "bell"), (r"ride", "ride"), (r"crash", "crash"),
    (r"(hat|hh\b).*(pedal|pd|foot|pe\b)|pedal hh", "pedal"), (r"(hat|hh\b).*\bop|open(ed)? (hat|hh)", "open"),
    (r"(hat|hh\b).*\bcl|closed (hat|hh)", "closed"), (r"(low|floor).*tom|tom.*(low|floor)", "low tom"),
    (r"mid.*tom|tom.*mid", "mid tom"), (r"hi.*tom|tom.*hi", "high tom"), (r"\btom\b", "mid tom"),
)  # fmt: skip
# keys of the General MIDI drum map -> drums that will do, best first
_KEYS: dict[int, tuple[str, ...]] = {
    **dict.fromkeys(DRUM_KEYS["kick"], ("kick",)), **dict.fromkeys(DRUM_KEYS["snare"], ("snare",)),
    37: ("rim",), 39: ("clap",),
    **dict.fromkeys((41, 43), ("low tom", "mid tom")), **dict.fromkeys((45, 47), ("mid tom", "low tom", "high tom")),
    **dict.fromkeys((48, 50), ("high tom", "mid tom")), 42: ("closed",), 44: ("pedal", "closed"), 46: ("open",),
    49: ("crash",), 57: ("crash",), 52: ("china", "crash"), 55: ("splash", "crash"),
    51: ("ride",), 59: ("ride",), 53: ("bell", "ride"), 54: ("tambourine",), 56: ("cowbell",),
}  # fmt: skip


@dataclass(frozen=True)
class VelocityLayer:
    """A sample for strokes of some velocities, from `low` to `high` of 1."""

    path: Path
    low: float
    high: float
    gain: float


@dataclass(frozen=True, kw_only=True)
class DrumKit:
    package: str  # Debian's
    name: str  # of the kit's folder or file
    licence: str
    weight: float = 1.0
    electronic: bool = False
    keys: tuple[int, ...] = ()  # of a soundfont: the drums it has
    folder: Path | None = None  # where it was found

    @property
    def path(self) -> Path:
        assert self.folder is not None, "only kits that were found have a path"
        return self.folder / self.name

    def can_play(self, part: Part) -> bool:
        """Whether the part is for such a kit, and the kit has all of its drums."""
        if part.role != "drums" or part.instrument not in (_ELECTRONIC if self.electronic else _ACOUSTIC):
            return False
        there = set(self.keys) if self.keys else set(read_kit(self.path))
        return all(note.pitch in there for note in part.notes)

    def play(self, score: Score, part: Part, num_samples: int) -> Audio:
        """The part's stem, mono at 24 kHz.

        Raises: RenderError for a damaged sample or, of a soundfont, a missing renderer.
        """
        return (
            _soundfont_stem(self, score, part, num_samples) if self.keys else _stem(self.path, score, part, num_samples)
        )


_HYDROGEN, _AVL = "hydrogen-drumkits", "avldrums.lv2-soundfont"
_AVL_KEYS = (35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 59)
KITS = (
    DrumKit(package=_HYDROGEN, name="BJA_Pacific", licence="CC-BY-SA-3.0-US"),
    DrumKit(package=_HYDROGEN, name="ColomboAcousticDrumkit", licence="GPL-2+ with an exception for compositions"),
    DrumKit(package=_HYDROGEN, name="ForzeeStereo", licence="GPL-2"),
    DrumKit(package=_HYDROGEN, name="The Black Pearl 1.0", licence="GPL-2"),
    DrumKit(package=_HYDROGEN, name="Millo-Drums_v.1", licence="GPL-2", weight=0.5),
    DrumKit(package=_HYDROGEN, name="Millo_MultiLayered2", licence="GPL-2", weight=0.5),
    DrumKit(package=_HYDROGEN, name="Millo_MultiLayered3", licence="GPL-2", weight=0.5),
    DrumKit(package=_HYDROGEN, name="Audiophob", licence="CC0", electronic=True),
    DrumKit(package=_HYDROGEN, name="ElectricEmpireKit", licence="GPL-2+", electronic=True),
    DrumKit(package=_HYDROGEN, name="HardElectro1", licence="GPL-2+", electronic=True),
    DrumKit(package=_HYDROGEN, name="VariBreaks", licence="GPL-2+", electronic=True),
    DrumKit(package=_HYDROGEN, name="rumpf_kit_z01_h2", licence="CC-BY-3.0", electronic=True),
    DrumKit(package=_AVL, name="Black_Pearl_4_LV2.sf2", licence="CC-BY-SA-3.0", keys=_AVL_KEYS),
    DrumKit(package=_AVL, name="Red_Zeppelin_4_LV2.sf2", licence="CC-BY-SA-3.0", keys=_AVL_KEYS),
)


def find_kits(folders: Sequence[Path] = KIT_FOLDERS) -> list[DrumKit]:
    """Those of `KITS` that are there. Kits of other folders are not read: nobody has told their licence."""
    found = []
    for kit in KITS:
        folder = next(
            (f for f in folders if (f / kit.name if kit.keys else f / kit.name / "drumkit.xml").is_file()), None
        )
        if folder:
            found.append(replace(kit, folder=folder))
    return found


def choose_kit(score: Score, kits: Sequence[DrumKit]) -> DrumKit | None:
    """The kit for a piece, or None: the soundfont's. Of an order of the piece's own, the first that can play it all."""
    drums = [part for part in score.parts if part.role == "drums"]

    def place(name: str, weight: float) -> float:
        return random.Random(f"{score.style}/{score.seed}/kit/{name}").random() ** (1 / weight)

    usual = place("soundfont", _SOUNDFONT_WEIGHT)
    ranked = sorted(
        ((place(kit.name, kit.weight), kit.name, kit) for kit in kits), key=lambda row: row[:2], reverse=True
    )
    better = (kit for rank, _, kit in ranked if rank > usual)
    return next((kit for kit in better if drums and all(kit.can_play(part) for part in drums)), None)


@lru_cache(maxsize=32)
def read_kit(folder: Path) -> Mapping[int, tuple[VelocityLayer, ...]]:
    """The samples of a Hydrogen kit by key of the General MIDI drum map; drums are known by their names.

    Raises: RenderError if its XML can't be read.
    """
    try:
        text = (folder / "drumkit.xml").read_text(encoding="utf-8", errors="replace")
        root = ET.fromstring(
            re.sub(r'\sxmlns(:\w+)?="[^"]*"|\sxsi:\w+="[^"]*"', "", re.sub(r"^<\?xml[^>]*\?>", "", text))
        )
    except (OSError, ET.ParseError) as error:
        raise RenderError(
            f"{folder}/drumkit.xml: can't be read ({error}); install the kit again or take it away"
        ) from error
    drums: dict[str, tuple[VelocityLayer, ...]] = {}
    for instrument in root.iter("instrument"):
        drum = _drum_of(instrument.findtext("name") or "")
        layers = _layers(instrument, folder)
        if drum and layers:
            drums.setdefault(drum, layers)
    return {key: drums[names[0]] for key, all_names in _KEYS.items() if (names := [n for n in all_names if n in drums])}


def _drum_of(name: str) -> str:
    return next((drum for pattern, drum in _NAMES if re.search(pattern, name.lower())), "")


def _layers(instrument: ET.Element, folder: Path) -> tuple[VelocityLayer, ...]:
    """Of an instrument; older files have one sample in place of layers."""

    def number(element: ET.Element, tag: str, default: float) -> float:
        try:
            return float(element.findtext(tag) or default)
        except ValueError:
            return default

    volume = number(instrument, "volume", 1.0) * number(instrument, "gain", 1.0)
    found = [
        VelocityLayer(
            folder / Path(name).name,
            number(layer, "min", 0.0),
            number(layer, "max", 1.0),
            volume * number(layer, "gain", 1.0),
        )
        for layer in [*instrument.iter("layer"), instrument]
        if (name := layer.findtext("filename"))
    ]
    return tuple(sorted((layer for layer in found if layer.path.is_file()), key=lambda layer: layer.low))


@lru_cache(maxsize=256)
def _sample(path: Path) -> Audio:
    try:
        return load(path)[: round(_LONGEST_S * SAMPLE_RATE_HZ)]
    except (OSError, ValueError) as error:
        raise RenderError(f"{path}: this sample can't be read ({error}); install the kit again") from error


def _stem(folder: Path, score: Score, part: Part, num_samples: int) -> Audio:
    keys = read_kit(folder)
    stem = np.zeros(num_samples, np.float32)
    notes = sorted(part.notes, key=lambda note: note.start)
    closings = np.array([score.seconds_at(note.start) for note in notes if note.pitch in _CLOSED])
    for note in notes:
        start_s, loud = score.seconds_at(note.start), note.velocity / 127
        layers = keys[note.pitch]
        layer = min(layers, key=lambda each: max(each.low - loud, loud - each.high, 0.0))
        sound = _sample(layer.path)
        if note.pitch == _OPEN and (later := closings[closings > start_s + 0.01]).size:
            sound = _choked(sound, float(later[0]) - start_s)
        begin = round(start_s * SAMPLE_RATE_HZ)
        sound = sound[: max(0, num_samples - begin)]
        stem[begin : begin + len(sound)] += sound * np.float32(layer.gain * loud)
    return stem


def _choked(sound: Audio, after_s: float) -> Audio:
    """A sound that dies away after some time."""
    begin, fade = round(after_s * SAMPLE_RATE_HZ), round(_CHOKE_S * SAMPLE_RATE_HZ)
    if begin >= len(sound):
        return sound
    cut = sound[: begin + fade].copy()
    cut[begin:] *= np.linspace(1, 0, len(cut) - begin, dtype=np.float32)
    return cut


def _soundfont_stem(kit: DrumKit, score: Score, part: Part, num_samples: int) -> Audio:
    """These soundfonts hold their kit as the first melodic preset, a piano's.

    Strokes ring on until the next on their drum.
    """
    part = replace(part, notes=tuple(replace(n, pitch=36) if n.pitch == 35 else n for n in part.notes))  # one bass drum
    following: dict[int, float] = {}
    notes: list[Note] = []
    for note in sorted(part.notes, key=lambda note: -note.start):
        rings = following.get(note.pitch, note.start + 8.0) - note.start
        notes.append(replace(note, duration=max(0.05, min(8.0, rings - 0.01))))
        following[note.pitch] = note.start
    melodic = replace(part, instrument="piano", notes=tuple(reversed(notes)))
    return render_stems(replace(score, parts=(melodic,)), kit.path, "fluidsynth", num_samples)[0]
