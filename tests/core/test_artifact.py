import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from musiclm.core.artifact import (
    ArtifactError,
    build,
    config_hash,
    large_matrices,
    load_artifact,
    load_state,
    save_artifact,
    write_atomic,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_artifact(tmp_path / "m", "thing", Config(), nn.Linear(3, 2), {"steps": 5}, files={"words.txt": b"a b"})
    return tmp_path / "m"


def test_round_trip(folder: Path) -> None:
    model = nn.Linear(3, 2)
    digest = save_artifact(folder, "thing", Config(), model, {"steps": 5})
    artifact = load_artifact(folder, "thing")
    assert (artifact.hash, artifact.config, artifact.info["steps"]) == (digest, {"width": 3}, 5)
    other = nn.Linear(3, 2)
    load_state(other, artifact)
    assert torch.equal(other.weight, model.weight)


def test_half_precision_is_read_back_as_float32(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    save_artifact(tmp_path / "m", "thing", Config(), model, {}, dtype=torch.float16)
    state = load_artifact(tmp_path / "m", "thing").state
    assert state["weight"].dtype == torch.float32
    torch.testing.assert_close(state["weight"], model.weight.detach(), atol=1e-3, rtol=1e-3)


def test_rows_of_int8_come_back_within_half_a_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(200, 96), nn.Linear(96, 4))
    assert large_matrices(model) == ["0.weight"]
    folder = tmp_path / "m"
    save_artifact(folder, "thing", Config(), model, {}, torch.float16, int8_rows=large_matrices(model))
    assert (folder / "model.safetensors").stat().st_size < 200 * 96 + 200 * 2 + 2000
    state = load_artifact(folder, "thing").state
    assert set(state) == set(model.state_dict())
    whole = model[0].weight.detach()
    step = whole.abs().amax(1, keepdim=True) / 127
    assert bool(((state["0.weight"] - whole).abs() <= 0.51 * step + 1e-4).all())
    assert not torch.equal(state["0.weight"], whole)
    torch.testing.assert_close(state["1.weight"], model[1].weight.detach(), atol=1e-3, rtol=1e-3)


def test_a_flipped_bit_is_noticed(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(ArtifactError, match="has hash .* says"):
        load_artifact(folder, "thing")


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "words.txt").unlink()
    with pytest.raises(ArtifactError, match=r"has no words\.txt"):
        load_artifact(folder, "thing")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"has no model\.safetensors"):
        load_artifact(folder, "thing")
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"no trained model: it has no config\.json"):
        load_artifact(folder, "thing")


def test_pickle_is_never_read(folder: Path) -> None:
    ran = folder / "ran"

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(ran),)

    torch.save({"weight": Trap()}, folder / "model.safetensors")
    with pytest.raises(ArtifactError, match="pickle, which is never read"):
        load_artifact(folder, "thing")
    (folder / "model.safetensors").rename(folder / "model.pt")
    with pytest.raises(ArtifactError, match=r"model\.pt is pickle"):
        load_artifact(folder, "thing")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "'other' model where a 'thing' model is wanted"),
        ({"format": 99}, "format 99"),
        ({"hash": None}, "says"),
    ],
)
def test_a_changed_config_is_noticed(folder: Path, change: dict, message: str) -> None:
    document = json.loads((folder / "config.json").read_text())
    document.update({key: value if value is not None else "0" * 64 for key, value in change.items()})
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=message):
        load_artifact(folder, "thing")


def test_damaged_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ArtifactError, match="not readable JSON"):
        load_artifact(folder, "thing")


def test_weights_of_other_sizes(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="weight is \\(2, 3\\), not \\(2, 4\\)"):
        load_state(nn.Linear(4, 2), load_artifact(folder, "thing"))


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_header_whose_length_begins_like_a_pickle(tmp_path: Path) -> None:
    """The first byte of a safetensors file is the low byte of its header's length: 0x80 isn't taken for a pickle."""
    starts = set()
    for width in range(1, 90):  # the names' lengths move the header's length through its low byte, 8 at a time
        model = nn.Module()
        model.register_parameter("w" * width, nn.Parameter(torch.zeros(1)))
        save_artifact(tmp_path / "m", "thing", Config(), model, {})
        starts.add((tmp_path / "m" / "model.safetensors").read_bytes()[0])
        load_artifact(tmp_path / "m", "thing")
    assert 0x80 in starts


def rewritten(folder: Path, **sizes: object) -> Path:
    """The folder with other sizes in its configuration, as somebody who means harm would write it: the hash fits."""
    path = folder / "config.json"
    document = json.loads(path.read_text())
    document["config"] |= sizes
    document["config_hash"] = config_hash(document["config"])
    path.write_text(json.dumps(document))
    return folder


def test_a_configuration_is_covered_by_a_hash(folder: Path) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "config": {"width": 4}}))
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        load_artifact(folder, "thing")
    del document["config_hash"]  # as models of old are
    path.write_text(json.dumps(document))
    assert load_artifact(folder, "thing").config == {"width": 3}


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"num_layers": 1_000_000_000}, "num_layers is 1000000000, which does not fit weights of 2 tensors"),
        ({"deep": {"blocks": [1, 3]}}, "blocks is 3"),
        ({"width": 2**21}, "width is 2097152"),
        ({"width": -(2**40)}, "width is -1099511627776"),
    ],
)
def test_sizes_that_no_such_file_has_are_refused(folder: Path, sizes: dict[str, object], said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        load_artifact(rewritten(folder, **sizes), "thing")


def test_a_model_is_compared_with_its_weights_before_it_takes_memory(folder: Path) -> None:
    """A square of a million a side would take four terabytes."""
    artifact, built = load_artifact(rewritten(folder, width=1_000_000), "thing"), []

    def make() -> nn.Linear:
        built.append(nn.Linear(artifact.config["width"], artifact.config["width"]))
        return built[-1]

    with pytest.raises(ArtifactError, match=r"weight is \(2, 3\), not \(1000000, 1000000\)"):
        build(make, artifact)
    assert [model.weight.device.type for model in built] == ["meta"]
    model = build(lambda: nn.Linear(3, 2), artifact)
    assert not model.training and torch.equal(model.weight, artifact.state["weight"])
