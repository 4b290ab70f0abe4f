import pytest
import torch

from musiclm.models.storm.model import SoundStorm, SoundStormConfig
from musiclm.nn.conformer import ConformerConfig
from tests.toy import SPECS, random_streams

MULAN, SEMANTIC, ACOUSTIC = SPECS


def make(mulan_levels: int = 2, depth_width: int = 0) -> SoundStorm:
    torch.manual_seed(2)
    conformer = ConformerConfig(width=16, num_heads=2, num_layers=2, ff_width=24, dropout=0.0)
    config = SoundStormConfig(
        conformer=conformer,
        mulan_levels=mulan_levels,
        depth_width=depth_width,
        acoustic=ACOUSTIC,
        semantic=SEMANTIC,
        mulan=MULAN,
    )
    return SoundStorm(config).eval()


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


def test_both_ways_to_logits_agree() -> None:
    model, hidden = make(), torch.randn(3, 5, 16)
    torch.nn.init.normal_(model.head_bias)
    rows = model.logits_per_row(hidden, torch.tensor([4, 0, 11]))
    for item, level in enumerate((4, 0, 11)):
        torch.testing.assert_close(rows[item], model.logits(hidden, level)[item])


def test_levels_in_turn_equal_levels_at_once() -> None:
    model, hidden, codes = make(depth_width=24), torch.randn(5, 16), torch.randint(0, 16, (5, 12))
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


def test_paper_size_is_350_m() -> None:
    with torch.device("meta"):
        conformer = ConformerConfig(width=1024, num_heads=16, num_layers=12, ff_width=4096, kernel=5)
        model = SoundStorm(SoundStormConfig(conformer=conformer))
    body = sum(p.numel() for p in model.conformer.parameters())
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(body + 26.5e6, rel=0.01)
    # a Conformer block has two feed-forwards of 8.4 M, attention 4.2 M, convolution 3.1 M: 289 M in 12, and 26 M of tables
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(350e6, rel=0.12)


def test_bad_settings_are_refused() -> None:
    conformer = ConformerConfig(width=16, num_heads=2, num_layers=1, ff_width=16)
    with pytest.raises(ValueError, match="mulan_levels is 13"):
        SoundStormConfig(conformer=conformer, mulan_levels=13)
    with pytest.raises(ValueError, match="causal"):
        causal = ConformerConfig(width=16, num_heads=2, num_layers=1, ff_width=16, causal=True)
        SoundStormConfig(conformer=causal)
