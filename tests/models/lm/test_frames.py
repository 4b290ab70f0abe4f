"""Frames in few operations beside the model's own logits."""

from dataclasses import replace

import pytest
import torch

import musiclm.generate.autoregressive as autoregressive
from musiclm.models.lm.frames import Frames, LeanLM
from musiclm.models.lm.model import TokenLM
from musiclm.nn.sampling import Sampling
from tests.models.lm.test_depth import four_streams, make_deep
from tests.models.lm.test_pointer import make_pointing


def lively(pointer_heads: int) -> TokenLM:
    """Norms, offsets, gates and sentinels at random too, so that nothing folded may be lost."""
    model = make_pointing(pointer_heads) if pointer_heads else make_deep()
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        if weight.ndim == 1 or len(weight) == 4:
            weight.data.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return model


@pytest.mark.parametrize("known", [0, 3])
@pytest.mark.parametrize("pointer_heads", [0, 1, 2])
@torch.inference_mode()
def test_logits_are_those_of_the_model(pointer_heads: int, known: int) -> None:
    """Of codes that are forced, each given all before it; two rows, each with its own."""
    model, streams, num = lively(pointer_heads), four_streams(2, 8), 8
    target, layout = streams["semantic"], model.layout
    prefix, positions = layout.prefix(streams)
    wanted = model(prefix, positions, target)
    x = torch.cat([model.embed(prefix), model.embed_codes(target[:, :, :known])], 1)
    cache = model.transformer.new_cache(2, prefix.shape[1] + num)
    positions = torch.cat([positions, layout.target_positions(0, known, x.device)])
    hidden, moved = model.transformer(x, positions, cache)
    assert moved is not None
    frames = Frames(LeanLM(model), moved, hidden[:, prefix.shape[1] - 1 :], target[:, :, :known], num)
    for frame in range(known, num):
        for level in range(4):
            torch.testing.assert_close(frames.logits(level), wanted[:, level, frame], atol=1e-5, rtol=1e-4)
            if frame + 1 < num or level < 3:
                frames.observe(level, target[:, level, frame])


@pytest.mark.parametrize("pointer_heads", [0, 2])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_codes_are_those_of_the_plain_way(pointer_heads: int, guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws: what differs are last bits, which decide one draw in a million."""
    model, streams, u = lively(pointer_heads), four_streams(2, 8), torch.rand(2, 80)

    def drawn(lean: LeanLM | None = None) -> torch.Tensor:
        told = {"mulan": streams["mulan"]}
        steps = autoregressive.decode(model, told, 20, Sampling(guidance=guidance), u, lean=lean)
        return torch.stack(list(steps), 1)

    by_frames = drawn()
    assert torch.equal(by_frames, drawn(LeanLM(model))), "made once or each time"
    monkeypatch.setattr(LeanLM, "fits", lambda model: False)
    assert torch.equal(by_frames, drawn())


def test_where_there_are_none() -> None:
    assert LeanLM.fits(make_deep())
    flat = make_deep(depth_width=0)
    assert not LeanLM.fits(flat)
    t5 = replace(make_deep().config, transformer=replace(flat.config.transformer, positions="t5"))
    assert not LeanLM.fits(TokenLM(t5))
