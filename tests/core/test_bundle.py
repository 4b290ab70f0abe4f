import json
import shutil
from pathlib import Path

import pytest

from musiclm.core.artifact import ArtifactError
from musiclm.core.bundle import Bundle, assemble, open_bundle
from musiclm.generate.session import MusicLM
from musiclm.train.card import baseline_of, licences_of, metrics_of, model_card


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.folder, tmp_path / "copy"))


def edit(path: Path, **changes: object) -> None:
    document = json.loads(path.read_text())
    document.update(changes)
    path.write_text(json.dumps(document))


def test_a_copy_is_the_same_bundle(bundle: Bundle, copy: Path) -> None:
    opened = open_bundle(copy)
    assert opened.hash == bundle.hash and set(opened.parts) == set(bundle.parts)


def test_what_is_missing_or_damaged_is_named(copy: Path) -> None:
    with pytest.raises(ArtifactError, match="no model 'nothing-here'"):
        open_bundle("nothing-here")
    (copy / "semantic" / "model.safetensors").rename(copy / "semantic" / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=r"has no model\.safetensors \(pytorch_model\.bin is pickle"):
        MusicLM.from_pretrained(copy)
    (copy / "semantic" / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"semantic is no trained model: it has no config\.json"):
        open_bundle(copy)
    (copy / "bundle.json").write_text('{"format": 1}')
    with pytest.raises(ArtifactError, match="is damaged"):
        open_bundle(copy)
    (copy / "bundle.json").unlink()
    with pytest.raises(ArtifactError, match=r"no bundle: it has no bundle\.json"):
        open_bundle(copy)


def test_changed_weights_are_noticed(copy: Path) -> None:
    path = copy / "soundstream" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="has hash"):
        MusicLM.from_pretrained(copy)


def test_parts_of_two_bundles_do_not_mix(copy: Path) -> None:
    edit(copy / "mulan" / "config.json", hash="0" * 64)
    with pytest.raises(ArtifactError, match="mixed up"):
        open_bundle(copy)


def test_a_model_that_learned_from_other_encoders_is_refused(copy: Path) -> None:
    config = json.loads((copy / "storm" / "config.json").read_text())
    config["info"]["encoders"]["soundstream"] = "f" * 64
    (copy / "storm" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="storm model learned from a soundstream with hash ffffffffffff"):
        open_bundle(copy)


def test_an_index_can_not_point_outside(copy: Path) -> None:
    document = json.loads((copy / "bundle.json").read_text())
    document["parts"]["mulan"]["folder"] = "../parts/mulan"
    (copy / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="outside the bundle"):
        open_bundle(copy)


def test_a_failed_assembly_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="unknown parts drums"):
        assemble(tmp_path / "out", {"drums": bundle.parts["mulan"]}, "x", "")
    with pytest.raises(ArtifactError):
        assemble(tmp_path / "out", {"semantic": tmp_path}, "x", "")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_a_decoder_says_so(bundle: Bundle, tmp_path: Path) -> None:
    parts = {part: folder for part, folder in bundle.parts.items() if part != "storm"}
    made = assemble(tmp_path / "small", parts, "small", "")
    with pytest.raises(ArtifactError, match="'small' has no 'storm' model"):
        MusicLM.from_pretrained(made.folder).generate("slow", 0.5)


def test_the_card_holds_its_notes_and_every_stage(bundle: Bundle) -> None:
    card = model_card("mine", bundle.parts, "**Mind the noise.**")
    assert "**Mind the noise.**" in card
    assert all(f"| {part} |" in card for part in bundle.parts)


def test_licences_are_counted_one_by_one() -> None:
    hours = {
        "MIT": 2.0,
        "piano: MIT; tune: GPL-3 (collection); tunes traditional; drums: MIT": 1.0,
        "drums: CC BY 4.0": 0.5,
    }
    assert licences_of(hours) == {
        "MIT": (3.0, {"recordings", "piano", "drums"}),  # the piece counts once
        "GPL-3 (collection); tunes traditional": (1.0, {"tune"}),
        "CC BY 4.0": (0.5, {"drums"}),
    }


def test_the_card_reads_artifacts_of_before_the_renaming() -> None:
    old = {
        "chance": {"loss": 3.0},
        "metrics": {"loss": 2.0, "worth_mulan": 0.1, "worth_mulan_over_none": 0.2, "contrastive_chance": 0.03},
    }
    assert baseline_of(old) == baseline_of({"baseline": {"loss": 3.0}}) == {"loss": 3.0}
    new = {"loss": 2.0, "shuffled_mulan": 0.1, "dropped_mulan": 0.2, "contrastive_baseline": 0.03}
    assert metrics_of(old) == metrics_of({"metrics": new}) == new
    assert baseline_of({}) == metrics_of({}) == {}
