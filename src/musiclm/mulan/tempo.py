"""Beats a minute named in a caption, and the same caption with another number: a wrong caption that only its tempo makes wrong."""

import math
import random
import re

NAMED = re.compile(r"\b(\d{2,3})(?=\s*(?:bpm\b|beats (?:per|a) minute))|(?<=\btempo )(\d{2,3})\b", re.IGNORECASE)
SLOWEST_BPM, FASTEST_BPM = 50, 200
NEAREST = 0.12  # of a wrong tempo to the right one, in natural logarithms: nearer ones are not told apart by ear


def tempo_of(caption: str) -> int | None:
    """The first tempo in numbers that a caption names, in beats a minute."""
    found = NAMED.search(caption)
    return int(found.group(0)) if found else None


def with_other_tempo(caption: str, rng: random.Random) -> str | None:
    """The caption with another number in place of its tempo, up to an octave away; None if it names no tempo in 50..200 BPM."""
    found = NAMED.search(caption)
    if found is None or not SLOWEST_BPM <= int(found.group(0)) <= FASTEST_BPM:
        return None
    bpm = int(found.group(0))
    while True:
        other = round(bpm * 2 ** rng.uniform(-1, 1))
        if SLOWEST_BPM <= other <= FASTEST_BPM and abs(math.log(other / bpm)) > NEAREST:
            return caption[: found.start()] + str(other) + caption[found.end() :]
