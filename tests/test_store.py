import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from musiclm.store import HEADER_FILE, Header, StoreError, StoreWriter, TokenStore, TrackTokens
from tests.toy import HEADER, SPECS, codebooks, make_store, make_track


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return make_store(tmp_path_factory.mktemp("store"))


def test_what_goes_in_comes_out(store: TokenStore) -> None:
    assert len(store.tracks) == 12 and len(store.of_split("train")) == 8
    for index, track in enumerate(store.tracks[:8]):
        original = make_track(track.id, "train", index % 4, 1000 + index, index)
        crop = store.cut([(index, 0)], track.num_frames)
        assert track.num_frames == 1000 + index
        np.testing.assert_array_equal(crop.semantic[0, 0], original.semantic)
        np.testing.assert_array_equal(crop.acoustic[0], original.acoustic)
        assert crop.num_frames.tolist() == [1000 + index]


@settings(max_examples=30, deadline=None)
@given(start=st.integers(0, 1100), length=st.integers(1, 300))
def test_streams_are_cut_at_the_same_moment(store: TokenStore, start: int, length: int) -> None:
    whole = store.cut([(2, 0)], 1002)
    start = min(start, 1001)
    crop = store.cut([(2, start)], length)
    real = min(length, 1002 - start)
    assert crop.num_frames.tolist() == [real]
    assert crop.semantic.shape == (1, 1, length) and crop.acoustic.shape == (1, 12, 2 * length)
    assert torch.equal(crop.semantic[..., :real], whole.semantic[..., start : start + real])
    assert torch.equal(crop.acoustic[..., : 2 * real], whole.acoustic[..., 2 * start : 2 * (start + real)])
    assert not crop.semantic[..., real:].any() and not crop.acoustic[..., 2 * real :].any()


def test_batches_are_a_pure_function_of_seed_and_step(store: TokenStore) -> None:
    one, again = store.crops("train", 3.0, 5, seed=1, step=7), store.crops("train", 3.0, 5, seed=1, step=7)
    assert torch.equal(one.acoustic, again.acoustic) and one.tracks == again.tracks
    assert not torch.equal(one.acoustic, store.crops("train", 3.0, 5, seed=1, step=8).acoustic)
    assert not torch.equal(one.acoustic, store.crops("train", 3.0, 5, seed=2, step=7).acoustic)


def test_long_tracks_are_drawn_more_often(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, HEADER, codebooks())
    writer.add(make_track("long", "train", 0, 900, 0))
    writer.add(make_track("short", "train", 1, 100, 1))
    writer.flush()
    crops = TokenStore(tmp_path).crops("train", 1.0, 1000, 0, 0)
    assert 850 < sum(track == 0 for track in crops.tracks) < 950


@pytest.mark.parametrize(
    ("start_s", "stop_s", "wanted"),
    [(0, 10, (0, 1)), (0, 30, (0, 21)), (0.5, 30, (1, 21)), (7, 10, (4, 5)), (38, 40, (30, 31)), (0, 2, (0, 1))],
)
def test_mulan_windows_lie_inside_the_crop_or_nearest(
    store: TokenStore, start_s: float, stop_s: float, wanted: tuple[int, int]
) -> None:
    assert store.windows(round(start_s * 25), round(stop_s * 25), 31) == wanted


def test_mulan_codes_are_those_of_the_normalised_mean(store: TokenStore) -> None:
    crops = store.crops("train", 30.0, 4, 0, 0)
    codes = store.mulan_codes(crops.embedding)
    unit, books = F.normalize(crops.embedding, dim=-1), store.codebooks["mulan"]
    first = torch.cdist(unit, books[0]).argmin(1)
    second = torch.cdist(unit - books[0][first], books[1]).argmin(1)
    assert torch.equal(codes[..., 0], torch.stack([first, second], 1))
    kinds = torch.tensor([int(store.tracks[index].id[-1]) % 4 for index in crops.tracks])
    assert torch.equal(first, kinds)


def test_noise_moves_fine_codes_first(store: TokenStore) -> None:
    embedding = store.crops("train", 30.0, 64, 0, 0).embedding
    clean = store.mulan_codes(embedding)
    noisy = store.mulan_codes(embedding, 0.3, torch.Generator().manual_seed(0))
    again = store.mulan_codes(embedding, 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(noisy, again)
    same = (clean == noisy).float().mean((0, 2))
    assert same[0] > 0.9 and same[1] < 0.9


def test_chance_is_what_code_frequencies_alone_score(store: TokenStore) -> None:
    codes = np.concatenate([make_track("", "train", i % 4, 1000 + i, i).semantic for i in range(8)])
    counts = np.bincount(codes, minlength=16) + 1
    crops = store.eval_crops("validation", 4.0, 3)
    seen = np.concatenate(
        [row[0, :n] for row, n in zip(crops.semantic.numpy(), crops.num_frames.tolist(), strict=True)]
    )
    expected = -np.log(counts[seen] / counts.sum()).mean()
    found = store.unigram_loss("semantic", crops.semantic, crops.num_frames)
    assert float(found[0]) == pytest.approx(expected, abs=1e-5)
    acoustic = store.unigram_loss("acoustic", crops.acoustic, crops.num_frames * store.ratio)
    assert acoustic.shape == (12,) and (acoustic > 0).all()


def test_evaluation_crops_are_fixed_and_neighbours_differ(store: TokenStore) -> None:
    for num in (3, 4, 9):
        crops = store.eval_crops("validation", 5.0, num)
        assert torch.equal(crops.acoustic, store.eval_crops("validation", 5.0, num).acoustic)
        assert len(crops.tracks) == num
        assert all(a != b for a, b in zip(crops.tracks, crops.tracks[1:], strict=False))
        assert len({tuple(row.flatten().tolist()) for row in crops.semantic}) == num


def test_a_store_is_resumed_and_never_half_written(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, HEADER, codebooks(), tracks_per_shard=2)
    for index in range(3):
        writer.add(make_track(f"t{index}", "train", 0, 100, index))
    # killed here: t2 was pending
    again = StoreWriter(tmp_path, HEADER, codebooks(), tracks_per_shard=2)
    assert again.done == {"t0", "t1"}
    again.add(make_track("t2", "train", 0, 100, 2))
    again.flush()
    assert [track.id for track in TokenStore(tmp_path).tracks] == ["t0", "t1", "t2"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_other_encoders_are_refused_by_name(tmp_path: Path) -> None:
    StoreWriter(tmp_path, HEADER, codebooks())
    other = Header(specs=SPECS, encoders={**HEADER.encoders, "w2vbert": "dd" * 32})
    with pytest.raises(StoreError, match="another w2vbert.*new folder"):
        StoreWriter(tmp_path, other, codebooks())


def test_bad_tracks_are_refused(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, HEADER, codebooks())
    good = make_track("a", "train", 0, 100, 0)

    def changed(**values: np.ndarray) -> TrackTokens:
        return TrackTokens(**{**good.__dict__, **values})

    for bad in (
        changed(acoustic=good.acoustic[:, :-1]),
        changed(acoustic=good.acoustic[:-1]),
        changed(semantic=good.semantic + 16),
        changed(mulan=good.mulan[:0]),
    ):
        with pytest.raises(StoreError, match="track a"):
            writer.add(bad)


def test_what_is_no_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no token store"):
        TokenStore(tmp_path)
    (tmp_path / HEADER_FILE).write_text("{")
    with pytest.raises(StoreError, match="not the header"):
        TokenStore(tmp_path)
    (tmp_path / HEADER_FILE).write_text(json.dumps({"format": 99}))
    with pytest.raises(StoreError, match="format 99"):
        TokenStore(tmp_path)
    store = make_store(tmp_path / "good", 1)
    with pytest.raises(StoreError, match="no tracks of split 'test'"):
        store.crops("test", 1.0, 1, 0, 0)
    (tmp_path / "good" / "shard-00000.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(StoreError, match="not a shard"):
        TokenStore(tmp_path / "good")
