from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.generate.acoustic import SemanticSource
from musiclm.generate.storm import StormAcoustic, StormSampling, fill, num_masked
from musiclm.models.storm.frames import FrameDrawer
from musiclm.models.storm.model import SoundStorm
from tests.models.storm.test_model import FOUR, SERIES, four_codes, make
from tests.toy import generators, random_streams


def lively(depth_width: int = 0, **more: Any) -> SoundStorm:
    model = make(depth_width=depth_width, **more)
    torch.nn.init.normal_(model.head, std=0.4)
    return model


MODEL, DEEP, IN_ORDER = lively(), lively(24), lively(24, series=SERIES)
WITH_HISTORY = lively(24, series=SERIES, history_layers=1)
BOTH = pytest.mark.parametrize(
    "model", [MODEL, DEEP, IN_ORDER, WITH_HISTORY], ids=["published", "depth", "in order", "history"]
)


@settings(max_examples=50, deadline=None)
@given(frames=st.integers(1, 600), rounds=st.integers(1, 20))
def test_every_round_fixes_some_and_the_last_all(frames: int, rounds: int) -> None:
    left = [num_masked(frames, index, rounds) for index in range(rounds)]
    assert left[-1] == 0 and left == sorted(left, reverse=True) and left[0] < frames


def test_the_schedule_is_a_quarter_of_a_cosine() -> None:
    """Few frames are fixed while little is known, many at the end: cos(15, 30, 45, 60, 75 degrees) of 1000, none."""
    assert [num_masked(1000, index, 6) for index in range(6)] == [965, 866, 707, 500, 258, 0]


def test_rounds_keep_what_they_fixed_and_the_prompt() -> None:
    streams = random_streams(2, 10)
    sampling = StormSampling(rounds=(4, 2))
    prompt = streams["acoustic"][:, :, :6]
    before = None
    counts = []
    codes = torch.cat([prompt, torch.zeros(2, 12, 14, dtype=torch.long)], 2)
    for after in fill(MODEL, codes, slice(6, None), streams["semantic"], streams["mulan"], sampling, generators(1, 2)):
        assert torch.equal(after[:, :, :6], prompt)
        known = after != MODEL.mask_code
        if before is not None:
            old = before != MODEL.mask_code
            assert torch.equal(after[old], before[old])
        counts.append(int(known[0].sum()))
        before = after.clone()
    masked = [num_masked(14, index, 4) for index in range(4)]
    # prompt, then level 0 by the cosine, level 1 in two rounds, ten more levels at once
    assert counts[:4] == [6 * 12 + 14 - left for left in masked]
    assert len(counts) == 4 + 2 + 10 and counts[-1] == 20 * 12


def test_one_round_greedy_equals_the_slow_way() -> None:
    streams = random_streams(1, 6)
    out = StormAcoustic(MODEL, StormSampling(rounds=(1,), rest_temperature=0.0)).generate(
        streams["semantic"], streams["mulan"], generators(0)
    )
    codes = torch.full((1, 12, 12), MODEL.mask_code)
    for level in range(12):
        hidden = MODEL(codes, streams["semantic"], streams["mulan"])
        codes[:, level] = (hidden @ MODEL.head[level].T + MODEL.head_bias[level]).argmax(-1)
    assert torch.equal(out, codes)


@BOTH
def test_same_seed_same_codes_and_a_batch_item_equals_the_single_run(model: SoundStorm) -> None:
    streams = random_streams(3, 30)
    decoder = StormAcoustic(model, StormSampling(rounds=(4,), rest_temperature=0.5))
    batch = decoder.generate(streams["semantic"], streams["mulan"], generators(1, 2, 3))
    again = decoder.generate(streams["semantic"], streams["mulan"], generators(1, 2, 3))
    single = decoder.generate(streams["semantic"][1:2], streams["mulan"][1:2], generators(2))
    assert torch.equal(batch, again) and torch.equal(batch[1:2], single)
    assert int(batch.max()) < 16
    assert not torch.equal(batch, decoder.generate(streams["semantic"], streams["mulan"], generators(4, 5, 6)))


@BOTH
def test_conditions_matter(model: SoundStorm) -> None:
    streams, other = random_streams(1, 20), random_streams(1, 20, seed=9)
    decoder = StormAcoustic(model)
    out = decoder.generate(streams["semantic"], streams["mulan"], generators(1))
    assert not torch.equal(out, decoder.generate(other["semantic"], streams["mulan"], generators(1)))
    assert not torch.equal(out, decoder.generate(streams["semantic"], None, generators(1)))


@settings(max_examples=60, deadline=None)
@given(frames=st.integers(1, 150), known=st.integers(0, 300), window=st.integers(2, 20), prompt=st.integers(0, 19))
def test_windows_cover_all_that_is_unknown_once(frames: int, known: int, window: int, prompt: int) -> None:
    frames, prompt, known = 2 * frames, min(prompt, window - 1), min(known, 2 * frames)
    decoder = StormAcoustic(MODEL, StormSampling(window_s=window / 25, prompt_s=prompt / 25))
    for start, stop in decoder.plan(frames, known):
        assert start % 2 == 0 and start <= known < stop and stop - start <= 2 * window
        assert known - start <= 2 * prompt + 1
        known = stop
    assert known == frames


def test_whole_frames_are_fixed_and_kept() -> None:
    streams = random_streams(2, 10)
    prompt = streams["acoustic"][:, :, :6]
    codes = torch.cat([prompt, torch.zeros(2, 12, 14, dtype=torch.long)], 2)
    passes = list(
        after.clone()
        for after in fill(
            DEEP,
            codes,
            slice(6, None),
            streams["semantic"],
            streams["mulan"],
            StormSampling(rounds=(4,)),
            generators(1, 2),
        )
    )
    assert len(passes) == 4
    for index, after in enumerate(passes):
        masked = after == DEEP.mask_code
        assert torch.equal(after[:, :, :6], prompt) and torch.equal(masked.all(1), masked.any(1))
        assert masked.any(1).sum(1).tolist() == [num_masked(14, index, 4)] * 2
        if index:
            known = passes[index - 1] != DEEP.mask_code
            assert torch.equal(after[known], passes[index - 1][known])


@pytest.mark.parametrize("model", [IN_ORDER, WITH_HISTORY], ids=["in order", "history"])
def test_frames_in_order_are_drawn_from_what_training_learned(model: SoundStorm) -> None:
    """Greedy codes are the likeliest ones by the losses' own logits, given all frames before and those known after."""
    streams = random_streams(1, 5)
    codes = streams["acoustic"].clone()
    sampling = StormSampling(rounds=(3,), temperature=0.0, rest_temperature=0.0)
    passes = [
        out.clone() for out in fill(model, codes, slice(3, None), streams["semantic"], None, sampling, generators(1))
    ]
    assert [int((out == model.mask_code).any(1).sum()) for out in passes] == [5, 3, 0]
    seen = torch.cat([codes[:, :, :3], torch.full((1, 12, 7), model.mask_code)], 2)
    for out in passes:
        hidden = model(seen, streams["semantic"], None)
        if model.config.history_layers:
            hidden, _ = model.with_history(hidden, model.frames_before(out))
        before, after = (part[0].T for part in model.neighbours(out, seen))
        logits = model.all_depth_logits(hidden[0], out[0].T.clamp(max=15), (before, after))
        new = ((out != seen).any(1))[0]
        assert new.any() and torch.equal(logits.argmax(-1)[new], out[0].T[new])
        seen = out


def test_a_drawer_serves_with_autocast_and_without() -> None:
    """As a bundle's is used by what measures both."""
    streams, drawer = random_streams(1, 10), FrameDrawer(WITH_HISTORY)
    for enabled in (False, True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            one = StormAcoustic(WITH_HISTORY, drawer=drawer)
            codes = one.generate(streams["semantic"], streams["mulan"], generators(3))
            made_anew = StormAcoustic(WITH_HISTORY).generate(streams["semantic"], streams["mulan"], generators(3))
            assert torch.equal(codes, made_anew)


def test_a_gap_in_order_knows_what_follows() -> None:
    streams = random_streams(1, 10)
    codes, sampling = streams["acoustic"], StormSampling(rounds=(2,))
    (out,) = list(fill(IN_ORDER, codes, slice(6, 14), streams["semantic"], None, sampling, generators(1)))[-1:]
    assert torch.equal(out[:, :, :6], codes[:, :, :6]) and torch.equal(out[:, :, 14:], codes[:, :, 14:])
    other = codes.clone()
    other[:, :, 14:] = (other[:, :, 14:] + 1) % 16
    (changed,) = list(fill(IN_ORDER, other, slice(6, 14), streams["semantic"], None, sampling, generators(1)))[-1:]
    assert not torch.equal(out[:, :, 6:14], changed[:, :, 6:14])


def test_codes_that_stay_are_those_of_the_last_frame() -> None:
    model = lively(24, series=SERIES)
    model.beside.data.zero_()
    model.depth.out_norm.weight.data.zero_()
    model.depth.out_norm.bias.data.fill_(1.0)
    model.stay.data[0] = 100.0
    streams = random_streams(1, 20)
    prompt = streams["acoustic"][:, :, :4]
    out = StormAcoustic(model).generate(streams["semantic"], streams["mulan"], generators(1), prompt)
    last = {number: int(prompt[0, level, -1]) for level, number in enumerate(SERIES)}  # the last of each group
    assert (out[0, :, 4:] == torch.tensor([last[number] for number in SERIES])[:, None]).all()


def test_windows_stream_what_generate_returns() -> None:
    streams = random_streams(2, 60)
    decoder = StormAcoustic(MODEL, StormSampling(rounds=(2,), window_s=1.0, prompt_s=0.4))
    seen: list[tuple[int, int]] = []
    pieces = list(
        decoder.stream(streams["semantic"], streams["mulan"], generators(1, 2), on_progress=lambda *x: seen.append(x))
    )
    assert [piece.shape[2] for piece in pieces] == [50, 30, 30, 10]
    whole = torch.cat(pieces, 2)
    assert torch.equal(whole, decoder.generate(streams["semantic"], streams["mulan"], generators(1, 2)))
    assert seen[0] == (1, 52) and seen[-1] == (52, 52)


def test_semantic_codes_are_asked_for_as_windows_need_them() -> None:
    streams = random_streams(2, 60)
    made = []

    def pieces() -> Iterator[torch.Tensor]:
        for piece in streams["semantic"].split(7, 2):
            made.append(piece.shape[2])
            yield piece

    decoder = StormAcoustic(MODEL, StormSampling(rounds=(2,), window_s=1.0, prompt_s=0.4))
    stream = decoder.stream(SemanticSource(pieces(), 2, 60), streams["mulan"], generators(1, 2))
    first = next(stream)
    assert sum(made) == 28, "the first window needs 25 of 60 frames"
    whole = torch.cat([first, *stream], 2)
    assert sum(made) == 60
    assert torch.equal(whole, decoder.generate(streams["semantic"], streams["mulan"], generators(1, 2)))
    with pytest.raises(ValueError, match="7 semantic frames came of the 60 announced"):
        short = SemanticSource(iter([streams["semantic"][:, :, :7]]), 2, 60)
        list(decoder.stream(short, streams["mulan"], generators(1, 2)))


@pytest.mark.parametrize("depth_width", [0, 24])
def test_semantic_frames_of_four_codes(depth_width: int) -> None:
    """A stream equals the whole, a batch single runs; windows begin with a semantic frame; each level matters."""
    model, semantic = lively(depth_width, code_width=6, semantic=FOUR), four_codes(2, 10)
    mulan = random_streams(2, 1)["mulan"]
    decoder = StormAcoustic(model, StormSampling(rounds=(2,), window_s=0.4, prompt_s=0.16))
    pieces = list(decoder.stream(SemanticSource(iter(semantic.split(3, 2)), 2, 10), mulan, generators(1, 2)))
    assert [piece.shape[2] for piece in pieces] == [20, 12, 8]
    whole = decoder.generate(semantic, mulan, generators(1, 2))
    assert whole.shape == (2, 12, 40) and torch.equal(torch.cat(pieces, 2), whole)
    assert torch.equal(decoder.generate(semantic[1:], mulan[1:], generators(2)), whole[1:])
    for level in range(4):
        other = semantic.clone()
        other[:, level] = (other[:, level] + 5) % 16
        assert not torch.equal(decoder.generate(other, mulan, generators(1, 2)), whole)


@BOTH
def test_a_prompt_comes_back_and_shapes_what_follows(model: SoundStorm) -> None:
    streams = random_streams(1, 30)
    decoder = StormAcoustic(model, StormSampling(rounds=(2,)))
    outs = []
    for prompt in (streams["acoustic"][:, :, :21], random_streams(1, 30, 5)["acoustic"][:, :, :21]):
        out = decoder.generate(streams["semantic"], streams["mulan"], generators(1), prompt)
        assert out.shape == (1, 12, 60) and torch.equal(out[:, :, :21], prompt)
        outs.append(out[:, :, 21:])
    assert not torch.equal(*outs)
    full = streams["acoustic"]
    assert torch.equal(decoder.generate(streams["semantic"], streams["mulan"], generators(1), full), full)
    with pytest.raises(ValueError, match="prompt must be"):
        decoder.generate(streams["semantic"], None, generators(1), torch.zeros(1, 12, 61).long())


@settings(max_examples=80, deadline=None)
@given(frames=st.integers(1, 150), data=st.data(), window=st.integers(2, 20), prompt=st.integers(0, 19))
def test_windows_of_a_gap_make_each_frame_once_and_see_both_sides(
    frames: int, data: st.DataObject, window: int, prompt: int
) -> None:
    frames, prompt = 2 * frames, min(prompt, window - 1)
    start = 2 * data.draw(st.integers(0, frames // 2 - 1))
    stop = data.draw(st.integers(start + 1, frames))
    decoder = StormAcoustic(MODEL, StormSampling(window_s=window / 25, prompt_s=prompt / 25))
    least, known = min(decoder.prompt, decoder.window // 3), start
    plan = decoder.plan_infill(frames, range(start, stop))
    for seen, free in plan:
        assert free.start == known and seen.start <= free.start < free.stop <= seen.stop <= frames
        assert seen.start % 2 == 0 and len(seen) <= decoder.window + 2, "frames of a unit more at most"
        assert seen.start <= max(0, free.start - least)
        known = free.stop
    assert known == stop and plan[-1][0].stop >= min(frames, stop + least)


@pytest.mark.parametrize("model", [MODEL, DEEP, IN_ORDER], ids=["published", "depth", "in_order"])
def test_a_gap_is_filled_to_fit_both_sides(model: SoundStorm) -> None:
    streams, other = random_streams(2, 60), random_streams(2, 60, seed=5)
    decoder = StormAcoustic(model, StormSampling(rounds=(2,), window_s=1.0, prompt_s=0.2))
    seen: list[tuple[int, int]] = []

    def filled(codes: torch.Tensor, *seeds: int) -> torch.Tensor:
        return decoder.infill(
            codes, range(30, 96), streams["semantic"], streams["mulan"], generators(*seeds), lambda *x: seen.append(x)
        )

    codes = streams["acoustic"]
    before = codes.clone()
    out = filled(codes, 1, 2)
    assert out.shape == (2, 12, 66) and int(out.max()) < 16 and torch.equal(codes, before)
    windows = len(decoder.plan_infill(120, range(30, 96)))
    assert windows > 1 and seen[-1] == (windows * decoder.passes, windows * decoder.passes)
    assert torch.equal(out, filled(codes, 1, 2))
    changed = codes.clone()
    changed[:, :, 30:96] = 0
    assert torch.equal(out, filled(changed, 1, 2)), "what is replaced does not matter"
    for side in (slice(None, 30), slice(96, None)):
        changed = codes.clone()
        changed[:, :, side] = other["acoustic"][:, :, side]
        assert not torch.equal(out, filled(changed, 1, 2))


@pytest.mark.parametrize(
    "values", [{"rounds": ()}, {"rounds": (0,)}, {"temperature": -1.0}, {"top_p": 0.0}, {"prompt_s": 10.0}]
)
def test_bad_settings_are_refused(values: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        StormSampling(**values)
