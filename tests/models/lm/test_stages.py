import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.models.lm.stages import NULL_ID, PAD_ID, STAGES, Layout
from tests.toy import SPECS, from_ids, random_streams


def toy(stage: str, mulan_levels: int = 2) -> Layout:
    return Layout(STAGES[stage], SPECS, mulan_levels)


def test_the_stages_are_those_of_the_paper() -> None:
    layouts = {name: Layout(stage) for name, stage in STAGES.items()}
    assert {name: layout.stage.crop_s for name, layout in layouts.items()} == {"semantic": 30, "coarse": 10, "fine": 3}
    assert {name: layout.crop_frames() for name, layout in layouts.items()} == {
        "semantic": 750,
        "coarse": 500,
        "fine": 150,
    }
    # conditions with their opening ids, and the opening of the target
    assert layouts["semantic"].prefix_length({}) == 1 + 12 + 1
    assert layouts["coarse"].prefix_length({"semantic": 250}) == 1 + 12 + 1 + 250 + 1
    assert layouts["fine"].prefix_length({"acoustic": 150}) == 1 + 4 * 150 + 1
    assert [layout.target_spec.levels for layout in layouts.values()] == [1, 4, 8]
    assert [layout.places_per_second for layout in layouts.values()] == [25, 200, 400]
    assert layouts["semantic"].num_ids == 2 + 2 + 12 * 1024 + 1024


def test_coarse_sequence_written_out() -> None:
    layout = toy("coarse")
    streams = {"mulan": torch.tensor([[[3], [1]]]), "semantic": torch.tensor([[[5, 9]]])}
    ids, positions = layout.prefix(streams)
    mulan, semantic, target = layout.offsets
    assert (mulan, semantic, target) == (5, 5 + 8, 5 + 8 + 16)
    assert ids.tolist() == [[2, mulan + 3, mulan + 4 + 1, 3, semantic + 5, semantic + 9, 4]]
    # a semantic frame lasts as long as 8 target ids; MuLan lies before the time line
    assert positions.tolist() == [-4, -3, -2, -1, 0, 8, -1]
    codes = torch.tensor([[[1], [2], [3], [4]]])
    assert layout.target_ids(codes).tolist() == [[target + 1, target + 16 + 2, target + 32 + 3, target + 48 + 4]]


def test_fine_condition_stands_where_its_frame_is() -> None:
    layout = toy("fine")
    _, positions = layout.prefix(random_streams(1, 1))
    assert positions.tolist() == [-1, 0, 2, 4, 6, 8, 10, 12, 14, -1]
    assert layout.target_positions(0, 9, torch.device("cpu")).tolist() == list(range(9))


@settings(max_examples=30, deadline=None)
@given(stage=st.sampled_from(sorted(STAGES)), frames=st.integers(1, 6), seed=st.integers(0, 99))
def test_codes_to_ids_and_back_and_no_two_parts_share_an_id(stage: str, frames: int, seed: int) -> None:
    layout, streams = toy(stage), random_streams(2, frames, seed)
    codes = layout.target_codes(streams)
    ids = layout.target_ids(codes)
    assert torch.equal(from_ids(ids, layout.target_spec, layout.target_offset), codes)
    prefix, positions = layout.prefix(streams)
    assert prefix.shape[1] == len(positions) == layout.prefix_length({"semantic": frames, "acoustic": 2 * frames})
    assert int(ids.max()) < layout.num_ids and int(prefix.max()) < layout.target_offset <= int(ids.min())
    ranges = [set(range(o, o + s.num_ids)) for o, s in zip(layout.offsets, layout.specs, strict=True)]
    ranges += [{PAD_ID}, {NULL_ID}, *({layout.opening_id(i)} for i in range(len(layout.parts)))]
    assert sum(map(len, ranges)) == len(set().union(*ranges)) == layout.num_ids


def test_dropping_hides_mulan_alone() -> None:
    layout, streams = toy("coarse"), random_streams(2, 3)
    kept, _ = layout.prefix(streams)
    dropped, _ = layout.prefix(streams, torch.tensor([True, False]))
    assert dropped[0, 1:3].tolist() == [NULL_ID, NULL_ID]
    assert torch.equal(dropped[0, 3:], kept[0, 3:]) and torch.equal(dropped[1], kept[1])


def test_frames_past_the_end_become_padding() -> None:
    layout, streams = toy("fine"), random_streams(2, 3)
    ids, _ = layout.prefix(streams, num_frames={"acoustic": torch.tensor([2, 6])})
    assert (ids[0, 1 : 1 + 8] != PAD_ID).all() and (ids[0, 9:-1] == PAD_ID).all() and (ids[1] != PAD_ID).all()


def test_wrong_streams_are_refused() -> None:
    layout, streams = toy("coarse"), random_streams(1, 2)
    with pytest.raises(ValueError, match="needs codes of 'semantic', got mulan"):
        layout.prefix({"mulan": streams["mulan"]})
    with pytest.raises(ValueError, match="levels 0:2 of 'mulan'"):
        layout.prefix({**streams, "mulan": streams["mulan"][:, :1]})
    with pytest.raises(ValueError, match="must lie in"):
        layout.prefix({**streams, "semantic": streams["semantic"] + 16})
    with pytest.raises(ValueError, match="levels 0:3 of stream 'mulan'"):
        toy("coarse", mulan_levels=3)
