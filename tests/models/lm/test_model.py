import math

import pytest
import torch
from torch.nn import functional as F

from musiclm.models.lm.model import TokenLM, TokenLMConfig
from musiclm.nn.transformer import TransformerConfig
from tests.toy import SPECS, random_streams


def make(stage: str, positions: str = "rotary", cumulative: bool = False) -> TokenLM:
    torch.manual_seed(3)
    transformer = TransformerConfig(
        width=16,
        num_layers=2,
        num_heads=2,
        ff_width=24,
        dropout=0.0,
        positions=positions,  # type: ignore[arg-type]
    )
    config = TokenLMConfig(
        stage=stage, transformer=transformer, mulan_levels=2, specs=SPECS, cumulative_mulan=cumulative
    )
    return TokenLM(config).eval()


STAGES = pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])


@STAGES
def test_loss_is_the_cross_entropy_of_the_logits(stage: str) -> None:
    model, streams = make(stage), random_streams(2, 4)
    target = model.layout.target_codes(streams)
    loss = model.loss(streams, target)
    p = F.log_softmax(model(*model.layout.prefix(streams), target), -1)
    wanted = -p.gather(-1, target[..., None]).mean(dim=(0, 2, 3))
    torch.testing.assert_close(loss.per_level, wanted)
    torch.testing.assert_close(loss.total, wanted.mean())
    assert abs(float(loss.total) - math.log(16)) < 0.5


@STAGES
def test_padding_never_leaks(stage: str) -> None:
    """What stands past the end of a short clip, in target and condition, changes neither the loss nor its gradient."""
    model, streams = make(stage), random_streams(2, 6)
    num_frames = {"semantic": torch.tensor([6, 2]), "acoustic": torch.tensor([12, 4])}
    spoiled = {name: codes.clone() for name, codes in streams.items()}
    spoiled["semantic"][1, :, 2:] = 0
    spoiled["acoustic"][1, :, 4:] = 15
    results = []
    for these in (streams, spoiled):
        model.zero_grad()
        loss = model.loss(these, model.layout.target_codes(these), num_frames)
        loss.total.backward()
        results.append((loss.per_level.detach(), model.head.grad.clone(), model.transformer.layers[0].qkv.weight.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_short_clip_counts_by_its_frames() -> None:
    model, streams = make("semantic"), random_streams(2, 6)
    num_frames = {"semantic": torch.tensor([6, 2])}
    both = model.loss(streams, streams["semantic"], num_frames).total
    rows = [
        model.loss({"mulan": streams["mulan"][[i]]}, streams["semantic"][[i], :, :n]).total for i, n in ((0, 6), (1, 2))
    ]
    torch.testing.assert_close(both, (rows[0] * 6 + rows[1] * 2) / 8)


def test_cumulative_mulan_embeds_partial_sums() -> None:
    model, plain = make("semantic", cumulative=True), make("semantic")
    plain.load_state_dict(model.state_dict())
    ids, _ = model.layout.prefix(random_streams(2, 1))
    a, b = model.embed(ids), plain.embed(ids)
    torch.testing.assert_close(a[:, 1], b[:, 1])
    torch.testing.assert_close(a[:, 2], b[:, 1] + b[:, 2])
    torch.testing.assert_close(a[:, [0, 3]], b[:, [0, 3]])
    torch.testing.assert_close(model.embed(ids[:, 1:], start=1), plain.embed(ids[:, 1:]))


def test_embeddings_start_as_near_as_their_vectors() -> None:
    model = make("semantic")
    vectors = torch.randn(2, 4, 64)
    vectors[0, 1] = vectors[0, 0] + 0.01
    vectors[1] *= 0.01
    model.start_embeddings("mulan", vectors)
    offset = model.layout.offsets[0]
    rows = model.embedding.weight[offset : offset + 8].view(2, 4, -1)
    assert (rows[0, 0] - rows[0, 1]).norm() < 0.2 * (rows[0, 0] - rows[0, 2]).norm()
    torch.testing.assert_close(rows.flatten(1).std(1), torch.ones(2), atol=1e-4, rtol=1e-4)
    before = model.embedding.weight.clone()
    model.start_embeddings("acoustic", torch.randn(12, 16, 8))
    assert torch.equal(model.embedding.weight, before)


@STAGES
def test_paper_size_is_430_m(stage: str) -> None:
    transformer = TransformerConfig(width=1024, num_layers=24, num_heads=16, ff_width=4096, positions="t5")
    with torch.device("meta"):
        model = TokenLM(TokenLMConfig(stage=stage, transformer=transformer))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(430e6, rel=0.05)


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="it must be one of semantic, coarse, fine"):
        TokenLMConfig(stage="course", transformer=TransformerConfig(width=4, num_layers=1, num_heads=1, ff_width=4))
