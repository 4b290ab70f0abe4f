from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from musiclm.corpus.manifest import Track, save_manifest
from musiclm.presets import tiny
from musiclm.soundstream.model import SoundStream
from musiclm.store import Header, StoreError, TokenStore
from musiclm.tokenize import Encoders, encode_long, tokenize_corpus
from tests.toy import HEADER, SPECS, codebooks

RATE = 24000


def fake_encoders(**changes: object) -> Encoders:
    """Codes that tell the time of each frame in the file: sample n of a track holds n / 2**20."""

    def clock(audio: torch.Tensor, hop: int) -> torch.Tensor:
        return (audio.reshape(-1)[::hop] * 2**20 / RATE).round().long() % 16

    def acoustic(audio: torch.Tensor) -> torch.Tensor:
        return clock(audio, 480).expand(1, 12, -1)

    def semantic(audio: torch.Tensor) -> torch.Tensor:
        return clock(audio, 960)[: audio.shape[-1] // 960][None, None]

    def mulan(audio: torch.Tensor) -> torch.Tensor:
        return torch.eye(4, 8)[:1].expand(max(1, audio.shape[-1] // RATE - 9), -1)

    values = {"acoustic": acoustic, "semantic": semantic, "mulan": mulan, "header": HEADER, "codebooks": codebooks()}
    return Encoders(**{**values, **changes})  # type: ignore[arg-type]


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


def test_fills_a_store_with_aligned_streams(corpus: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    tokenize_corpus(corpus, fake_encoders(), tmp_path / "store", on_progress=lambda *x: seen.append(x))
    store = TokenStore(tmp_path / "store")
    assert [(track.id, track.split, track.num_frames) for track in store.tracks] == [
        ("a", "train", 308),
        ("b", "train", 75),
        ("c", "validation", 125),
        ("d", "test", 50),
    ]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    crop = store.cut([(0, 100)], 50)
    assert torch.equal(crop.acoustic[0, 0, ::2], crop.semantic[0, 0])
    assert crop.semantic[0, 0, 0] == 4 and crop.semantic[0, 0, -1] == 6


def test_a_long_track_gives_its_middle(corpus: Path, tmp_path: Path) -> None:
    tokenize_corpus(corpus, fake_encoders(), tmp_path / "store", splits=("train",), max_seconds_per_track=4)
    store = TokenStore(tmp_path / "store")
    assert [track.num_frames for track in store.tracks] == [100, 75]
    assert store.cut([(0, 0)], 100).semantic[0, 0, [0, -1]].tolist() == [4, 8]


def test_goes_on_where_it_stopped(corpus: Path, tmp_path: Path) -> None:
    calls: list[int] = []
    good = fake_encoders()

    def failing(audio: torch.Tensor) -> torch.Tensor:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(audio.shape[-1])
        return good.semantic(audio)

    with pytest.raises(KeyboardInterrupt):
        tokenize_corpus(corpus, replace(good, semantic=failing), tmp_path / "store")
    assert [track.id for track in TokenStore(tmp_path / "store").tracks] == ["a", "b"]
    again: list[int] = []

    def counting(audio: torch.Tensor) -> torch.Tensor:
        again.append(audio.shape[-1])
        return good.semantic(audio)

    tokenize_corpus(corpus, replace(good, semantic=counting), tmp_path / "store")
    assert again == [5 * RATE, 2 * RATE]
    assert [track.id for track in TokenStore(tmp_path / "store").tracks] == ["a", "b", "c", "d"]


def test_other_encoders_and_unequal_lengths_are_refused(corpus: Path, tmp_path: Path) -> None:
    tokenize_corpus(corpus, fake_encoders(), tmp_path / "store")
    other = Header(specs=SPECS, encoders={**HEADER.encoders, "mulan": "ee" * 32})
    with pytest.raises(StoreError, match="another mulan"):
        tokenize_corpus(corpus, fake_encoders(header=other), tmp_path / "store")
    short = fake_encoders(acoustic=lambda audio: torch.zeros(1, 12, 3, dtype=torch.long))
    with pytest.raises(StoreError, match="3 acoustic frames for 308"):
        tokenize_corpus(corpus, short, tmp_path / "other")


def test_pieces_of_long_audio_give_the_codes_of_the_whole() -> None:
    model = SoundStream(tiny().soundstream.task.model).eval()
    with torch.no_grad():
        model.rvq.codebooks.normal_()
    audio = torch.randn(1, 1, 3 * RATE + 1234) * 0.1
    whole = model.encode(audio)
    pieces = encode_long(model, audio, piece_s=0.77)
    assert pieces.shape == whole.shape
    assert (pieces == whole).float().mean() > 0.999  # not to the bit: kernels differ by length
