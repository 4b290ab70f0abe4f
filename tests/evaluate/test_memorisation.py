import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from musiclm.evaluate.memorisation import (
    code_distances,
    code_entropy_bits,
    compare,
    continue_greedily,
    memorisation,
    transport_cost,
)
from musiclm.models.lm.model import TokenLM, TokenLMConfig
from musiclm.nn.transformer import TransformerConfig
from tests.models.lm.test_depth import four_streams, make_deep
from tests.toy import SIZE, SPECS, from_ids


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


def test_distances_of_codes_by_level() -> None:
    codebooks = np.random.default_rng(3).standard_normal((2, 5, 3)) * np.array([1.0, 7.0])[:, None, None]
    cost = code_distances(codebooks)
    assert cost.shape == (10, 10) and np.allclose(cost, cost.T) and not cost.diagonal().any()
    for level in range(2):
        own = cost[5 * level : 5 * level + 5, 5 * level : 5 * level + 5]
        wanted = np.linalg.norm(codebooks[level][:, None] - codebooks[level][None], axis=2)
        assert np.allclose(own, wanted / wanted[~np.eye(5, dtype=bool)].mean()), "levels of any scale count alike"
    assert (cost[:5, 5:] > 3 * cost[:5, :5].max()).all(), "a code is never taken for one of another level"
    # so moving the codes of a clip is moving each level's for itself
    rng = np.random.default_rng(4)
    a, b = (np.stack([rng.integers(0, 5, 50), 5 + rng.integers(0, 5, 50)]) for _ in range(2))
    apart = [transport_cost(x, y, cost) for x, y in zip(a, b, strict=True)]
    assert transport_cost(a.ravel(), b.ravel(), cost) == pytest.approx(np.mean(apart), rel=0.05, abs=0.005)


@pytest.mark.parametrize("depth_width", [0, 24])
def test_the_study_on_frames_of_four_codes(depth_width: int) -> None:
    """A model's own greedy music is what it gives back, and random codes are not."""
    model = make_deep(depth_width=depth_width)
    own = four_streams(3, 75)
    mulan = torch.tensor([0, 1, 2])[:, None, None].expand(3, 2, 1)
    stolen = own["semantic"].clone()
    made = continue_greedily(model, mulan, stolen[:, :, :12], 62)
    stolen[:, :, 12:74] = from_ids(made, model.layout.target_spec)
    codebooks = np.random.default_rng(0).standard_normal((4, SIZE, 4))
    clips = {"train": (stolen, mulan), "test": (own["semantic"], mulan)}
    found = memorisation(model, clips, codebooks, prompt_s=(0.96,))
    assert [(row.split, row.prompt_s, row.exact) for row in found] == [("train", 0.96, 1), ("test", 0.96, 0)]
