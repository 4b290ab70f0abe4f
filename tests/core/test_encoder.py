"""Sound that is sent while it is made: the bytes of the file that it would be written to."""

from pathlib import Path

import numpy as np
import pytest

from musiclm.core.audio import SAMPLE_RATE_HZ, read_blocks, to_16_bit, write_blocks
from musiclm.core.encoder import STREAMED, StreamEncoder

TAGS = {"title": "a calm piano — piece", "seed": "7", "prompt": "a calm piano — piece " * 40}


def sound(num_samples: int, seed: int = 0) -> np.ndarray:
    noise = 0.2 * np.random.default_rng(seed).standard_normal(num_samples)
    return (noise + 0.9 * np.sin(np.arange(num_samples) / 20)).astype(np.float32)  # clipped here and there


def sent(suffix: str, audio: np.ndarray, blocks: list[np.ndarray]) -> bytes:
    encoder = StreamEncoder(suffix, len(audio), SAMPLE_RATE_HZ, TAGS)
    return b"".join([*(encoder.push(block) for block in blocks), encoder.close()])


@pytest.mark.parametrize("suffix", [".wav", ".opus"])
@pytest.mark.parametrize("num_samples", [1, 12001, 170003])
def test_what_is_sent_is_the_file(tmp_path: Path, suffix: str, num_samples: int) -> None:
    audio = sound(num_samples)
    path = write_blocks(tmp_path / f"a{suffix}", [audio[None]], SAMPLE_RATE_HZ, TAGS)
    pieces = np.array_split(audio, 1 + num_samples // 5000)
    assert sent(suffix, audio, [audio]) == path.read_bytes()
    assert sent(suffix, audio, pieces) == path.read_bytes(), "however it is cut"


def test_a_flac_that_is_sent_lacks_what_only_the_whole_tells(tmp_path: Path) -> None:
    audio = sound(50000)
    path = write_blocks(tmp_path / "a.flac", [audio[None]], SAMPLE_RATE_HZ, TAGS)
    data, whole = sent(".flac", audio, np.array_split(audio, 7)), path.read_bytes()
    assert len(data) == len(whole) and data[42:] == whole[42:] and data[:8] == whole[:8]
    (tmp_path / "b.flac").write_bytes(data)
    found = np.concatenate(list(read_blocks(tmp_path / "b.flac")), axis=1)[0]
    assert np.array_equal(to_16_bit(found), to_16_bit(audio))


@pytest.mark.parametrize("suffix", [".flac", ".opus", ".ogg", ".mp3"])
def test_a_wav_becomes_the_same_bytes_as_the_sound(tmp_path: Path, suffix: str) -> None:
    audio = sound(60000)
    path = write_blocks(tmp_path / "a.wav", [audio[None]], SAMPLE_RATE_HZ)
    blocks = np.array_split(audio[None], 13, axis=1)
    direct = write_blocks(tmp_path / f"direct{suffix}", blocks, SAMPLE_RATE_HZ, TAGS)
    later = write_blocks(tmp_path / f"later{suffix}", read_blocks(path), SAMPLE_RATE_HZ, TAGS)
    assert direct.read_bytes() == later.read_bytes()


def test_sound_comes_before_all_is_there() -> None:
    audio = sound(10 * SAMPLE_RATE_HZ)
    for suffix in STREAMED:
        encoder = StreamEncoder(suffix, len(audio), SAMPLE_RATE_HZ, TAGS)
        early = b"".join(encoder.push(block) for block in np.array_split(audio[: 2 * SAMPLE_RATE_HZ], 8))
        assert len(early) > 5000, suffix


def test_samples_are_within_half_a_step() -> None:
    audio = np.linspace(-1.5, 1.5, 10001, dtype=np.float32)
    back = to_16_bit(audio).astype(np.float32) / 32768
    inside = (audio > -1) & (audio < 32767 / 32768)
    assert np.abs(back - audio)[inside].max() <= 0.5 / 32768 + 1e-7
    assert back.min() == -1 and back.max() == 32767 / 32768
    assert np.array_equal(to_16_bit(back), to_16_bit(audio))  # again: nothing moves
