import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.core.streams import (
    ACOUSTIC,
    ALL_STREAMS,
    ENCODER_OF,
    ENCODERS,
    MODELS,
    MULAN,
    PARTS,
    SEMANTIC,
    STAGES,
    STREAMS,
    TRAINABLES,
    Pace,
    TokenSpec,
    common_rate_hz,
    to_ids,
)
from tests.toy import from_ids


def test_the_papers_streams() -> None:
    # MusicLM section 4.1: 25 semantic tokens, 600 acoustic ones a second, 12 MuLan tokens a clip
    assert SEMANTIC.frame_rate_hz * SEMANTIC.levels == 25
    assert ACOUSTIC.frame_rate_hz * ACOUSTIC.levels == 600
    assert MULAN.levels == 12 and MULAN.frame_rate_hz is None


def test_interleaves_frame_by_frame() -> None:
    spec = TokenSpec(name="x", codebook_size=10, levels=2, frame_rate_hz=1.0)
    codes = torch.tensor([[[3, 4], [7, 1]]])  # frames (3, 7) and (4, 1)
    assert to_ids(codes, spec).tolist() == [[3, 17, 4, 11]]
    assert to_ids(codes, spec, offset=100).tolist() == [[103, 117, 104, 111]]


@settings(deadline=None)  # a busy machine is no mistake
@given(
    levels=st.integers(1, 5),
    size=st.integers(2, 50),
    frames=st.integers(0, 9),
    offset=st.integers(0, 99),
    seed=st.integers(0, 9),
)
def test_round_trip(levels: int, size: int, frames: int, offset: int, seed: int) -> None:
    spec = TokenSpec(name="x", codebook_size=size, levels=levels, frame_rate_hz=1.0)
    codes = torch.randint(size, (2, levels, frames), generator=torch.Generator().manual_seed(seed))
    ids = to_ids(codes, spec, offset)
    assert ids.shape == (2, levels * frames)
    assert torch.equal(from_ids(ids, spec, offset), codes)
    for level in range(levels):
        own = ids[:, level::levels] - offset - level * size
        assert ((own >= 0) & (own < size)).all(), "each level keeps to its own range"


@pytest.mark.parametrize("codes", [torch.full((1, 12, 2), 1024), torch.full((1, 12, 2), -1)])
def test_codes_outside_the_codebook_are_refused(codes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1024\)"):
        to_ids(codes, ACOUSTIC)


def test_wrong_shapes_and_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="12 levels"):
        to_ids(torch.zeros(1, 3, 2, dtype=torch.long), ACOUSTIC)
    with pytest.raises(ValueError, match="levels 4:13"):
        ACOUSTIC.slice(4, 13)


def test_slices_keep_the_rate() -> None:
    fine = ACOUSTIC.slice(4, 12)
    assert (fine.levels, fine.frame_rate_hz, fine.num_ids) == (8, 50.0, 8192)


def test_every_stream_has_an_encoder_and_every_side_a_whole() -> None:
    assert set(ENCODER_OF) == set(ALL_STREAMS) and set(ALL_STREAMS) - set(STREAMS) == {"melody"}
    assert STAGES == (*ENCODERS, *MODELS) and len(set(STAGES)) == len(STAGES)
    assert set(PARTS) - set(STAGES) == {"melody"} and PARTS.index("melody") < PARTS.index("semantic")
    sides = {name: one.part for name, one in TRAINABLES.items() if one.one_side}
    assert sides == {"soundstream-decoder": "soundstream", "mulan-text": "mulan"}
    assert set(sides.values()) <= set(ENCODERS)


def stream(name: str, rate_hz: float | None) -> TokenSpec:
    return TokenSpec(name=name, codebook_size=4, levels=1, frame_rate_hz=rate_hz)


@pytest.mark.parametrize(
    ("acoustic", "semantic", "expected", "common"),
    [(50, 25, (2, 1), 25), (12.5, 25, (1, 2), 12.5), (75, 25, (3, 1), 25), (25, 25, (1, 1), 25), (75, 50, (3, 2), 25)],
)
def test_streams_of_two_rates_side_by_side(
    acoustic: float, semantic: float, expected: tuple[int, int], common: float
) -> None:
    specs = stream("acoustic", acoustic), stream("semantic", semantic)
    pace = Pace.of(*specs)
    assert (pace.acoustic, pace.semantic) == expected and common_rate_hz(specs) == common
    for units in range(4):
        assert pace.acoustic_frames(units * pace.semantic) == units * pace.acoustic
        assert pace.semantic_frames(units * pace.acoustic) == units * pace.semantic
    assert pace.semantic_frames(pace.acoustic + 1) == 2 * pace.semantic
    assert pace.together(2 * pace.acoustic) == 2 * pace.acoustic


@pytest.mark.parametrize(("acoustic", "semantic"), [(44100 / 512, 50), (44100 / 512, 75), (49, 50.0), (50, 12.3)])
def test_streams_that_hardly_begin_together_are_cut_where_the_acoustic_ones_begin(
    acoustic: float, semantic: float
) -> None:
    pace = Pace.of(stream("acoustic", acoustic), stream("semantic", semantic))
    assert not pace.shared and pace.unit == 1
    assert pace.acoustic / pace.semantic == pytest.approx(acoustic / semantic, rel=1e-6)
    for frames in (*range(100), 50_000):
        assert pace.together(frames) == frames
        needed = pace.semantic_frames(frames)
        assert pace.acoustic_frames(needed) >= frames and (needed - 1) / semantic < frames / acoustic
        start_s, wanted_s = pace.semantic_frame_of(frames) / semantic, frames / acoustic
        assert wanted_s - 1 / semantic < start_s <= wanted_s + 1e-9  # no drift, however late


def test_streams_without_a_rate_have_no_common_one() -> None:
    with pytest.raises(ValueError, match="without a frame rate"):
        common_rate_hz([stream("a", None)])
    with pytest.raises(ValueError, match="multiple of 2, got 3"):
        Pace.of(stream("acoustic", 12.5), stream("semantic", 25)).acoustic_frames(3)
