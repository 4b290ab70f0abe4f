"""The pointer to earlier frames: a distribution, the same at once and step by step, and what it is for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import musiclm.generate.autoregressive as autoregressive
from musiclm.generate.autoregressive import decode
from musiclm.models.lm.model import TokenLM, TokenLMConfig
from musiclm.nn.sampling import Sampling
from tests.models.lm.test_depth import four_streams, make_deep
from tests.toy import SIZE


def make_pointing(num_heads: int = 2) -> TokenLM:
    """A model whose pointer has a say in half of what it predicts."""
    model = TokenLM(replace(make_deep().config, pointer_heads=num_heads)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.4, generator=torch.Generator().manual_seed(len(name)))
        model.pointer.gate_bias.zero_()
    return model


def test_it_gives_probabilities() -> None:
    model, streams = make_pointing(), four_streams(2, 12)
    with torch.no_grad():
        logits = model(*model.layout.prefix(streams), streams["semantic"])
    torch.testing.assert_close(logits.logsumexp(-1), torch.zeros(2, 4, 12), atol=1e-5, rtol=0)


def test_the_codes_of_places_that_are_pointed_to_gain() -> None:
    """Against the same model without: only codes that sounded before, and of the first frame none."""
    model, streams = make_pointing(), four_streams(2, 12)
    plain = TokenLM(replace(model.config, pointer_heads=0)).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    target = streams["semantic"]
    with torch.no_grad():
        with_it, without = (one(*model.layout.prefix(streams), target).log_softmax(-1) for one in (model, plain))
    torch.testing.assert_close(with_it[:, :, 0], without[:, :, 0])
    sounded = F.one_hot(target, SIZE).cumsum(2)[:, :, :-1] > 0
    gained = with_it[:, :, 1:] > without[:, :, 1:] + 1e-6
    assert gained.any(-1).all() and not (gained & ~sounded).any()


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_step_by_step_equals_at_once(guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With some frames given; of a guided run the rows with and without the condition each have a past."""
    model, streams = make_pointing(), four_streams(2, 10)
    target, known = streams["semantic"], 3
    layout = model.layout
    null = torch.ones(2, dtype=torch.bool)
    with torch.no_grad():
        wanted, free = model(*layout.prefix(streams), target), model(*layout.prefix(streams, null), target)
    wanted = free.lerp(wanted, guidance)
    seen: list[Tensor] = []
    forced = iter(target[:, :, known:].transpose(1, 2).flatten(1).T)

    def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
        seen.append(logits.clone())
        return logits.softmax(-1)

    monkeypatch.setattr(autoregressive, "probabilities", probabilities)
    monkeypatch.setattr(autoregressive, "draw", lambda p, u: next(forced))
    sampling = Sampling(guidance=guidance)
    codes = decode(model, {"mulan": streams["mulan"]}, 10, sampling, torch.zeros(2, 28), target[:, :, :known])
    assert len(list(codes)) == 28
    stepped = torch.stack(seen, 1).unflatten(1, (7, 4)).transpose(1, 2)
    torch.testing.assert_close(stepped, wanted[:, :, known:], atol=1e-4, rtol=1e-4)


def test_neither_later_frames_nor_higher_levels_change_anything() -> None:
    model, streams = make_pointing(), four_streams(1, 6)
    target, prefix = streams["semantic"], model.layout.prefix(streams)
    with torch.no_grad():
        before = model(*prefix, target)
        for frame in range(6):
            for level in range(4):
                other = target.clone()
                other[:, level, frame] = (other[:, level, frame] + 5) % SIZE
                same = (model(*prefix, other) == before).all(-1)[0]
                assert same[:, :frame].all() and same[: level + 1, frame].all()
                assert not same[level + 1 :, frame].any() and not same[:, frame + 1 :].any()


def repeating(batch: int, seed: int) -> dict[str, Tensor]:
    """Six frames at random, four times: the codes of the last three rounds are known, of the first not at all."""
    streams = four_streams(batch, 6, seed)
    return {**streams, "semantic": streams["semantic"].repeat(1, 1, 4)}


def test_it_learns_to_repeat_what_was_never_heard_before() -> None:
    """In as many steps as teach the same model without it nothing."""
    found = {}
    for heads in (0, 2):
        model = TokenLM(replace(make_deep(std=0).config, pointer_heads=heads))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for step in range(150):
            streams = repeating(8, step)
            loss = model.loss(streams, streams["semantic"])
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
        streams = repeating(16, 10_000)
        with torch.no_grad():
            logits = model(*model.layout.prefix(streams), streams["semantic"])
        losses = F.cross_entropy(logits.flatten(0, 2), streams["semantic"].flatten(), reduction="none").view(16, 4, 24)
        found[heads] = (float(losses[:, :, :6].mean()), float(losses[:, :, 12:].mean()))
    guess = torch.tensor(float(SIZE)).log()
    assert found[2][0] == pytest.approx(float(guess), abs=0.4), "the first round can't be known"
    assert found[2][1] < 0.5 < 2.0 < found[0][1]


def test_it_begins_with_almost_no_effect() -> None:
    plain = make_deep()
    pointing = TokenLM(replace(plain.config, pointer_heads=2)).eval()
    pointing.load_state_dict(plain.state_dict(), strict=False)
    streams = four_streams(2, 8)
    with torch.no_grad():
        before, after = (
            model(*plain.layout.prefix(streams), streams["semantic"]).softmax(-1) for model in (plain, pointing)
        )
    assert 0 < float((before - after).abs().max()) < 0.1


def test_settings_are_checked() -> None:
    config = make_deep(depth_width=0).config
    for heads, depth in ((-1, 8), (1, 0)):
        with pytest.raises(ValueError, match=f"pointer_heads is {heads}"):
            TokenLMConfig(
                stage="semantic", transformer=config.transformer, specs=config.specs, depth_width=depth,
                pointer_heads=heads,
            )  # fmt: skip
