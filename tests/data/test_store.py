import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from musiclm.data.corpus.manifest import RENDERED
from musiclm.data.store import CODEBOOK_FILE, HEADER_FILE, StoreError, StreamHeader, StreamWriter, TokenStore
from tests.toy import HEADERS, Writers, codebooks, make_store, make_track


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return make_store(tmp_path_factory.mktemp("store"))


def test_what_goes_in_comes_out(store: TokenStore) -> None:
    assert len(store.tracks) == 12 and len(store.of_split("train")) == 8
    for index, track in enumerate(store.tracks[:8]):
        original = make_track(index % 4, 1000 + index, index)
        crop = store.cut([(index, 0)], track.num_frames)
        assert track.num_frames == 1000 + index
        np.testing.assert_array_equal(crop.codes["semantic"][0], original["semantic"])
        np.testing.assert_array_equal(crop.codes["acoustic"][0], original["acoustic"])
        assert crop.num_frames.tolist() == [1000 + index]


@settings(max_examples=30, deadline=None)
@given(start=st.integers(0, 1100), length=st.integers(1, 300))
def test_streams_are_cut_at_the_same_moment(store: TokenStore, start: int, length: int) -> None:
    whole = store.cut([(2, 0)], 1002)
    start = min(start, 1001)
    crop = store.cut([(2, start)], length)
    real = min(length, 1002 - start)
    assert crop.num_frames.tolist() == [real]
    semantic, acoustic = crop.codes["semantic"], crop.codes["acoustic"]
    assert semantic.shape == (1, 1, length) and acoustic.shape == (1, 12, 2 * length)
    assert torch.equal(semantic[..., :real], whole.codes["semantic"][..., start : start + real])
    assert torch.equal(acoustic[..., : 2 * real], whole.codes["acoustic"][..., 2 * start : 2 * (start + real)])
    assert not semantic[..., real:].any() and not acoustic[..., 2 * real :].any()


def test_batches_are_a_pure_function_of_seed_and_step(store: TokenStore) -> None:
    one, again = store.crops("train", 3.0, 5, seed=1, step=7), store.crops("train", 3.0, 5, seed=1, step=7)
    assert torch.equal(one.codes["acoustic"], again.codes["acoustic"]) and one.tracks == again.tracks
    for seed, step in ((1, 8), (2, 7)):
        assert not torch.equal(one.codes["acoustic"], store.crops("train", 3.0, 5, seed, step).codes["acoustic"])


def test_long_tracks_are_drawn_more_often(tmp_path: Path) -> None:
    writers = Writers(tmp_path)
    writers.add("long", "train", make_track(0, 900, 0))
    writers.add("short", "train", make_track(1, 100, 1))
    writers.flush()
    crops = TokenStore(tmp_path).crops("train", 1.0, 1000, 0, 0)
    assert 850 < sum(track == 0 for track in crops.tracks) < 950


def test_rendered_tracks_have_the_share_asked_for(tmp_path: Path) -> None:
    writers = Writers(tmp_path)
    for split in ("train", "validation"):
        writers.add(f"real-{split}", split, make_track(0, 300, 0))
        writers.add(f"rendered-{split}", split, make_track(1, 900, 1), source=RENDERED)
    writers.flush()
    store = TokenStore(tmp_path)
    rendered = {index for index, track in enumerate(store.tracks) if track.rendered}
    assert [store.tracks[index].id for index in sorted(rendered)] == ["rendered-train", "rendered-validation"]

    def share(wanted: float | None) -> float:
        drawn = [t for step in range(250) for t in store.crops("train", 1.0, 4, 0, step, wanted).tracks]
        return sum(track in rendered for track in drawn) / len(drawn)

    assert share(0.0) == 0 and share(1.0) == 1
    assert share(0.3) == pytest.approx(0.3, abs=0.04)  # 1.2 of 4 crops: one or two
    assert share(None) == pytest.approx(0.75, abs=0.05)
    assert not rendered & set(store.eval_crops("validation", 1.0, 8).tracks)


def test_a_share_of_what_is_not_there_is_refused(store: TokenStore) -> None:
    with pytest.raises(StoreError, match="no rendered tracks of split 'train'"):
        store.crops("train", 1.0, 4, 0, 0, rendered_share=0.5)


@pytest.mark.parametrize(
    ("start_s", "stop_s", "wanted"),
    [
        (0, 10, (0, 1)),
        (0, 30, (0, 21)),
        (0.5, 30, (1, 21)),
        (7, 10, (4, 5)),
        (38, 40, (30, 31)),
        (0, 2, (0, 1)),
        (0.4, 12.6, (1, 3)),
    ],
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


def test_noise_is_of_any_length_up_to_the_one_given(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = F.normalize(store.crops("train", 30.0, 256, 0, 0).embedding, dim=-1)
    quantized: list[torch.Tensor] = []
    monkeypatch.setattr(store._rvq, "encode", lambda rows: quantized.append(rows) or torch.zeros(len(rows), 2))
    store.mulan_codes(embedding, 0.5, torch.Generator().manual_seed(0))
    moved = (quantized[0] - embedding).norm(dim=-1)
    assert float(moved.min()) < 0.05 and 0.4 < float(moved.max()) < 0.55
    assert float(moved.mean()) == pytest.approx(0.22, abs=0.05)


def test_the_baseline_is_what_code_frequencies_alone_score(store: TokenStore) -> None:
    codes = np.concatenate([make_track(i % 4, 1000 + i, i)["semantic"][0] for i in range(8)])
    counts = np.bincount(codes, minlength=16) + 1
    crops = store.eval_crops("validation", 4.0, 3)
    semantic = crops.codes["semantic"]
    seen = np.concatenate([row[0, :n] for row, n in zip(semantic.numpy(), crops.num_frames.tolist(), strict=True)])
    expected = -np.log(counts[seen] / counts.sum()).mean()
    found = store.unigram_loss("semantic", semantic, crops.num_frames)
    assert float(found[0]) == pytest.approx(expected, abs=1e-5)
    acoustic = store.unigram_loss("acoustic", crops.codes["acoustic"], store.num_frames(crops)["acoustic"])
    assert acoustic.shape == (12,) and (acoustic > 0).all()


def test_evaluation_crops_are_fixed_and_neighbours_differ(store: TokenStore) -> None:
    for num in (3, 4, 9):
        crops = store.eval_crops("validation", 5.0, num)
        again = store.eval_crops("validation", 5.0, num)
        assert torch.equal(crops.codes["acoustic"], again.codes["acoustic"])
        assert len(crops.tracks) == num
        assert all(a != b for a, b in zip(crops.tracks, crops.tracks[1:], strict=False))
        assert len({tuple(row.flatten().tolist()) for row in crops.codes["semantic"]}) == num


def semantic_writer(folder: Path, tracks_per_shard: int = 16) -> StreamWriter:
    return StreamWriter(folder, HEADERS["semantic"], codebooks("semantic"), tracks_per_shard)


def test_a_stream_is_resumed_and_never_half_written(tmp_path: Path) -> None:
    writer = semantic_writer(tmp_path, 2)
    for index in range(3):
        writer.add(f"t{index}", "train", 0.0, 4.0, make_track(0, 100, index)["semantic"])
    # killed here: t2 was pending
    again = semantic_writer(tmp_path, 2)
    assert again.done == {"t0", "t1"}
    again.add("t2", "train", 0.0, 4.0, make_track(0, 100, 2)["semantic"])
    again.flush()
    assert semantic_writer(tmp_path).done == {"t0", "t1", "t2"}
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_store_has_the_tracks_that_its_streams_share(tmp_path: Path) -> None:
    tracks = {f"t{index}": make_track(index, 100, index) for index in range(3)}
    for stream, names in {"mulan": "t2 t0 t1", "semantic": "t0 t1 t2", "acoustic": "t1 t2"}.items():
        writer = StreamWriter(tmp_path, HEADERS[stream], codebooks(stream), tracks_per_shard=1)
        for name in names.split():
            writer.add(name, "train", 0.0, 4.0, tracks[name][stream])
    assert [track.id for track in TokenStore(tmp_path).tracks] == ["t2", "t1"]
    without = TokenStore(tmp_path, ("mulan", "semantic"))
    assert [track.id for track in without.tracks] == ["t2", "t0", "t1"]
    crops = without.crops("train", 2.0, 2, 0, 0)
    assert set(without.streams(crops)) == {"mulan", "semantic"} and set(without.encoders) == {"mulan", "w2vbert"}


def test_a_track_is_what_all_its_streams_cover(tmp_path: Path) -> None:
    track = make_track(0, 100, 0)
    parts = {"mulan": (0.0, track["mulan"]), "semantic": (0.0, track["semantic"])}
    parts["acoustic"] = (1.0, track["acoustic"][:, 50:150])  # seconds 1 to 3
    for stream, (start_s, tokens) in parts.items():
        seconds = 2.0 if stream == "acoustic" else 4.0
        StreamWriter(tmp_path, HEADERS[stream], codebooks(stream), 1).add("a", "train", start_s, seconds, tokens)
    store = TokenStore(tmp_path)
    assert store.tracks[0].num_frames == 50
    crop = store.cut([(0, 10)], 20)
    assert torch.equal(crop.codes["semantic"][0], torch.from_numpy(track["semantic"][:, 35:55]).long())
    assert torch.equal(crop.codes["acoustic"][0], torch.from_numpy(track["acoustic"][:, 70:110]).long())
    whole = TokenStore(tmp_path, ("mulan", "semantic"))
    assert whole.tracks[0].num_frames == 100
    assert torch.equal(whole.cut([(0, 35)], 20).codes["semantic"], crop.codes["semantic"])


def test_streams_of_other_segments_or_lengths_are_refused(tmp_path: Path) -> None:
    track = make_track(0, 100, 0)
    for folder, start_s, acoustic, reason in (
        ("moved", 4.0, track["acoustic"], "no part of it in common"),
        ("short", 0.0, track["acoustic"][:, :-10], "190 acoustic frames for 4 s at 50 Hz"),
    ):
        for stream in ("mulan", "semantic"):
            writer = StreamWriter(tmp_path / folder, HEADERS[stream], codebooks(stream), tracks_per_shard=1)
            writer.add("a", "train", 0.0, 4.0, track[stream])
        writer = StreamWriter(tmp_path / folder, HEADERS["acoustic"], codebooks("acoustic"), tracks_per_shard=1)
        writer.add("a", "train", start_s, 4.0, acoustic)
        with pytest.raises(StoreError, match=f"track a.*{reason}"):
            TokenStore(tmp_path / folder)


def test_another_encoder_is_refused_by_name(tmp_path: Path) -> None:
    semantic_writer(tmp_path)
    other = StreamHeader(spec=HEADERS["semantic"].spec, encoder="d" * 64)
    with pytest.raises(StoreError, match="another w2vbert.*new folder"):
        StreamWriter(tmp_path, other, codebooks("semantic"))


def test_bad_tokens_are_refused(tmp_path: Path) -> None:
    good = make_track(0, 100, 0)
    for stream, bad in (
        ("acoustic", good["acoustic"][:-1]),
        ("acoustic", good["acoustic"][:, :0]),
        ("semantic", good["semantic"] + 16),
        ("semantic", good["semantic"] - 1),
        ("mulan", good["mulan"][:0]),
    ):
        writer = StreamWriter(tmp_path, HEADERS[stream], codebooks(stream))
        with pytest.raises(StoreError, match="track a"):
            writer.add("a", "train", 0.0, 4.0, bad)


def test_what_is_no_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no tokens"):
        TokenStore(tmp_path)
    header = tmp_path / "mulan" / HEADER_FILE
    header.parent.mkdir()
    header.write_text("{")
    with pytest.raises(StoreError, match="not the header"):
        TokenStore(tmp_path)
    header.write_text(json.dumps({"format": 99}))
    with pytest.raises(StoreError, match="format 99"):
        TokenStore(tmp_path)
    store = make_store(tmp_path / "good", 1)
    with pytest.raises(StoreError, match="no tracks of split 'test'"):
        store.crops("test", 1.0, 1, 0, 0)
    (tmp_path / "good" / "semantic" / "shard-00000.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(StoreError, match="not a shard"):
        TokenStore(tmp_path / "good")
    (tmp_path / "good" / "mulan" / CODEBOOK_FILE).write_bytes(b"\x80\x04pickle")
    with pytest.raises(StoreError, match="can't be read"):
        TokenStore(tmp_path / "good")


def test_a_stream_alone_is_on_its_own_clock(tmp_path: Path) -> None:
    """What reads acoustic codes alone needs no other stream; a store without MuLan's has no such condition."""
    tracks = {f"t{index}": make_track(index, 100, index) for index in range(2)}
    writer = StreamWriter(tmp_path, HEADERS["acoustic"], codebooks("acoustic"), tracks_per_shard=1)
    for name, track in tracks.items():
        writer.add(name, "train", 0.0, 4.0, track["acoustic"])
    store = TokenStore(tmp_path, ("acoustic",))
    assert store.clock_hz == 50 and store.tracks[0].num_frames == 200 and store.hours("train") == 8 / 3600
    crops = store.cut([(0, 31), (1, 190)], 20)
    assert crops.embedding is None and set(store.streams(crops, 0.3, torch.Generator())) == {"acoustic"}
    assert torch.equal(crops.codes["acoustic"][0], torch.from_numpy(tracks["t0"]["acoustic"][:, 31:51]).long())
    assert store.num_frames(crops)["acoustic"].tolist() == [20, 10]
    with pytest.raises(ValueError, match="without the stream 'mulan'"):
        store.mulan_codes(torch.zeros(1, 8))
    with pytest.raises(StoreError, match="holds no tokens"):
        TokenStore(tmp_path)
    with pytest.raises(ValueError, match="by streams with frames, got mulan"):
        TokenStore(make_store(tmp_path / "all", 1).folder, ("mulan",))


def test_a_lost_shard_comes_again_in_its_place(tmp_path: Path) -> None:
    """So that tracks are in the same order, and crops the same."""

    def fill() -> dict[str, bytes]:
        writer = StreamWriter(tmp_path, HEADERS["semantic"], codebooks("semantic"), tracks_per_shard=2)
        for number in range(5):
            if f"t{number}" not in writer.done:
                writer.add(f"t{number}", "train", 0.0, 4.0, make_track(0, 100, number)["semantic"])
        writer.flush()
        return {path.name: path.read_bytes() for path in sorted((tmp_path / "semantic").iterdir())}

    whole = fill()
    assert len(whole) == 5
    for lost in ("shard-00000.safetensors", "shard-00001.safetensors", "shard-00002.safetensors"):
        (tmp_path / "semantic" / lost).unlink()
        assert fill() == whole
