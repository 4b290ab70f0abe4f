from dataclasses import replace
from pathlib import Path

import pytest
import torch

from musiclm.core.artifact import save_artifact
from musiclm.core.streams import TokenSpec
from musiclm.models.storm.model import KIND, SoundStorm, SoundStormConfig
from musiclm.nn.conformer import ConformerConfig
from tests.toy import SPECS, random_streams

MULAN, SEMANTIC, ACOUSTIC = SPECS


def make(
    mulan_levels: int = 2,
    depth_width: int = 0,
    code_width: int = 0,
    semantic: TokenSpec = SEMANTIC,
    series: tuple[int, ...] = (),
    history_layers: int = 0,
) -> SoundStorm:
    torch.manual_seed(2)
    conformer = ConformerConfig(width=16, num_heads=2, num_layers=2, ff_width=24, dropout=0.0)
    config = SoundStormConfig(
        conformer=conformer,
        mulan_levels=mulan_levels,
        depth_width=depth_width,
        code_width=code_width,
        acoustic=ACOUSTIC,
        semantic=semantic,
        mulan=MULAN,
        series=series,
        history_layers=history_layers,
    )
    model = SoundStorm(config)
    for parameter in (model.beside, model.stay) if series else ():
        torch.nn.init.normal_(parameter, std=0.3)
    if history_layers:
        torch.nn.init.normal_(model.history_out.weight, std=0.5)
    return model.eval()


def test_a_frame_is_the_sum_of_its_parts() -> None:
    model, streams = make(), random_streams(2, 3)
    codes = streams["acoustic"].clone()
    codes[1, 5:, 4:] = model.mask_code
    x = model.embed(codes, streams["semantic"], streams["mulan"])
    for item, frame in ((0, 0), (1, 3), (1, 5)):
        wanted = sum(model.embedding.weight[17 * q + int(codes[item, q, frame])] for q in range(12))
        wanted = wanted + model.semantic.weight[streams["semantic"][item, 0, frame // 2]]
        wanted = wanted + sum(model.mulan.weight[4 * q + int(streams["mulan"][item, q, 0])] for q in range(2))
        torch.testing.assert_close(x[item, frame], wanted)


def test_no_condition_is_one_row_of_its_own() -> None:
    model, streams = make(), random_streams(2, 3)
    dropped = streams["mulan"].clone()
    dropped[0] = -1
    rows = model.condition(dropped, 2)
    assert torch.equal(rows[0], model.mulan.weight[-1]) and torch.equal(model.condition(None, 2)[1], rows[0])
    torch.testing.assert_close(rows[1], model.condition(streams["mulan"], 2)[1])
    plain = make(mulan_levels=0)
    assert not hasattr(plain, "mulan")
    plain(streams["acoustic"], streams["semantic"], streams["mulan"])


CODE_WIDTHS = pytest.mark.parametrize("code_width", [0, 6])


@CODE_WIDTHS
def test_both_ways_to_logits_agree(code_width: int) -> None:
    model, hidden = make(code_width=code_width), torch.randn(3, 5, 16)
    torch.nn.init.normal_(model.head_bias)
    rows = model.logits_per_row(hidden, torch.tensor([4, 0, 11]))
    for item, level in enumerate((4, 0, 11)):
        torch.testing.assert_close(rows[item], model.logits(hidden, level)[item])


@CODE_WIDTHS
def test_levels_in_turn_equal_levels_at_once(code_width: int) -> None:
    model, hidden, codes = make(2, 24, code_width), torch.randn(5, 16), torch.randint(0, 16, (5, 12))
    torch.nn.init.normal_(model.depth.level)
    torch.nn.init.normal_(model.head_bias)
    whole, state = model.all_depth_logits(hidden, codes), hidden
    for level in range(12):
        torch.testing.assert_close(model.depth_logits(state, level), whole[:, level], atol=1e-4, rtol=1e-4)
        state = model.depth_state(state, level, codes[:, level])


def test_embeddings_start_as_near_as_their_vectors() -> None:
    model = make()
    vectors = torch.randn(12, 16, 40)
    vectors[3, 1] = vectors[3, 0] + 0.001
    mask = model.embedding.weight.view(12, 17, 16)[:, -1].clone()
    spread = model.embedding.weight.std()
    model.start_embeddings("acoustic", vectors)
    table = model.embedding.weight.view(12, 17, 16)
    assert (table[3, 0] - table[3, 1]).norm() < 0.1 * (table[3, 0] - table[3, 2]).norm()
    assert torch.equal(table[:, -1], mask)
    torch.testing.assert_close(model.embedding.weight.std(), spread, atol=0.02, rtol=0.1)
    model.start_embeddings("semantic", torch.randn(1, 16, 7))
    model.start_embeddings("mulan", torch.randn(2, 4, 7))
    make(0).start_embeddings("mulan", torch.randn(2, 4, 7))


def test_small_tables_are_widened_and_narrowed_by_level() -> None:
    model, streams = make(code_width=6), random_streams(2, 3)
    assert model.embedding.weight.shape == (12 * 17, 6) and model.head.shape == (12, 16, 6)
    codes = streams["acoustic"]
    x = model.embed(codes, streams["semantic"], streams["mulan"])
    wanted = sum(model.embedding.weight[17 * q + int(codes[1, q, 3])] @ model.widen[q] for q in range(12))
    wanted = wanted + model.semantic.weight[streams["semantic"][1, 0, 1]]
    wanted = wanted + sum(model.mulan.weight[4 * q + int(streams["mulan"][1, q, 0])] for q in range(2))
    torch.testing.assert_close(x[1, 3], wanted)
    hidden = torch.randn(1, 4, 16)
    torch.testing.assert_close(model.logits(hidden, 7), hidden @ model.narrow[7] @ model.head[7].T)
    deep, codes = make(2, 24, 6), torch.tensor([4, 9])
    state = torch.randn(2, 16)
    own = deep.embedding.weight[3 * 17 + codes] @ deep.widen[3]
    torch.testing.assert_close(deep.depth_state(state, 3, codes), state + own)
    with pytest.raises(ValueError, match="code_width is -1"):
        make(code_width=-1)


@CODE_WIDTHS
def test_a_known_frame_begins_with_spread_1_and_a_masked_one_with_nothing(code_width: int) -> None:
    model, streams = make(mulan_levels=0, code_width=code_width), random_streams(8, 60)
    with torch.no_grad():
        model.semantic.weight.zero_()
        masked = model.embed(torch.full((8, 12, 120), model.mask_code), streams["semantic"], None)
        assert not masked.any()
        part = streams["acoustic"].clone()
        part[:, 3:] = model.mask_code
        known = model.embed(streams["acoustic"], streams["semantic"], None)
        assert float(known.std()) == pytest.approx(1, rel=0.2)
        assert float(model.embed(part, streams["semantic"], None).std()) == pytest.approx(0.5, rel=0.25)


def test_small_tables_start_from_what_codes_mean() -> None:
    """Every code's row, each level projected for itself, with the spread the table had; masks stay nothing."""
    model = make(code_width=6)
    vectors = torch.randn(12, 16, 40)
    vectors[5] = vectors[4]
    vectors[:, 1] = vectors[:, 0] + 0.001
    before = model.embedding.weight.detach().clone()
    model.start_embeddings("acoustic", vectors)
    table = model.embedding.weight.detach().view(12, 17, 6)
    assert not table[:, -1].any() and (table[:, :-1] != before.view(12, 17, 6)[:, :-1]).any(-1).all()
    near, far = (table[:, 0] - table[:, 1]).norm(dim=1), (table[:, 0] - table[:, 2]).norm(dim=1)
    assert (near < 0.1 * far).all()
    assert (table[4] - table[5]).norm() > 0.5 * table[4].norm(), "equal vectors of two levels are not alike"
    torch.testing.assert_close(model.embedding.weight.std(), before.std(), atol=0, rtol=0.1)


FOUR = replace(SEMANTIC, levels=4, frame_rate_hz=12.5)


def four_codes(batch: int, frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 16, (batch, 4, frames), generator=torch.Generator().manual_seed(seed))


@CODE_WIDTHS
def test_every_level_of_a_semantic_frame_has_rows_of_its_own(code_width: int) -> None:
    """Four acoustic frames a semantic one, of four codes."""
    model, semantic = make(0, 0, code_width, FOUR), four_codes(2, 3)
    assert model.config.semantic_codes == 4 and model.semantic.weight.shape == (64, 16)
    codes = torch.full((2, 12, 12), model.mask_code)
    x = model.embed(codes, semantic, None)
    for item, frame in ((0, 0), (1, 3), (1, 4), (0, 11)):
        own = semantic[item, :, frame // 4]
        wanted = sum(model.semantic.weight[16 * level + int(code)] for level, code in enumerate(own))
        torch.testing.assert_close(x[item, frame], wanted)
    hidden = model(codes, semantic)
    for level in range(4):
        other = semantic.clone()
        other[:, level, 1] = (other[:, level, 1] + 1) % 16
        changed = (model.embed(codes, other, None) != x).any(-1)
        assert changed[:, 4:8].all() and not changed[:, :4].any() and not changed[:, 8:].any()
        assert not torch.allclose(model(codes, other), hidden)
    vectors = torch.randn(1, 16, 20).expand(4, -1, -1)
    spread = model.semantic.weight.detach().std()
    model.start_embeddings("semantic", vectors)
    rows = model.semantic.weight.detach().view(4, 16, 16)
    assert (rows[0] - rows[1]).norm() > 0.5 * rows[0].norm(), "levels are no residuals of one vector"
    torch.testing.assert_close(rows.std(), spread, atol=0, rtol=0.1)


def test_levels_of_several_semantic_frames_in_one_acoustic_frame() -> None:
    """Codes of two frames of two levels, in order of time, then of level."""
    slow = replace(ACOUSTIC, frame_rate_hz=12.5)
    config = replace(make(0).config, acoustic=slow, semantic=replace(SEMANTIC, levels=2))
    model = SoundStorm(config).eval()
    assert config.semantic_codes == 4
    semantic = four_codes(1, 6)[:, :2]
    x = model.embed(torch.full((1, 12, 3), model.mask_code), semantic, None)
    own = semantic[0, :, 2:4].T.flatten().tolist()
    torch.testing.assert_close(x[0, 1], sum(model.semantic.weight[16 * k + code] for k, code in enumerate(own)))


# two groups once a frame, two groups twice, two groups three times
SERIES = (0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 4, 5)
ORDER = range(12)


def test_codes_before_and_after_in_time() -> None:
    model = make(depth_width=24, series=SERIES)
    codes = torch.arange(36).view(3, 12).T[None]  # code 12 * frame + level
    known = codes.clone()
    known[:, :, 1] = -1
    before, after = model.neighbours(codes, known)
    none = model.mask_code
    assert before[0, :, 0].tolist() == [none] * 4 + [2, 3] + [none] * 2 + [6, 7, 8, 9]
    assert before[0, :, 1].tolist() == [0, 1, 4, 5, 14, 15, 10, 11, 18, 19, 20, 21]
    assert after[0, :, 1].tolist() == [24, 25, 26, 27, 26, 27, 28 + 2, 28 + 3, 30, 31, 30, 31]
    assert (after[0, :, 0] == -1).all() and (after[0, :, 2] == none).all()


@CODE_WIDTHS
def test_all_levels_at_once_are_the_levels_in_turn(code_width: int) -> None:
    model, streams = make(depth_width=24, code_width=code_width, series=SERIES), random_streams(2, 6)
    codes = streams["acoustic"]
    masked = torch.rand(2, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    known = codes.masked_fill(masked[:, None], model.mask_code)
    hidden = model(known, streams["semantic"], streams["mulan"])[masked]
    target = codes.transpose(1, 2)[masked]
    before, after = (part.transpose(1, 2)[masked] for part in model.neighbours(codes, known))
    at_once = model.all_depth_logits(hidden, target, (before, after))
    for level in ORDER:
        own = model.depth_logits(hidden, level, (before[:, level], after[:, level]))
        torch.testing.assert_close(own, at_once[:, level])
        hidden = model.depth_state(hidden, level, target[:, level])
    # what is not known says nothing, and a model without tables for it is the one without `series`
    for parameter in (model.beside, model.stay):
        parameter.data.zero_()
    plain = make(depth_width=24, code_width=code_width)
    hidden = model(known, streams["semantic"], streams["mulan"])[masked]
    torch.testing.assert_close(
        model.all_depth_logits(hidden, target, (before, after)), plain.all_depth_logits(hidden, target)
    )


def test_a_code_can_be_told_to_stay() -> None:
    model = make(depth_width=24, series=SERIES)
    hidden, mask = torch.randn(5, 16), torch.full((5,), model.mask_code)
    before = torch.arange(5)
    base = model.depth_logits(hidden, 3, (mask, mask))
    model.beside.data.zero_()
    raised = model.depth_logits(hidden, 3, (before, mask)) - base
    assert (raised.gather(1, before[:, None]).abs() > 1e-4).all()
    assert (raised.scatter(1, before[:, None], 0.0).abs() < 1e-6).all()


def test_history_is_what_came_before() -> None:
    """All frames before reach a state and none after; at once and frame by frame, behind frames that are given."""
    model = make(depth_width=24, code_width=6, series=SERIES, history_layers=2)
    streams = random_streams(2, 5)
    codes, frames = streams["acoustic"], streams["acoustic"].shape[2]
    hidden = torch.randn(2, frames, 16)
    with torch.no_grad():
        whole, _ = model.with_history(hidden, model.frames_before(codes))
        for frame in range(frames):
            other = codes.clone()
            other[:, :, frame] = (other[:, :, frame] + 1) % 16
            changed = (model.with_history(hidden, model.frames_before(other))[0] != whole).any(2)
            assert not changed[:, : frame + 1].any() and changed[:, frame + 1 :].all()
        for given in (0, 1, 4):
            cache = model.history.new_cache(2, frames)
            if given:
                before = model.frames_before(codes[:, :, :given])
                cache = model.with_history(hidden[:, :given], before, 0, cache)[1]
            for frame in range(given, frames):
                earlier = model.frames_before(codes)[:, :, frame : frame + 1]
                state, cache = model.with_history(hidden[:, frame : frame + 1], earlier, frame, cache)
                torch.testing.assert_close(state[:, 0], whole[:, frame])
    assert torch.equal(SoundStorm(model.config).with_history(hidden, codes)[0], hidden), "at first it says nothing"


@pytest.mark.parametrize("depth_width", [0, 24])
def test_saved_and_loaded(depth_width: int, tmp_path: Path) -> None:
    model = make(2, depth_width, 6, FOUR, SERIES if depth_width else ())
    save_artifact(tmp_path / "storm", KIND, model.config, model, {})
    loaded = SoundStorm.from_artifact(tmp_path / "storm")
    assert loaded.config == model.config
    streams = random_streams(1, 4)
    inputs = streams["acoustic"], four_codes(1, 2), streams["mulan"]
    torch.testing.assert_close(loaded(*inputs), model(*inputs))


def test_paper_size_is_350_m() -> None:
    with torch.device("meta"):
        conformer = ConformerConfig(width=1024, num_heads=16, num_layers=12, ff_width=4096, kernel=5)
        model = SoundStorm(SoundStormConfig(conformer=conformer))
    body = sum(p.numel() for p in model.conformer.parameters())
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(body + 26.5e6, rel=0.01)
    # a Conformer block has two feed-forwards of 8.4 M, attention 4.2 M, convolution 3.1 M: 289 M in 12, and 26 M of
    # tables
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(350e6, rel=0.12)


def test_bad_settings_are_refused() -> None:
    conformer = ConformerConfig(width=16, num_heads=2, num_layers=1, ff_width=16)
    with pytest.raises(ValueError, match="mulan_levels is 13"):
        SoundStormConfig(conformer=conformer, mulan_levels=13)
    with pytest.raises(ValueError, match=r"series must number 12 levels.*got 2 and 16"):
        SoundStormConfig(conformer=conformer, depth_width=16, series=(0, 1))
    with pytest.raises(ValueError, match="needs a depth_width"):
        SoundStormConfig(conformer=conformer, series=(0,) * 12)
    with pytest.raises(ValueError, match="history_layers is 1; .*needs series"):
        SoundStormConfig(conformer=conformer, depth_width=16, history_layers=1)
    with pytest.raises(ValueError, match="causal"):
        causal = ConformerConfig(width=16, num_heads=2, num_layers=1, ff_width=16, causal=True)
        SoundStormConfig(conformer=causal)
