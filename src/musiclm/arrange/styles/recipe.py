"""What a style is: a recipe from which the arranger makes pieces.

Names in it are keys of `instruments`, `patterns`, `harmony` and `form`.
"""

from dataclasses import dataclass, field
from typing import Literal

from musiclm.arrange.score import Mode, Role

Room = Literal["dry", "studio", "spring", "club", "chamber", "hall", "church", "space"]
Ending = Literal["final chord", "slowing", "cold", "fade"]
ScaleName = Literal["mode", "pentatonic", "blues", "harmonic minor", "phrygian dominant", "hirajoshi"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One player of the band, and what he may choose from."""

    role: Role
    instruments: tuple[str, ...]
    patterns: tuple[str, ...] = ()  # names in `patterns`, of the kind that the role needs; a melody has none
    low: int | None = None  # register inside the instrument's range, MIDI
    high: int | None = None
    enters: float = 0.0  # plays in sections of at least this intensity
    probability: float = 1.0  # share of pieces that have this player
    level_db: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Tune:
    """How melodies of a style go."""

    density: float = 1.5  # notes a quarter
    syncopation: float = 0.2  # share of notes moved off the beat
    leap: float = 0.25  # share of steps wider than a second
    scale: ScaleName = "mode"
    legato: float = 0.9  # sounding share of the time to the next note
    rests: float = 0.2  # share of a phrase left to breathe
    ornaments: float = 0.0  # share of notes with a grace note before them
    folk: bool = False  # traditional tunes fit this style


@dataclass(frozen=True, kw_only=True)
class Sound:
    room: Room = "studio"
    wet: float = 0.15  # share of room in the mix
    lufs: float = -18.5  # recordings lie between -31 and -13: soft music is soft, or a model learns that all is loud
    cut_hz: float | None = None  # low-pass over everything: lo-fi, muffled
    drive: float = 0.0  # saturation of the whole mix
    pump: float = 0.0  # 0 to 1: everything but the drums ducks on the beat
    chips: bool = False  # FM or chip soundfonts suit it


@dataclass(frozen=True, kw_only=True)
class Style:
    name: str
    moods: tuple[str, ...]  # adjectives true of any piece in the style
    uses: tuple[str, ...]  # "boss fight of an arcade game": where such music is played
    era: str = ""  # "1980s", "baroque": only where the style says it
    genres: tuple[str, ...] = ()  # broader words: "rock", "electronic"
    tempo: tuple[float, float]  # quarter notes a minute, core of the style
    metre: tuple[int, int] = (4, 4)
    modes: tuple[Mode, ...] = ("major", "minor")
    progressions: tuple[str, ...]  # pools of `harmony.PROGRESSIONS`
    colour: Literal["triads", "sevenths", "power"] = "triads"
    swing: tuple[float, float] = (0.5, 0.5)
    forms: tuple[str, ...]  # names in `form.FORMS`
    lines: tuple[Line, ...]
    grooves: tuple[str, ...] = ()  # Groove MIDI families that fit, such as "rock" or "jazz/swing"
    tune: Tune = field(default_factory=Tune)
    sound: Sound = field(default_factory=Sound)
    looseness: float = 0.5  # 0 a machine, 1 late at night in a bar
    endings: tuple[Ending, ...] = ("final chord",)
    held_out: bool = False  # never trained on


def line(role: Role, instruments: str, patterns: str = "", **settings: float) -> Line:
    """A `Line` from choices written "a | b | c"."""
    return Line(role=role, instruments=_choices(instruments), patterns=_choices(patterns), **settings)  # type: ignore[arg-type]


def words(text: str) -> tuple[str, ...]:
    """("a", "b c") from "a, b c"."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _choices(text: str) -> tuple[str, ...]:
    return tuple(choice.strip() for choice in text.split("|") if choice.strip())
