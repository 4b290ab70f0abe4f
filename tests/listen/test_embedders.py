"""Embedders load from disk, tell sounds apart, and say what is missing.

Those of transformers are small random ones made here.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from musiclm.listen.analysers import make_analyser
from musiclm.listen.embedders import Aisfx, TransformersEmbedder, read_aisfx
from tests.foreign import small_clap, small_hubert

RATE = 24000
HAS_AISFX = find_spec("aisfx") is not None


def hiss(seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(3 * RATE)).astype(np.float32)


def tone(hz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(3 * RATE) / RATE)).astype(np.float32)


def cosine(a: dict, b: dict) -> float:
    x, y = np.array(a["embedding"]), np.array(b["embedding"])
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.mark.skipif(not HAS_AISFX, reason="aisfx is not installed")
def test_aisfx_is_the_published_network() -> None:
    net = pytest.importorskip("aisfx.models.cnn2d").EmbeddingNet("max", 3, 1, 64).eval()
    ours = Aisfx()
    names = {
        "kernel": "conv{}.weight",
        "scale": "bn{}.weight",
        "shift": "bn{}.bias",
        "mean": "bn{}.running_mean",
        "variance": "bn{}.running_var",
    }
    state = net.state_dict()
    for name, value in ours.weights.items():
        block, layer, kind = name.split(".")
        state[f"conv_block{block}.{names[kind].format(layer)}"] = value
    net.load_state_dict(state)
    blocks = torch.rand(2, 100, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.embed(blocks), net(blocks.clone()))
    assert all((value > 0).all() for name, value in ours.weights.items() if name.endswith("variance"))


@pytest.mark.skipif(not HAS_AISFX, reason="aisfx is not installed")
def test_aisfx_hears_texture_and_not_level() -> None:
    hear = make_analyser("aisfx")
    a, b, low = hear(hiss(0)), hear(hiss(1)), hear(tone(200))
    assert len(a["embedding"]) == 512
    assert cosine(a, b) > 0.98 > 0.9 > cosine(a, low)
    assert cosine(a, hear(0.1 * hiss(0))) > 0.999
    with pytest.raises(ValueError, match=r"1\.00 s; aisfx needs 2\.4 s"):
        hear(hiss()[:RATE])


@pytest.mark.skipif(HAS_AISFX, reason="aisfx is installed")
def test_without_it_the_command_is_named() -> None:
    with pytest.raises(ValueError, match="pip install --no-deps aisfx"):
        make_analyser("aisfx")


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pth").write_bytes(b"PK not that one")
    with pytest.raises(ValueError, match="not the published checkpoint"):
        read_aisfx(tmp_path / "checkpoint.pth")


def small_ast(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    config = transformers.ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_length=64, num_mel_bins=32
    )
    transformers.ASTModel(config).save_pretrained(folder)
    transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("make", "width"), [(small_clap, 12), (small_hubert, 16), (small_ast, 16)])
def test_any_audio_model_of_transformers_from_a_folder(tmp_path: Path, make, width: int) -> None:
    hear = make_analyser(str(make(tmp_path / "model")))
    first = hear(tone(300))["embedding"]
    assert len(first) == width and np.isfinite(first).all()
    assert hear(tone(300))["embedding"] == first and hear(hiss())["embedding"] != first


def test_mert_is_hubert_under_another_name(tmp_path: Path) -> None:
    torch.manual_seed(3)
    plain = small_hubert(tmp_path / "a")
    torch.manual_seed(3)
    mert = small_hubert(tmp_path / "b", "mert_model")
    np.testing.assert_allclose(
        TransformersEmbedder(str(plain))(tone(300))["embedding"],
        TransformersEmbedder(str(mert))(tone(300))["embedding"],
        rtol=1e-6,
    )


def test_what_can_not_be_loaded_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="no model .*nothing'") as error:
        make_analyser(str(tmp_path / "nothing"))
    assert "\n" not in str(error.value)
    folder = small_hubert(tmp_path / "model")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="safetensors"):  # a pickle is not an answer
        make_analyser(str(folder))
