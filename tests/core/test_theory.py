"""What a sentence asks for in so many words."""

import pytest

from musiclm.core.theory import key_of, parse_key, tempo_of


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
