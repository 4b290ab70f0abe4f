"""What the options of `musiclm generate` make of a bundle's own choice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import Result
from typer.testing import CliRunner

from musiclm.cli import app
from musiclm.core.bundle import Bundle
from musiclm.generate.music import read_tags
from musiclm.generate.session import MusicLM
from musiclm.generate.wishes import configure
from tests.mock import mock_bundle


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> MusicLM:
    return MusicLM.from_pretrained(bundle.folder)


def test_what_is_not_wished_for_stays_the_bundles_choice(model: MusicLM) -> None:
    nothing = {"acoustic": None, "levels": None, "semantic.temperature": None, "steer.beat": None, "steer.again": None}
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
    for name in ("beat", "again"):
        with pytest.raises(ValueError, match=f"{name} does nothing with the bundle mock"):
            configure(model, "music", {f"steer.{name}": 1.0})


def test_more_levels_than_there_are_is_refused(model: MusicLM) -> None:
    most = model.acoustic_decoder(model.default_config()).levels
    assert configure(model, "music", {"levels": most}).levels == most
    with pytest.raises(ValueError, match=f"levels is {most + 1}; storm of the bundle mock has {most}"):
        configure(model, "music", {"levels": most + 1})


# -- a melody


@pytest.fixture(scope="module")
def follows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that follows melodies."""
    return mock_bundle(Path(tmp_path_factory.mktemp("follows")), melody=True).folder


@pytest.fixture
def hum(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "hum.wav", 0.3 * np.sin(2 * np.pi * 220 * np.arange(24000) / 24000), 24000)
    return tmp_path / "hum.wav"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["generate", *map(str, arguments), "--duration", "0.6", "--no-progress"])


def test_music_follows_a_file(follows: Path, hum: Path, tmp_path: Path) -> None:
    result = run("music", "--melody", hum, "--model", follows, "-o", tmp_path / "a.wav", "--take")
    assert result.exit_code == 0, result.output
    assert f"follows {hum}: 0.6 s of it" in result.output.replace("\n", "")
    assert read_tags(tmp_path / "a.wav")["melody"] == "hum.wav" and (tmp_path / "a.take").exists()
    plain = run("music", "--model", follows, "-o", tmp_path / "b.wav")
    assert plain.exit_code == 0 and (tmp_path / "a.wav").read_bytes() != (tmp_path / "b.wav").read_bytes()


def test_what_can_not_be_followed_is_refused_before_anything_is_written(
    follows: Path, unsteered: Bundle, hum: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mid").write_text("no MIDI")
    out = tmp_path / "out.wav"
    for melody, model, message in (
        (tmp_path / "none.wav", follows, "none.wav"),
        (tmp_path / "text.mid", follows, "no MIDI file"),
        (hum, unsteered.folder, "the bundle mock can't follow a melody"),
    ):
        result = run("music", "--melody", melody, "--model", model, "-o", out)
        assert isinstance(result.exception, ValueError) and message in str(result.exception)
        assert not out.exists()
    result = run("music", "--melody", hum, "--model", follows, "-o", hum)
    assert isinstance(result.exception, ValueError) and "would be written over" in str(result.exception)
