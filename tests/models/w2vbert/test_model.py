"""w2v-BERT: masks, losses by naive versions, quantizer, and that one batch beats the baseline."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.models.w2vbert.loss import code_entropy, contrastive_loss, diversity_loss, masked_prediction_loss
from musiclm.models.w2vbert.model import W2vBert, W2vBertConfig, bridge, draw_mask, gumbel_temperature, stack_mel
from musiclm.models.w2vbert.task import W2vBertTask, W2vBertTaskConfig
from musiclm.nn.conformer import ConformerConfig


def tiny(**changes) -> W2vBertConfig:
    conformer = ConformerConfig(width=32, num_heads=2, num_layers=2, ff_width=64, kernel=3, dropout=0.0)
    fields = dict(
        conformer=conformer, contrastive_layers=1, n_fft=1024, num_mels=20, codebook_size=16, code_width=16,
        quantizer_inputs=8, mask_span=4,
    )  # fmt: skip
    return W2vBertConfig(**(fields | changes))


class Melodies:
    """Random notes of 0.16 s: something to predict within a clip, other in each step."""

    def __init__(self, crop_s: float = 1.6) -> None:
        self.crop_s = crop_s

    def batch(self, step: int, batch_size: int, rows: slice = slice(None)):
        generator = torch.Generator().manual_seed(step)
        note = torch.arange(round(0.16 * 24000)) / 24000
        num_notes = round(self.crop_s / 0.16)
        pitch = torch.randint(0, 24, (batch_size, num_notes, 1), generator=generator)
        waves = 0.3 * torch.sin(2 * math.pi * 220 * 2 ** (pitch / 12) * note) * torch.exp(-6 * note)
        audio = waves.flatten(1)[:, None]
        noisy = audio + 1e-3 * torch.randn(audio.shape, generator=generator)
        return noisy[rows], ([None] * batch_size)[rows], ([0.0] * batch_size)[rows]


@given(st.integers(2, 60), st.integers(1, 12), st.floats(0.1, 0.9), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_masks_hide_the_same_number_of_frames_in_every_clip(num_frames, span, fraction, seed):
    mask = draw_mask(3, num_frames, span, fraction, torch.Generator().manual_seed(seed))
    assert mask.shape == (3, num_frames)
    assert (mask.sum(1) == min(max(2, round(fraction * num_frames)), num_frames)).all()
    again = draw_mask(3, num_frames, span, fraction, torch.Generator().manual_seed(seed))
    assert torch.equal(mask, again)


def test_masks_are_spans():
    mask = draw_mask(50, 200, 10, 0.45, torch.Generator().manual_seed(0)).int()
    edges = (mask.diff(dim=1) == 1).sum(1).float().mean()
    assert edges < 90 / 4  # far fewer runs than hidden frames


def test_contrastive_loss_is_the_naive_one():
    outputs, targets = torch.randn(2, 5, 6), torch.randn(2, 5, 6)
    codes = torch.arange(10).view(2, 5, 1)
    found = contrastive_loss(outputs, targets, codes, 0.1)
    losses, hits = [], 0
    for b in range(2):
        for i in range(5):
            scores = [float(torch.cosine_similarity(outputs[b, i], targets[b, j], dim=0)) / 0.1 for j in range(5)]
            losses.append(math.log(sum(math.exp(s) for s in scores)) - scores[i])
            hits += scores[i] == max(scores)
    assert float(found.loss) == pytest.approx(sum(losses) / 10, rel=1e-4)
    assert float(found.accuracy) == pytest.approx(hits / 10)
    assert float(found.baseline) == pytest.approx(1 / 5)


def test_distractors_that_are_the_target_do_not_count_as_errors_but_cost_the_loss():
    vectors = torch.eye(4)[None]
    codes = torch.tensor([[[0], [0], [1], [2]]])
    targets = vectors[:, [0, 0, 2, 3]]
    found = contrastive_loss(targets, targets, codes, 0.1)
    assert float(found.accuracy) == 1.0
    assert float(found.baseline) == pytest.approx((1 / 3 + 1 / 3 + 1 / 4 + 1 / 4) / 4)
    assert float(found.loss) == pytest.approx(math.log(2) / 2, abs=1e-3)


def test_masked_prediction_and_its_unigram_entropy():
    codes = torch.tensor([[[0, 1], [1, 1], [0, 1], [1, 1]]])
    assert float(code_entropy(codes, 4)) == pytest.approx(math.log(2) / 2)
    logits = torch.zeros(1, 4, 2, 4)
    assert float(masked_prediction_loss(logits, codes).loss) == pytest.approx(math.log(4))


def test_diversity_is_0_when_even_and_finite_on_collapse():
    assert float(diversity_loss(torch.full((2, 8), 1 / 8)).loss) == pytest.approx(0, abs=1e-5)
    collapsed = torch.zeros(2, 8)
    collapsed[:, 0] = 1
    collapsed.requires_grad_()
    found = diversity_loss(collapsed)
    assert float(found.loss.detach()) == pytest.approx(1 - 1 / 8, abs=1e-3)
    found.loss.backward()
    assert torch.isfinite(collapsed.grad).all()


def test_quantizer_starts_as_kmeans_and_uses_its_entries():
    torch.manual_seed(0)
    model = W2vBert(tiny()).eval()
    audio = Melodies().batch(0, 16)[0]
    model.fit_statistics(audio)
    mel = stack_mel(model.front_end.mel_frames(audio))
    quantized = model.quantizer(mel, 1.0)
    assert quantized.codes.shape == (16, 40, 2)
    assert float(code_entropy(quantized.codes, 16).exp()) > 8
    points = model.quantizer._inputs(mel)[..., ::2].flatten(0, 1)
    # weights are centroids / variance and biases -|c|^2 / (2 variance): undo it
    weight, bias = model.quantizer.logits.weight[:16, ::2], model.quantizer.logits.bias[:16]
    variance = (-2 * bias / weight.square().sum(1)).median()
    centroids = weight * variance
    nearest = torch.cdist(points, centroids).argmin(1)
    assert (nearest == quantized.codes[..., 0].flatten()).float().mean() > 0.99  # ties by rounding


def test_each_codebook_has_components_of_its_own():
    torch.manual_seed(0)
    model = W2vBert(tiny()).eval()
    model.fit_statistics(Melodies().batch(0, 16)[0])
    weight = model.quantizer.logits.weight.unflatten(0, (2, 16))
    used = weight.abs().sum(1) > 0  # codebook, component
    assert used.sum(0).tolist() == [1] * 8 and used[0].tolist() == [True, False] * 4


def test_frames_are_whole_40_ms():
    torch.manual_seed(0)
    model = W2vBert(tiny()).eval()
    audio = torch.randn(3, 1, 960 * 7 + 959) * 0.1
    states = model.hidden_states(audio)
    assert len(states) == 3 and states[0].shape == (3, 7, 32)
    torch.testing.assert_close(model.hidden_states(audio[..., : 960 * 7])[-1], states[-1], atol=0, rtol=0)


def test_hidden_frames_do_not_reach_the_conformer():
    torch.manual_seed(0)
    model = W2vBert(tiny(mask_bridge=False)).eval()
    captured = []
    model.conformer.blocks[0].register_forward_pre_hook(lambda _, args: captured.append(args[0].detach()))
    hidden = draw_mask(1, 40, 4, 0.45, torch.Generator().manual_seed(0))
    audio = Melodies().batch(0, 1)[0]
    model(audio, hidden)
    assert torch.equal(captured[0][hidden], model.mask_vector.detach().expand(int(hidden.sum()), -1))


def test_bridges_are_lines_between_the_visible_neighbours():
    x = torch.tensor([0.0, 1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 49.0])[None, :, None]
    hidden = torch.tensor([[True, False, True, True, False, False, True, True]])
    assert bridge(x, hidden).flatten().tolist() == [1, 1, 6, 11, 16, 25, 25, 25]


def test_what_is_hidden_changes_no_frame_that_the_conformer_sees():
    torch.manual_seed(0)
    model = W2vBert(tiny()).eval()
    hidden = draw_mask(2, 40, 4, 0.45, torch.Generator().manual_seed(0))
    captured = []
    model.conformer.blocks[0].register_forward_pre_hook(lambda _, args: captured.append(args[0].detach()))
    audio = Melodies().batch(0, 2)[0]
    mel = model.front_end.mel_frames(audio)
    noise = torch.randn_like(mel)
    # convolutions see a little past a frame, so only the middle of a hidden span is truly unseen
    inside = hidden & hidden.roll(1, 1) & hidden.roll(-1, 1)
    for columns in (mel, torch.where(inside.repeat_interleave(4, 1)[:, None], noise, mel)):
        model.front_end.mel_frames = lambda _, columns=columns: columns
        model(audio, hidden)
    assert inside.any() and torch.equal(captured[0], captured[1])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"contrastive_layers": 3}, "contrastive_layers"),
        ({"sample_rate_hz": 22050}, "22050"),
        ({"code_width": 15}, "code_width 15"),
        ({"mask_fraction": 1.0}, "mask_fraction"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_the_gumbel_temperature_falls_to_its_end():
    assert gumbel_temperature(0) == 2.0 and gumbel_temperature(10**6) == 0.5


def test_one_batch_is_learned_beyond_the_baseline():
    config = W2vBertTaskConfig(model=tiny(), crop_s=1.6, layer=1, num_clusters=8, num_fit_clips=8, gain_db=0.0)
    task = W2vBertTask(config, Melodies(), Melodies().batch(99, 4)[0], batch_size=4, seed=0)
    task.start(torch.device("cpu"))
    optimizer = torch.optim.AdamW(task.model.parameters(), 5e-3)
    batch = task.batch(0)
    for step in range(80):
        (update,) = task.updates(batch, step)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
    log = {name: float(torch.as_tensor(value).detach()) for name, value in update.log.items()}
    assert log["contrastive_accuracy"] > 3 * log["contrastive_baseline"]
    assert log["masked"] < log["batch_entropy"]
    assert log["perplexity"] > 4


def test_batches_are_a_pure_function_of_seed_and_step():
    config = W2vBertTaskConfig(model=tiny(), crop_s=1.6, layer=1)
    task = W2vBertTask(config, Melodies(), torch.zeros(1, 1, 38400), batch_size=2, seed=3)
    one, other, again = task.batch(5), task.batch(6), task.batch(5)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["hidden"], other["hidden"])


def test_published_size_on_meta():
    conformer = ConformerConfig(width=1024, num_heads=16, num_layers=24, ff_width=4096)
    with torch.device("meta"):
        model = W2vBert(
            W2vBertConfig(
                conformer=conformer, contrastive_layers=12, num_codebooks=1, codebook_size=1024, code_width=1024
            )
        )
    assert 560e6 < sum(p.numel() for p in model.parameters()) < 680e6
