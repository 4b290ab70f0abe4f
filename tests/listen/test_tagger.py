"""The checkpoint reader against a checkpoint written here byte by byte; the network where it is installed."""

import struct
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from musiclm.listen.tagger import MTT_TAGS, Tagger, pieces, read_checkpoint

needs_weights = pytest.mark.skipif(find_spec("musicnn") is None, reason="the PyPI package musicnn is not installed")


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def entry(shape: tuple[int, ...], offset: int, size: int) -> bytes:
    dims = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in shape))
    message = b"\x08\x01\x12" + varint(len(dims)) + dims
    return message + (b"\x20" + varint(offset) if offset else b"") + b"\x28" + varint(size) + b"\x35abcd"


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Keys share the prefix with the key before, as in a real table."""
    out, last = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack("<II", 0, 1) + b"\x00crcc"  # one restart point, its count, kind 0, checksum


def write_checkpoint(prefix, arrays: dict[str, np.ndarray]) -> None:
    data, entries = b"", [(b"", b"\x08\x01")]
    for name in sorted(arrays):
        payload = arrays[name].astype("<f4").tobytes()
        entries.append((name.encode(), entry(arrays[name].shape, len(data), len(payload))))
        data += payload
    first = block(entries)
    second = block([(b"z", varint(0) + varint(len(first) - 5))])
    footer = varint(0) + varint(0) + varint(len(first)) + varint(len(second) - 5)
    footer += b"\0" * (40 - len(footer)) + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_suffix(".index").write_bytes(first + second + footer)
    prefix.with_suffix(".data-00000-of-00001").write_bytes(data)


def test_reads_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"layer_{i}/kernel": rng.normal(size=shape) for i, shape in enumerate([(3, 200), (), (7, 2, 1, 5)])}
    write_checkpoint(tmp_path / "model", arrays)
    found = read_checkpoint(tmp_path / "model")
    assert set(found) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value.astype(np.float32))


def test_refuses_what_is_no_checkpoint(tmp_path):
    (tmp_path / "model.index").write_bytes(b"not a table" * 10)
    (tmp_path / "model.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(ValueError, match="magic"):
        read_checkpoint(tmp_path / "model")


def test_pieces_of_three_seconds() -> None:
    ramp = np.linspace(0, 1, 8 * 24000, dtype=np.float32)  # says where a piece lies
    two = pieces(ramp)
    assert two.shape == (2, 48000), "two seconds are left over"
    assert two[:, 24000].tolist() == pytest.approx([1.5 / 8, 4.5 / 8], abs=1e-3)
    spread = pieces(ramp, (0.0, 0.5, 1.0))
    assert spread[:, 24000].tolist() == pytest.approx([1.5 / 8, 4 / 8, 6.5 / 8], abs=1e-3)
    assert torch.equal(spread[0], two[0])
    with pytest.raises(ValueError, match=r"1\.00 s; the tagger needs 3 s"):
        pieces(ramp[:24000])


@needs_weights
def test_scores_are_finite_on_loud_music_and_batch_equals_single():
    tagger = Tagger.load()
    audio = torch.randn(2, 48000, generator=torch.Generator().manual_seed(0)).clamp(
        -1, 1
    )  # float16 mels would overflow
    both = tagger(audio)
    assert both.shape == (2, len(MTT_TAGS)) and bool(torch.isfinite(both).all())
    assert bool(((both >= 0) & (both <= 1)).all())
    torch.testing.assert_close(both[:1], tagger(audio[:1]), atol=1e-4, rtol=1e-3)


@needs_weights
def test_hears_a_beat_in_a_drum_loop_and_not_in_a_chord():
    t = torch.arange(48000) / 16000
    chord = sum(torch.sin(2 * torch.pi * hz * t) for hz in (220.0, 277.2, 329.6)) * 0.1
    noise = torch.randn(48000, generator=torch.Generator().manual_seed(0))
    drums = noise * torch.exp(-(t % 0.25) * 30) * 0.3 + torch.sin(2 * torch.pi * 60 * t) * torch.exp(-(t % 0.5) * 12)
    scores = Tagger.load()(torch.stack([chord, drums]))
    beat = [MTT_TAGS.index(tag) for tag in ("drums", "beat", "techno")]
    assert float(scores[1, beat].max()) > 2 * float(scores[0, beat].max())
