"""Ranks against a naive count; the gap of made-up cones is found and closed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from musiclm.models.mulan.gap import (
    TowerOutputs,
    fit_quantizer,
    fit_space,
    gap_of,
    rank_of_pair,
    retrieval,
)
from musiclm.nn.rvq import ResidualVQ
from tests.models.mulan.test_model import small_model


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 12), st.integers(0, 1000))
def test_ranks_equal_a_naive_count(n, seed):
    generator = torch.Generator().manual_seed(seed)
    queries, candidates = torch.randn(n, 4, generator=generator), torch.randn(n, 4, generator=generator)
    similarity = (queries @ candidates.T).tolist()
    naive = [sorted(row, reverse=True).index(row[i]) + 1 for i, row in enumerate(similarity)]
    assert rank_of_pair(queries, candidates).tolist() == naive


def test_perfect_constant_and_guessed():
    eye = torch.eye(20)
    perfect = retrieval(eye, eye)
    assert (perfect.recall_1, perfect.recall_10, perfect.median_rank) == (1.0, 1.0, 1.0)
    flat = retrieval(torch.ones(20, 3), torch.ones(20, 3))  # a collapsed model must not look good
    assert flat.recall_1 == 0.0 and flat.median_rank == pytest.approx(flat.baseline_median_rank, abs=1)
    assert (flat.baseline_recall_1, flat.baseline_recall_10) == (0.05, 0.5)


def test_closing_the_gap_of_two_cones():
    """Audio and text features of the same topics, each modality with an offset of its own, through random heads."""
    model = small_model()
    generator = torch.Generator().manual_seed(0)
    topics = torch.randn(10, 16, generator=generator)
    topic = torch.arange(300) % 10

    def side(offset, width, seed):
        noise = torch.randn(300, 16, generator=torch.Generator().manual_seed(seed)) * 0.3
        rows = topics[topic] + noise + offset * torch.ones(16)
        return F.pad(rows, (0, width - 16))

    audio, text = side(1.5, 32, 1), side(-1.5, 16, 2)
    with torch.no_grad():
        model.audio.head.weight.copy_(torch.eye(16, 32))
        model.audio.head.bias.zero_()
        model.text.linear.weight.copy_(torch.eye(16))
        model.text.linear.bias.zero_()
        model.text.down.weight.zero_()
        model.text.down.bias.zero_()
    model.text.norm = torch.nn.Identity()
    train, held = TowerOutputs(audio[:200], text[:200]), TowerOutputs(audio[200:], text[200:])
    figures = fit_space(model, train, text[:0], audio[:0], [str(i // 4) for i in range(200)], held)
    before, after = figures["before"], figures["after"]
    assert after["mean_distance"] < 0.5 * before["mean_distance"]
    assert after["paired_cosine"] > before["paired_cosine"] + 0.2
    assert after["agreement"][0] > before["agreement"][0] and after["agreement"][0] > 3 * after["agreement_shuffled"][0]
    assert after["decoded_cosine"] > after["decoded_cosine_shuffled"] + 0.2


def test_gap_of_a_modality_with_itself_is_none():
    model = small_model()
    vectors = F.normalize(torch.randn(30, 16), dim=-1)
    gap = gap_of(model, vectors, vectors)
    assert gap.mean_distance == 0 and gap.paired_cosine == pytest.approx(1)
    assert gap.agreement == [1.0, 1.0, 1.0]


def test_quantizer_is_as_coarse_as_the_data_asks_for():
    rvq = ResidualVQ(dim=4, codebook_size=64, levels=4)
    rows = torch.randn(640, 4, generator=torch.Generator().manual_seed(0))
    assert fit_quantizer(rvq, rows, rows_per_code=64) == [10, 20, 40, 64]
    codes = rvq.encode(rows)
    assert [int(codes[:, level].max()) < size for level, size in enumerate((10, 20, 40, 64))] == [True] * 4
    errors = [float((rows - rvq.decode(codes[:, :n])).square().mean()) for n in range(1, 5)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]
