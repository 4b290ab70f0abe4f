"""Captions say what the labels say, in many ways, and nothing the labels deny."""

import dataclasses
import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.data.captions.weak import captions, facts
from musiclm.data.labels import Labels
from musiclm.listen.tagger import MTT_TAGS

CALM_PIANO = Labels(
    track="a",
    start_s=0.0,
    tags={"piano": 0.7, "slow": 0.5, "classical": 0.4, "ambient": 0.3, "soft": 0.3},
    tempo_bpm=70.0,
    tempo_confidence=0.6,
    onset_rate_hz=1.5,
    level_db=-30.0,
    range_db=8.0,
    brightness_hz=800.0,
    key="A minor",
    key_confidence=0.9,
    key_margin=0.2,
)
FAST_TECHNO = Labels(
    track="b",
    start_s=0.0,
    tags={"techno": 0.9, "electronic": 0.7, "fast": 0.7, "synth": 0.5, "beat": 0.4, "drums": 0.4},
    tempo_bpm=150.0,
    tempo_confidence=0.8,
    onset_rate_hz=6.0,
    level_db=-10.0,
    range_db=5.0,
    brightness_hz=3800.0,
    package="open-invaders-data",
    title="Invasion",
)


def many(labels, count=300):
    return [captions(labels, random.Random(i)) for i in range(count)]


def test_wording_varies_and_repeats_with_the_seed():
    texts = many(FAST_TECHNO)
    assert len(set(texts)) > 250
    assert texts == many(FAST_TECHNO)


def test_says_what_is_there_and_never_the_opposite():
    calm, fast = " ".join(many(CALM_PIANO)).lower(), " ".join(many(FAST_TECHNO)).lower()
    for word in ("piano", "slow", "calm", "quiet"):
        assert word in calm
    for word in ("techno", "synth", "fast", "bpm", "bright", "arcade"):
        assert word in fast
    assert not re.search(r"techno|fast|loud|boss fight|aggressive|bright|battle", calm)
    assert not re.search(r"piano|slow|calm|relaxing|quiet|vocals are", fast)


def test_uncertain_labels_are_left_out():
    unsure = dataclasses.replace(CALM_PIANO, tags={"piano": 0.1, "slow": 0.1}, tempo_confidence=0.1, key_confidence=0.3)
    known = facts(unsure)
    assert not known.instruments and not known.speed and not known.key and not known.bpm
    assert "piano" not in " ".join(many(unsure)).lower()


def test_all_kinds_of_text_appear():
    texts = many(FAST_TECHNO)
    assert any(text.count(",") >= 3 and "." not in text for text in texts)  # tags
    assert any(text.count(". ") >= 2 for text in texts)  # several sentences
    assert any(text.lower().startswith("invasion") for text in texts)  # a title
    assert any(
        re.match(r"(music|soundtrack|background|theme|the|a theme)\b.* (game|shooter)", text.lower()) for text in texts
    )


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.sampled_from(MTT_TAGS), st.floats(0, 1)),
    st.floats(0, 200),
    st.floats(0, 1),
    st.floats(-120, 0),
    st.text(max_size=40),
    st.integers(0, 10**6),
)
def test_any_labels_make_a_clean_caption(tags, bpm, confidence, level, title, seed):
    labels = Labels(
        track="a",
        start_s=0.0,
        tags=tags,
        tempo_bpm=bpm,
        tempo_confidence=confidence,
        level_db=level,
        title=title,
        origin="x.xm",
    )
    text = captions(labels, random.Random(seed))
    assert text and text == text.strip() and "  " not in text and " ." not in text and " ," not in text
