"""Bars with their chords, section by section, and who plays in each."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from musiclm.arrange.compose.cast import CastMember
from musiclm.arrange.compose.form import FormSection
from musiclm.arrange.compose.material import Letter, Material, bar_length, cadence_chord, tonic_chord
from musiclm.arrange.compose.players import Bar, Key
from musiclm.arrange.score import Note
from musiclm.arrange.styles.recipe import Ending, Style

_LEADS = ("melody", "countermelody")
_FIXED_FORMS = ("club", "loop", "drift", "blues")  # no cadences of their own between sections


@dataclass(frozen=True, kw_only=True)
class PlacedSection:
    """A section with its bars."""

    block: FormSection
    bars: tuple[Bar, ...]
    tune: tuple[tuple[Note, ...], ...] | None  # a given melody, a tuple of notes a bar
    playing: frozenset[int]  # indices of the cast
    ends_piece: bool = False

    @property
    def start(self) -> float:
        return self.bars[0].start

    @property
    def end(self) -> float:
        return self.bars[-1].start + self.bars[-1].length


def lay_out(
    style: Style,
    material: Material,
    key: Key,
    cast: Sequence[CastMember],
    blocks: Sequence[FormSection],
    ending: Ending,
    rng: random.Random,
) -> list[PlacedSection]:
    """The whole piece in bars. All but a fading piece get one bar more, on the tonic, to end on."""
    places: list[PlacedSection] = []
    at = 0.0
    length = bar_length(style)
    pulse = 1.5 if style.metre[1] == 8 else 1.0
    for index, block in enumerate(blocks):
        letter = material.letters[block.material]
        last = index == len(blocks) - 1
        chords = [letter.chords[number % len(letter.chords)] for number in range(block.num_bars)]
        turnaround = letter.melody is None and style.forms[0] not in _FIXED_FORMS and block.num_bars >= 4
        following = None if last else blocks[index + 1].material
        if turnaround and (last or (following != block.material and rng.random() < 0.5)):
            chords[-1] = ((0.0, length, cadence_chord(key)),)
        if last and ending != "fade":
            chords.append(((0.0, length, tonic_chord(key, style.colour)),))
        bars = tuple(Bar(at + number * length, length, chord, number, pulse) for number, chord in enumerate(chords))
        places.append(
            PlacedSection(
                block=block,
                bars=bars,
                tune=_tune(letter, block),
                playing=_playing(cast, block, index == 0, rng),
                ends_piece=last,
            )
        )
        at = places[-1].end
    return places


def _tune(letter: Letter, block: FormSection) -> tuple[tuple[Note, ...], ...] | None:
    if letter.melody is None or block.name in ("intro", "break", "build-up"):
        return None
    return tuple(letter.melody[number % len(letter.melody)] for number in range(block.num_bars))


def _playing(cast: Sequence[CastMember], block: FormSection, first: bool, rng: random.Random) -> frozenset[int]:
    """Who plays: those whom the section's intensity calls in, less by its kind; somebody other than drums, if there is
    anybody."""
    intensity = block.intensity
    chosen = {index for index, player in enumerate(cast) if player.line.enters <= intensity + 0.02}
    leads = {index for index in chosen if cast[index].role in _LEADS}
    drums = {index for index in chosen if cast[index].role == "drums"}
    if block.name == "intro" and rng.random() < 0.75:
        chosen -= leads
    if block.name == "break":
        chosen -= drums if rng.random() < 0.7 else set()
        chosen -= {index for index in chosen if cast[index].role == "bass"} if rng.random() < 0.3 else set()
        chosen -= leads if rng.random() < 0.4 else set()
    if block.name == "build-up":
        chosen -= leads
        chosen |= {index for index, player in enumerate(cast) if player.role == "drums"}
    if block.name == "outro" and rng.random() < 0.4:
        chosen -= {index for index in leads if cast[index].role == "countermelody"}
    if block.name in ("verse", "chorus", "solo", "bridge") and not first:
        melody = [index for index, player in enumerate(cast) if player.role == "melody"]
        if block.name in ("chorus", "solo") and melody:  # a chorus without a tune is none
            chosen.add(melody[0])
    if not any(cast[index].role not in ("drums", "percussion", "effects") for index in chosen):
        tonal = [index for index, player in enumerate(cast) if player.role not in ("drums", "percussion", "effects")]
        backing = [index for index in tonal if cast[index].role not in _LEADS] or tonal
        if backing:  # a style's band may be drums alone
            chosen.add(min(backing, key=lambda index: (cast[index].line.enters, index)))
    return frozenset(chosen)
