"""What the options of `musiclm generate` make of a bundle's own choice."""

from dataclasses import replace

import pytest

from musiclm.core.bundle import Bundle
from musiclm.generate.session import MusicLM
from musiclm.generate.wishes import configure


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> MusicLM:
    return MusicLM.from_pretrained(bundle.folder)


def test_what_is_not_wished_for_stays_the_bundles_choice(model: MusicLM) -> None:
    nothing = {"acoustic": None, "levels": None, "semantic.temperature": None, "steer.beat": None}
    assert configure(model, "music", nothing) == model.default_config()


def test_each_wish_lands_in_its_setting(model: MusicLM) -> None:
    base = model.default_config()
    expected = replace(
        base,
        acoustic="ar",
        levels=3,
        semantic=replace(base.semantic, temperature=0.5, top_k=7, top_p=0.9, guidance=2.5),
        steer=replace(base.steer, tempo_bpm=90.0, key_name="D minor", beat=0.25),
    )
    wishes = {
        **{"acoustic": "ar", "levels": 3, "semantic.temperature": 0.5, "semantic.top_k": 7, "semantic.top_p": 0.9},
        **{"semantic.guidance": 2.5, "steer.tempo_bpm": 90.0, "steer.key_name": "D minor", "steer.beat": 0.25},
    }
    assert configure(model, "music", wishes) == expected
    assert configure(model, "music", {"steer.beat": 0.0}).steer.beat == 0, "0 is a wish"


def test_a_beat_without_onsets_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musiclm.generate.session.load_cues", lambda folder: None)
    model = MusicLM.from_pretrained(bundle.folder)
    assert configure(model, "music", {"steer.beat": None}) == model.default_config()
    with pytest.raises(ValueError, match="beat does nothing with the bundle mock"):
        configure(model, "music", {"steer.beat": 1.0})
