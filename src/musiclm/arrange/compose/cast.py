"""Who plays: a style's lines, each with an instrument, a pattern and a register for this piece."""

import random
from dataclasses import dataclass

from musiclm.arrange.instruments import INSTRUMENTS, Instrument
from musiclm.arrange.score import Role
from musiclm.arrange.styles.recipe import Line, Style

# where a role plays if the style does not say
_REGISTERS: dict[Role, tuple[int, int]] = {
    "melody": (60, 86),
    "countermelody": (52, 77),
    "riff": (43, 69),
    "chords": (50, 74),
    "arpeggio": (55, 84),
    "pad": (48, 76),
    "bass": (28, 52),
}
_UNUSUAL = 0.1  # share of players with an instrument that the style does not name
_TUNED: tuple[Role, ...] = ("melody", "countermelody", "chords", "arpeggio", "pad", "bass")


@dataclass(frozen=True, kw_only=True)
class CastMember:
    """One line of the style, with what was chosen for this piece. Pitches are MIDI, `low` to `high` inclusive."""

    line: Line
    name: str  # of the instrument
    instrument: Instrument
    pattern: str  # "" if the role has none
    low: int
    high: int

    @property
    def role(self) -> Role:
        return self.line.role


def choose_cast(style: Style, rng: random.Random) -> list[CastMember]:
    """The band of one piece. A small band shares an instrument where its lines allow (both hands of one piano)."""
    players: list[CastMember] = []
    for line in style.lines:
        if rng.random() >= line.probability:
            continue
        name = rng.choice(line.instruments)
        taken = [player.name for player in players if player.name in line.instruments]
        if taken and len(style.lines) <= 4 and rng.random() < 0.85:
            name = taken[0]
        if line.role in _TUNED and rng.random() < _UNUSUAL:
            name = _unusual(line, name, rng)
        players.append(_player(line, name, rng.choice(line.patterns) if line.patterns else ""))
    return players


def _player(line: Line, name: str, pattern: str) -> CastMember:
    instrument = INSTRUMENTS[name]
    if instrument.on_drum_channel:
        return CastMember(
            line=line, name=name, instrument=instrument, pattern=pattern, low=instrument.low, high=instrument.high
        )
    default_low, default_high = _REGISTERS.get(line.role, (instrument.low, instrument.high))
    low = max(instrument.low, default_low if line.low is None else line.low)
    high = min(instrument.high, default_high if line.high is None else line.high)
    if high - low < 12:  # the register and the instrument hardly meet: the instrument decides
        low, high = instrument.low, instrument.high
        low, high = (low, min(high, low + 24)) if line.role == "bass" else (max(low, high - 30), high)
    return CastMember(line=line, name=name, instrument=instrument, pattern=pattern, low=low, high=high)


def _unusual(line: Line, usual: str, rng: random.Random) -> str:
    low = line.low or 0
    high = line.high or 127
    fitting = [
        name
        for name, instrument in INSTRUMENTS.items()
        if line.role in instrument.roles and min(high, instrument.high) - max(low, instrument.low) >= 12
    ]
    return rng.choice(fitting or [usual])
