"""Melodies, chords and drumming from elsewhere, read from folders by libraries. All of it is optional: without any, pieces are made of own material."""

from dataclasses import dataclass

from musiclm.arrange.drums import Performance
from musiclm.arrange.score import Mode, Note

# chords of a bar: (start in the bar, duration, root above the tonic, quality)
RelativeBar = tuple[tuple[float, float, int, str], ...]


@dataclass(frozen=True, kw_only=True)
class TunePart:
    """Bars of a tune with its tonic at C; `notes` and `chords` are as long as each other."""

    notes: tuple[tuple[Note, ...], ...]
    chords: tuple[RelativeBar, ...]


@dataclass(frozen=True, kw_only=True)
class FolkTune:
    source: str
    name: str
    licence: str
    metre: tuple[int, int]
    mode: Mode
    parts: tuple[TunePart, ...]  # the strains, each once


@dataclass(frozen=True, kw_only=True)
class SongChords:
    """Chords of a song's phrases by letter, tonic at C; never its melody."""

    source: str
    name: str
    licence: str
    mode: Mode
    phrases: dict[str, tuple[RelativeBar, ...]]


@dataclass(frozen=True, kw_only=True)
class Sources:
    tunes: tuple[FolkTune, ...] = ()
    songs: tuple[SongChords, ...] = ()
    grooves: tuple[Performance, ...] = ()
    fills: tuple[Performance, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()  # (file, reason)


NO_SOURCES = Sources()
