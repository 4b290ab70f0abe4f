"""Parts of a batch: what each says of the whole, its gradients, its random numbers, its codebooks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from musiclm.models.mulan.model import contrastive_loss
from musiclm.nn.parts import WHOLE, BatchPart, Work, draw, draw_once, gather, mean, own_batches, through, total, working
from musiclm.nn.rvq import ResidualVQ

ROWS, COUNT = 12, 3


def in_parts(loss: Callable[[slice], Tensor]) -> tuple[list[Tensor], Work]:
    """The loss of each part of ROWS rows, by two passes."""
    work = Work(BatchPart(count=COUNT), 0, COUNT, seed=7)
    found = []
    with working(work):
        for replay in (False, True):
            found = []
            for micro in range(COUNT):
                work.begin(micro, own_seed=micro, replay=replay)
                with torch.set_grad_enabled(replay):
                    found.append(loss(work.part.rows(ROWS)))
    return found, work


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(ROWS, 5, requires_grad=True)


@pytest.mark.parametrize("name", ["total", "mean", "gather"])
def test_gradients_are_those_of_the_whole(name: str, rows: Tensor) -> None:
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "total": lambda x: total(x.square().sum(0)).sqrt().sum(),
        "mean": lambda x: torch.special.entr(mean(x.softmax(1).mean(0))).sum(),
        "gather": lambda x: (
            contrastive_loss(
                gather(x), gather(x.flip(1)), torch.tensor(1.0), torch.zeros(ROWS, ROWS, dtype=torch.bool)
            ).loss
        ),
    }
    whole = losses[name](rows)
    (expected,) = torch.autograd.grad(whole, rows)
    found, _ = in_parts(lambda part: losses[name](rows[part]))
    for one in found:
        torch.testing.assert_close(one, whole)
    (gradient,) = torch.autograd.grad(torch.stack(found).mean(), rows)
    torch.testing.assert_close(gradient, expected)


def test_random_numbers_are_drawn_for_the_whole_in_the_order_of_the_calls() -> None:
    def drawn(part: slice) -> Tensor:
        own = torch.rand(1)  # of the part alone, in between
        first = draw(lambda num: torch.rand(num, 2), part.stop - part.start)
        return torch.cat([first, draw_once(lambda: torch.rand(1, 2)), own.expand(1, 2)])

    found, _ = in_parts(drawn)
    torch.manual_seed(7)
    whole, once = torch.rand(ROWS, 2), torch.rand(1, 2)
    assert torch.equal(torch.cat([one[:-2] for one in found]), whole)
    assert all(torch.equal(one[-2:-1], once) for one in found)
    assert len({float(one[-1, 0]) for one in found}) == COUNT


def test_weights_make_means_of_the_whole() -> None:
    real = torch.tensor([5, 1, 1, 1, 7, 0, 0, 3, 2, 2, 2, 9])
    values = torch.randn(ROWS, 10)
    mask = torch.arange(10) < real[:, None]
    parts = [BatchPart(index=index, count=COUNT) for index in range(COUNT)]
    means = [values[p.rows(ROWS)][mask[p.rows(ROWS)]].mean() * p.weight(real)["weight"] for p in parts]
    torch.testing.assert_close(torch.stack(means).mean(), values[mask].mean())
    assert WHOLE.weight(real) == {}


def test_codebooks_move_once_by_the_rows_of_all() -> None:
    torch.manual_seed(0)
    data = torch.randn(ROWS, 4, 6)
    one = ResidualVQ(dim=4, codebook_size=3, levels=2, dead_below=0.0)
    one.fit_kmeans(data.transpose(1, 2).flatten(0, 1))
    other = ResidualVQ(dim=4, codebook_size=3, levels=2, dead_below=0.0)
    other.load_state_dict(one.state_dict())
    before = other.codebooks.clone()
    whole = one(data)
    found, work = in_parts(lambda part: other(data[part]).output)
    assert torch.equal(other.codebooks, before), "not before the last part is through"
    for finish in work.pending:
        finish()
    torch.testing.assert_close(torch.cat(found), whole.output)
    torch.testing.assert_close(other.codebooks, one.codebooks)
    torch.testing.assert_close(other.counts, one.counts)


def test_without_parts_calls_are_plain(rows: Tensor) -> None:
    assert total(rows) is rows and mean(rows) is rows and gather(rows) is rows
    assert draw(lambda num: torch.full((num,), 3), 2).tolist() == [3, 3]
    assert own_batches(2) == [(0, WHOLE), (1, WHOLE)]
    assert through(nn.Linear(1, 1), lambda a, b: a + b, 1, 2) == 3


def test_rows_of_parts_tile_the_batch() -> None:
    parts = [BatchPart(index=index, count=COUNT).rows(ROWS) for index in range(COUNT)]
    assert [row for part in parts for row in range(ROWS)[part]] == list(range(ROWS))
    with pytest.raises(AssertionError, match="do not divide"):
        BatchPart(count=5).rows(ROWS)
