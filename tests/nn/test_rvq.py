import pytest
import torch

from musiclm.nn.kmeans import assign, kmeans
from musiclm.nn.rvq import GroupedVQ, ResidualVQ, perplexity, random_num_levels


def make(levels: int = 3, size: int = 16, dim: int = 4) -> ResidualVQ:
    vq = ResidualVQ(dim=dim, codebook_size=size, levels=levels)
    vq.fit_kmeans(torch.randn(500, dim))
    return vq


def test_assign_is_the_nearest_by_brute_force() -> None:
    data, centroids = torch.randn(50, 4), torch.randn(9, 4)
    expected = torch.cdist(data, centroids).argmin(1)
    assert torch.equal(assign(data, centroids, chunk=7), expected)


def test_kmeans_finds_separate_clusters() -> None:
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    data = (centres[:, None] + 0.1 * torch.randn(4, 50, 2)).flatten(0, 1)
    found = kmeans(data, 4, seed=3)
    assert torch.cdist(centres, found).min(1).values.max() < 0.2
    few = kmeans(data[:3], 8)
    assert few.shape == (8, 2) and few.isfinite().all()


def test_codes_are_greedy_residuals() -> None:
    vq, x = make(), torch.randn(20, 4)
    codes = vq.encode(x)
    residual = x.clone()
    for level in range(3):  # the ten-line version
        nearest = torch.cdist(residual, vq.codebooks[level]).argmin(1)
        assert torch.equal(codes[:, level], nearest)
        residual = residual - vq.codebooks[level][nearest]
    torch.testing.assert_close(vq.decode(codes), x - residual)


def test_every_level_lowers_the_error() -> None:
    vq, x = make(levels=4), torch.randn(200, 4)
    errors = [float((vq.decode(vq.encode(x, n)) - x).square().mean()) for n in range(1, 5)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]


def test_quantizer_dropout_uses_the_first_levels_of_each_example() -> None:
    vq = make().eval()
    x = torch.randn(2, 4, 5)
    out = vq(x, torch.tensor([1, 3]))
    flat = out.codes.transpose(1, 2)
    torch.testing.assert_close(out.output[0].T, vq.decode(flat[0, :, :1]))
    torch.testing.assert_close(out.output[1].T, vq.decode(flat[1]))


def test_codebooks_follow_the_data_and_dead_codes_come_back() -> None:
    vq = make(levels=1).train()
    data = torch.randn(64, 4, 8) + 50.0  # far from every code
    before = float((vq.eval()(data).output - data).square().mean())
    vq.train()
    for _ in range(400):
        vq(data)
    after = float((vq.eval()(data).output - data).square().mean())
    assert after < 0.01 * before
    assert float(perplexity(vq(data).codes, 16)[0]) > 8


def test_commitment_is_what_each_level_in_use_leaves() -> None:
    vq, x = make().eval(), torch.randn(2, 4, 5)
    out = vq(x, torch.tensor([1, 3]))
    total = 0.0
    for item, levels in ((0, 1), (1, 3)):
        left = x[item].T.clone()
        for level in range(levels):
            left = left - vq.codebooks[level][torch.cdist(left, vq.codebooks[level]).argmin(1)]
            total += float(left.square().mean()) / 2  # of two items
    assert float(out.commitment) == pytest.approx(total / 3, rel=1e-4)


def test_commitment_pulls_the_input_to_its_code() -> None:
    vq = make(levels=1).eval()
    x = torch.randn(1, 4, 6, requires_grad=True)
    out = vq(x)
    (gradient,) = torch.autograd.grad(out.commitment, x)
    moved = vq(x.detach() - 0.1 * gradient)
    assert moved.commitment < out.commitment


def test_perplexity_of_known_use() -> None:
    even = torch.arange(8).repeat(5)[None, None]
    assert abs(float(perplexity(even, 8)[0]) - 8) < 1e-4
    assert abs(float(perplexity(torch.zeros(1, 1, 9, dtype=torch.long), 8)[0]) - 1) < 1e-4


def test_random_depths() -> None:
    drawn = random_num_levels(4000, 12, share_full=0.5)
    assert drawn.min() == 1 and drawn.max() == 12
    assert 0.48 < float((drawn == 12).float().mean()) < 0.6


def grouped(seed: int = 0) -> GroupedVQ:
    """Three places; the first and the last share codebooks."""
    torch.manual_seed(seed)
    model = GroupedVQ(groups=(0, 1, 0), dim=4, codebook_size=8, levels=2)
    model.fit_kmeans(torch.randn(200, 12), num_iterations=3)
    return model


def test_groups_are_residual_quantizers_of_their_own_places() -> None:
    model, x = grouped().eval(), torch.randn(20, 12)
    codes = model.encode(x)
    assert codes.shape == (20, 6) and model.levels == 6
    for place, group in enumerate((0, 1, 0)):
        quantizer = model.quantizers[group]
        assert isinstance(quantizer, ResidualVQ)
        own = x[:, 4 * place : 4 * place + 4]
        alone = quantizer.encode(own)
        assert torch.equal(codes[:, [place, place + 3]], alone)
        torch.testing.assert_close(model.decode(codes)[:, 4 * place : 4 * place + 4], quantizer.decode(alone))


def test_a_prefix_of_grouped_codes_is_a_lower_bitrate() -> None:
    model, x = grouped().eval(), torch.randn(50, 12)
    codes = model.encode(x)
    errors = [float((model.decode(codes[:, :n]) - x).square().mean()) for n in (0, 3, 6)]
    assert errors[0] > errors[1] > errors[2]
    assert torch.equal(model.encode(x, 3), codes[:, :3])
    assert torch.equal(model.decode(codes[:, :4])[:, 4:], model.decode(codes[:, :3])[:, 4:]), (
        "only the first place has a second code"
    )
    with pytest.raises(ValueError, match=r"must lie in \[0, 8\)"):
        model.decode(torch.full((1, 6), 8))
    with pytest.raises(ValueError, match="7 codes"):
        model.decode(torch.zeros(1, 7, dtype=torch.long))


def test_grouped_training_step_gives_the_codes_of_encoding_and_drops_levels() -> None:
    model, x = grouped(), torch.randn(2, 12, 30, requires_grad=True)
    model.eval()
    whole = model(x)
    rows = x.detach().transpose(1, 2).flatten(0, 1)
    assert torch.equal(whole.codes.transpose(1, 2).flatten(0, 1), model.encode(rows))
    part = model(x, torch.tensor([3, 6]))
    expected = [model.decode(model.encode(rows[:30], 3)), model.decode(model.encode(rows[30:]))]
    torch.testing.assert_close(part.output.transpose(1, 2)[0], expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(part.output.transpose(1, 2)[1], expected[1], atol=1e-5, rtol=0)
    part.output.sum().backward()
    assert x.grad is not None and bool((x.grad == 1).all()), "gradients pass straight through"


def test_grouped_codebooks_by_code() -> None:
    model = grouped()
    assert model.codebooks.shape == (6, 8, 4)
    assert torch.equal(model.codebooks[0], model.codebooks[2]) and not torch.equal(
        model.codebooks[0], model.codebooks[1]
    )


def slow_held(model: GroupedVQ, x: torch.Tensor, hold: float) -> torch.Tensor:
    """Codes of one clip that hold, place by place in time."""
    codes = torch.zeros(len(x), 2, 3, dtype=torch.long)
    for group, quantizer in enumerate(model.quantizers):
        assert isinstance(quantizer, ResidualVQ)
        last = None
        for step in range(len(x)):
            for place in (place for place in range(3) if model.groups[place] == group):
                own = x[step, 4 * place : 4 * place + 4]
                distance = (quantizer.codebooks[0] - own).square().sum(1)
                if last is None or distance[last] > (1 + hold) * distance.min():
                    last = int(distance.argmin())
                codes[step, 0, place] = last
                left = own - quantizer.codebooks[0][last]
                codes[step, 1, place] = (quantizer.codebooks[1] - left).square().sum(1).argmin()
    return codes.flatten(1)


def drifting(batch: int, steps: int) -> torch.Tensor:
    """Vectors that change slowly."""
    return 0.3 * torch.randn(batch, steps, 12).cumsum(1)


@pytest.mark.parametrize("hold", [0.0, 0.3, 2.0])
def test_codes_hold_while_that_costs_little(hold: float) -> None:
    model, x = grouped().eval(), drifting(3, 40)
    held = model.encode_held(x, hold, {})
    for clip, own in zip(x, held, strict=True):
        assert torch.equal(own, slow_held(model, clip, hold))
    if hold == 0:
        assert torch.equal(held, model.encode(x.flatten(0, 1)).view_as(held))


def test_codes_that_hold_longer_change_less_and_say_nearly_as_much() -> None:
    model, x = grouped().eval(), drifting(4, 100)
    changes, errors = [], []
    for hold in (0.0, 0.2, 1.0, 5.0):
        codes = model.encode_held(x, hold, {})
        changes.append(int((codes[:, 1:, 1] != codes[:, :-1, 1]).sum()))
        errors.append(float((model.decode(codes.flatten(0, 1)) - x.flatten(0, 1)).square().mean()))
    assert changes == sorted(changes, reverse=True) and changes[0] > 1.5 * changes[-1]
    assert errors[1] < 1.2 * errors[0]


def test_held_codes_go_on_where_the_last_piece_ended() -> None:
    model, x = grouped().eval(), drifting(2, 30)
    whole, before = model.encode_held(x, 1.0, {}), {}
    pieces = [model.encode_held(piece, 1.0, before) for piece in x.split([1, 9, 0, 20], 1)]
    assert torch.equal(torch.cat(pieces, 1), whole)
    assert sorted(before) == [0, 1] and torch.equal(before[0], whole[:, -1, 2]), "the last place of its group"
    torn = torch.cat([model.encode_held(piece, 1.0, {}) for piece in x.split(3, 1)], 1)
    assert not torch.equal(torn, whole), "a start anew is something else"
    assert torch.equal(model.encode_held(x[1:], 1.0, {}), whole[1:])


def test_residual_codes_follow_a_first_code_that_is_given() -> None:
    vq, x = make(), torch.randn(20, 4)
    first = torch.randint(0, 16, (20,))
    codes = vq.encode_after(x, first)
    assert torch.equal(codes[:, 0], first)
    residual = x - vq.codebooks[0][first]
    for level in (1, 2):
        nearest = torch.cdist(residual, vq.codebooks[level]).argmin(1)
        assert torch.equal(codes[:, level], nearest)
        residual = residual - vq.codebooks[level][nearest]
    assert torch.equal(vq.encode_after(x, vq.encode(x)[:, 0]), vq.encode(x))
