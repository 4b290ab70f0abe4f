"""Captions say what the labels say, in many ways, and nothing the labels deny."""

import dataclasses
import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.core.theory import parse_key
from musiclm.data.captions import words
from musiclm.data.captions.sentences import KINDS, write
from musiclm.data.captions.weak import caption, captions, facts_of
from musiclm.data.labels import Labels
from musiclm.listen.tagger import MTT_TAGS
from tests.data.captions.test_sentences import plain_wordings

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

SUNG_ROCK = Labels(
    track="c",
    start_s=0.0,
    tags={"rock": 0.6, "loud": 0.4, "guitar": 0.5, "female": 0.6, "singing": 0.5, "drums": 0.4},
    tempo_bpm=110.0,
    tempo_confidence=0.5,
    onset_rate_hz=4.0,
    level_db=-12.0,
    range_db=6.0,
    brightness_hz=2500.0,
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
    assert not re.search(r"piano|slow|calm|relaxing|quiet|vocals are sung", fast)


def test_uncertain_labels_are_left_out():
    unsure = dataclasses.replace(CALM_PIANO, tags={"piano": 0.1, "slow": 0.1}, tempo_confidence=0.1, key_confidence=0.3)
    known = facts_of(unsure)
    assert not known.players and not known.speed and not known.key and known.tempo_bpm is None
    assert "piano" not in " ".join(many(unsure)).lower()


def test_all_kinds_of_text_appear():
    texts = many(FAST_TECHNO)
    assert any(text.count(",") >= 3 and "." not in text for text in texts)  # tags
    assert any(text.count(". ") >= 2 for text in texts)  # several sentences
    assert any(text.lower().startswith("invasion") for text in texts)  # a title
    assert any(
        re.match(r"(music|soundtrack|background music|theme)\b.* (game|shooter)", text.lower()) for text in texts
    )


def test_captions_are_many_and_various():
    """Texts, words and runs of three words of 300 captions of each of three windows."""
    texts = [text.lower() for labels in (CALM_PIANO, FAST_TECHNO, SUNG_ROCK) for text in many(labels)]
    tokens = [re.findall(r"[a-z0-9'-]+", text) for text in texts]
    assert len(set(texts)) > 0.97 * len(texts)
    assert len({word for row in tokens for word in row}) > 400
    assert len({tuple(row[k : k + 3]) for row in tokens for k in range(len(row) - 2)}) > 4500


# what a claim needs in the labels, told again: tags and least scores, looser than the program's where a word is
TAGS_OF = {
    "any guitar": "guitar", "any acoustic guitar": "guitar", "any electric guitar": "rock metal", "any piano": "piano",
    "any strings": "strings",
    "any violin": "violin", "any cello": "cello", "any drums": "drums", "any synth": "synth", "any flute": "flute",
    "any harpsichord": "harpsichord",
    "any harp": "harp", "any sitar": "sitar", "choir": "choir",
    "female voice": "female woman female_vocal female_voice",
    "male voice": "male man male_vocal male_voice",
    "voice": "vocal vocals singing voice female male woman man female_vocal male_vocal opera female_voice male_voice",
}  # fmt: skip
SUNG = f"{TAGS_OF['voice']} choir choral"


def holds(kind, value, labels):
    """Whether the labels bear out what a caption claims."""

    def score(tags):
        return max(labels.tags.get(tag, 0.0) for tag in tags.split())

    if kind in ("plays", "singing"):
        return score(TAGS_OF[value]) >= 0.18
    if kind.startswith("kind:"):  # a name of the class that is one of a wider kind too
        return value in words.INSTRUMENT_NAMES[kind.removeprefix("kind:")]
    if kind == "style":
        file_type = value in ("tracker", "chiptune") and labels.origin.endswith(".xm")
        written = value in labels.genre.lower() or (value == "soundtrack" and "game" in labels.genre.lower())
        return file_type or written or score(value.replace("new age", "new_age")) >= 0.08
    if kind == "speed":
        slow, fast = labels.tags.get("slow", 0.0), labels.tags.get("fast", 0.0)
        return {
            "fast": fast > slow or labels.tempo_bpm >= 138,
            "slow": slow > fast or labels.tempo_bpm <= 82,
            "medium": 95 <= labels.tempo_bpm <= 122,
        }[value]
    if kind == "bpm":
        return labels.tempo_confidence > 0.45 and abs(int(value) - labels.tempo_bpm) <= 3
    if kind == "key":
        tonic, mode = value.split()
        number = "C D EF G A B".index(tonic[0]) + {"#": 1, "b": -1}.get(tonic[1:], 0)
        return labels.key_confidence > 0.75 and (number % 12, mode) == parse_key(labels.key)
    if kind == "mode":
        return labels.key.split()[-1] == value and labels.key_confidence > 0.75
    if kind == "mood":
        return {
            "energetic": labels.level_db > -19 and labels.onset_rate_hz > 3,
            "aggressive": score("rock metal") > 0.3 and labels.level_db > -16,
            "calm": labels.level_db < -22 and score("rock techno loud") < 0.1,
            "upbeat": labels.key.endswith("major"),
            "sad": labels.key.endswith("minor") and labels.level_db <= -16,
            "dark": labels.key.endswith("minor") and labels.brightness_hz < 2200,
            "epic": labels.level_db > -17 and score("techno dance") < 0.15,
            "dreamy": score("ambient new_age") > 0.35,
            "strange": score("weird") > 0.3,
        }[value]
    if kind == "sound":
        return {
            "quiet": labels.level_db < -27,
            "loud": labels.level_db > -13,
            "dynamic": labels.range_db > 18,
            "bright": labels.brightness_hz > 3600,
            "dark-toned": labels.brightness_hz < 1000,
            "bass-heavy": labels.bass_share > 0.65,
        }[value]
    if kind == "beat":
        return (
            value == "steady beat" and labels.tempo_confidence > 0.4 and score("beat beats drums techno dance") >= 0.3
        )
    if kind == "drums":
        return value == "no" and score("beat beats drums techno dance rock") < 0.05 and labels.onset_rate_hz < 3.5
    if kind == "instrumental":
        return score(SUNG) < 0.08
    if kind == "role":
        return value == "any drums: drums"  # labels do not tell who plays what
    if kind == "use":
        tables = words.TABLES
        of_game = value in tables["games"].get(labels.package, ())
        of_title = [key for key, ways in tables["title words"].items() if value in ways]
        of_mood = [mood for mood, ways in tables["uses"].items() if value in ways]
        named = any(key in f"{labels.title} {labels.origin}".lower() for key in of_title)
        return of_game or named or any(holds("mood", mood, labels) for mood in of_mood)
    return kind == "title" and value == labels.title


def random_labels(seed):
    rng = random.Random(seed)
    return Labels(
        track="a",
        start_s=0.0,
        tags={tag: round(rng.betavariate(0.7, 2.2), 3) for tag in rng.sample(MTT_TAGS, rng.randint(0, 14))},
        tempo_bpm=rng.choice((0.0, rng.uniform(55, 190))),
        tempo_confidence=rng.random(),
        onset_rate_hz=rng.uniform(0.2, 8),
        level_db=rng.uniform(-36, -6),
        range_db=rng.uniform(3, 25),
        brightness_hz=rng.uniform(500, 5000),
        bass_share=rng.random(),
        key=rng.choice(("", "D minor", "A# major", "F# minor", "C major", "G# minor")),
        key_confidence=rng.uniform(0.5, 1),
        key_margin=rng.random() * 0.3,
        title=rng.choice(("", "Ice Cave", "Victory March")),
        genre=rng.choice(("", "", "Rock", "Video Game", "Drum and Bass")),
        package=rng.choice(("", "flare-game", "xmoto-data")),
        origin=rng.choice(("a/menu.xm", "a/b.ogg")),
    )


def test_every_claim_holds_against_the_labels():
    kinds, wrong = set(), []
    for seed in range(400):
        labels = random_labels(seed)
        known = facts_of(labels)
        for kind in KINDS:
            found = write(known, kind, random.Random(seed))
            kinds |= {claim.kind for claim in found.claims}
            wrong += [(c, found.text, labels) for c in found.claims if not holds(c.kind, c.value, labels)]
    assert not wrong, f"{len(wrong)} claims are false, the first: {wrong[0]}"
    assert kinds >= {
        "plays",
        "style",
        "mood",
        "use",
        "speed",
        "bpm",
        "key",
        "mode",
        "sound",
        "beat",
        "drums",
        "instrumental",
        "singing",
        "title",
    }


def test_what_the_text_names_is_claimed():
    """The other way round: instruments and singers are looked up in the text itself."""
    named = {
        "any piano": r"\bpiano\b", "any violin": r"\bviolins?\b", "any cello": r"\bcellos?\b",
        "any flute": r"\bflutes?\b", "any harp": r"\bharp\b",
        "any sitar": r"\bsitar\b", "any harpsichord": r"\bharpsichord\b", "any synth": r"\bsynth(esizer)?s?\b",
        "choir": r"\bchoir\b",
        "female voice": r"\b(female|woman)\b", "male voice": r"\b(male|man)\b",
    }  # fmt: skip
    seen = set()
    for seed in range(400):
        found = caption(facts_of(random_labels(seed)), random.Random(seed))
        claimed = {claim.value for claim in found.claims if claim.kind in ("plays", "singing")}
        for name, pattern in named.items():
            if re.search(pattern, found.text):
                seen.add(name)
                assert name in claimed, found.text
    assert seen == set(named)


def test_held_out_wording_is_kept_from_training():
    facts = [facts_of(random_labels(seed)) for seed in range(300)]
    said = {
        held_out: {w for k, one in enumerate(facts) for w in caption(one, random.Random(k), held_out=held_out).wordings}
        for held_out in (False, True)
    }
    assert len({w for w in said[True] if words.is_held_out(w)} - said[False]) > 60
    leaked = {w for w in said[False] if words.is_held_out(w)} - plain_wordings()
    assert leaked <= {one.uses[0] for one in facts if one.uses}  # the plain use of a window, whatever table it is from


def test_the_file_says_what_it_is():
    tracker = dataclasses.replace(CALM_PIANO, tags={}, origin="a/b.it")
    assert facts_of(tracker).style == "tracker"
    assert facts_of(dataclasses.replace(FAST_TECHNO, origin="a/b.xm")).genres == ("electronic music", "chiptune")
    own = dataclasses.replace(CALM_PIANO, genre="  Film\nNoir ")
    assert facts_of(own).style == "film noir" and "film noir" in " ".join(many(own)).lower()
    assert facts_of(dataclasses.replace(own, genre="other")).style == "classical"


def test_keys_are_spelled_as_in_captions_of_scores():
    assert facts_of(dataclasses.replace(CALM_PIANO, key="A# major")).key == "Bb major"
    assert facts_of(dataclasses.replace(CALM_PIANO, key_margin=0.05)).key == ""


def test_singers_and_their_absence():
    assert facts_of(SUNG_ROCK).singing == ("female voice",) and facts_of(SUNG_ROCK).voices is True
    assert facts_of(CALM_PIANO).voices is False and facts_of(CALM_PIANO).singing == ()
    unsure = dataclasses.replace(CALM_PIANO, tags={"voice": 0.2})
    assert facts_of(unsure).voices is None
    assert not re.search(r"instrumental|vocal|sing(s|er|ing)\b|voice", " ".join(many(unsure)).lower())
    assert facts_of(dataclasses.replace(CALM_PIANO, tags={"choir": 0.3, "male": 0.5})).singing == (
        "choir",
        "male voice",
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
