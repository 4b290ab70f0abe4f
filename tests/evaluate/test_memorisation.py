import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from musiclm.evaluate.memorisation import code_entropy_bits, compare, memorisation, transport_cost
from musiclm.models.lm.model import TokenLM, TokenLMConfig
from musiclm.nn.transformer import TransformerConfig
from tests.toy import SIZE, SPECS


def ground(v: int = 16, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((v, 4))
    cost = np.linalg.norm(points[:, None] - points[None], axis=2)
    return cost / cost[~np.eye(v, dtype=bool)].mean()


def test_transport_is_the_linear_programs() -> None:
    rng, cost = np.random.default_rng(0), ground()
    a, b = rng.integers(0, 8, 125), rng.integers(4, 16, 125)
    p, q = (np.bincount(x, minlength=16) / 125 for x in (a, b))
    rows = [np.eye(16)[i][:, None].repeat(16, 1).ravel() for i in range(16)]
    columns = [np.eye(16)[i][None].repeat(16, 0).ravel() for i in range(16)]
    best = linprog(cost.ravel(), A_eq=np.array(rows + columns), b_eq=np.concatenate([p, q])).fun
    assert transport_cost(a, b, cost) == pytest.approx(best, rel=0.03)
    assert transport_cost(a, a, cost) < 0.01


def test_a_thief_and_a_composer() -> None:
    rng, cost = np.random.default_rng(1), ground()
    # each clip uses four codes of its own
    true = np.stack([rng.choice(rng.permutation(16)[:4], 125) for _ in range(20)])
    thief, near = compare({"train": (true.copy(), true), "test": (np.roll(true, 3, axis=1), true)}, cost, 1.0)
    assert (thief.split, thief.exact, thief.approximate) == ("train", 1, 1) and thief.entropy_bits > 1.5
    assert (near.split, near.exact, near.approximate) == ("test", 0, 1), "other order, same codes"
    made = np.stack([rng.choice(rng.permutation(16)[:4], 125) for _ in range(20)])
    composer, thief = compare({"train": (made, true), "test": (true.copy(), true)}, cost, 1.0)
    assert composer.exact == 0 and composer.approximate <= 0.2
    assert composer.threshold == thief.threshold, "what counts as near does not depend on the split"


def test_entropy_by_hand() -> None:
    assert code_entropy_bits(np.array([1, 1, 2, 2])) == 1 and code_entropy_bits(np.array([5, 5])) == 0


def test_the_study_on_a_small_model() -> None:
    torch.manual_seed(0)
    transformer = TransformerConfig(width=16, num_layers=1, num_heads=2, ff_width=32, dropout=0.0)
    model = TokenLM(TokenLMConfig(stage="semantic", transformer=transformer, specs=SPECS, mulan_levels=2)).eval()
    semantic, mulan = torch.randint(0, SIZE, (4, 1, 200)), torch.randint(0, 4, (4, 2, 1))
    codebooks = np.random.default_rng(0).standard_normal((1, SIZE, 4))
    found = memorisation(model, {"train": (semantic, mulan), "test": (semantic, mulan)}, codebooks, prompt_s=(0, 2))
    assert [(row.split, row.prompt_s, row.num_clips, row.exact) for row in found] == [
        ("train", 0, 4, 0),
        ("test", 0, 4, 0),
        ("train", 2, 4, 0),
        ("test", 2, 4, 0),
    ]
    with pytest.raises(ValueError, match="4 clips of 200 frames in train; wanted two or more of 375"):
        memorisation(model, {"train": (semantic, mulan)}, np.zeros((1, SIZE, 4)))
