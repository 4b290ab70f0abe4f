"""What is particular to the Conformer; `tests/test_streaming.py` holds the contract of layers with a time axis."""

import pytest
import torch

from musiclm.nn.conformer import Conformer, ConformerConfig


def small(**changes) -> ConformerConfig:
    fields = dict(width=16, num_heads=2, num_layers=2, ff_width=32, kernel=3, dropout=0.0) | changes
    return ConformerConfig(**fields)


def build(config: ConformerConfig) -> Conformer:
    torch.manual_seed(0)
    return Conformer(config).eval()


def test_not_causal_sees_the_future():
    model = build(small())
    x = torch.randn(1, 9, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad((model(x)[0, 0] * torch.randn(16)).sum(), x)
    assert (gradient[0].abs().sum(-1) > 1e-7).all()


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
