"""What is known of a piece's recording: what its setup did, only where the journal tells which it was."""

import json

import numpy as np
import pytest
import soundfile

from musiclm.arrange.corpus.describe import load_score, write_captions
from musiclm.arrange.facts.recording import read_journal, setup_of
from musiclm.arrange.facts.window import facts_of
from musiclm.arrange.render.render import FORMAT_VERSION, Setup, choose_setup
from musiclm.arrange.render.soundfonts import SOUNDFONTS
from musiclm.arrange.styles import STYLES
from musiclm.arrange.styles.recipe import Sound
from musiclm.data.corpus.captions import CAPTIONS_FILE
from musiclm.data.corpus.manifest import load_manifest
from tests.arrange.toy_corpus import make_corpus
from tests.arrange.toy_scores import beat, piece, scale
from tests.arrange.truth import Window, is_true

RENDERERS = ("symusic", "fluidsynth")
SAMPLED, CHIP = SOUNDFONTS[0], next(font for font in SOUNDFONTS if font.is_chip)


def setup(font=SAMPLED, **sound):
    return Setup(soundfont=font, renderer="fluidsynth", sound=Sound(**sound), room_seed=0)


def record(score, **more):
    chosen = choose_setup(score, SOUNDFONTS, RENDERERS)
    packages = ",".join(font.package for font in SOUNDFONTS)
    stamp = f"{FORMAT_VERSION}:1:{packages}:{','.join(RENDERERS)}:own:81"
    return {"id": "a", "stamp": stamp, "soundfont": chosen.soundfont.package, "renderer": chosen.renderer, **more}


def test_the_setup_follows_from_score_and_journal():
    score = piece(scale(), beat())
    assert setup_of(score, record(score)) == choose_setup(score, SOUNDFONTS, RENDERERS)


@pytest.mark.parametrize(
    "more", [{"soundfont": "another"}, {"renderer": "another"}, {"stamp": "0:1:x:y"}, {"stamp": ""}]
)
def test_a_journal_that_disagrees_tells_nothing(more):
    score = piece(scale(), beat())
    assert setup_of(score, record(score, **more)) is None and setup_of(score, {}) is None
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
def test_what_the_setup_did(sound, said, unsaid):
    score, chosen = piece(scale(), beat()), setup(**sound)
    found = set(facts_of(score, 0.0, setup=chosen).sound)
    assert said <= found and not found & unsaid
    window = Window(score, 0.0, 10.0, chosen)
    assert all(is_true("sound", name, window) for name in found)


def test_what_a_chip_imitates_is_not_acoustic():
    score = piece(scale(), beat())
    assert facts_of(score, 0.0, setup=setup()).electric is False
    facts = facts_of(score, 0.0, setup=setup(CHIP))
    assert facts.electric is None and "chip" in facts.sound and not {"clean", "sampled"} & set(facts.sound)


def test_bass_and_drums_do_not_fill_a_hall():
    score = piece(scale("electric bass", "bass", tonic=36), beat())
    assert "reverberant" not in facts_of(score, 0.0, setup=setup(room="hall", wet=0.3)).sound
    assert "pumping" not in facts_of(score, 0.0, setup=setup(pump=0.5)).sound


@pytest.mark.parametrize(
    ("lufs", "said"), [(-9.0, {"loud"}), (-14.0, {"loud"}), (-18.0, set()), (-24.0, {"quiet"}), (-40.0, {"quiet"}),
        (None, set())]
)  # fmt: skip
def test_loud_and_quiet_are_what_was_measured(lufs, said):
    found = set(facts_of(piece(scale(), beat()), 0.0, setup=setup(), lufs=lufs).sound)
    assert found & {"loud", "quiet"} == said
    assert not set(facts_of(piece(scale(), beat()), 0.0, lufs=lufs).sound)  # nothing is said without a setup


def test_styles_lie_at_the_levels_of_recordings():
    """Soft music is soft: integrated loudness of styles from -28 to -11, half of the range and more in use."""
    levels = [style.sound.lufs for style in STYLES.values()]
    assert -30 <= min(levels) <= -25 and -13 <= max(levels) <= -9
    quiet, loud = (STYLES[name].sound.lufs for name in ("lullaby music box", "heavy metal"))
    assert quiet < loud - 12


def test_a_corpus_says_how_loud_its_windows_are(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", count=4)
    tracks = load_manifest(corpus)
    for track, gain in ((tracks[0], 0.02), (tracks[2], 1.0)):
        audio, rate = soundfile.read(corpus / track.path, dtype="float32")
        soundfile.write(corpus / track.path, np.clip(audio / np.abs(audio).max() * 4 * gain, -1, 1), rate)
    lines = [json.dumps({**record(load_score(corpus, track.id)), "id": track.id}) for track in tracks[:3]]
    (corpus / "journal.jsonl").write_text("\n".join(lines))
    write_captions(corpus)
    rows = [json.loads(line) for line in (corpus / CAPTIONS_FILE).read_text().splitlines()]
    sound = {
        name: [set(row["facts"].get("sound", ())) & {"loud", "quiet"} for row in rows if row["track"] == name]
        for name in (t.id for t in tracks)
    }
    assert all(found == {"quiet"} for found in sound[tracks[0].id])
    assert all(found == {"loud"} for found in sound[tracks[2].id])
    assert not any(sound[tracks[3].id])  # no journal tells how it was made
