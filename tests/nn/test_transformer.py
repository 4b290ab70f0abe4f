import math

import pytest
import torch

from musiclm.nn.transformer import StaticStep, Transformer, TransformerConfig, t5_bucket


def make(positions: str, **changes: int | float) -> Transformer:
    values = {"width": 16, "num_layers": 2, "num_heads": 2, "ff_width": 24, "dropout": 0.0, **changes}
    model = Transformer(TransformerConfig(positions=positions, **values)).eval()  # type: ignore[arg-type]
    if positions == "t5":
        torch.nn.init.normal_(model.distance_bias.weight)
    return model


BOTH = pytest.mark.parametrize("positions", ["rotary", "t5"])


@BOTH
def test_going_back_to_an_earlier_length_forgets_what_came_after(positions: str) -> None:
    model, x, where = make(positions), torch.randn(1, 6, 16), torch.arange(6.0)
    _, early = model(x[:, :3], where[:3], model.new_cache(1, 6))
    first, _ = model(x[:, 3:], where[3:], early)
    model(torch.full((1, 3, 16), 9.0), where[3:], early)
    second, _ = model(x[:, 3:], where[3:], early)
    assert torch.equal(first, second)


def test_rotary_depends_on_differences_of_positions_only() -> None:
    model, x = make("rotary"), torch.randn(1, 6, 16)
    where = torch.tensor([-4.0, -3.5, 0, 1, 2, 7])
    torch.testing.assert_close(model(x, where)[0], model(x, where + 50)[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(model(x, where)[0], model(x, where * 2)[0], atol=1e-3)


def test_t5_buckets_are_those_of_t5() -> None:
    """Against the published rule, written out for one distance at a time."""

    def naive(distance: int) -> int:
        if distance < 16:
            return distance
        return min(31, 16 + int(math.log(distance / 16) / math.log(128 / 16) * 16))

    distances = torch.arange(400)
    assert t5_bucket(distances, 32, 128).tolist() == [naive(int(d)) for d in distances]


def test_one_layer_against_plain_matrices() -> None:
    """The whole computation of a single-head layer without positions, in a dozen lines."""
    model, x = make("rotary", num_layers=1, num_heads=1), torch.randn(1, 5, 16)
    layer = model.layers[0]

    def norm(v: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return v / v.square().mean(-1, keepdim=True).sqrt() * weight

    q, k, v = (norm(x[0], layer.attention_norm.weight) @ layer.qkv.weight.T).split(16, -1)
    logits = (q @ k.T / 4).masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
    h = x[0] + logits.softmax(-1) @ v @ layer.attention_out.weight.T
    gate, up = (norm(h, layer.ff_norm.weight) @ layer.gate_up.weight.T).split(24, -1)
    h = h + (gate * gate.sigmoid() * up) @ layer.ff_out.weight.T
    hidden, _ = model(x, torch.zeros(5))
    torch.testing.assert_close(hidden[0], norm(h, model.norm.weight), atol=1e-5, rtol=1e-5)


def test_golden() -> None:
    """A seeded model keeps its output; regenerate by printing hidden[0, -1, :4]."""
    torch.manual_seed(7)
    model = make("rotary")
    x = torch.linspace(-1, 1, 64).view(1, 4, 16)
    hidden, _ = model(x, torch.arange(4.0))
    torch.testing.assert_close(hidden[0, -1, :4], torch.tensor(GOLDEN), atol=1e-4, rtol=1e-4)


GOLDEN = [0.6591, 0.8125, 0.7211, 0.7421]


def test_a_cache_that_is_too_short_says_so() -> None:
    model = make("rotary")
    with pytest.raises(ValueError, match="exceed the cache of 3"):
        model(torch.randn(1, 4, 16), torch.arange(4.0), model.new_cache(1, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"width": 18, "num_heads": 6}, "even size"), ({"dropout": 1.0}, "dropout"), ({"num_layers": 0}, "num_layers")],
)
def test_bad_sizes_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("rotary", **changes)


@BOTH
@torch.inference_mode()
def test_steps_of_fixed_shape_are_those_of_the_cache(positions: str) -> None:
    """Also where the buffers hold rubbish before they are filled."""
    model, x, where = make(positions), torch.randn(2, 9, 16), torch.linspace(0, 3, 9)
    plain, fixed = model.new_cache(2, 9), model.new_cache(2, 9)
    for buffer in (fixed.keys, fixed.values):
        buffer.fill_(float("nan"))
    (_, known), (_, held) = (model(x[:, :4], where[:4], cache) for cache in (plain, fixed))
    assert known is not None and held is not None
    step = StaticStep(model, held)
    for place in range(4, 9):
        part, at = x[:, place : place + 1], where[place : place + 1]
        wanted, known = model(part, at, known)
        found, held = step(part, at, held)
        torch.testing.assert_close(found, wanted)
        assert known is not None and held.length == known.length == place + 1
    with pytest.raises(AssertionError):
        step(part, at, held)
