"""What a piece is made of: chords and perhaps a tune for each of its letters A, B, C, found or made up here."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from musiclm.arrange.compose.harmony import Harmony, choose_progression, colour_chord, parse_progression
from musiclm.arrange.compose.players import Key
from musiclm.arrange.score import Mode, Note, Origin
from musiclm.arrange.styles.recipe import Style

if TYPE_CHECKING:
    from musiclm.arrange.read.sources import FolkTune, SongChords, Sources

BarChords = tuple[tuple[float, float, Harmony], ...]  # (start in the bar, duration, chord)
_STILL = ("club", "loop", "drift")  # forms that may stay on one progression


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One letter of the form. Both lists are as long and repeat together."""

    chords: tuple[BarChords, ...]
    melody: tuple[tuple[Note, ...], ...] | None = None  # notes from their bar's start, pitches with the tonic at `Key`


@dataclass(frozen=True, kw_only=True)
class Material:
    letters: dict[str, Letter]
    mode: Mode
    origins: tuple[Origin, ...]


def choose_material(style: Style, tonic: int, sources: "Sources", rng: random.Random) -> Material:
    """From a traditional tune where the style takes them, now and then a song's chords, else our own progressions."""
    length = bar_length(style)
    tunes = [tune for tune in sources.tunes if tune.metre == style.metre and tune.mode in style.modes]
    if style.tune.folk and tunes and rng.random() < 0.6:
        return _from_tune(rng.choice(tunes), tonic)
    mode = rng.choice(style.modes)
    if rng.random() < 0.06:
        mode = rng.choice(("major", "minor", "dorian", "mixolydian"))
    songs = [song for song in sources.songs if song.mode == mode]
    songlike = {"pop", "minor pop", "ballad", "soul"} & set(style.progressions)
    if songlike and songs and style.metre == (4, 4) and style.colour != "power" and rng.random() < 0.35:
        return _from_song(rng.choice(songs), tonic, mode, style)
    still = style.forms[0] in _STILL
    letters: dict[str, Letter] = {}
    for name in "ABC":
        if letters and rng.random() < (0.6 if still else 0.2):
            letters[name] = letters["A"]
            continue
        text = choose_progression(style.progressions, mode, rng)
        bars = parse_progression(text, tonic)
        if letters and len(letters["A"].chords) in (12, 16):  # choruses of a blues or rag keep their length
            letters[name] = letters["A"]
            continue
        letters[name] = Letter(chords=tuple(_spread(bar, length, style, tonic, mode) for bar in bars))
    own = Origin(what="chords", source="own", name="", licence="Apache-2.0")
    return Material(letters=letters, mode=mode, origins=(own,))


def bar_length(style: Style) -> float:
    """Quarters."""
    beats, unit = style.metre
    return beats * 4 / unit


def unit_lengths(material: Material) -> tuple[int, ...]:
    """How many bars a verse may have so that the chords come out even."""
    longest = max(len(letter.chords) for letter in material.letters.values())
    if longest <= 4:
        return (4, 8, 16)
    return (8, 16) if longest == 8 else (longest,)


def cadence_chord(key: Key) -> Harmony:
    """The chord that leads back home in each mode."""
    roots = {
        "major": (7, ""),
        "lydian": (7, ""),
        "minor": (7, ""),
        "dorian": (10, ""),
        "mixolydian": (10, ""),
        "phrygian": (1, ""),
    }
    step, quality = roots[key.mode]
    return Harmony((key.tonic + step) % 12, quality)


def tonic_chord(key: Key, colour: str) -> Harmony:
    minor = key.mode in ("minor", "dorian", "phrygian")
    return Harmony(key.tonic, "5" if colour == "power" else "m" if minor else "")


def _spread(bar: list[Harmony], length: float, style: Style, tonic: int, mode: Mode) -> BarChords:
    share = length / len(bar)
    if len(bar) == 2 and length == 3.0 and style.metre == (3, 4):
        starts, durations = [0.0, 2.0], [2.0, 1.0]
    else:
        starts, durations = [index * share for index in range(len(bar))], [share] * len(bar)
    coloured = [colour_chord(harmony, style.colour, tonic, mode) for harmony in bar]
    return tuple(zip(starts, durations, coloured, strict=True))


def _from_tune(tune: "FolkTune", tonic: int) -> Material:
    shift = tonic if tonic <= 6 else tonic - 12
    letters = {}
    parts = list(tune.parts)
    for index, name in enumerate("ABC"):
        part = parts[min(index, len(parts) - 1)] if name != "C" else parts[-1]
        letters[name] = Letter(
            chords=tuple(
                tuple(
                    (start, duration, Harmony((root + tonic) % 12, quality)) for start, duration, root, quality in bar
                )
                for bar in part.chords
            ),
            melody=tuple(
                tuple(Note(note.start, note.duration, note.pitch + shift, note.velocity) for note in bar)
                for bar in part.notes
            ),
        )
    origin = [
        Origin(what=what, source=tune.source, name=tune.name, licence=tune.licence) for what in ("melody", "chords")
    ]
    return Material(letters=letters, mode=tune.mode, origins=tuple(origin))


def _from_song(song: "SongChords", tonic: int, mode: Mode, style: Style) -> Material:
    names = list(song.phrases)
    letters = {}
    for index, name in enumerate("ABC"):
        bars = song.phrases[names[min(index, len(names) - 1)]]
        letters[name] = Letter(
            chords=tuple(
                tuple(
                    (start, duration, colour_chord(Harmony((root + tonic) % 12, quality), style.colour, tonic, mode))
                    for start, duration, root, quality in bar
                )
                for bar in bars
            )
        )
    origin = Origin(what="chords", source=song.source, name=song.name, licence=song.licence)
    return Material(letters=letters, mode=mode, origins=(origin,))
