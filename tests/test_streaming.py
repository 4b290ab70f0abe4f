"""One contract for every layer and model with a time axis.

- A stream equals the whole, however it is cut.
- What lies further ahead than a layer says it looks changes nothing, NaN included; so padding at the end never leaks.
- A layer that takes a mask of real frames lets nothing of the others through, and gives zeros there.
- The rows of a batch know nothing of each other.

A case says how a layer is made and called; the contract is the same for all. Only what is particular to a layer is
tested beside it.
"""

import importlib
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import musiclm
from musiclm.core.streams import TokenSpec
from musiclm.generate.acoustic import AcousticDecoder, SemanticSource
from musiclm.generate.autoregressive import ArAcoustic
from musiclm.generate.storm import StormAcoustic, StormSampling
from musiclm.models.lm.model import TokenLM, TokenLMConfig
from musiclm.models.soundstream.bands import BandEncoder, BandsEncoder, LookaheadBlock
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.model import DecoderStream, EncoderStream, SoundStream
from musiclm.models.soundstream.waveform import ResidualUnit, WaveformDecoder, WaveformEncoder
from musiclm.models.storm.model import SoundStorm, SoundStormConfig
from musiclm.models.w2vbert.model import W2vBert, W2vBertConfig
from musiclm.nn.conformer import Conformer, ConformerConfig
from musiclm.nn.sampling import Sampling
from musiclm.nn.stream import CausalConv1d, CausalConvTranspose1d, StreamState
from musiclm.nn.transformer import Transformer, TransformerConfig
from tests.models.soundstream.test_model import NETWORKS
from tests.toy import SPECS, generators, random_streams

CODES = 16  # of every toy codebook here
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A layer seen from outside; the last axis of what goes in and what comes out is time.

    A step is `inputs` values of the one and `outputs` of the other.
    """

    make: Callable[[], Any]
    draw: Callable[[int, int], Tensor]  # (batch, steps) -> what goes in
    whole: Callable[[Any, Tensor], Tensor]
    stream: Callable[[Any, Sequence[Tensor]], Tensor] | None = None  # the same from pieces
    masked: Callable[[Any, Tensor, Tensor], Tensor] | None = None  # with a mask `b t` of what is real
    inputs: int = 1
    outputs: int = 1
    ahead: int | None = None  # values after a step that it may depend on, below 0 before its end; None: it may see all
    tight: bool = True  # and does, at every step; not where it works in blocks, whose last step looks least far
    differentiable: bool = True
    steps: int = 9
    batch: int = 2  # of a stream
    cut: int = 1  # pieces of a stream are so many values long, or a multiple
    sides: tuple[str, ...] = ("right",)  # where padding may stand
    junk: float = (
        NAN  # what stands where nobody may look; attention gives what it doesn't see a weight of 0, and 0 * NaN is NaN
    )
    tolerance: float = 1e-5


def convolution(kernel: int, stride: int = 1, dilation: int = 1) -> Case:
    return Case(
        make=lambda: CausalConv1d(3, 5, kernel, stride, dilation=dilation),
        draw=lambda batch, steps: torch.randn(batch, 3, steps * stride),
        whole=lambda layer, x: layer(x),
        stream=stateful,
        inputs=stride,
        ahead=0,
        cut=stride,
    )


def transposed(kernel: int, stride: int) -> Case:
    return Case(
        make=lambda: CausalConvTranspose1d(3, 5, kernel, stride),
        draw=lambda batch, steps: torch.randn(batch, 3, steps),
        whole=lambda layer, x: layer(x),
        stream=stateful,
        outputs=stride,
        ahead=0,
    )


def stateful(layer: nn.Module, pieces: Sequence[Tensor]) -> Tensor:
    state = StreamState()
    return torch.cat([layer(piece, state) for piece in pieces], -1)


# -- SoundStream

WAVEFORM, BANDS = NETWORKS["waveform"], NETWORKS["bands"]


def codec(config: SoundStreamConfig) -> SoundStream:
    model = SoundStream(config)
    frames = model.latents(audio(4, 24000)).transpose(1, 2).flatten(0, 1)
    model.rvq.fit_kmeans(frames.detach())
    return model


def audio(batch: int, samples: int) -> Tensor:
    return 0.2 * torch.randn(batch, 1, samples)


def some_codes(batch: int, levels: int, frames: int) -> Tensor:
    return torch.randint(0, CODES, (batch, levels, frames))


def block_over(block: LookaheadBlock, x: Tensor, state: StreamState | None = None) -> Tensor:
    """A block of two groups of three channels over `b 6 t`."""
    return block(x.unflatten(1, (2, 3)).permute(0, 3, 1, 2), state).permute(0, 2, 3, 1).flatten(1, 2)


def latents_of(encoder: BandEncoder, x: Tensor, state: StreamState | None = None) -> Tensor:
    """Latents of magnitudes `b f t` as `b n u`."""
    return encoder(x.transpose(1, 2), state).flatten(2).transpose(1, 2)


def in_pieces(run: Callable[..., Tensor], layer: Any, pieces: Sequence[Tensor]) -> Tensor:
    state = StreamState()
    return torch.cat([run(layer, piece, state) for piece in pieces], -1)


def pushed(stream: Any, pieces: Sequence[Any]) -> Tensor:
    return torch.cat([*(stream.push(piece) for piece in pieces), stream.flush()], -1)


def codec_cases(name: str, config: SoundStreamConfig) -> dict[str, Case]:
    frame = config.samples_per_frame
    ahead = math.ceil(config.decoder_lookahead / frame)
    return {
        f"SoundStream.latents {name}": Case(
            make=lambda: codec(config),
            draw=lambda batch, steps: audio(batch, steps * frame),
            whole=lambda model, x: model.latents(x),
            inputs=frame,
            ahead=config.lookahead,
        ),
        f"SoundStream.encode {name}": Case(
            make=lambda: codec(config),
            draw=lambda batch, steps: audio(batch, steps * frame - 101),  # the last step is cut short
            whole=lambda model, x: model.encode(x),
            stream=lambda model, pieces: pushed(EncoderStream(model), pieces),
            inputs=frame,
            ahead=config.lookahead,
            differentiable=False,
            batch=1,
        ),
        f"SoundStream.decode {name}": Case(
            make=lambda: codec(config),
            draw=lambda batch, steps: some_codes(batch, config.levels, steps),
            whole=lambda model, codes: model.decode(codes),
            stream=lambda model, pieces: pushed(DecoderStream(model), pieces),
            outputs=frame,
            ahead=ahead,
            tight=config.network != "bands",
            differentiable=False,
            steps=ahead + 9,
            tolerance=2e-5,
        ),
    }


SOUNDSTREAM = {
    "ResidualUnit": Case(
        make=lambda: ResidualUnit(4, 3),
        draw=lambda batch, steps: torch.randn(batch, 4, steps),
        whole=lambda layer, x: layer(x),
        stream=stateful,
        ahead=0,
        steps=30,
    ),
    "WaveformEncoder": Case(
        make=lambda: WaveformEncoder(WAVEFORM),
        draw=lambda batch, steps: torch.randn(batch, 1, 480 * steps),
        whole=lambda layer, x: layer(x),
        stream=stateful,
        inputs=480,
        ahead=0,
        cut=480,
    ),
    "WaveformDecoder": Case(
        make=lambda: WaveformDecoder(WAVEFORM),
        draw=lambda batch, steps: torch.randn(batch, 8, steps),
        whole=lambda layer, x: layer(x),
        stream=stateful,
        outputs=480,
        ahead=0,
    ),
    "LookaheadBlock": Case(  # its output lags by what it looks ahead
        make=lambda: LookaheadBlock(3, 2, kernel=5, ahead=2, expansion=2, scale=1.0),
        draw=lambda batch, steps: torch.randn(batch, 6, steps),
        whole=lambda layer, x: block_over(layer, x),
        stream=lambda layer, pieces: in_pieces(block_over, layer, pieces),
        ahead=0,
    ),
    "BandEncoder": Case(
        make=lambda: BandEncoder(BANDS.bands[0], BANDS),
        draw=lambda batch, steps: torch.randn(batch, BANDS.bands[0].width(24000), 2 * steps),
        whole=lambda layer, x: latents_of(layer, x),
        stream=lambda layer, pieces: in_pieces(latents_of, layer, pieces),
        inputs=2,
        ahead=0,
        cut=2,
    ),
    "BandsEncoder": Case(
        make=lambda: BandsEncoder(BANDS),
        draw=lambda batch, steps: audio(batch, 960 * steps),
        whole=lambda layer, x: layer(x),
        stream=stateful,
        inputs=960,
        ahead=0,
        cut=960,
    ),
    **{case: made for name, config in NETWORKS.items() for case, made in codec_cases(name, config).items()},
    "SoundStream.encode codes that hold": codec_cases("", replace(BANDS, hold=1.0))["SoundStream.encode "],
}

# -- attention


def conformer(kernel: int = 3, causal: bool = False) -> ConformerConfig:
    return ConformerConfig(width=16, num_heads=2, num_layers=2, ff_width=32, kernel=kernel, causal=causal, dropout=0.0)


def conformer_case(kernel: int, causal: bool) -> Case:
    def run(layer: Conformer, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return layer(x.transpose(1, 2), mask).transpose(1, 2)

    return Case(
        make=lambda: Conformer(conformer(kernel, causal)),
        draw=lambda batch, steps: torch.randn(batch, 16, steps),
        whole=run,
        masked=run,
        ahead=0 if causal else None,
        sides=("left", "right"),
        junk=9.0 if causal else NAN,
    )


def transformer(positions: Any) -> Transformer:
    config = TransformerConfig(
        width=16,
        num_layers=2,
        num_heads=2,
        ff_width=24,
        dropout=0.0,
        positions=positions,
        t5_buckets=8,
        t5_max_distance=9,
    )
    model = Transformer(config)
    if positions == "t5":
        nn.init.normal_(model.distance_bias.weight)
    return model


def where(start: int, stop: int) -> Tensor:
    return torch.arange(start, stop) * 1.5 - 3


def transformer_case(positions: str) -> Case:
    def cached(model: Transformer, pieces: Sequence[Tensor]) -> Tensor:
        total = sum(piece.shape[-1] for piece in pieces)
        held, found, start = model.new_cache(len(pieces[0]), total + 2), [], 0
        for piece in pieces:
            stop = start + piece.shape[-1]
            hidden, held = model(piece.transpose(1, 2), where(start, stop), held)
            assert held.length == stop
            found.append(hidden.transpose(1, 2))
            start = stop
        return torch.cat(found, -1)

    return Case(
        make=lambda: transformer(positions),
        draw=lambda batch, steps: torch.randn(batch, 16, steps),
        whole=lambda model, x: model(x.transpose(1, 2), where(0, x.shape[-1]))[0].transpose(1, 2),
        stream=cached,
        ahead=0,
        steps=13,
        junk=9.0,
    )


# -- language models: codes in reading order; what comes out are the logits of each code, of those before it


FOUR = replace(SPECS[1], levels=4, frame_rate_hz=12.5)  # semantic frames as the bands preset has them


def language_model(
    stage: str,
    positions: Any = "rotary",
    cumulative: bool = False,
    depth_width: int = 0,
    semantic: TokenSpec = SPECS[1],
) -> TokenLM:
    config = TransformerConfig(width=16, num_layers=2, num_heads=2, ff_width=24, dropout=0.0, positions=positions)
    settings = TokenLMConfig(
        stage=stage,
        transformer=config,
        mulan_levels=2,
        specs=(SPECS[0], semantic, SPECS[2]),
        cumulative_mulan=cumulative,
        depth_width=depth_width,
    )
    model = TokenLM(settings)
    for weight in model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.4)  # so that what is read matters
    return model


def prefix_of(model: TokenLM, batch: int) -> tuple[Tensor, Tensor]:
    streams, levels = random_streams(1, 20), model.config.specs[1].levels
    semantic = streams["semantic"].unflatten(2, (-1, levels)).transpose(2, 3).flatten(1, 2)
    ids, positions = model.layout.prefix({**streams, "semantic": semantic})
    return ids.expand(batch, -1), positions


def language_model_case(stage: str, positions: str, cumulative: bool, semantic: TokenSpec = SPECS[1]) -> Case:
    levels = {"semantic": semantic.levels, "coarse": 4, "fine": 8}[stage]

    def whole(model: TokenLM, codes: Tensor) -> Tensor:
        target = codes[:, 0].unflatten(1, (-1, levels)).transpose(1, 2)
        logits = model(*prefix_of(model, len(codes)), target)
        return logits.permute(0, 3, 2, 1).flatten(2)  # b v t*q

    def read(model: TokenLM, pieces: Sequence[Tensor]) -> Tensor:
        ids = model.layout.target_ids(torch.cat(list(pieces), -1)[:, 0].unflatten(1, (-1, levels)).transpose(1, 2))
        prefix, positions = prefix_of(model, len(ids))
        held = model.transformer.new_cache(len(ids), prefix.shape[1] + ids.shape[1])
        hidden, held = model.read(prefix, positions, held)
        states, start = [hidden[:, -1:]], 0
        for piece in pieces:
            stop = start + piece.shape[-1]
            hidden, held = model.read(ids[:, start:stop], model.layout.target_positions(start, stop, ids.device), held)
            states.append(hidden)
            start = stop
        states = torch.cat(states, 1)[:, :-1]
        return torch.stack([model.logits(states[:, step], step % levels) for step in range(start)], -1)

    return Case(
        make=lambda: language_model(stage, positions, cumulative, semantic=semantic),
        draw=lambda batch, steps: some_codes(batch, 1, steps * levels),
        whole=whole,
        stream=read,
        ahead=-1,
        differentiable=False,
        steps=5,
        tolerance=1e-4,
    )


def whole_frames_case(stage: str, semantic: TokenSpec = SPECS[1]) -> Case:
    """The same of models that read frames; a step's logits are those of all levels, each given those below."""
    levels = {"semantic": semantic.levels, "coarse": 4, "fine": 8}[stage]

    def whole(model: TokenLM, codes: Tensor) -> Tensor:
        return model(*prefix_of(model, len(codes)), codes).permute(0, 3, 1, 2).flatten(1, 2)  # b v*q t

    def read(model: TokenLM, pieces: Sequence[Tensor]) -> Tensor:
        codes = torch.cat(list(pieces), -1)
        prefix, positions = prefix_of(model, len(codes))
        held = model.transformer.new_cache(len(codes), prefix.shape[1] + codes.shape[-1])
        hidden, held = model.read(prefix, positions, held)
        states, start = [hidden[:, -1:]], 0
        for piece in pieces:
            hidden, held = model.read_codes(piece, start, held)
            states.append(hidden)
            start += piece.shape[-1]
        state = torch.cat(states, 1)[:, :-1]
        ids, logits = model.layout.target_ids(codes).unflatten(1, (-1, levels)), []
        for level in range(levels):
            logits.append(model.logits(state, level))
            state = state + model.embedding(ids[..., level])
        return torch.stack(logits, 2).permute(0, 3, 2, 1).flatten(1, 2)

    return Case(
        make=lambda: language_model(stage, depth_width=24, semantic=semantic),
        draw=lambda batch, steps: some_codes(batch, levels, steps),
        whole=whole,
        stream=read,
        ahead=0,
        differentiable=False,
        steps=5,
        tolerance=1e-4,
    )


# -- SoundStorm: twelve levels and, below them, the semantic code of each frame, which lasts for two


def storm(depth_width: int = 0) -> SoundStorm:
    config = ConformerConfig(width=16, num_heads=2, num_layers=2, ff_width=24, dropout=0.0)
    mulan, semantic, acoustic = SPECS
    model = SoundStorm(
        SoundStormConfig(
            conformer=config, mulan_levels=2, depth_width=depth_width, acoustic=acoustic, semantic=semantic, mulan=mulan
        )
    )
    nn.init.normal_(model.head, std=0.4)
    return model


def mulan_codes(batch: int) -> Tensor:
    return random_streams(1, 1)["mulan"].expand(batch, -1, -1)


def fill_in(model: SoundStorm, x: Tensor, real: Tensor | None = None) -> Tensor:
    return model(x[:, :-1], x[:, -1:, ::2], mulan_codes(len(x)), real).transpose(1, 2)


def storm_input(batch: int, steps: int) -> Tensor:
    return torch.cat([some_codes(batch, 12, 2 * steps), some_codes(batch, 1, steps).repeat_interleave(2, -1)], 1)


# -- samplers: the same random numbers for all rows


def acoustic_case(make: Callable[[], AcousticDecoder], steps: int) -> Case:
    def run(decoder: AcousticDecoder, pieces: Sequence[Tensor]) -> Tensor:
        batch, frames = len(pieces[0]), sum(piece.shape[-1] for piece in pieces)
        source = SemanticSource(iter(pieces), batch, frames)
        return torch.cat(list(decoder.stream(source, mulan_codes(batch), generators(*[5] * batch))), -1)

    def generate(decoder: AcousticDecoder, codes: Tensor) -> Tensor:
        return decoder.generate(codes, mulan_codes(len(codes)), generators(*[5] * len(codes)))

    return Case(
        make=make,
        draw=lambda batch, frames: some_codes(batch, 1, frames),
        whole=generate,
        stream=run,
        outputs=2,
        differentiable=False,
        steps=steps,
    )


CASES: dict[str, Case] = {
    "CausalConv1d dilated": convolution(3, dilation=3),
    "CausalConv1d strided": convolution(4, stride=2),
    "CausalConv1d without overlap": convolution(2, stride=2),
    "CausalConvTranspose1d": transposed(4, 2),
    "CausalConvTranspose1d without overlap": transposed(2, 2),
    **SOUNDSTREAM,
    "Conformer": conformer_case(3, causal=False),
    "Conformer causal": conformer_case(3, causal=True),
    "Conformer causal, even kernel": conformer_case(4, causal=True),
    "Transformer rotary": transformer_case("rotary"),
    "Transformer t5": transformer_case("t5"),
    "W2vBert": Case(
        make=lambda: W2vBert(W2vBertConfig(conformer=conformer(), contrastive_layers=1, n_fft=1024, num_mels=20)),
        draw=lambda batch, steps: audio(batch, 960 * steps),
        whole=lambda model, x: model.hidden_states(x)[-1].transpose(1, 2),
        inputs=960,
    ),
    "TokenLM semantic": language_model_case("semantic", "rotary", cumulative=True),
    "TokenLM semantic t5": language_model_case("semantic", "t5", cumulative=False),
    "TokenLM coarse": language_model_case("coarse", "rotary", cumulative=True),
    "TokenLM fine": language_model_case("fine", "t5", cumulative=False),
    "TokenLM semantic, four levels": language_model_case("semantic", "rotary", cumulative=True, semantic=FOUR),
    "TokenLM semantic, whole frames": whole_frames_case("semantic", FOUR),
    "TokenLM coarse, whole frames": whole_frames_case("coarse", FOUR),
    "TokenLM fine, whole frames": whole_frames_case("fine"),
    "SoundStorm": Case(
        make=storm, draw=storm_input, whole=fill_in, masked=fill_in, inputs=2, outputs=2, differentiable=False
    ),
    "StormAcoustic": acoustic_case(
        lambda: StormAcoustic(storm(), StormSampling(rounds=(2,), window_s=1.0, prompt_s=0.4)), steps=40
    ),
    "StormAcoustic depth": acoustic_case(
        lambda: StormAcoustic(storm(24), StormSampling(rounds=(2,), window_s=1.0, prompt_s=0.4, rest_temperature=0.7)),
        steps=40,
    ),
    "ArAcoustic": acoustic_case(
        lambda: ArAcoustic(
            language_model("coarse").eval(), language_model("fine").eval(), Sampling(guidance=1.5),
            Sampling(temperature=0.4)
        ),
        steps=6,
    ),
    "ArAcoustic whole frames": acoustic_case(
        lambda: ArAcoustic(
            language_model("coarse", depth_width=24).eval(),
            language_model("fine", depth_width=24).eval(),
            Sampling(guidance=1.5),
        ),
        steps=6,
    ),
}  # fmt: skip
STREAMS = [name for name, case in CASES.items() if case.stream]
LOOKING_NO_FURTHER = [name for name, case in CASES.items() if case.ahead is not None]
DIFFERENTIABLE = [name for name in LOOKING_NO_FURTHER if CASES[name].differentiable]
MASKED = [name for name, case in CASES.items() if case.masked]


@cache
def model_of(name: str) -> Any:
    torch.manual_seed(1)
    model = CASES[name].make()
    return model.eval() if isinstance(model, nn.Module) else model


def drawn(case: Case, batch: int, seed: int = 0, steps: int | None = None) -> Tensor:
    torch.manual_seed(seed)
    return case.draw(batch, case.steps if steps is None else steps)


def spoiled(case: Case, x: Tensor, places: Any) -> Tensor:
    """`x` with something else at some places: junk, or other codes."""
    x = x.clone()
    x[places] = (
        (x[places] + 1 + torch.randint(CODES - 1, x[places].shape)) % CODES if not x.is_floating_point() else case.junk
    )
    return x


def same(case: Case, found: Tensor, wanted: Tensor) -> None:
    if wanted.is_floating_point():
        torch.testing.assert_close(found, wanted, atol=case.tolerance, rtol=case.tolerance)
    else:
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_stream_equals_the_whole(name: str, data: st.DataObject) -> None:
    case, model = CASES[name], model_of(name)
    assert case.stream is not None
    x = drawn(case, case.batch)
    places = st.integers(1, x.shape[-1] // case.cut - 1)
    cuts = sorted(data.draw(st.sets(places, max_size=6) | st.just(set(range(1, min(x.shape[-1] // case.cut, 9))))))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, x.shape[-1] // case.cut], strict=True)]
    sizes = [size * case.cut for size in sizes]
    sizes[-1] += x.shape[-1] - sum(sizes)
    with torch.no_grad():
        same(case, case.stream(model, x.split(sizes, -1)), case.whole(model, x))


@pytest.mark.parametrize("name", LOOKING_NO_FURTHER)
def test_what_lies_further_ahead_changes_nothing(name: str) -> None:
    case, model = CASES[name], model_of(name)
    assert case.ahead is not None
    x = drawn(case, 2)
    with torch.no_grad():
        whole = case.whole(model, x)
        for step in range(case.steps):
            end = (step + 1) * case.inputs + case.ahead
            if end < x.shape[-1]:
                found = case.whole(model, spoiled(case, x, (..., slice(max(0, end), None))))
                known = slice(0, (step + 1) * case.outputs)
                same(case, found[..., known], whole[..., known])
                if case.tight and found.is_floating_point() and step:
                    # it does look so far: another last step within its sight is another result
                    near = (..., slice(max(0, end - case.inputs), end))
                    other = spoiled(case, x, near)
                    if x.is_floating_point():
                        other[near] = torch.randn_like(x[near])
                    assert not torch.equal(case.whole(model, other)[..., known], whole[..., known]), step


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_no_gradient_comes_from_further_ahead(name: str) -> None:
    case, model = CASES[name], model_of(name)
    assert case.ahead is not None
    x = drawn(case, 1).requires_grad_()
    step = case.steps // 2
    out = case.whole(model, x)[..., step * case.outputs : (step + 1) * case.outputs]
    weights = torch.randn_like(out)  # a plain sum is constant behind a LayerNorm
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    end = (step + 1) * case.inputs + case.ahead
    assert not gradient[..., end:].any() and gradient[..., end - case.inputs : end].abs().max() > 1e-7


@pytest.mark.parametrize("name", MASKED)
def test_padding_never_leaks(name: str) -> None:
    case, model = CASES[name], model_of(name)
    assert case.masked is not None
    short = case.steps * case.inputs
    for side in case.sides:
        x = drawn(case, 3, steps=case.steps + 4)
        real = torch.ones(3, x.shape[-1], dtype=torch.bool)
        edge = slice(short, None) if side == "right" else slice(0, x.shape[-1] - short)
        real[1, edge] = False
        real[2] = False
        padded = spoiled(replace(case, junk=NAN), x, (1, slice(None), edge))
        padded[2] = padded[1]
        with torch.no_grad():
            out = case.masked(model, padded, real)
            same(case, out[1][:, real[1]][None], case.whole(model, x[1:2][..., real[1]]))
            same(case, out[:1], case.whole(model, x[:1]))
        assert not out[1][:, ~real[1]].any() and not out[2].any(), "zeros at padding, an item of nothing else included"


@pytest.mark.parametrize("name", CASES)
def test_rows_of_a_batch_are_apart(name: str) -> None:
    case, model = CASES[name], model_of(name)
    x = drawn(case, 3)
    with torch.no_grad():
        whole = case.whole(model, x)
        alone = case.whole(model, x[1:2])
        among_junk = case.whole(model, spoiled(replace(case, junk=NAN), x, ([0, 2],)))
    same(case, whole[1:2], alone)
    same(case, among_junk[1:2], alone)
    assert not torch.equal(whole[0], whole[1])


def test_every_layer_that_keeps_a_state_is_here() -> None:
    found = set()
    for module in pkgutil.walk_packages(musiclm.__path__, "musiclm."):
        if module.name.startswith(("musiclm.nn", "musiclm.models")):
            for item in vars(importlib.import_module(module.name)).values():
                if isinstance(item, type) and issubclass(item, nn.Module):
                    hints = getattr(item.forward, "__annotations__", {})
                    if hints.get("state") == StreamState | None:
                        found.add(item)
    assert CausalConv1d in found and WaveformDecoder in found
    assert found <= {type(model_of(name)) for name in CASES}, "a layer with a state has no case"
