"""What is true of a window of a score, measured from its notes; captions may say this and nothing else.

A fact is left out where a listener could doubt it: tempi between "slow" and "medium", a key that the notes of the
window do not show, an instrument that plays two notes or lies far below the others. The absence of drums is only
claimed where not one stroke falls. `tests/arrange/truth.py` derives the same statements again in another way.
"""

from musiclm.arrange.facts.events import dynamics_of, ends_in, events_of, section_of
from musiclm.arrange.facts.excerpt import Excerpt
from musiclm.arrange.facts.harmony import key_of
from musiclm.arrange.facts.players import drums_of, electric_of, has_voices, is_complete, players_of
from musiclm.arrange.facts.recording import sound_of
from musiclm.arrange.facts.rhythm import beat_of, drum_sounds_of, speed_of, swing_of, tempo_of
from musiclm.arrange.facts.traits import traits_of
from musiclm.arrange.render.render import Setup
from musiclm.arrange.score import Score
from musiclm.arrange.styles.bands import find_style
from musiclm.data.captions.facts import Facts
from musiclm.data.captions.wording import TABLES
from musiclm.data.captions.words import CALM, HAPPY, LIVELY, MEASURED, SAD

WINDOW_S = 10.0
SPARSE_HZ, BUSY_HZ = 1.6, 7.0  # onsets a second


def facts_of(
    score: Score, start_s: float, seconds: float = WINDOW_S, setup: Setup | None = None, lufs: float | None = None
) -> Facts:
    """What is true of `seconds` of a piece from `start_s` on, rendered with `setup`, so loud that it measures `lufs`,
    if that is known.

    Raises: ValueError for a window outside the piece.
    """
    if not (seconds > 0 and 0 <= start_s < score.seconds):
        raise ValueError(f"a window of {seconds} s at {start_s} s; the piece lasts {score.seconds:.1f} s")
    excerpt = Excerpt(score, start_s, min(start_s + seconds, score.seconds))
    bpm, tempo_change = tempo_of(excerpt)
    speed, key, density, drums = speed_of(excerpt, bpm), key_of(excerpt), _density(excerpt), drums_of(excerpt)
    style = find_style(score.style)
    sound = sound_of(setup, excerpt.audible, lufs) if setup else ()
    return Facts(
        seconds=round(excerpt.seconds, 3),
        style="" if score.as_written else score.style,
        genres=style.genres if style else (),
        era=style.era if style else "",
        moods=tuple(mood for mood in style.moods if fits(mood, speed, key, density)) if style else (),
        uses=(*style.uses, *TABLES["scenes"].get(score.style, ())) if style else (),
        players=players_of(excerpt),
        tempo_bpm=bpm,
        speed=speed,
        tempo_change=tempo_change,
        key=key,
        metre="" if score.as_written else f"{score.beats_per_bar}/{score.beat_unit}",
        swing=swing_of(excerpt),
        density=density,
        dynamics=dynamics_of(excerpt),
        drums=drums,
        drum_sounds=drum_sounds_of(excerpt) if drums else (),
        beat=beat_of(excerpt),
        events=events_of(excerpt),
        section=section_of(excerpt),
        ends=ends_in(excerpt),
        complete=is_complete(excerpt),
        voices=has_voices(excerpt),
        electric=electric_of(excerpt) if "chip" not in sound else None,
        traits=traits_of(excerpt),
        sound=sound,
    )


def _density(excerpt: Excerpt) -> str:
    rate_hz = excerpt.onset_rate_hz
    return "sparse" if rate_hz < SPARSE_HZ else "busy" if rate_hz > BUSY_HZ else ""


def facts_of_piece(score: Score, setup: Setup | None = None) -> Facts:
    """What is true of the whole piece; entries and endings are the piece's own."""
    return facts_of(score, 0.0, score.seconds, setup)


def fits(mood: str, speed: str, key: str, density: str) -> bool:
    """Whether a mood of the style still holds: nothing is calm at breakneck speed, nothing cheerful in a minor key."""
    if mood in MEASURED:
        return False  # said by what was measured, if at all
    minor = key.split()[-1] in ("minor", "phrygian", "dorian") if key else None
    if mood in CALM:
        return not speed.endswith("fast") and density != "busy"
    if mood in LIVELY:
        return not speed.endswith("slow") and density != "sparse"
    if mood in HAPPY:
        return minor is False and not speed.endswith("slow")
    return minor is True if mood in SAD else True
