"""A player's notes for the whole piece, section by section."""

import random
from collections.abc import Mapping, Sequence

from musiclm.arrange.compose import melody as tunes
from musiclm.arrange.compose import players as play
from musiclm.arrange.compose.cast import CastMember
from musiclm.arrange.compose.harmony import nearest
from musiclm.arrange.compose.layout import PlacedSection
from musiclm.arrange.compose.patterns import CHORDS
from musiclm.arrange.compose.players import NORMAL, SOFT, Bar, Key
from musiclm.arrange.score import Note
from musiclm.arrange.styles.recipe import Style


def write_line(
    index: int,
    cast: Sequence[CastMember],
    places: Sequence[PlacedSection],
    style: Style,
    key: Key,
    written: Mapping[int, Sequence[Note]],
    rng: random.Random,
) -> list[Note]:
    """Notes of `cast[index]`, on the grid.

    `written` holds the parts before it, so that it can follow a riff or make way for the melody.
    """
    player = cast[index]
    if player.role == "melody":
        return _melody(index, player, places, style, key, rng)
    melody = [note for other, notes in written.items() if cast[other].role == "melody" for note in notes]
    notes: list[Note] = []
    seed = rng.random()
    for number, place in enumerate(places):
        if index not in place.playing:
            continue
        bars = place.bars[:-1] if place.ends_piece and len(place.bars) > place.block.num_bars else place.bars
        again = random.Random(f"{seed}/{place.block.material}")  # sections of one material are played alike
        if player.role == "countermelody":
            notes += _counter(bars, [note for note in melody if place.start <= note.start < place.end], player, again)
        elif player.role == "effects":
            louder = number + 1 < len(places) and places[number + 1].block.intensity > place.block.intensity
            notes += _effects(bars, player, louder)
        elif player.pattern == "riff follow":
            riff = [note for other, lines in written.items() if cast[other].role == "riff" for note in lines]
            here = [note for note in riff if bars[0].start <= note.start < bars[-1].start + bars[-1].length]
            notes += play.follow_riff(here, player.low, player.high) if here else _accompany(player, bars, key, again)
        else:
            notes += _accompany(player, bars, key, again)
    if player.role in ("chords", "arpeggio", "pad", "countermelody"):
        notes = without_clashes(notes, melody)
    return notes


def without_clashes(notes: Sequence[Note], melody: Sequence[Note]) -> list[Note]:
    """Leaves out notes that sound a semitone (or its octaves) from a melody note for a third of a quarter."""
    by_quarter: dict[int, list[Note]] = {}
    for note in melody:
        for quarter in range(int(note.start), int(note.start + note.duration) + 1):
            by_quarter.setdefault(quarter, []).append(note)

    def clashes(note: Note) -> bool:
        end = note.start + note.duration
        for quarter in range(int(note.start), int(end) + 1):
            for other in by_quarter.get(quarter, ()):
                together = min(end, other.start + other.duration) - max(note.start, other.start)
                if together > 0.33 and (note.pitch - other.pitch) % 12 in (1, 11):
                    return True
        return False

    return [note for note in notes if not clashes(note)]


def _accompany(player: CastMember, bars: Sequence[Bar], key: Key, rng: random.Random) -> list[Note]:
    low, high = player.low, player.high
    if player.pattern in CHORDS:
        return play.play_chords(bars, player.pattern, low, high, rng)
    if player.role == "pad":
        return play.play_pad(bars, player.pattern, low, high, key)
    if player.role == "arpeggio":
        return play.play_arpeggio(bars, player.pattern, low, high, rng)
    if player.role == "riff":
        return play.play_riff(bars, player.pattern, low, high, key, rng)
    if player.role == "bass":
        pattern = "root eighths" if player.pattern == "riff follow" else player.pattern
        return play.play_bass(bars, pattern, low, high, key)
    keys = player.instrument.drum_keys
    return play.play_percussion(bars, player.pattern, keys, None if keys else (low, high))


def _melody(
    index: int, player: CastMember, places: Sequence[PlacedSection], style: Style, key: Key, rng: random.Random
) -> list[Note]:
    """The tune of every section: the same for the same letter, slightly varied when it comes again, freer in a solo."""
    seed = rng.random()
    stated: set[str] = set()
    notes: list[Note] = []
    low, high = player.low, min(player.high, player.low + 26)
    for number, place in enumerate(places):
        if index not in place.playing:
            continue
        bars = place.bars[:-1] if place.ends_piece and len(place.bars) > place.block.num_bars else place.bars
        letter = place.block.material
        if place.tune is not None and place.block.name != "solo":
            new = _given(place, bars, player.low, player.high)
        else:
            solo = place.block.name == "solo"
            again = random.Random(f"{seed}/{letter}/{number if solo else ''}")
            new = tunes.make_melody(bars, style.tune, key, low, high, again)
            if letter in stated and not solo:
                new = tunes.vary(new, style.tune, random.Random(f"{seed}/{number}"))
            stated.add(letter)
        notes += tunes.ornament(new, style.tune.ornaments, key, player.high, random.Random(f"{seed}/grace/{number}"))
    return notes


def _given(place: PlacedSection, bars: Sequence[Bar], low: int, high: int) -> list[Note]:
    """A traditional tune, in the octave that suits the instrument; what still sticks out is folded in."""
    assert place.tune is not None
    notes = [
        Note(bar.start + note.start, note.duration * 0.92, note.pitch, note.velocity)
        for bar, tune in zip(bars, place.tune, strict=False)
        for note in tune
    ]
    if not notes:
        return []
    pitches = [note.pitch for note in notes]
    shifts = range(-48, 49, 12)
    shift = min(shifts, key=lambda by: (sum(not low <= pitch + by <= high for pitch in pitches), abs(by)))
    return [
        Note(note.start, note.duration, nearest(note.pitch % 12, note.pitch + shift, low, high), note.velocity)
        for note in notes
    ]


def _counter(bars: Sequence[Bar], melody: Sequence[Note], player: CastMember, rng: random.Random) -> list[Note]:
    if melody and rng.random() < 0.4:
        return tunes.thirds_below(melody, bars, player.low, player.high)
    return tunes.guide_line(bars, melody, player.low, player.high, rng)


def _effects(bars: Sequence[Bar], player: CastMember, louder: bool) -> list[Note]:
    """A swell into the next section, or a bell that tolls every four bars."""
    if player.name == "reverse cymbal":
        end = bars[-1].start + bars[-1].length
        return [Note(end - 4.0, 4.0, 60, NORMAL)] if louder else []
    return [
        Note(bar.start, bar.length, nearest(bar.chords[0][2].root, player.low + 6, player.low, player.high), SOFT)
        for bar in bars[::4]
    ]
