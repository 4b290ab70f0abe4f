"""Towers, windows, codes and the artifact, on a small random model."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from musiclm.core.artifact import ArtifactError
from musiclm.models.mulan.model import (
    WINDOW_S,
    AudioConfig,
    MuLan,
    MuLanConfig,
    contrastive_loss,
)
from musiclm.models.mulan.text import TextConfig
from tests.models.mulan.test_text import small_tokenizer

RATE = 24000
SMALL = MuLanConfig(
    audio=AudioConfig(channels=(8, 16), width=32, num_layers=1, num_heads=2),
    text=TextConfig(vocab_size=13, width=16, num_layers=2, num_heads=4, feed_forward=32, max_tokens=32),
    dim=16,
    text_hidden=16,
    rvq_levels=3,
    rvq_size=8,
    memory_size=8,
)


def small_model() -> MuLan:
    torch.manual_seed(0)
    model = MuLan(SMALL, Tokenizer.from_str(json.dumps(small_tokenizer()))).eval()
    rows = F.normalize(torch.randn(200, 16), dim=-1)
    model.rvq.fit_kmeans(rows)
    model.memory.copy_(rows[:8])
    return model


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) * 0.1


@torch.no_grad()
def test_every_window_of_a_track_equals_the_window_alone():
    model, audio = small_model(), noise(14.6)
    windows = model.embed_audio_windows(audio)
    assert windows.shape == (5, 16)  # at 0..4 s; the last 0.6 s fill no second
    for i in range(5):
        alone = model.embed_audio(audio[None, :, i * RATE : (i + WINDOW_S) * RATE])
        torch.testing.assert_close(windows[i : i + 1], alone, atol=1e-5, rtol=1e-5)
    whole = model.embed_audio(audio[None])
    torch.testing.assert_close(whole, F.normalize(windows.mean(0), dim=-1)[None])
    torch.testing.assert_close(whole.norm(dim=-1), torch.ones(1))


@torch.no_grad()
def test_short_audio_is_repeated_and_empty_audio_refused():
    model, audio = small_model(), noise(3)
    looped = audio.repeat(1, 4)[:, : WINDOW_S * RATE]
    torch.testing.assert_close(model.embed_audio(audio[None]), model.embed_audio(looped[None]))
    with pytest.raises(ValueError, match="0 samples"):
        model.embed_audio(torch.zeros(1, 1, 0))


@torch.no_grad()
def test_batch_equals_single():
    model = small_model()
    clips = torch.stack([noise(11, 1), noise(11, 2)])
    together = model.embed_audio(clips)
    torch.testing.assert_close(together, torch.cat([model.embed_audio(clip[None]) for clip in clips]))
    texts = ["slow piano", "fast music fast music"]
    alone = torch.cat([model.embed_text([text]) for text in texts])
    torch.testing.assert_close(model.embed_text(texts), alone, atol=1e-5, rtol=1e-5)


def test_a_second_sees_itself_only():
    """The stem's output of one second has no gradient in another: windows may share it."""
    tower = small_model().audio
    audio = noise(4)[0].view(4, RATE).clone().requires_grad_(True)
    tower.seconds(tower.mels(audio))[1].sum().backward()
    assert audio.grad is not None
    assert bool((audio.grad[[0, 2, 3]] == 0).all()) and bool((audio.grad[1] != 0).any())


def test_mels_of_a_second_are_those_of_the_track():
    """Frames wholly inside a second do not depend on where the audio was cut: the training cache rests on it."""
    tower = small_model().audio
    audio = noise(3)
    whole = tower.log_mel(audio)
    per_s = RATE // tower.config.hop
    for second in range(3):
        cut = whole[0, :, second * per_s :][:, : tower.config.frames_per_s]
        alone = tower.mels(audio[:, second * RATE : (second + 1) * RATE])[0]
        torch.testing.assert_close(cut, alone)


@torch.no_grad()
def test_codes_have_the_contracts_shapes_and_ignore_length():
    model = small_model()
    assert model.audio_codes(noise(10)[None]).shape == (1, 3, 1)
    codes = model.text_codes(["slow piano", "fast"])
    assert codes.shape == (2, 3, 1) and int(codes.min()) >= 0 and int(codes.max()) < 8
    vectors = torch.randn(4, 16)
    assert torch.equal(model.quantize(vectors), model.quantize(vectors * 0.3))


@torch.no_grad()
def test_projection_pulls_text_to_audio():
    model = small_model()
    vectors = F.normalize(torch.randn(6, 16), dim=-1)
    assert model.project_text(vectors) is vectors
    model.text_pull.fill_(1.0)
    model.text_heat.fill_(0.01)
    pulled = model.project_text(vectors)
    memory = model.memory
    nearest = memory[(vectors @ memory.T).argmax(1)]
    assert float((pulled * nearest).sum(1).min()) > 0.9  # nearly cold: the nearest one itself
    torch.testing.assert_close(pulled.norm(dim=-1), torch.ones(6))


def test_empty_text_is_refused_and_long_text_is_cut_with_a_warning():
    model = small_model()
    with pytest.raises(ValueError, match="empty"):
        model.embed_text(["slow", " "])
    with pytest.warns(UserWarning, match="cut after 32"):
        model.embed_text(["slow " * 100])


@torch.no_grad()
def test_artifact_round_trip(tmp_path):
    model = small_model()
    model.text_mean.fill_(0.01)
    model.text_pull.fill_(0.5)
    digest = model.save(tmp_path / "mulan", {"steps": 1})
    loaded = MuLan.from_artifact(tmp_path / "mulan")
    assert loaded.codes_hash == digest and not loaded.training
    assert loaded.config == SMALL
    audio = noise(10)[None]
    torch.testing.assert_close(loaded.embed_audio(audio), model.embed_audio(audio), atol=3e-3, rtol=0)
    texts = ["slow piano music", "fast"]
    torch.testing.assert_close(loaded.embed_text(texts), model.embed_text(texts), atol=2e-2, rtol=0)  # 8-bit rows
    again = MuLan.from_artifact(tmp_path / "mulan")
    assert torch.equal(again.text_codes(texts), loaded.text_codes(texts))
    (tmp_path / "mulan" / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        MuLan.from_artifact(tmp_path / "mulan")


def test_contrastive_loss_against_a_naive_version_and_guessing():
    generator = torch.Generator().manual_seed(0)
    audio, text = (F.normalize(torch.randn(5, 8, generator=generator), dim=-1) for _ in range(2))
    same = torch.eye(5, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    scale = torch.tensor(2.0)
    total = 0.0
    similarity = (audio @ text.T * scale.exp()).numpy().astype(np.float64)
    for i in range(5):
        others = [j for j in range(5) if j == i or not same[i, j]]
        total -= np.log(np.exp(similarity[i, i]) / sum(np.exp(similarity[i, j]) for j in others)) / 10
        total -= np.log(np.exp(similarity[i, i]) / sum(np.exp(similarity[j, i]) for j in others)) / 10
    assert float(contrastive_loss(audio, text, scale, same).loss) == pytest.approx(total, rel=1e-4)
    flat = torch.ones(64, 8) / 8**0.5
    guessing = contrastive_loss(flat, flat, scale, torch.eye(64, dtype=torch.bool)).loss
    assert float(guessing) == pytest.approx(np.log(64), rel=1e-5)


def test_recall_in_a_batch_is_told_by_direction():
    """One text fits every clip best, and every text fits its own clip best."""
    eye = torch.eye(3)
    audio = torch.cat([torch.ones(3, 1), eye], 1)
    text = torch.cat([torch.tensor([[3.0], [0.0], [0.0]]), eye], 1)
    found = contrastive_loss(audio, text, torch.tensor(0.0), torch.eye(3, dtype=torch.bool))
    assert float(found.audio_to_text) == pytest.approx(1 / 3) and float(found.text_to_audio) == 1


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_only_the_top_text_layers_learn(layers):
    config = MuLanConfig(
        audio=SMALL.audio, text=SMALL.text, dim=16, rvq_levels=1, rvq_size=4, text_trained_layers=layers
    )
    model = MuLan(config)
    moving = {name for name, p in model.text_encoder.named_parameters() if p.requires_grad}
    assert any(name.startswith("layers.1.") for name in moving) == (layers >= 1)
    assert any(name.startswith("layers.0.") for name in moving) == (layers >= 2)
    assert ("words.weight" in moving) == (layers == 2)
    assert all(p.requires_grad for p in model.audio.parameters())


def test_paper_sizes_build_on_the_meta_device():
    text = TextConfig(width=768, num_layers=12, num_heads=12, feed_forward=3072, max_tokens=512)
    audio = AudioConfig(num_mels=128, channels=(64, 256), width=768, num_layers=12, num_heads=12, tokens_per_s=6)
    with torch.device("meta"):
        model = MuLan(MuLanConfig(audio=audio, text=text, text_trained_layers=12))
    assert 80e6 < sum(p.numel() for p in model.audio.parameters()) < 100e6
    assert 100e6 < sum(p.numel() for p in model.text_encoder.parameters()) < 115e6


def test_config_says_what_to_change():
    with pytest.raises(ValueError, match="hop"):
        AudioConfig(hop=500)
    with pytest.raises(ValueError, match="text_trained_layers"):
        MuLanConfig(text_trained_layers=9)
