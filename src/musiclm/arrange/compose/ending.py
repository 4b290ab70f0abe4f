"""How a piece stops: a final chord, a cold hit, a slowing."""

import random
from collections.abc import Mapping, Sequence

from musiclm.arrange.compose.cast import CastMember
from musiclm.arrange.compose.grooves import KEYS
from musiclm.arrange.compose.harmony import nearest, voice
from musiclm.arrange.compose.layout import PlacedSection
from musiclm.arrange.compose.players import ACCENT, NORMAL, Bar, Key
from musiclm.arrange.score import Note
from musiclm.arrange.styles.recipe import Ending


def end_notes(
    cast: Sequence[CastMember], place: PlacedSection, key: Key, ending: Ending, written: Mapping[int, Sequence[Note]]
) -> dict[int, list[Note]]:
    """The last bar, by index of the cast: the tonic, held, or struck once and left in silence."""
    bar = place.bars[-1]
    length = min(0.5, bar.length) if ending == "cold" else bar.length
    notes: dict[int, list[Note]] = {}
    for index in sorted(place.playing):
        player = cast[index]
        chord = bar.chords[0][2]
        before = [note.pitch for note in written[index][-4:]]
        near = before[-1] if before else (player.low + player.high) / 2
        if player.role in ("melody", "countermelody", "riff"):
            notes[index] = [Note(bar.start, length, nearest(chord.root, near, player.low, player.high), NORMAL)]
        elif player.role == "bass":
            low_root = nearest(chord.root, player.low + 6, player.low, player.high)
            notes[index] = [Note(bar.start, length, low_root, ACCENT)]
        elif player.role in ("chords", "arpeggio", "pad"):
            voices = voice(chord, tuple(before), player.low, player.high)
            notes[index] = [Note(bar.start, length, pitch, NORMAL) for pitch in voices]
        elif player.role == "drums":
            notes[index] = [Note(bar.start, 1.0, KEYS[drum], ACCENT) for drum in ("kick", "crash")]
    return notes


def slowing(bars: Sequence[Bar], tempo_bpm: float, rng: random.Random) -> tuple[tuple[float, float], ...]:
    """Tempo changes twice a bar over the last two bars before the final chord, down to about two thirds."""
    depth = rng.uniform(0.6, 0.75)
    steps = [bar.start + half * bar.length for bar in bars[-3:-1] for half in (0.0, 0.5)]
    places = [*steps, bars[-1].start]
    return tuple(
        (place, round(tempo_bpm * (1 - (1 - depth) * (index + 1) / len(places)), 1))
        for index, place in enumerate(places)
    )
