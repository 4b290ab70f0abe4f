import contextlib
import itertools
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from musiclm.core.bundle import Bundle
from musiclm.data.corpus.manifest import Track, save_manifest
from musiclm.data.store import StoreError, StreamHeader, TokenStore, list_shards, shard_segments
from musiclm.data.tokenize import TokenEncoder, encode_long, tokenize_corpus
from musiclm.models.soundstream.model import SoundStream
from musiclm.train.recipes import tiny
from tests.toy import HEADERS, codebooks

RATE = 24000


def clock(audio: torch.Tensor, hop: int, levels: int) -> torch.Tensor:
    """Codes that tell the time of each frame in the file: sample n of a track holds n / 2**20."""
    samples = audio.reshape(-1)[: audio.shape[-1] // hop * hop]
    return ((samples[::hop] * 2**20 / RATE).round().long() % 16).expand(levels, -1)


ENCODE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "acoustic": lambda audio: clock(audio, 480, 12),
    "semantic": lambda audio: clock(audio, 960, 1),
    "mulan": lambda audio: torch.eye(4, 8)[:1].expand(max(1, audio.shape[-1] // RATE - 9), -1),
}


def fake_encoder(stream: str) -> TokenEncoder:
    return TokenEncoder(encode=ENCODE[stream], header=HEADERS[stream], codebooks=codebooks(stream))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "audio").mkdir(parents=True)
    tracks = []
    lengths = {
        "a": ("train", 12.34),
        "b": ("train", 3.0),
        "c": ("validation", 5.0),
        "d": ("test", 2.0),
        "e": ("train", 0.5),
    }
    for name, (split, seconds) in lengths.items():
        samples = np.arange(round(seconds * RATE), dtype=np.float32) / 2**20
        soundfile.write(folder / "audio" / f"{name}.flac", samples, RATE, subtype="PCM_24")
        facts = dict.fromkeys(("source", "package", "origin", "title", "artist", "genre", "licence", "piece"), name)
        tracks.append(
            Track(
                id=name,
                path=f"audio/{name}.flac",
                seconds=seconds,
                sha256=name,
                split=split,  # type: ignore[arg-type]
                held_out=False,
                **facts,
            )
        )
    save_manifest(folder, tracks, [])
    return folder


def fill(corpus: Path, out: Path, **options: Any) -> TokenStore:
    for stream in HEADERS:
        tokenize_corpus(corpus, fake_encoder(stream), out, **options)
    return TokenStore(out)


def test_fills_a_store_with_aligned_streams(corpus: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    store = fill(corpus, tmp_path / "store", on_progress=lambda *x: seen.append(x))
    assert [(track.id, track.split, track.num_frames) for track in store.tracks] == [
        ("a", "train", 308),
        ("b", "train", 75),
        ("c", "validation", 125),
        ("d", "test", 50),
    ]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)] * 3
    crop = store.cut([(0, 100)], 50)
    assert torch.equal(crop.codes["acoustic"][0, 0, ::2], crop.codes["semantic"][0, 0])
    assert crop.codes["semantic"][0, 0, 0] == 4 and crop.codes["semantic"][0, 0, -1] == 6


def test_a_long_track_gives_its_middle(corpus: Path, tmp_path: Path) -> None:
    store = fill(corpus, tmp_path / "store", splits=("train",), max_seconds_per_track=4)
    assert [track.num_frames for track in store.tracks] == [100, 75]
    assert store.cut([(0, 0)], 100).codes["semantic"][0, 0, [0, -1]].tolist() == [4, 8]
    # a stream made of whole tracks gives its middle, too, and all of it beside others like it
    middle = store.cut([(0, 10)], 50).codes
    for stream in ("semantic", "mulan"):
        shutil.rmtree(tmp_path / "store" / stream)
        tokenize_corpus(corpus, fake_encoder(stream), tmp_path / "store", splits=("train",))
    store = TokenStore(tmp_path / "store")
    assert [track.num_frames for track in store.tracks] == [100, 75]
    assert all(torch.equal(codes, middle[name]) for name, codes in store.cut([(0, 10)], 50).codes.items())
    whole = TokenStore(tmp_path / "store", ("mulan", "semantic"))
    assert [track.num_frames for track in whole.tracks] == [308, 75]


def test_training_tracks_at_other_speeds(corpus: Path, tmp_path: Path) -> None:
    """A tape played twice as fast shows the file's time twice as fast."""
    store = fill(corpus, tmp_path / "store", speeds=(2.0, 1.0, 0.8))
    lengths = {track.id: (track.split, track.num_frames) for track in store.tracks}
    assert lengths == {
        "a": ("train", 308),
        "a x2": ("train", 154),
        "a x0.8": ("train", 385),
        "b": ("train", 75),
        "b x2": ("train", 37),
        "b x0.8": ("train", 93),
        "c": ("validation", 125),
        "d": ("test", 50),
    }
    place = [track.id for track in store.tracks].index("a x2")
    codes = store.cut([(place, 25)], 50).codes["semantic"][0, 0]
    own = store.cut([(0, 50)], 100).codes["semantic"][0, 0, ::2]
    assert (codes == own).float().mean() > 0.9  # a second into the fast one is two seconds into the track
    with pytest.raises(ValueError, match="speed is 3"):
        fill(corpus, tmp_path / "store", speeds=(3,))


def test_goes_on_where_it_stopped(corpus: Path, tmp_path: Path) -> None:
    calls: list[int] = []
    good = fake_encoder("semantic")

    def failing(audio: torch.Tensor) -> torch.Tensor:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(audio.shape[-1])
        return good.encode(audio)

    with pytest.raises(KeyboardInterrupt):
        tokenize_corpus(corpus, replace(good, encode=failing), tmp_path / "store")
    again: list[int] = []

    def counting(audio: torch.Tensor) -> torch.Tensor:
        again.append(audio.shape[-1])
        return good.encode(audio)

    tokenize_corpus(corpus, replace(good, encode=counting), tmp_path / "store")
    assert again == [5 * RATE, 2 * RATE]
    assert [track.id for track in fill(corpus, tmp_path / "store").tracks] == ["a", "b", "c", "d"]


def test_shards_do_not_tell_how_often_they_were_stopped(corpus: Path, tmp_path: Path) -> None:
    """Nor in how many tracks at a time they were made, and no shard is written again that is full."""
    good, speeds = fake_encoder("semantic"), (0.5, 0.8, 1.2)
    whole = tokenize_corpus(corpus, good, tmp_path / "whole", speeds=speeds, tracks_per_shard=3)
    out = tmp_path / "store"
    written: dict[str, int] = {}
    for left in itertools.count():
        stops = iter([good.encode] * (left % 3))

        def stopping(audio: torch.Tensor, stops: Iterator[Any] = stops) -> torch.Tensor:
            if (encode := next(stops, None)) is None:
                raise KeyboardInterrupt
            return encode(audio)  # type: ignore[no-any-return]

        with contextlib.suppress(KeyboardInterrupt):
            tokenize_corpus(corpus, replace(good, encode=stopping), out, speeds=speeds, tracks_per_shard=3)
            break
        for shard in list_shards(out / "semantic"):
            full = len(shard_segments(shard)) == 3
            assert not full or written.setdefault(shard.name, shard.stat().st_mtime_ns) == shard.stat().st_mtime_ns
    names = [path.name for path in list_shards(whole / "semantic")]
    assert len(names) == 4 and [path.name for path in list_shards(out / "semantic")] == names
    for name in names:
        assert (out / "semantic" / name).read_bytes() == (whole / "semantic" / name).read_bytes()


def test_an_encoder_of_no_artifact_stays_in_its_process() -> None:
    with pytest.raises(StoreError, match="w2vbert encoder of no artifact"):
        pickle.dumps(fake_encoder("semantic"))


def test_a_loaded_encoder_travels_as_its_place(bundle: Bundle) -> None:
    encoder = TokenEncoder.load("acoustic", bundle.part("soundstream"))
    data = pickle.dumps(encoder)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert pickle.loads(data) is again, "loaded once"
    audio = torch.randn(1, 1, RATE) * 0.1
    assert torch.equal(again.encode(audio), encoder.encode(audio))
    other = replace(encoder, header=StreamHeader(spec=encoder.header.spec, encoder="e" * 64))
    with pytest.raises(StoreError, match="another soundstream on this machine"):
        pickle.loads(pickle.dumps(other))


def test_another_encoder_is_refused(corpus: Path, tmp_path: Path) -> None:
    tokenize_corpus(corpus, fake_encoder("mulan"), tmp_path / "store")
    other = replace(fake_encoder("mulan"), header=StreamHeader(spec=HEADERS["mulan"].spec, encoder="e" * 64))
    with pytest.raises(StoreError, match="another mulan"):
        tokenize_corpus(corpus, other, tmp_path / "store")


def test_an_encoder_without_hash_is_refused() -> None:
    with pytest.raises(StoreError, match="soundstream encoder has no hash"):
        TokenEncoder.of_codec(SoundStream(tiny().soundstream.task.model))


def test_pieces_of_long_audio_give_the_codes_of_the_whole() -> None:
    model = SoundStream(tiny().soundstream.task.model).eval()
    with torch.no_grad():
        model.rvq.codebooks.normal_()
    audio = torch.randn(1, 1, 3 * RATE + 1234) * 0.1
    whole = model.encode(audio)
    pieces = encode_long(model, audio, piece_s=0.77)
    assert pieces.shape == whole.shape
    assert (pieces == whole).float().mean() > 0.999  # not to the bit: kernels differ by length
