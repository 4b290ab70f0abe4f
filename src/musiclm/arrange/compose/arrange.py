"""(style, seed, sources) -> Score.

Everything is drawn from generators named after the style, the seed and what they decide.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from musiclm.arrange.compose.cast import CastMember, choose_cast
from musiclm.arrange.compose.drums import Drumming, drum_section, vary_groove
from musiclm.arrange.compose.ending import end_notes, slowing
from musiclm.arrange.compose.form import FormSection, plan_form
from musiclm.arrange.compose.grooves import GROOVES
from musiclm.arrange.compose.layout import PlacedSection, lay_out
from musiclm.arrange.compose.lines import write_line
from musiclm.arrange.compose.material import Material, bar_length, choose_material, unit_lengths
from musiclm.arrange.compose.perform import Hands, perform
from musiclm.arrange.compose.players import Key
from musiclm.arrange.read.sources import NO_SOURCES, Performance, Sources
from musiclm.arrange.score import Chord, Note, Origin, Part, Score, Section
from musiclm.arrange.styles import STYLES
from musiclm.arrange.styles.recipe import Ending, Style

SHORTEST_S, LONGEST_S = 60.0, 150.0
_FADE = 1.6  # how far intensity falls in a fade-out
_SWING_TOLERANCE = 0.05  # a recorded drummer may differ by this much from the swing that the score states

Rng = Callable[[str], random.Random]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """All decisions above the level of notes."""

    style: Style
    key: Key
    tempo_bpm: float
    swing: float
    ending: Ending
    material: Material
    cast: tuple[CastMember, ...]
    places: tuple[PlacedSection, ...]


def arrange(style_name: str, seed: int, sources: Sources = NO_SOURCES) -> Score:
    """A whole piece of 60 to 150 s in a style. The same arguments give the same piece.

    Raises: ValueError if there is no such style.
    """
    if style_name not in STYLES:
        raise ValueError(f"no style {style_name!r}; there are {', '.join(sorted(STYLES))}")
    return arrange_in(STYLES[style_name], seed, sources)


def arrange_in(style: Style, seed: int, sources: Sources = NO_SOURCES) -> Score:
    """The same for a style that need not be one of `STYLES`."""

    def rng(what: str) -> random.Random:
        return random.Random(f"{style.name}/{seed}/{what}")

    piece = plan(style, sources, rng)
    drumming, origins = _drum(piece, sources, rng)
    parts = _parts(piece, drumming, rng)
    end = piece.places[-1].end
    beats, unit = piece.style.metre
    return Score(
        style=style.name,
        seed=seed,
        tempo_bpm=piece.tempo_bpm,
        tempo_changes=slowing(piece.places[-1].bars, piece.tempo_bpm, rng("slowing"))
        if piece.ending == "slowing"
        else (),
        beats_per_bar=beats,
        beat_unit=unit,
        tonic=piece.key.tonic,
        mode=piece.key.mode,
        swing=piece.swing,
        duration=end,
        parts=parts,
        sections=_sections(piece.places),
        chords=_chords(piece.places),
        fills=tuple(sorted(drumming.fills)),
        origins=(*piece.material.origins, *origins),
    )


def plan(style: Style, sources: Sources, rng: Rng) -> Draft:
    basics = rng("basics")
    tempo_bpm = _tempo(style, basics)
    low, high = style.swing
    swing = round(basics.uniform(low, high), 2)
    if low == 0.5 < high and basics.random() < 0.5:  # straight or swung, not in between
        swing = 0.5
    ending: Ending = basics.choice(style.endings)
    tonic = basics.randrange(12)
    material = choose_material(style, tonic, sources, rng("material"))
    key = Key(tonic, material.mode)
    cast = tuple(choose_cast(style, rng("cast")))
    bar_s = bar_length(style) * 60 / tempo_bpm
    target_s = basics.uniform(SHORTEST_S + 6, LONGEST_S - 12)
    blocks = plan_form(basics.choice(style.forms), bar_s, target_s, unit_lengths(material), rng("form"))
    blocks = _within(blocks, bar_s)
    places = lay_out(style, material, key, cast, blocks, ending, rng("layout"))
    return Draft(
        style=style,
        key=key,
        tempo_bpm=tempo_bpm,
        swing=swing,
        ending=ending,
        material=material,
        cast=cast,
        places=tuple(places),
    )


def _tempo(style: Style, rng: random.Random) -> float:
    """Mostly the style's own; one piece in seven is slower or faster than the style would have it."""
    low, high = style.tempo
    bpm = rng.uniform(low, high)
    if rng.random() < 0.15:
        bpm *= rng.choice((rng.uniform(0.78, 0.92), rng.uniform(1.08, 1.25)))
    return float(round(bpm))


def _within(blocks: Sequence[FormSection], bar_s: float) -> tuple[FormSection, ...]:
    """Sections taken from the middle until the piece is short enough; the closing ones stay."""
    kept = list(blocks)
    while sum(block.num_bars for block in kept) * bar_s > LONGEST_S - 8 and len(kept) > 3:
        del kept[len(kept) // 2]
    return tuple(kept)


def _drum(piece: Draft, sources: Sources, rng: Rng) -> tuple[Drumming, tuple[Origin, ...]]:
    """The drum kit over all sections; empty without a drummer."""
    index = next((index for index, player in enumerate(piece.cast) if player.role == "drums"), None)
    drumming = Drumming()
    if index is None:
        return drumming, ()
    choice = rng("groove")
    performance, fills = _recorded(piece, sources, choice)
    drumming.recorded = performance is not None
    groove = vary_groove(GROOVES[piece.cast[index].pattern], choice)
    places = piece.places
    for number, place in enumerate(places):
        if index not in place.playing:
            continue
        louder = number + 1 < len(places) and places[number + 1].block.intensity > place.block.intensity + 0.04
        bars = place.bars[:-1] if place.ends_piece and piece.ending != "fade" else place.bars
        section = drum_section(
            bars, groove, performance, fills, place.block.name, place.block.intensity, louder, rng(f"drums/{number}")
        )
        drumming.notes += section.notes
        drumming.fills += section.fills
    if performance is None:
        return drumming, (Origin(what="groove", source="own", name=piece.cast[index].pattern, licence="Apache-2.0"),)
    return drumming, (Origin(what="groove", source="groove", name=performance.name, licence=performance.licence),)


def _recorded(piece: Draft, sources: Sources, rng: random.Random) -> tuple[Performance | None, tuple[Performance, ...]]:
    """A drummer's performance that suits tempo and swing, and fills of its family; often none: own grooves then."""
    if piece.style.metre != (4, 4) or rng.random() > 0.6:
        return None, ()

    def suits(played: Performance) -> bool:
        same_family = any(played.family.startswith(family) for family in piece.style.grooves)
        return (
            same_family
            and 0.75 < piece.tempo_bpm / played.bpm < 1.33
            and abs(played.swing - piece.swing) <= _SWING_TOLERANCE
        )

    found = [played for played in sources.grooves if suits(played)]
    if not found:
        return None, ()
    return rng.choice(found), tuple(played for played in sources.fills if suits(played))


def _parts(piece: Draft, drumming: Drumming, rng: Rng) -> tuple[Part, ...]:
    hands = Hands(
        tempo_bpm=piece.tempo_bpm,
        swing=piece.swing,
        looseness=piece.style.looseness,
        intensity_at=_intensity(piece.places, fades=piece.ending == "fade"),
    )
    written: dict[int, list[Note]] = {}
    for index, player in enumerate(piece.cast):
        if player.role == "drums":
            written[index] = list(drumming.notes)
        else:
            written[index] = write_line(
                index, piece.cast, piece.places, piece.style, piece.key, written, rng(f"line/{index}")
            )
    if piece.ending != "fade":
        for index, notes in end_notes(piece.cast, piece.places[-1], piece.key, piece.ending, written).items():
            written[index] += notes
    parts = []
    for index, player in enumerate(piece.cast):
        recorded = player.role == "drums" and drumming.recorded
        played = perform(written[index], player.role, hands, rng(f"hands/{index}"), recorded=recorded)
        if played:
            choice = rng(f"mix/{index}")
            parts.append(
                Part(
                    role=player.role,
                    instrument=player.name,
                    notes=played,
                    level_db=round(player.line.level_db + choice.uniform(-1.5, 1.5), 1),
                    pan=0.0 if player.role in ("bass", "drums") else round(choice.uniform(-0.6, 0.6), 2),
                )
            )
    return tuple(parts)


def _intensity(places: Sequence[PlacedSection], *, fades: bool) -> Callable[[float], float]:
    starts = [place.start for place in places]

    def at(quarter: float) -> float:
        index = max((number for number, start in enumerate(starts) if start <= quarter + 1e-6), default=0)
        place = places[index]
        value = place.block.intensity
        share = (quarter - place.start) / (place.end - place.start)
        if place.block.name == "build-up":
            value += 0.25 * (share - 0.5)
        if fades and place.ends_piece:
            value -= _FADE * min(1.0, max(0.0, share))
        return value

    return at


def _sections(places: Sequence[PlacedSection]) -> tuple[Section, ...]:
    return tuple(
        Section(
            name=place.block.name,
            start=place.start,
            duration=place.end - place.start,
            intensity=round(place.block.intensity, 2),
        )
        for place in places
    )


def _chords(places: Sequence[PlacedSection]) -> tuple[Chord, ...]:
    """What sounds when; a chord that goes on over the bar line is one."""
    chords: list[Chord] = []
    for bar in (bar for place in places for bar in place.bars):
        for start, duration, harmony in bar.chords:
            last = chords[-1] if chords else None
            if last and (last.root, last.quality) == (harmony.root, harmony.quality):
                chords[-1] = Chord(
                    start=last.start, duration=last.duration + duration, root=last.root, quality=last.quality
                )
            else:
                chords.append(
                    Chord(start=bar.start + start, duration=duration, root=harmony.root, quality=harmony.quality)
                )
    return tuple(chords)
