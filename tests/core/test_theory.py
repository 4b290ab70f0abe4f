"""Names of keys, and the key of twelve pitch weights."""

import numpy as np
import pytest

from musiclm.core.theory import PITCHES, estimate_key, key_name, parse_key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("C major", (0, "major")), ("Bb minor", (10, "minor")), ("A# minor", (10, "minor")),
        ("B flat major", (10, "major")),
        ("b-flat major", (10, "major")), ("f# min", (6, "minor")), ("F♯ Minor", (6, "minor")),
        ("A MINOR", (9, "minor")),
        ("Am", (9, "minor")), ("Ebm", (3, "minor")), ("G maj", (7, "major")), (" D-minor ", (2, "minor")),
        ("C sharp minor", (1, "minor")),
    ],
)  # fmt: skip
def test_names_of_keys(name: str, key: tuple[int, str]) -> None:
    assert parse_key(name) == key


@pytest.mark.parametrize("name", ["H major", "C", "C dur", "", "am", "CM", "C dorian", "C major 7", "in C major"])
def test_what_is_no_name_of_a_key(name: str) -> None:
    with pytest.raises(ValueError, match="no key; write one such as"):
        parse_key(name)


def test_the_key_of_a_scale_moves_with_it() -> None:
    """Weights of a piece in C major or A minor by hand: tonic and fifth most of all."""
    major = np.array([5, 0, 2, 0, 3, 2, 0, 4, 0, 2, 0, 1.0])
    minor = np.array([3, 0, 1, 0, 4, 2, 0, 1, 0, 5, 0, 2.0])
    for shift in range(12):
        found = estimate_key(np.roll(major, shift))
        assert found is not None and (found.tonic, found.mode) == (shift, "major")
        assert found.name == f"{PITCHES[shift]} major"
        found = estimate_key(np.roll(minor, shift))
        assert found is not None and (found.tonic, found.mode) == ((9 + shift) % 12, "minor")


def test_the_margins_of_a_key() -> None:
    """By the definition: against all other keys, and without the relative one."""
    weights = np.array([5, 0, 2, 0, 3, 2, 0, 4, 0, 3, 0, 1.0])
    found = estimate_key(weights)
    assert found is not None
    major = [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88]
    minor = [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]
    fits = {
        (tonic, mode): np.corrcoef(weights, [profile[(k - tonic) % 12] for k in range(12)])[0, 1]
        for tonic in range(12)
        for mode, profile in (("major", major), ("minor", minor))
    }
    best = fits.pop((0, "major"))
    assert found.correlation == pytest.approx(best)
    assert found.margin == pytest.approx(best - max(fits.values()))
    del fits[9, "minor"]
    assert found.margin_unrelated == pytest.approx(best - max(fits.values())) and found.margin_unrelated > found.margin


def test_equal_weights_have_no_key() -> None:
    assert estimate_key(np.zeros(12)) is None and estimate_key(np.full(12, 0.3)) is None


def test_keys_are_spelled_as_musicians_do() -> None:
    assert (key_name(1, "minor"), key_name(1, "major"), key_name(8, "minor")) == ("C# minor", "Db major", "G# minor")
    assert key_name(10, "minor") == "Bb minor" and key_name(3, "mixolydian") == "Eb mixolydian"
