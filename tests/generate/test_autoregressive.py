import pytest
import torch

from musiclm.generate import autoregressive
from musiclm.generate.autoregressive import ArAcoustic, decode, generate_semantic, stream_semantic
from musiclm.models.lm.model import TokenLM, TokenLMConfig
from musiclm.nn.sampling import Sampling, draw, probabilities
from musiclm.nn.transformer import TransformerConfig
from tests.models.lm.test_depth import four_streams, make_deep
from tests.toy import SPECS, generators, random_streams


def make(stage: str) -> TokenLM:
    torch.manual_seed(5)
    transformer = TransformerConfig(width=16, num_layers=1, num_heads=2, ff_width=24)
    model = TokenLM(TokenLMConfig(stage=stage, transformer=transformer, mulan_levels=2, specs=SPECS)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.4)  # so that what is read matters to what is drawn
    return model


@pytest.fixture(scope="module")
def semantic() -> TokenLM:
    return make("semantic")


@pytest.fixture(scope="module")
def decoder() -> ArAcoustic:
    return ArAcoustic(make("coarse"), make("fine"), Sampling(top_k=8, guidance=1.5), Sampling(temperature=0.4))


MULAN = random_streams(3, 1)["mulan"]
WARM = Sampling(temperature=0.9, top_k=10, top_p=0.95, guidance=2.0)


@pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])
@pytest.mark.parametrize("given", [0, 2])
def test_decoding_equals_the_slow_way(stage: str, given: int) -> None:
    """Without a cache: the whole sequence read again for each code, guided and unguided one after the other."""
    model, streams, frames = make(stage), random_streams(2, 2), 4
    layout, levels = model.layout, model.layout.target_spec.levels
    known = torch.randint(0, 16, (2, levels, given))
    u = torch.rand(2, (frames - given) * levels)
    steps = list(decode(model, streams, frames, WARM, u, known))
    codes = torch.cat([known, torch.stack(steps, 1).unflatten(1, (-1, levels)).transpose(1, 2)], 2)
    null = torch.ones(2, dtype=torch.bool)
    slow = torch.cat([known, torch.zeros(2, levels, frames - given, dtype=torch.long)], 2)
    for step in range(given * levels, frames * levels):
        level, frame = step % levels, step // levels
        logits = model(*layout.prefix(streams), slow)[:, level, frame]
        if stage != "fine":
            without = model(*layout.prefix(streams, null), slow)[:, level, frame]
            logits = without + 2.0 * (logits - without)
        slow[:, level, frame] = draw(probabilities(logits, WARM), u[:, step - given * levels])
    assert torch.equal(codes, slow)


def test_same_seed_same_codes_and_a_batch_item_equals_the_single_run(semantic: TokenLM) -> None:
    batch = generate_semantic(semantic, MULAN, 40, WARM, generators(1, 2, 3))
    again = generate_semantic(semantic, MULAN, 40, WARM, generators(1, 2, 3))
    single = generate_semantic(semantic, MULAN[1:2], 40, WARM, generators(2))
    assert batch.shape == (3, 1, 40) and torch.equal(batch, again) and torch.equal(batch[1:2], single)
    assert not torch.equal(batch, generate_semantic(semantic, MULAN, 40, WARM, generators(4, 5, 6)))


def test_conditions_matter_and_guidance_strengthens_them(semantic: TokenLM) -> None:
    one, other = torch.tensor([[[0], [0]]]), torch.tensor([[[3], [3]]])

    def differing(guidance: float) -> int:
        sampling = Sampling(guidance=guidance)
        a, b = (generate_semantic(semantic, m, 200, sampling, generators(1)) for m in (one, other))
        return int((a != b).sum())

    assert differing(0.0) == 0 < differing(1.0) < differing(4.0)


def test_without_a_condition_equals_guidance_zero(semantic: TokenLM) -> None:
    none = generate_semantic(semantic, None, 20, Sampling(), generators(1, 2, 3))
    zero = generate_semantic(semantic, MULAN, 20, Sampling(guidance=0.0), generators(1, 2, 3))
    assert torch.equal(none, zero)


def test_long_audio_slides_by_half_a_window(semantic: TokenLM) -> None:
    """30 s are 750 frames; what follows is drawn from the last 375 alone."""
    seen: list[tuple[int, int]] = []
    long = generate_semantic(
        semantic, MULAN[:1], 800, Sampling(temperature=0.0), generators(0), on_progress=lambda *x: seen.append(x)
    )
    assert seen[-1] == (800, 800) and len(seen) == 800
    tail = generate_semantic(
        semantic, MULAN[:1], 425, Sampling(temperature=0.0), generators(0), prompt=long[..., 375:750]
    )
    assert torch.equal(tail, long[..., 375:])


def test_recorded_steps_make_the_same_codes(semantic: TokenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU records is computed here: guided, in several windows, and in frames of four codes."""
    models = (semantic, make_deep(depth_width=0), make_deep(depth_width=24))
    made = {}
    for static in (False, True):
        monkeypatch.setattr(autoregressive, "steps_are_static", lambda device, static=static: static)
        monkeypatch.setattr(autoregressive, "STATIC_STEPS", 3)
        made[static] = [
            generate_semantic(model, MULAN[:2], 40, Sampling(guidance=2.0), generators(1, 2)) for model in models
        ]
    assert all(torch.equal(a, b) for a, b in zip(made[False], made[True], strict=True))


def test_a_prompt_is_kept_and_continued(semantic: TokenLM) -> None:
    whole = generate_semantic(semantic, MULAN[:1], 30, Sampling(temperature=0.0), generators(0))
    resumed = generate_semantic(
        semantic, MULAN[:1], 30, Sampling(temperature=0.0), generators(0), prompt=whole[..., :11]
    )
    assert torch.equal(whole, resumed)
    same = generate_semantic(semantic, MULAN[:1], 11, WARM, generators(0), prompt=whole[..., :11])
    assert torch.equal(same, whole[..., :11])
    with pytest.raises(ValueError, match="prompt has 11 frames"):
        generate_semantic(semantic, MULAN[:1], 10, WARM, generators(0), prompt=whole[..., :11])


def test_streamed_equals_whole(semantic: TokenLM) -> None:
    whole = generate_semantic(semantic, MULAN, 60, WARM, generators(1, 2, 3))
    pieces = list(stream_semantic(semantic, MULAN, 60, WARM, generators(1, 2, 3), chunk_s=7 / 25))
    assert [piece.shape[2] for piece in pieces] == [7] * 8 + [4]
    assert torch.equal(torch.cat(pieces, 2), whole)


def test_streaming_leaves_gradients_on_between_pieces(semantic: TokenLM) -> None:
    """inference_mode inside a generator must not leak to the caller."""
    pieces = stream_semantic(semantic, MULAN, 60, WARM, generators(1, 2, 3))
    next(pieces)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_as_many_generators_as_items(semantic: TokenLM) -> None:
    with pytest.raises(ValueError, match="2 generators for 3 items"):
        generate_semantic(semantic, MULAN, 5, WARM, generators(1, 2))


def test_acoustic_codes_of_a_batch(decoder: ArAcoustic) -> None:
    codes = random_streams(2, 20)["semantic"]
    seen: list[tuple[int, int]] = []
    out = decoder.generate(codes, MULAN[:2], generators(1, 2), on_progress=lambda *x: seen.append(x))
    assert out.shape == (2, 12, 40) and 0 <= int(out.min()) and int(out.max()) < 16
    assert torch.equal(out[1:], decoder.generate(codes[1:], MULAN[1:2], generators(2)))
    assert seen[-1] == (40 * 12, 40 * 12)


def test_acoustic_stream_and_windows(decoder: ArAcoustic) -> None:
    """11 s: a second coarse window, and 3 s fine chunks. The prompt, cut inside a chunk, comes back unchanged."""
    streams = random_streams(1, 275)
    prompt = streams["acoustic"][:, :, :430]
    pieces = list(decoder.stream(streams["semantic"], MULAN[:1], generators(1), prompt))
    whole = torch.cat(pieces, 2)
    assert [piece.shape[2] for piece in pieces] == [450, 100]
    assert torch.equal(whole[:, :, :430], prompt)
    assert torch.equal(whole, decoder.generate(streams["semantic"], MULAN[:1], generators(1), prompt))


@pytest.mark.parametrize("frames", [10, 150, 160])
def test_a_prompt_of_everything_comes_back(decoder: ArAcoustic, frames: int) -> None:
    streams = random_streams(1, frames // 2)
    out = decoder.generate(streams["semantic"], MULAN[:1], generators(1), streams["acoustic"])
    assert torch.equal(out, streams["acoustic"])


def test_fine_chunks_are_on_their_own(decoder: ArAcoustic) -> None:
    """Greedy fine codes of the second chunk depend on the coarse codes of that chunk alone."""
    cold = ArAcoustic(decoder.coarse, decoder.fine, decoder.coarse_sampling, Sampling(temperature=0.0))
    streams = random_streams(1, 90)
    out = cold.generate(streams["semantic"], MULAN[:1], generators(1), streams["acoustic"][:, :, :150])
    steps = decode(cold.fine, {"acoustic": out[:, :, 150:]}, 30, Sampling(temperature=0.0), torch.zeros(1, 240))
    assert torch.equal(torch.stack(list(steps), 1).unflatten(1, (-1, 8)).transpose(1, 2), out[:, 4:, 150:])


def test_wrong_models_are_refused(decoder: ArAcoustic) -> None:
    with pytest.raises(ValueError, match="coarse model is of stage 'fine'"):
        ArAcoustic(decoder.fine, decoder.fine)
    with pytest.raises(ValueError, match="prompt must be"):
        decoder.generate(random_streams(1, 5)["semantic"], None, generators(1), prompt=torch.zeros(1, 4, 5).long())


def test_without_a_fine_stage_the_coarse_levels_are_the_same(decoder: ArAcoustic) -> None:
    streams = random_streams(1, 40)
    whole = decoder.generate(streams["semantic"], streams["mulan"], generators(3))
    coarse = ArAcoustic(decoder.coarse, None, decoder.coarse_sampling)
    alone = coarse.generate(streams["semantic"], streams["mulan"], generators(3))
    assert alone.shape == (1, 4, 80) and torch.equal(alone, whole[:, :4])


DEPTHS = pytest.mark.parametrize("depth_width", [0, 24])


@DEPTHS
def test_frames_of_four_codes_come_whole(depth_width: int) -> None:
    """A batch equals single runs, a stream the whole, a prompt of whole frames goes on as if never cut."""
    model = make_deep(depth_width=depth_width)
    batch = generate_semantic(model, MULAN, 20, WARM, generators(1, 2, 3))
    assert batch.shape == (3, 4, 20) and 0 <= int(batch.min()) and int(batch.max()) < 16
    assert torch.equal(batch[1:2], generate_semantic(model, MULAN[1:2], 20, WARM, generators(2)))
    seen: list[tuple[int, int]] = []
    pieces = list(
        stream_semantic(
            model, MULAN, 20, WARM, generators(1, 2, 3), on_progress=lambda *x: seen.append(x), chunk_s=0.56
        )
    )
    assert [piece.shape[2] for piece in pieces] == [7, 7, 6], "at 12.5 Hz"
    assert torch.equal(torch.cat(pieces, 2), batch) and seen == [(done, 20) for done in range(1, 21)]
    greedy = Sampling(temperature=0.0)
    whole = generate_semantic(model, MULAN, 20, greedy, generators(0, 0, 0))
    resumed = generate_semantic(model, MULAN, 20, greedy, generators(0, 0, 0), prompt=whole[..., :9])
    assert torch.equal(whole, resumed)


@DEPTHS
def test_long_audio_of_four_codes_slides_by_half_a_window(depth_width: int) -> None:
    """2 s are 25 frames; what follows is drawn from the last 13 alone."""
    model, greedy = make_deep(depth_width=depth_width), Sampling(temperature=0.0)
    long = generate_semantic(model, MULAN[:1], 32, greedy, generators(0))
    tail = generate_semantic(model, MULAN[:1], 20, greedy, generators(0), prompt=long[..., 12:25])
    assert torch.equal(tail, long[..., 12:])


def test_coarse_codes_beside_semantic_frames_of_four() -> None:
    """Four acoustic frames a semantic one."""
    coarse, fine = (make_deep(stage, depth_width=24) for stage in ("coarse", "fine"))
    decoder = ArAcoustic(coarse, fine)
    streams = four_streams(2, 5)
    out = decoder.generate(streams["semantic"], MULAN[:2], generators(1, 2))
    assert out.shape == (2, 12, 20)
    assert torch.equal(out[1:], decoder.generate(streams["semantic"][1:], MULAN[1:2], generators(2)))
