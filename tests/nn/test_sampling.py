import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.nn.sampling import Sampling, draw, probabilities, uniforms


def naive(logits: list[float], temperature: float, top_k: int | None, top_p: float) -> list[float]:
    """Temperature, top-k, top-p on plain lists."""
    weights = [math.exp((value - max(logits)) / temperature) for value in logits]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    kept = order[: top_k or len(order)]
    total = sum(weights[i] for i in kept)
    chosen, reached = [], 0.0
    for i in kept:
        if reached >= top_p:
            break
        chosen.append(i)
        reached += weights[i] / total
    left = sum(weights[i] for i in chosen)
    return [weights[i] / left if i in chosen else 0.0 for i in range(len(weights))]


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.integers(-40, 40), min_size=2, max_size=12, unique=True),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.one_of(st.none(), st.integers(1, 15)),
    top_p=st.sampled_from([0.11, 0.53, 0.97, 1.0]),
)
def test_filters_against_a_naive_oracle(values: list[int], temperature: float, top_k: int | None, top_p: float) -> None:
    logits = torch.tensor(values, dtype=torch.float64) / 10
    p = probabilities(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    wanted = torch.tensor(naive(logits.tolist(), temperature, top_k, top_p), dtype=torch.float64)
    torch.testing.assert_close(p / p.sum(), wanted)


def test_temperature_zero_takes_the_likeliest() -> None:
    p = probabilities(torch.tensor([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0]]), Sampling(temperature=0.0))
    assert p.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_draws_follow_the_distribution() -> None:
    p = torch.tensor([0.1, 0.0, 0.6, 0.3])
    codes = draw(p.expand(20000, 4), torch.rand(20000, generator=torch.Generator().manual_seed(0)))
    share = torch.bincount(codes, minlength=4) / 20000
    assert share[1] == 0 and torch.allclose(share, p, atol=0.015)


@settings(max_examples=100, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0.0, 1e-20, 0.3, 1.0, 7.0]), min_size=1, max_size=6).filter(any),
    u=st.sampled_from([0.0, 1e-9, 0.5, 1 - 2**-24]),
)
def test_a_draw_never_has_no_probability(weights: list[float], u: float) -> None:
    code = int(draw(torch.tensor(weights), torch.tensor(u)))
    assert weights[code] > 0


def test_numbers_of_an_item_do_not_depend_on_the_batch() -> None:
    def g(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    assert torch.equal(uniforms([g(1), g(2)], 50, torch.device("cpu"))[1:], uniforms([g(2)], 50, torch.device("cpu")))


@pytest.mark.parametrize("values", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"guidance": float("nan")}])
def test_bad_settings_are_refused(values: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Sampling(**values)
