"""What base v7 and before left behind is refused in one line that says what it is and what to do."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from musiclm.core.artifact import ArtifactError, config_hash, read_config
from musiclm.core.bundle import Bundle, open_bundle
from musiclm.core.config import to_json
from musiclm.core.retired import LAST_REVISION, RETIRED_ENCODERS
from musiclm.core.streams import ACOUSTIC, SEMANTIC, TokenSpec
from musiclm.data.codes import Encoded, save_codes
from musiclm.data.store import StoreError, StreamHeader, StreamWriter, TokenStore
from musiclm.generate.session import MusicLM
from musiclm.generate.take import Take, load_take
from musiclm.models.soundstream.model import SoundStream
from musiclm.train.pipeline import train_stage
from musiclm.train.recipes import load_preset
from tests.cli.test_cli import run

V7 = {said: digest for digest, said in RETIRED_ENCODERS.items()}
CODEC, SEMANTIC_ENCODER = V7["the codec of base v2 to v7"], V7["the semantic encoder of base v6 and v7"]
# as v7's `config.json` has it
FIELDS = {
    "network": "spectrogram", "sample_rate_hz": 24000, "latent_dim": 96, "levels": 12, "codebook_size": 1024,
    "codebook_decay": 0.99, "channels": 32, "strides": [2, 4, 6, 10], "n_fft": 960, "hop": 240, "stride": 2,
    "fast_width": 192, "slow_width": 320, "fast_blocks": 3, "slow_blocks": 4, "tonal_bins": 64, "phase_iterations": 4,
}  # fmt: skip


def made_by(path: Path, config: dict[str, object]) -> None:
    """A `config.json` with another configuration."""
    document = json.loads(path.read_text())
    document |= {"config": config, "config_hash": config_hash(config)}
    path.write_text(json.dumps(document))


@pytest.fixture(params=["spectrogram", "stft"])
def old_bundle(request: pytest.FixtureRequest, bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle whose codec says that it has a network of old."""
    folder = shutil.copytree(bundle.folder, tmp_path / "old")
    made_by(folder / "soundstream" / "config.json", {**FIELDS, "network": request.param})
    return folder


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line with which a command ends."""

    def line(*arguments: str | Path) -> str:
        capsys.readouterr()
        assert run(monkeypatch, *arguments) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and LAST_REVISION in said, said
        return said

    return line


def test_a_bundle_and_a_codec(old_bundle: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    codec = old_bundle / "soundstream"
    network = json.loads((codec / "config.json").read_text())["config"]["network"]
    for opened in (lambda: open_bundle(old_bundle), lambda: MusicLM.from_pretrained(old_bundle)):
        with pytest.raises(ArtifactError, match=f"{codec} is a codec with the network '{network}'.*train anew"):
            opened()
    with pytest.raises(ArtifactError, match="no longer reads"):
        SoundStream.from_artifact(codec)
    where = ["-o", tmp_path / "a.wav", "--model"]
    for arguments in (
        ["generate", "slow", *where, old_bundle],
        ["inspect", old_bundle],
        ["inspect", codec],
        ["tokenize", "--data", tmp_path, "--runs", tmp_path / "runs", "--from", old_bundle],
        ["bundle", "--runs", tmp_path / "runs", "--from", old_bundle, "--out", tmp_path / "new"],
    ):
        assert f"the network '{network}', as base v7 and before had it" in refused(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_configurations_of_networks_that_stay_may_have_their_fields(bundle: Bundle, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle.part("soundstream"), tmp_path / "codec")
    own = read_config(folder)["config"]
    made_by(folder / "config.json", {**FIELDS, **own})
    assert to_json(SoundStream.from_artifact(folder).config) == own


def test_a_take(bundle: Bundle, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MusicLM.from_pretrained(bundle.folder)
    path = model.generate("slow piano", 1.0).save(tmp_path / "a.wav", take=True)[0].with_suffix(".take")
    new = load_take(path)
    about = replace(new.about, bundle="base", encoders={**new.about.encoders, "soundstream": CODEC})
    old = Take(about, new.semantic, new.acoustic, new.mulan, to_json(about)).save(tmp_path / "old.take")
    monkeypatch.setattr("musiclm.models.encoders.load_codec", None)  # it is refused before any model is loaded
    for arguments in (
        ["render", old],
        ["continue", old],
        ["vary", old],
        ["repaint", old, "--from", "0", "--to", "0.5"],
        ["loop", old],
    ):
        said = refused(*arguments, "--model", bundle.folder)
        assert "the take was made with the codec of base v2 to v7" in said and "anew from its prompt and seed" in said
    for way in (model.from_take, model.given, model.source):
        with pytest.raises(ArtifactError, match="the codec of base v2 to v7"):
            way(old)
    assert run(monkeypatch, "inspect", old) == 0, "prompt and seed are still told"


def test_a_file_of_codes(bundle: Bundle, refused: Callable[..., str], tmp_path: Path) -> None:
    save_codes(tmp_path / "old.codes", Encoded(torch.zeros(3, 4, dtype=torch.int16), 1900, CODEC))
    said = refused("codec", "decode", tmp_path / "old.codes", "--model", bundle.folder)
    assert "old.codes was made with the codec of base v2 to v7" in said and "encode the sound anew" in said


def write_tokens(store: Path, encoder: str, spec: TokenSpec = ACOUSTIC) -> None:
    writer = StreamWriter(store, StreamHeader(spec=spec, encoder=encoder), torch.zeros(12, 1024, 2))
    writer.add("t", "train", 0.0, 2.0, torch.zeros(spec.levels, 100, dtype=torch.long).numpy())
    writer.flush()


@pytest.mark.parametrize(("encoder", "spec"), [(CODEC, ACOUSTIC), (SEMANTIC_ENCODER, SEMANTIC)])
def test_a_store_of_tokens(tmp_path: Path, encoder: str, spec: object) -> None:
    write_tokens(tmp_path, "a" * 64, spec)
    folder = tmp_path / spec.name  # type: ignore[attr-defined]
    assert TokenStore(tmp_path, [folder.name]).tracks
    header = folder / "header.json"
    header.write_text(header.read_text().replace("a" * 64, encoder))
    with pytest.raises(
        StoreError, match=rf"{folder} was made with the .* of base .*delete {folder} and tokenize again"
    ):
        TokenStore(tmp_path, [folder.name])


def test_half_a_retraining(bundle: Bundle, tmp_path: Path) -> None:
    """Tokens of a codec that was trained again since; and of one that this version does not read."""
    runs = tmp_path / "runs"
    write_tokens(runs / "tokens", "a" * 64)
    codec = shutil.copytree(bundle.part("soundstream"), runs / "soundstream" / "artifact")
    with pytest.raises(ArtifactError, match=r"acoustic holds codes of another soundstream \(aaaaaaaaaaaa\).*tokenize"):
        train_stage("fine", load_preset("tiny"), tmp_path, runs, quiet=True)
    made_by(codec / "config.json", FIELDS)
    with pytest.raises(ArtifactError, match="no longer reads.*train anew"):
        train_stage("fine", load_preset("tiny"), tmp_path, runs, quiet=True)
    assert not (runs / "fine").exists()
