"""Language models that read whole frames of several levels, beside those that read id by id."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from musiclm.core.artifact import save_artifact
from musiclm.generate.autoregressive import decode
from musiclm.models.lm.model import KIND, TokenLM, TokenLMConfig
from musiclm.nn.sampling import Sampling
from musiclm.nn.transformer import TransformerConfig
from tests.toy import SIZE, SPECS, random_streams

FOUR = (SPECS[0], replace(SPECS[1], levels=4, frame_rate_hz=12.5), SPECS[2])
CROP_S = 2.0  # 25 frames


def make_deep(stage: str = "semantic", depth_width: int = 24, std: float = 0.4) -> TokenLM:
    """A model whose semantic frames have four codes; `std` 0 leaves its weights as they begin."""
    torch.manual_seed(5)
    transformer = TransformerConfig(width=16, num_layers=2, num_heads=2, ff_width=24, dropout=0.0)
    config = TokenLMConfig(
        stage=stage, transformer=transformer, mulan_levels=2, specs=FOUR, depth_width=depth_width, crop_s=CROP_S
    )
    model = TokenLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if std and weight.ndim > 1:
                weight.normal_(std=std)  # so that what is read matters to what is predicted
    return model


def four_streams(batch: int, frames: int, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        **random_streams(batch, 2 * frames, seed),
        "semantic": torch.randint(0, SIZE, (batch, 4, frames), generator=g),
    }


STAGES = pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])


def test_a_frame_is_one_place() -> None:
    deep, flat = make_deep().layout, make_deep(depth_width=0).layout
    assert [layout.places_per_frame for layout in (deep, flat)] == [1, 4]
    assert [layout.places_per_second for layout in (deep, flat)] == [12.5, 50.0]
    assert deep.target_spec.levels == 4 and deep.crop_frames() == flat.crop_frames() == 25
    assert deep.num_ids == flat.num_ids
    # a condition's frame stands where the target's frame of that moment does: 50 Hz against 12.5
    _, positions = make_deep("coarse").layout.prefix(four_streams(1, 2))
    assert positions[4:-1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7], "four codes a semantic frame of four acoustic ones"


@STAGES
def test_logits_at_once_equal_those_of_decoding_step_by_step(stage: str) -> None:
    """A frame's levels in turn by `state_after`, frames by the cache, in pieces of any size."""
    model, streams = make_deep(stage), four_streams(2, 4)
    layout, target = model.layout, model.layout.target_codes(streams)
    levels, frames = target.shape[1:]
    with torch.no_grad():
        wanted = model(*layout.prefix(streams), target)
        prefix, positions = layout.prefix(streams)
        cache = model.transformer.new_cache(2, prefix.shape[1] + frames)
        hidden, moved = model.read(prefix, positions, cache)
        states, start = [hidden[:, -1:]], 0
        for size in (1, 2, frames - 3):
            hidden, moved = model.read_codes(target[:, :, start : start + size], start, moved)
            states.append(hidden)
            start += size
        for frame, state in enumerate(torch.cat(states, 1)[:, :frames].unbind(1)):
            for level in range(levels):
                torch.testing.assert_close(model.logits(state, level), wanted[:, level, frame], atol=1e-4, rtol=1e-4)
                own = torch.full((2, levels, 1), 0)
                own[:, level, 0] = target[:, level, frame]
                state = model.state_after(state, layout.target_ids(own)[:, level])


def test_neither_later_frames_nor_higher_levels_change_anything() -> None:
    model, streams = make_deep(), four_streams(1, 6)
    target = streams["semantic"]
    with torch.no_grad():
        before = model(*model.layout.prefix(streams), target)
        for frame in range(6):
            for level in range(4):
                other = target.clone()
                other[:, level, frame] = (other[:, level, frame] + 5) % SIZE
                after = model(*model.layout.prefix(streams), other)
                same = (after == before).all(-1)[0]
                assert same[:, :frame].all() and same[: level + 1, frame].all()
                assert not same[level + 1 :, frame].any() and not same[:, frame + 1 :].any()


def test_a_context_stands_for_past_frames_alone() -> None:
    """Noise in what is read does not reach the frame that is predicted: its lower levels are the true ones."""
    model, streams = make_deep(), four_streams(1, 5)
    target, prefix = streams["semantic"], model.layout.prefix(streams)
    context = target.clone()
    context[:, :, 2] = (context[:, :, 2] + 3) % SIZE
    with torch.no_grad():
        plain, noised = model(*prefix, target), model(*prefix, target, context)
        assert torch.equal(model(*prefix, target, target), plain)
        assert torch.equal(noised[:, :, :3], plain[:, :, :3]), "frame 2 itself too"
        assert not (noised[:, :, 3:] == plain[:, :, 3:]).all(-1).any()
        # what the past is, with the true levels below: the slow way, a frame at a time
        mixed = context.clone()
        mixed[:, :, 4] = target[:, :, 4]
        torch.testing.assert_close(noised[:, :, 4], model(*prefix, mixed)[:, :, 4])
    last = context.clone()
    last[:, :, -1] = 0
    assert torch.equal(model(*prefix, target, last), model(*prefix, target, context)), "nothing reads the last frame"


@pytest.mark.parametrize("depth_width", [0, 24])
@pytest.mark.parametrize("given", [0, 2])
def test_greedy_decoding_equals_the_slow_way(depth_width: int, given: int) -> None:
    """The whole sequence read again for each code."""
    model, streams, frames = make_deep(depth_width=depth_width), four_streams(2, 1), 4
    known = four_streams(2, given, 7)["semantic"]
    u = torch.zeros(2, 4 * (frames - given))
    steps = decode(model, streams, frames, Sampling(temperature=0.0, guidance=1.5), u, known)
    codes = torch.cat([known, torch.stack(list(steps), 1).unflatten(1, (-1, 4)).transpose(1, 2)], 2)
    null = torch.ones(2, dtype=torch.bool)
    slow = torch.cat([known, torch.zeros(2, 4, frames - given, dtype=torch.long)], 2)
    for frame in range(given, frames):
        for level in range(4):
            with torch.no_grad():
                own, without = (
                    model(*model.layout.prefix(streams, drop), slow)[:, level, frame] for drop in (None, null)
                )
            slow[:, level, frame] = (without + 1.5 * (own - without)).argmax(-1)
    assert torch.equal(codes, slow)


def test_overfits_one_batch() -> None:
    model = make_deep(std=0).train()
    streams = four_streams(4, 8)
    streams["mulan"] = torch.arange(4)[:, None, None].expand(4, 2, 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(80):
        loss = model.loss(streams, streams["semantic"])
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(float(loss.total.detach()))
    assert all(weight.grad is not None for weight in model.parameters())
    assert losses[-1] < 0.15 and 2.5 < losses[0] < 3.1


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, streams = make_deep(), four_streams(2, 3)
    save_artifact(tmp_path / "semantic", KIND, model.config, model, {})
    loaded = TokenLM.from_artifact(tmp_path / "semantic")
    assert loaded.config == model.config and loaded.config.depth_width == 24 and not loaded.training
    prefix = model.layout.prefix(streams)
    torch.testing.assert_close(loaded(*prefix, streams["semantic"]), model(*prefix, streams["semantic"]))


def test_embeddings_of_levels_are_projected_apart() -> None:
    """Levels of a semantic frame are no residuals of one vector: equal vectors of two levels begin apart."""
    model = make_deep()
    vectors = torch.randn(1, SIZE, 40).expand(4, -1, -1).clone()
    vectors[:, 1] = vectors[:, 0] + 0.001
    model.start_embeddings("semantic", vectors)
    offset = model.layout.target_offset
    rows = model.embedding.weight[offset : offset + 4 * SIZE].view(4, SIZE, 16)
    for level in range(4):
        assert (rows[level, 0] - rows[level, 1]).norm() < 0.1 * (rows[level, 0] - rows[level, 2]).norm()
        assert float(rows[level].detach().std()) == pytest.approx(1, rel=0.05)
    assert (rows[0] - rows[1]).norm() > 0.5 * rows[0].norm()


def test_a_negative_width_is_refused() -> None:
    with pytest.raises(ValueError, match="depth_width is -1"):
        replace(make_deep().config, depth_width=-1)
