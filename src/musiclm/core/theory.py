"""Keys: how they are written, and which one a set of notes is in."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# Krumhansl and Kessler (1982): how well each pitch class fits a key, from the tonic upwards
MAJOR_PROFILE = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR_PROFILE = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
FLATS = {"Cb": "B", "Db": "C#", "Eb": "D#", "Fb": "E", "Gb": "F#", "Ab": "G#", "Bb": "A#", "E#": "F", "B#": "C"}
# as musicians spell the tonic: of major keys, and of minor ones
_FLAT_SPELLING = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_SHARP_SPELLING = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")

# a sharp or a flat after the letter of a tonic
SIGN = r"(?:\s?[#♯♭]|b(?=(?:major|minor|maj|min|m)?(?!\w))|[ -]?(?:sharp|flat)\b)"
_KEY_NAME = re.compile(rf"([A-G])({SIGN})?(?:[ -]?(major|minor|maj|min|m))", re.IGNORECASE)


def tonic_of(letter: str, sign: str | None) -> int:
    """Pitch class, 0 for C."""
    written = (sign or "").strip(" -").lower()
    accidental = "" if not written else "#" if written in ("#", "♯", "sharp") else "b"
    name = letter.upper() + accidental
    return PITCHES.index(FLATS.get(name, name))


def parse_key(name: str) -> tuple[int, str]:
    """Pitch class of the tonic, 0 for C, and "major" or "minor", of a name such as "F# minor", "B flat major" or "Am".

    Raises: ValueError for a name that is no key.
    """
    found = _KEY_NAME.fullmatch(name.strip())
    if found is None or (found[3].lower() == "m" and found[1].islower()) or found[3] == "M":
        raise ValueError(f"{name!r} is no key; write one such as 'D minor' or 'F# major'")
    return tonic_of(found[1], found[2]), "major" if found[3].lower().startswith("maj") else "minor"


@dataclass(frozen=True, kw_only=True)
class KeyEstimate:
    """The key whose profile fits twelve pitch-class weights best."""

    tonic: int  # pitch class, 0 is C
    mode: Literal["major", "minor"]
    correlation: float  # with the profile, -1 to 1
    margin: float  # of that correlation over the next best key's
    margin_unrelated: float  # over the best key that is neither this one nor its relative

    @property
    def name(self) -> str:
        """Such as "D# minor", in sharps."""
        return f"{PITCHES[self.tonic]} {self.mode}"


def estimate_key(weights: Float[np.ndarray, "12"]) -> KeyEstimate | None:
    """The key of twelve weights, from C on, by correlation with the profiles of Krumhansl and Kessler.

    None if all weights are equal.
    """
    if float(np.std(weights)) < 1e-9:
        return None
    profiles = (("major", MAJOR_PROFILE), ("minor", MINOR_PROFILE))
    fits = {
        (tonic, mode): float(np.corrcoef(np.roll(profile, tonic), weights)[0, 1])
        for tonic in range(12)
        for mode, profile in profiles
    }
    (tonic, mode), best = max(fits.items(), key=lambda item: item[1])
    relative = ((tonic + 9) % 12, "minor") if mode == "major" else ((tonic + 3) % 12, "major")
    others = {key: fit for key, fit in fits.items() if key != (tonic, mode)}
    unrelated = max(fit for key, fit in others.items() if key != relative)
    return KeyEstimate(
        tonic=tonic,
        mode="major" if mode == "major" else "minor",
        correlation=best,
        margin=best - max(others.values()),
        margin_unrelated=best - unrelated,
    )


def key_name(tonic: int, mode: str) -> str:
    """A key as musicians spell it: Eb major, but C# minor. `mode` may be any church mode."""
    names = _FLAT_SPELLING if mode in ("major", "mixolydian", "lydian") else _SHARP_SPELLING
    return f"{names[tonic]} {mode}"
