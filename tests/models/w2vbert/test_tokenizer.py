"""Semantic tokenizer: window plan, exact lengths, batch equals single, chunks equal whole, save and load."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.core.artifact import save_artifact
from musiclm.evaluate.probes import token_probe
from musiclm.models.w2vbert.cues import NUM_CUES, CueWeights, cue_map, cues_of
from musiclm.models.w2vbert.model import W2vBert
from musiclm.models.w2vbert.task import W2vBertTask, W2vBertTaskConfig
from musiclm.models.w2vbert.tokenizer import SemanticTokenizer, fit_tokenizer, plan_windows

from .test_model import Melodies, tiny


@given(st.integers(1, 400), st.integers(5, 60), st.data())
@settings(max_examples=100, deadline=None)
def test_windows_tile_the_frames_with_context_at_inner_edges(num_frames, window, data):
    context = data.draw(st.integers(0, (window - 1) // 2))
    plan = plan_windows(num_frames, window, context)
    kept = [t for w in plan for t in range(w.keep_start, w.keep_stop)]
    assert kept == list(range(num_frames))
    assert len({w.stop - w.start for w in plan}) == 1
    for w in plan:
        assert 0 <= w.start <= w.keep_start < w.keep_stop <= w.stop <= num_frames
        assert w.start == 0 or w.keep_start - w.start >= context
        assert w.stop == num_frames or w.stop - w.keep_stop >= context


@pytest.fixture(scope="module")
def tokenizer() -> SemanticTokenizer:
    torch.manual_seed(0)
    model = W2vBert(tiny()).eval()
    model.fit_statistics(Melodies().batch(0, 8)[0])
    clips = [Melodies().batch(step, 8)[0] for step in range(3)]
    return fit_tokenizer(model, clips, layer=1, num_clusters=12, seed=0, window_s=1.6, context_s=0.4)


def test_lengths_follow_the_rule(tokenizer):
    for samples, frames in ((0, 0), (959, 0), (960, 1), (1919, 1), (38400, 40), (38400 * 3 + 1000, 121)):
        codes = tokenizer.encode(torch.randn(2, 1, samples) * 0.1)
        assert codes.shape == (2, 1, frames)
        assert not frames or (0 <= int(codes.min()) and int(codes.max()) < 12)


def test_codes_of_training_music_are_varied(tokenizer):
    assert tokenizer.encode(Melodies().batch(7, 8)[0]).unique().numel() >= 6


def test_features_are_normalised_on_the_clips_of_the_fit(tokenizer):
    x = torch.cat([tokenizer.features(Melodies().batch(step, 8)[0]) for step in range(3)]).flatten(0, 1)
    torch.testing.assert_close(x.mean(0), torch.zeros(32), atol=1e-3, rtol=0)
    torch.testing.assert_close(x.std(0), torch.ones(32), atol=1e-2, rtol=0)


def test_batch_equals_single_and_window_grouping_does_not_matter(tokenizer):
    audio = torch.cat([Melodies(6.4).batch(step, 1)[0] for step in range(3)])
    codes = tokenizer.encode(audio)
    agreement = [float((tokenizer.encode(audio[i : i + 1])[0] == codes[i]).float().mean()) for i in range(3)]
    assert min(agreement) > 0.98  # float32 sums of another order may flip a frame between two centroids
    assert float((tokenizer.encode(audio, windows_at_once=1) == codes).float().mean()) > 0.98


def test_long_audio_is_the_naive_loop_over_its_windows(tokenizer):
    audio = Melodies(6.4).batch(3, 1)[0]
    expected = torch.empty(160, dtype=torch.long)
    for w in plan_windows(160, 40, 10):
        piece = tokenizer.encode(audio[..., w.start * 960 : w.stop * 960])[0, 0]
        expected[w.keep_start : w.keep_stop] = piece[w.keep_start - w.start : w.keep_stop - w.start]
    assert float((tokenizer.encode(audio)[0, 0] == expected).float().mean()) > 0.98


def test_a_tokenizer_is_its_model_up_to_the_layer(tokenizer):
    torch.manual_seed(0)
    model = W2vBert(tiny()).eval()
    model.fit_statistics(Melodies().batch(0, 8)[0])
    audio = Melodies().batch(9, 2)[0]
    expected = (model.hidden_states(audio, last_layer=1)[-1] - tokenizer.feature_mean) / tokenizer.feature_std
    torch.testing.assert_close(tokenizer.features(audio), expected)
    assert len(tokenizer.conformer.blocks) == 1


@pytest.mark.parametrize("harmony", [False, True])
def test_export_and_load_give_the_same_codes(tmp_path, harmony):
    config = W2vBertTaskConfig(model=tiny(), crop_s=1.6, layer=1, num_clusters=8, num_fit_clips=8, harmony=harmony)
    task = W2vBertTask(config, Melodies(), Melodies().batch(99, 4)[0], batch_size=4, seed=0)
    task.start(torch.device("cpu"))
    task.model.eval()
    task.export(task.model, tmp_path / "semantic", {"steps": 0})
    loaded = SemanticTokenizer.from_artifact(tmp_path / "semantic")
    assert loaded.codes_hash and not loaded.training and loaded.spec.levels == (4 if harmony else 1)
    audio = Melodies().batch(5, 4)[0]
    fresh = task.fit(task.model)
    agreement = (loaded.encode(audio) == fresh.encode(audio)).float().mean()
    assert float(agreement) > 0.97  # weights are stored in half precision
    with pytest.raises(ValueError, match="semantic"):
        W2vBert.from_artifact(tmp_path / "semantic")


def test_errors():
    model = W2vBert(tiny())
    with pytest.raises(ValueError, match="no clips"):
        fit_tokenizer(model, [], layer=1)
    with pytest.raises(ValueError, match="layer is 3"):
        fit_tokenizer(model, [], layer=3)
    with pytest.raises(ValueError, match="window_s"):
        fit_tokenizer(model, [], layer=1, window_s=1.0, context_s=0.5)


def test_cues_keep_the_melody_that_clusters_lose(tmp_path):
    """The same network and as few clusters: beside cues of pitch, or of onsets, a token tells more of that on clips it
    was not fitted on.
    """
    torch.manual_seed(0)
    model = W2vBert(tiny()).eval()
    model.fit_statistics(Melodies().batch(0, 8)[0])
    clips = [Melodies().batch(step, 8)[0] for step in range(12)]
    unseen = torch.cat([Melodies().batch(step, 8)[0] for step in range(20, 24)])
    target = {name: cue.flatten(0, 1) for name, cue in cues_of(unseen).items()}
    train = {name: cue.flatten(0, 1) for name, cue in cues_of(torch.cat(clips)).items()}
    choices = {
        "none": None,
        "pitch": CueWeights(chroma=3.0, onset=0.0, loudness=0.0),
        "onset": CueWeights(chroma=0.0, onset=2.0, loudness=0.0),
    }
    skill = {}
    for name, weights in choices.items():
        fitted = fit_tokenizer(model, clips, layer=1, num_clusters=16, window_s=1.6, context_s=0.4, cue_weights=weights)
        assert fitted.config.num_cues == (NUM_CUES if weights else 0)
        codes = fitted.encode(torch.cat(clips)).reshape(-1, 1), fitted.encode(unseen).reshape(-1, 1)
        skill[name] = {cue: token_probe(codes[0], train[cue], codes[1], target[cue], 16) for cue in target}
        save_artifact(tmp_path / name, "semantic", fitted.config, fitted, {})
        assert torch.equal(SemanticTokenizer.from_artifact(tmp_path / name).encode(unseen).flatten(), codes[1][:, 0])
    assert skill["pitch"]["chroma"] > 1.25 * skill["none"]["chroma"] > 1.25 * skill["onset"]["chroma"]
    assert skill["onset"]["onset"] > skill["none"]["onset"] + 0.03 > skill["pitch"]["onset"] + 0.1


def test_cues_are_as_loud_as_asked_for():
    torch.manual_seed(0)
    features = torch.randn(500, 20)
    cues = {
        "chroma": features[:, :12] + 0.1 * torch.randn(500, 12),
        "onset": features[:, 12:13],
        "loudness": features[:, 13:14] * 40 - 60,
    }
    guesses = features @ cue_map(features, cues, CueWeights(chroma=0.5, onset=2.0, loudness=0.0))
    assert guesses.shape == (500, NUM_CUES)
    spread = guesses.square().sum(1).mean().sqrt() / features.square().sum(1).mean().sqrt()
    assert float(guesses[:, :12].square().sum(1).mean().sqrt() / 20**0.5) == pytest.approx(0.5, rel=0.1)
    assert float(guesses[:, 12].square().mean().sqrt() / 20**0.5) == pytest.approx(2.0, rel=0.1)
    assert float(guesses[:, 13].abs().max()) == 0 and float(spread) > 2
    assert float(torch.corrcoef(torch.stack([guesses[:, 12], features[:, 12]]))[0, 1]) > 0.99
    with pytest.raises(ValueError, match="weight of onset is -1"):
        CueWeights(onset=-1)
