"""The word tables, which moods a window may contradict, what is held out, and articles and numbers.

Names of instruments carry their article ("a violin", "drums"), for that is how a noun shows its number.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cache

from musiclm.data.captions import wording

HELD_OUT_SHARE = 0.2  # of all wordings but the plain ones, chosen by their hash: training never meets them
TABLES = wording.TABLES
# with articles; names without one that end in s take a plural verb, "brass" does not. "any piano" is a class of
# instruments: labels do not tell which piano it is
INSTRUMENT_NAMES = {**TABLES["instruments"], **TABLES["instrument classes"]}
SOUNDS = TABLES["sounds"]  # of an instrument, or of its family: what it sounds like by nature; put before plain names
KINDS = TABLES["kinds"]  # a wider name, and the instruments it is true of
# ways to say a mood of the style table, first the mood itself; others are said as they stand
MOODS = {mood: (mood, *(way for way in ways if way != mood)) for mood, ways in TABLES["moods"].items()}
SPEEDS, SPEED_NOUNS = TABLES["speeds"], TABLES["speed nouns"]  # adjectives; after "at a", "the tempo is"
FEELINGS = TABLES["feelings"]  # a mood as a noun
QUALITIES = TABLES["qualities"]  # adjectives for a fact of `recording`
DRUM_WORDS = TABLES["drums"]  # sounds of a drum kit
SINGERS, BEATS = TABLES["singers"], TABLES["beats"]  # who sings; what the beat is like, as nouns


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# moods that a window must not contradict: which speeds, keys and densities go against them
CALM = _words(
    "calm peaceful relaxing relaxed mellow chill dreamy meditative gentle tender sleepy soothing serene tranquil "
    "contemplative laid-back cosy intimate quiet drowsy weightless romantic"
)
LIVELY = _words(
    "energetic lively exciting driving intense aggressive frantic hectic danceable bouncy upbeat rousing relentless "
    "urgent pumping furious breathless spirited feverish catchy"
)
HAPPY = _words(
    "happy cheerful joyful sunny festive carefree merry triumphant upbeat euphoric jolly bright celebratory optimistic"
)
SAD = _words(
    "sad melancholic mournful gloomy lonely sorrowful dark ominous tense suspenseful eerie spooky angry menacing "
    "tragic sinister brooding haunted cold wistful moody"
)
MEASURED = _words(
    "fast fast-paced slow sparse busy loud quiet bass-heavy quick up-tempo uptempo dense acoustic electronic "
    "repetitive brisk percussive swinging brassy marching virtuosic intricate bluesy clean"
)
VOWEL_SOUND = re.compile(
    r"(?![Uu]ni|[Uu]til|[Uu]k|[Ee]u|[Oo]ne\b|[Uu]se)[AEIOUaeiou]|8|11\b|18\b|FM\b|R&B|RnB|MIDI|[Hh]our|[Hh]onest|"
    r"NES\b|SNES\b|S[A-Z]|L[A-Z]"
)


@cache
def is_held_out(wording: str) -> bool:
    """Whether a wording is kept from training."""
    digest = hashlib.sha256(f"wording {wording}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def allowed(options: Sequence[str], held_out: bool) -> list[str]:
    """The held-out ones, or the others.

    The first is the plain way, which training must know: it is not held out. All, where none is.
    """
    if held_out:
        return [option for option in options[1:] if is_held_out(option)] or list(options)
    return [*options[:1], *(option for option in options[1:] if not is_held_out(option))]


def with_article(noun: str) -> str:
    """Puts "a" or "an" before it, by how it is spoken: an 808, a unison."""
    return ("an " if VOWEL_SOUND.match(noun) else "a ") + noun


def bare(noun: str) -> str:
    """Without its article."""
    return re.sub(r"^(a|an|the) ", "", noun)


def is_plural(noun: str) -> bool:
    head = re.split(
        r" (?:with|played|playing|in|stacked|on|holding|adding|answering|comping|keeping|underneath|for|of)\b", noun
    )[0]
    if re.match(r"(a|an|the) ", noun) and not noun.startswith("the "):
        return False
    return head in ("timpani", "orchestral timpani") or (head.endswith("s") and not head.endswith("ss"))


def as_modifier(noun: str) -> str:
    """As it stands before another noun: strings -> string (melody)."""
    word = bare(noun).removesuffix(" instrument")
    return word[:-1] if is_plural(noun) and word.endswith("s") else word


def join(parts: Sequence[str], last: str = " and ") -> str:
    """a, b and c"""
    return last.join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
