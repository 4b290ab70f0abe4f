"""Contract of the Conformer: causal by gradient, padding never leaks, batch equals single."""

import pytest
import torch

from musiclm.nn.conformer import Conformer, ConformerConfig


def small(**changes) -> ConformerConfig:
    fields = dict(width=16, num_heads=2, num_layers=2, ff_width=32, kernel=3, dropout=0.0) | changes
    return ConformerConfig(**fields)


def build(config: ConformerConfig) -> Conformer:
    torch.manual_seed(0)
    return Conformer(config).eval()


@pytest.mark.parametrize("kernel", [3, 4])
def test_causal_by_gradient(kernel):
    model = build(small(causal=True, kernel=kernel))
    x = torch.randn(1, 9, 16, requires_grad=True)
    weights = torch.randn(16)  # a plain sum is constant behind the last LayerNorm
    (gradient,) = torch.autograd.grad((model(x)[0, 4] * weights).sum(), x)
    touched = gradient[0].abs().sum(-1) > 1e-7
    assert touched[:5].all() and not touched[5:].any()


def test_not_causal_sees_the_future():
    model = build(small())
    x = torch.randn(1, 9, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad((model(x)[0, 0] * torch.randn(16)).sum(), x)
    assert (gradient[0].abs().sum(-1) > 1e-7).all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_never_leaks(causal, side):
    model = build(small(causal=causal))
    x = torch.randn(1, 7, 16)
    junk = torch.full((1, 4, 16), float("nan"))
    real, pad = torch.ones(1, 7, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)
    pair = ((x, junk), (real, pad)) if side == "right" else ((junk, x), (pad, real))
    padded, mask = (torch.cat(part, dim=1) for part in pair)
    out = model(padded, mask)
    torch.testing.assert_close(out[mask][None], model(x), atol=1e-5, rtol=1e-4)
    assert (out[~mask] == 0).all()


def test_batch_equals_single_and_an_empty_row_does_no_harm():
    model = build(small())
    x = torch.randn(3, 8, 16)
    mask = torch.ones(3, 8, dtype=torch.bool)
    mask[1, 5:] = False
    mask[2] = False
    out = model(x, mask)
    torch.testing.assert_close(out[0], model(x[:1])[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out[1, :5], model(x[1:2, :5])[0], atol=1e-5, rtol=1e-4)
    assert (out[2] == 0).all()


def test_batch_equals_single_in_training_mode():
    model = build(small()).train()  # dropout 0: only a norm over the batch could tell items apart
    x = torch.randn(3, 8, 16)
    torch.testing.assert_close(model(x)[1], model(x[1:2])[0], atol=1e-5, rtol=1e-4)


def test_layers_are_prefixes_of_the_stack():
    model = build(small(num_layers=3))
    x = torch.randn(2, 6, 16)
    states = model.hidden_states(x)
    assert len(states) == 4
    for layer, state in enumerate(states):
        torch.testing.assert_close(model(x, return_layer=layer), state)
    with pytest.raises(ValueError, match="layer 4"):
        model(x, return_layer=4)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"width": 18, "num_heads": 4}, "width 18"),
        ({"kernel": 4}, "kernel 4"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_layers": 0}, "num_layers"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_published_sizes_on_meta():
    with torch.device("meta"):
        model = Conformer(
            ConformerConfig(width=1024, num_heads=16, num_layers=24, ff_width=4096, kernel=5, dropout=0.1)
        )
        out = model(torch.empty(1, 25, 1024))
    assert out.shape == (1, 25, 1024)
    assert 560e6 < sum(p.numel() for p in model.parameters()) < 640e6
