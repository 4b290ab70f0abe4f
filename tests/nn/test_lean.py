import pytest
import torch

from musiclm.nn.lean import LeanStep, LeanTransformer
from musiclm.nn.transformer import Transformer, TransformerConfig
from tests.nn.test_transformer import make


def lively(**changes: int | float) -> Transformer:
    """Every weight at random, so that nothing that is folded into another may be lost."""
    model = make("rotary", **changes)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return model


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("known", [1, 4])
@torch.inference_mode()
def test_steps_are_those_of_the_transformer(batch: int, known: int) -> None:
    """Also where the buffers hold rubbish before they are filled, and at positions that are no places."""
    model, x, where = lively(), torch.randn(batch, 9, 16), torch.linspace(0, 3, 9)
    plain, lean = model.new_cache(batch, 9), model.new_cache(batch, 9)
    for buffer in (lean.keys, lean.values):
        buffer.fill_(float("nan"))
    (_, read), (_, held) = (model(x[:, :known], where[:known], cache) for cache in (plain, lean))
    assert read is not None and held is not None
    step = LeanStep(LeanTransformer(model), held)
    for place in range(known, 9):
        part, at = x[:, place : place + 1], where[place : place + 1]
        wanted, read = model(part, at, read)
        found, held = step(part, at, held)
        torch.testing.assert_close(found, wanted)
        assert read is not None and held.length == read.length == place + 1
    torch.testing.assert_close(held.keys, read.keys)
    torch.testing.assert_close(held.values, read.values)


@torch.inference_mode()
def test_nothing_is_normalised_to_nothing() -> None:
    """As by `RMSNorm`, which divides zeros by its smallest length."""
    model = lively()
    cache = model.new_cache(1, 2)
    hidden, _ = LeanStep(LeanTransformer(model), cache)(torch.zeros(1, 1, 16), torch.zeros(1), cache)
    wanted, _ = model(torch.zeros(1, 1, 16), torch.zeros(1), model.new_cache(1, 2))
    torch.testing.assert_close(hidden, wanted)


def test_where_there_is_none() -> None:
    model = lively()
    assert LeanTransformer.fits(model)
    assert not LeanTransformer.fits(make("t5"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not LeanTransformer.fits(model)
    with torch.device("meta"):
        away = Transformer(TransformerConfig(width=16, num_layers=1, num_heads=2, ff_width=24))
    assert not LeanTransformer.fits(away)
    assert not LeanTransformer.fits(model.double())
