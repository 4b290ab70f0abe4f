import pytest
import torch
from torch import Tensor

from musiclm.models.storm.frames import FrameDrawer, FrameHistory
from tests.away import AWAY, AwayDevice
from tests.models.storm.test_model import SERIES, make


@pytest.mark.parametrize("known", ["both", "before", "none"])
@pytest.mark.parametrize(("code_width", "autocast"), [(0, False), (6, False), (6, True)])
def test_logits_are_those_of_the_model(code_width: int, autocast: bool, known: str) -> None:
    """`depth_logits` and `depth_state` are the slow way. Every weight is random, so that nothing folded may be lost."""
    model = make(depth_width=24, code_width=code_width, series=SERIES)
    generator = torch.Generator().manual_seed(1)
    for weight in (*model.depth.parameters(), model.head_bias):
        weight.data.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    state = torch.randn(3, 16, generator=generator)
    earlier, later, drawn = torch.randint(0, 16, (3, 3, 12), generator=generator)
    if known != "both":
        later[:] = model.mask_code
        later[0, 2] = 5  # a level of one item alone
    if known == "none":
        earlier[:] = model.mask_code
    seen: list[Tensor] = []

    def choose(level: int, logits: Tensor) -> Tensor:
        assert len(seen) == level
        seen.append(logits.clone())
        return drawn[:, level]

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(FrameDrawer(model)(state, earlier, later, choose), drawn)
    with torch.inference_mode():
        for level in range(12):
            other, back = model.config.before[level]
            beside = ((earlier if back else drawn)[:, other], later[:, model.config.after[level]])
            torch.testing.assert_close(seen[level][:, :-1], model.depth_logits(state, level, beside))
            assert seen[level][:, -1].eq(float("-inf")).all(), "no code is never drawn"
            state = model.depth_state(state, level, drawn[:, level])


def test_what_was_drawn_decides_what_follows() -> None:
    """In its own item: the draws of one never reach another."""
    model = make(depth_width=24, series=SERIES)
    state, edge = torch.randn(2, 16), torch.full((2, 12), model.mask_code)

    def logits_after(first: int) -> list[Tensor]:
        seen: list[Tensor] = []

        def choose(level: int, logits: Tensor) -> Tensor:
            seen.append(logits.clone())
            return torch.tensor([1, 2 if level else first])

        with torch.inference_mode():
            FrameDrawer(model)(state, edge, edge, choose)
        return seen

    one, two = logits_after(3), logits_after(4)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))
    assert torch.equal(one[0], two[0]) and not torch.allclose(one[1][1], two[1][1])


@pytest.mark.parametrize("code_width", [0, 6])
@torch.inference_mode()
def test_history_is_that_of_the_model(code_width: int) -> None:
    """Frame by frame, after some that were read at once."""
    model = make(depth_width=24, code_width=code_width, series=SERIES, history_layers=2)
    generator = torch.Generator().manual_seed(1)
    for weight in (*model.history.parameters(), model.history_out.weight):
        weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    hidden = torch.randn(2, 7, 16, generator=generator)
    before = model.frames_before(torch.randint(0, 16, (2, 12, 7), generator=generator))
    wanted, _ = model.with_history(hidden, before)
    _, cache = model.with_history(hidden[:, :3], before[:, :, :3], 0, model.history.new_cache(2, 7))
    assert cache is not None
    history = FrameHistory(model)
    step = history.begin(cache)
    for frame in range(3, 7):
        state, cache = history(hidden[:, frame], before[:, :, frame], frame, cache, step)
        torch.testing.assert_close(state, wanted[:, frame])


@torch.inference_mode()
def test_on_another_device() -> None:
    model = make(depth_width=24, code_width=6, series=SERIES)
    state, edge = torch.randn(2, 16), torch.full((2, 12), model.mask_code)
    here = FrameDrawer(model)(state, edge, edge, lambda level, logits: logits.argmax(-1))
    with AwayDevice():
        model.to(AWAY)
        drawer = FrameDrawer(model)
        there = drawer(state.to(AWAY), edge.to(AWAY), edge.to(AWAY), lambda level, logits: logits.argmax(-1))
        assert there.device == AWAY and torch.equal(there.cpu(), here)
