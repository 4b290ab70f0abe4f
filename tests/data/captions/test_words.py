"""Words: articles and numbers, names for everything there is, and which wording is held out."""

import re

import pytest

from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.styles import STYLES
from musiclm.data.captions import weak, words
from musiclm.data.captions.naming import METRES, NAMES, NEEDS, STYLE_NAMES, genres_that_fit, names_that_fit
from musiclm.data.captions.sentences import finish
from musiclm.data.captions.slots import SLOTS
from musiclm.data.captions.wording import RULES
from tests.arrange.truth import PROGRAMS


def test_articles_and_numbers():
    assert finish("a(n) electric guitar and a(n) 808 drum machine") == "an electric guitar and an 808 drum machine"
    assert (
        finish("a(n) unhurried tune , a(n) up-tempo one. it is slow")
        == "an unhurried tune, an up-tempo one. It is slow"
    )
    assert words.is_plural("drums") and words.is_plural("strings playing tremolo") and words.is_plural("timpani")
    assert not words.is_plural("a bass") and not words.is_plural("brass")
    assert not words.is_plural("a synth in parallel fifths") and words.is_plural("arpeggios on a harp")
    assert (
        words.as_modifier("a string section") == "string section" and words.as_modifier("steel drums") == "steel drum"
    )
    assert words.as_modifier("a woodwind instrument") == "woodwind"


@pytest.mark.parametrize(
    ("noun", "article"),
    [("unison line", "a"), ("ukulele", "a"), ("8-bit tune", "an"), ("FM electric piano", "an"), ("uptempo song", "an"),
        ("R&B track", "an"),
     ("one-note riff", "a"), ("hourly chime", "an"), ("harp", "a"), ("euphoric anthem", "a"), ("DnB track", "a"),
     ("open sound", "an")],
)  # fmt: skip
def test_articles_follow_the_sound(noun, article):
    assert words.with_article(noun) == f"{article} {noun}"


def test_everything_has_a_name():
    classes = {name for _, name in weak.INSTRUMENTS.values()} | {
        "any guitar",
        "any electric guitar",
        "any acoustic guitar",
    }
    assert set(INSTRUMENTS) | classes == set(words.INSTRUMENT_NAMES) and not set(INSTRUMENTS) & classes
    assert set(STYLES) == set(STYLE_NAMES)
    assert not set(STYLES) & set(words.TABLES["genres"]) and {name for _, name in weak.GENRES.values()} <= set(NAMES)
    for kind, those in words.KINDS.items():
        assert all(INSTRUMENTS[name].program in PROGRAMS[kind] for name in those), kind
    for name, ways in words.INSTRUMENT_NAMES.items():
        for way in ways:
            article, _, noun = way.partition(" ")
            assert article not in ("a", "an") or words.with_article(noun) == way, f"{name}: {way}"


def test_names_of_styles_do_not_outrun_the_window():
    assert names_that_fit("string quartet", {"violin", "viola", "cello"}, "4/4")[0] == "string quartet"
    assert "string quartet" not in names_that_fit("string quartet", {"violin", "viola", "piano"}, "4/4")
    assert all("piano" not in name for name in names_that_fit("minimalist piano", {"marimba"}, "4/4"))
    assert names_that_fit("viennese waltz", {"violin"}, "4/4") == ()
    assert names_that_fit("piano rock", set(), "") == ("piano rock",)  # the file's own word for it
    assert genres_that_fit(("classical", "waltz", "piano"), "3/4") == ("classical", "waltz")
    assert genres_that_fit(("classical", "waltz", "celtic"), "4/4") == ("classical", "Celtic")
    assert all(set(needed) <= set(INSTRUMENTS) for needed in NEEDS.values()) and "waltz" in METRES


def test_every_slot_and_rule_of_the_grammar_exists():
    for rule, ways in RULES.items():
        assert len(set(ways)) == len(ways) > 0, rule
        for slot in re.findall(r"\{([^}]+)\}", " ".join(ways)):
            name = slot.removeprefix("there:")
            assert name.startswith("v:") or name in SLOTS or name in RULES, f"{rule}: {slot}"


def test_a_share_of_wording_is_held_out():
    ways = [way for group in RULES.values() for way in group]
    assert 0.15 < sum(map(words.is_held_out, ways)) / len(ways) < 0.25
    assert not [rule for rule, group in RULES.items() if all(map(words.is_held_out, group))]
    assert words.allowed(["x"], True) == words.allowed(["x"], False) == ["x"]  # the only way to say it
    group = RULES["opening"]
    assert not set(words.allowed(group, True)) & set(words.allowed(group, False))
