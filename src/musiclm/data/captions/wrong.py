"""Captions that one word makes wrong: another number for a tempo, another mood.

Among unlike captions a model has no need to read such a word: the rest tells them apart. Beside its own copies with
another word it has.
"""

import math
import random
import re
from collections.abc import Iterable, Sequence

from musiclm.core.asked import find_tempo
from musiclm.data.captions.words import MOODS

SLOWEST_BPM, FASTEST_BPM = 50, 200
NEAREST = 0.12  # of a wrong tempo to the right one, in natural logarithms: nearer ones are not told apart by ear

MOODS_OF: dict[str, set[str]] = {}  # word -> the moods it is a way to say
for _mood, _ways in MOODS.items():
    for _way in _ways:
        MOODS_OF.setdefault(_way.lower(), set()).add(_mood)
FELT = re.compile(
    r"(?<![\w-])(" + "|".join(map(re.escape, sorted(MOODS_OF, key=len, reverse=True))) + r")(?![\w-])", re.IGNORECASE
)


def names_mood(caption: str) -> bool:
    """Whether it has a word for one of the moods, other than as a part of a longer one."""
    return FELT.search(caption) is not None


def with_other_tempo(caption: str, rng: random.Random) -> str | None:
    """The caption with another tempo, up to an octave away; None if it names none in 50..200 BPM."""
    found = find_tempo(caption)
    if found is None or not SLOWEST_BPM <= found.bpm <= FASTEST_BPM:
        return None
    while True:
        other = round(found.bpm * 2 ** rng.uniform(-1, 1))
        if SLOWEST_BPM <= other <= FASTEST_BPM and abs(math.log(other / found.bpm)) > NEAREST:
            return caption[: found.start] + str(other) + caption[found.stop :]


def other_moods(captions: Iterable[str]) -> list[str]:
    """Moods (`musiclm.data.captions.words.MOODS`) that none of these captions speaks of, nor of one that shares a word
    with them.
    """
    said = {mood for text in captions for found in FELT.finditer(text) for mood in MOODS_OF[found[0].lower()]}
    words = {way.lower() for mood in said for way in MOODS[mood]}
    return [mood for mood, ways in MOODS.items() if not words & {way.lower() for way in ways}]


def with_other_mood(caption: str, others: Sequence[str], rng: random.Random) -> str:
    """The caption with one of the moods `others` in place of one it names, half of the time in that mood's plain word.

    Raises: IndexError if it names none, or there is no other.
    """
    place, ways = rng.choice(list(FELT.finditer(caption))), MOODS[rng.choice(others)]
    word = ways[0] if rng.random() < 0.5 else rng.choice(ways)
    before = re.sub(r"\b([Aa])n? $", lambda m: m[1] + ("n " if word[0] in "aeiou" else " "), caption[: place.start()])
    return before + (word[0].upper() + word[1:] if place[0][0].isupper() else word) + caption[place.end() :]
