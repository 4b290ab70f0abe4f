"""What is known of a piece's recording: only what its desk did, and only where the journal tells which desk it was."""

import json

import pytest

from musiclm.arrange.facts import facts_of
from musiclm.arrange.recording import desk_of, read_journal
from musiclm.arrange.render import FORMAT_VERSION, Desk, choose_desk
from musiclm.arrange.soundfonts import SOUNDFONTS
from musiclm.arrange.styles.recipe import Sound
from tests.arrange.toy_scores import beat, piece, scale
from tests.arrange.truth import Heard, is_true

RENDERERS = ("symusic", "fluidsynth")
SAMPLED, CHIP = SOUNDFONTS[0], next(font for font in SOUNDFONTS if font.is_chip)


def desk(font=SAMPLED, **sound):
    return Desk(soundfont=font, renderer="fluidsynth", sound=Sound(**sound), room_seed=0)


def record(score, **more):
    chosen = choose_desk(score, SOUNDFONTS, RENDERERS)
    packages = ",".join(font.package for font in SOUNDFONTS)
    stamp = f"{FORMAT_VERSION}:1:{packages}:{','.join(RENDERERS)}:own:81"
    return {"id": "a", "stamp": stamp, "soundfont": chosen.soundfont.package, "renderer": chosen.renderer, **more}


def test_the_desk_follows_from_score_and_journal():
    score = piece(scale(), beat())
    assert desk_of(score, record(score)) == choose_desk(score, SOUNDFONTS, RENDERERS)


@pytest.mark.parametrize(
    "more", [{"soundfont": "another"}, {"renderer": "another"}, {"stamp": "0:1:x:y"}, {"stamp": ""}]
)
def test_a_journal_that_disagrees_tells_nothing(more):
    score = piece(scale(), beat())
    assert desk_of(score, record(score, **more)) is None and desk_of(score, {}) is None
    assert facts_of(score, 0.0).sound == ()


def test_journals_are_read_as_far_as_they_go(tmp_path):
    assert read_journal(tmp_path) == {}
    (tmp_path / "journal.jsonl").write_text("\n" + json.dumps({"id": "a", "stamp": "x"}) + '\n{"id": "b')
    assert read_journal(tmp_path) == {"a": {"id": "a", "stamp": "x"}}


@pytest.mark.parametrize(
    ("sound", "said", "unsaid"),
    [
        ({"room": "dry", "wet": 0.03}, {"dry", "clean", "sampled", "mono"}, {"reverberant", "muffled", "chip"}),
        ({"room": "hall", "wet": 0.3}, {"reverberant", "clean"}, {"dry", "cavernous"}),
        ({"room": "church", "wet": 0.4}, {"reverberant", "cavernous"}, {"dry"}),
        ({"room": "hall", "wet": 0.14}, {"clean"}, {"dry", "reverberant"}),
        ({"room": "spring", "wet": 0.25}, {"spring"}, {"dry"}),
        ({"cut_hz": 4500.0}, {"muffled"}, {"clean"}),
        ({"cut_hz": 8000.0}, set(), {"muffled", "clean"}),
        ({"drive": 0.3}, set(), {"clean"}),
        ({"pump": 0.4}, {"pumping"}, set()),
    ],
)
def test_what_the_desk_did(sound, said, unsaid):
    score, chosen = piece(scale(), beat()), desk(**sound)
    found = set(facts_of(score, 0.0, desk=chosen).sound)
    assert said <= found and not found & unsaid
    heard = Heard(score, 0.0, 10.0, chosen)
    assert all(is_true("sound", name, heard) for name in found)


def test_what_a_chip_imitates_is_not_acoustic():
    score = piece(scale(), beat())
    assert facts_of(score, 0.0, desk=desk()).electric is False
    facts = facts_of(score, 0.0, desk=desk(CHIP))
    assert facts.electric is None and "chip" in facts.sound and not {"clean", "sampled"} & set(facts.sound)


def test_bass_and_drums_do_not_fill_a_hall():
    score = piece(scale("electric bass", "bass", tonic=36), beat())
    assert "reverberant" not in facts_of(score, 0.0, desk=desk(room="hall", wet=0.3)).sound
    assert "pumping" not in facts_of(score, 0.0, desk=desk(pump=0.5)).sound
