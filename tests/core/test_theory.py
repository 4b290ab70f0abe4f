"""What a sentence asks for in so many words, and the key of twelve pitch weights."""

import numpy as np
import pytest

from musiclm.core.theory import PITCHES, estimate_key, key_name, key_of, parse_key, tempo_of


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("A sad melody in D minor.", "D minor"),
        ("A jazz tune in B flat major with saxophone.", "A# major"),
        ("Eb minor waltz", "D# minor"),
        ("in c# minor, slow", "C# minor"),
        ("a fugue, A minor, for organ", "A minor"),
        ("in the key of F♯ major", "F# major"),
        ("The key is G minor", "G minor"),
        ("key: Ab maj", "G# major"),
        ("C sharp minor and then E major", "C# minor"),
        ("A-flat major march", "G# major"),
        ("a song in a minor key", None),
        ("In a major city at night", None),
        ("A minor mistake, a major hit", None),
        ("The band minor league", None),
        ("a plan b major release", None),
    ],
)
def test_a_key_in_a_sentence(text: str, key: str | None) -> None:
    assert key_of(text) == key


def test_a_tempo_in_a_sentence() -> None:
    assert tempo_of("Surf rock at 168 BPM.") == 168 and tempo_of("tempo 90") == 90
    assert tempo_of("an 808 and 7 players in the 80s") is None


def test_names_of_keys() -> None:
    assert parse_key("C major") == (0, "major") and parse_key("Bb minor") == (10, "minor") == parse_key("A# minor")
    for name in ("H major", "C", "C dur", ""):
        with pytest.raises(ValueError, match="no key"):
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
