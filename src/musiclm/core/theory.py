"""Tempi and keys: how they are written, and which ones a sentence asks for in so many words."""

import re

import numpy as np

PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# Krumhansl and Kessler (1982): how well each pitch class fits a key, from the tonic upwards
MAJOR_PROFILE = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR_PROFILE = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
FLATS = {"Cb": "B", "Db": "C#", "Eb": "D#", "Fb": "E", "Gb": "F#", "Ab": "G#", "Bb": "A#", "E#": "F", "B#": "C"}

TEMPO = re.compile(r"\b(\d{2,3})(?=\s*(?:bpm\b|beats (?:per|a) minute))|(?<=\btempo )(\d{2,3})\b", re.IGNORECASE)
# an "a" in small letters, or at the beginning of a sentence, is an article: "in a minor key"
SIGN = r"(#|♯|b|♭|[ -](?:sharp|flat)\b)?"
KEY = re.compile(
    rf"(?:\b(?:[Ii]n|[Kk]ey(?: of| is|:)?|,) (?:the key of )?([A-Gb-g])|(?<![\w#])([B-G]|A(?=[#♯b♭]|[ -](?:sharp|flat)))){SIGN}[ -]?(major|minor|maj|min)\b"
)


def tempo_of(text: str) -> int | None:
    """The first tempo in numbers that a text names, in beats a minute."""
    found = TEMPO.search(text)
    return int(found.group(0)) if found else None


def key_of(text: str) -> str | None:
    """The first key that a text names, such as "D minor" of "A melody in D minor.", sharps for flats."""
    found = KEY.search(text)
    if found is None:
        return None
    letter, accidental = found[1] or found[2], (found[3] or "").strip(" -")
    sign = "" if not accidental else "#" if accidental in ("#", "♯", "sharp") else "b"
    tonic, mode = parse_key(f"{letter.upper()}{sign} {found[4][:3]}or")
    return f"{PITCHES[tonic]} {mode}"


def parse_key(name: str) -> tuple[int, str]:
    """Pitch class of the tonic, 0 for C, and "major" or "minor", of a name such as "F# minor" or "Bb major".

    Raises: ValueError for a name that is no key.
    """
    tonic, _, mode = name.partition(" ")
    tonic = FLATS.get(tonic, tonic)
    if tonic not in PITCHES or mode not in ("major", "minor"):
        raise ValueError(f"{name!r} is no key; write one such as 'D minor' or 'F# major'")
    return PITCHES.index(tonic), mode
