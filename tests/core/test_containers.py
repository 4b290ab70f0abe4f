"""Files whose headers are wrong, or that are several streams: all of the music is read, none of it twice."""

import struct
import threading

import numpy as np
import pytest
import soundfile

from musiclm.core import containers
from musiclm.core.audio import AudioError, load, probe, read_blocks, write_audio
from musiclm.data.corpus import build_corpus, load_manifest
from tests.files import read_audio

RATE = 44100


def sound(loud_first: bool, seconds: float = 8.0) -> np.ndarray:
    """A second of noise, which takes many bits, then a soft tone, which takes few; or the other way round."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    noise = 0.3 * np.random.default_rng(0).standard_normal(len(time_s))
    return np.where((time_s < 1) == loud_first, noise, 0.1 * np.sin(2 * np.pi * 440 * time_s))


def mp3(path, x, tags=None) -> bytes:
    """A variable bitrate MP3 by LAME, as libsndfile writes it, with its Xing frame."""
    with soundfile.SoundFile(path, "w", RATE, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE") as f:
        for piece in np.array_split(x, 20):
            f.write(piece)
    data = path.read_bytes()
    assert b"Xing" in data[:200]
    return data


def without_xing(data: bytes) -> bytes:
    """Cuts the first frame off, which holds no music."""
    start = data.index(b"\xff\xfb")
    return data[data.index(b"\xff\xfb", start + 4) :]


@pytest.mark.parametrize("loud_first", [True, False])
def test_an_mp3_without_a_xing_frame_is_read_to_its_end(tmp_path, loud_first):
    path = tmp_path / "a.mp3"
    x = sound(loud_first)
    whole = mp3(path, x)
    decoded = read_audio(path)[0][0]
    assert len(decoded) == len(x)
    path.write_bytes(without_xing(whole))
    guessed = soundfile.info(path).frames / len(x)
    assert guessed < 0.7, "what this is about: the guess is far off"
    read = read_audio(path)[0][0]
    # without the frame nobody knows the encoder's delay and padding: at most some frames more, and the same music
    assert len(x) <= len(read) <= len(x) + 4 * 1152
    delay = len(read) - len(x)
    lag = min(range(delay + 1), key=lambda lag: np.abs(read[lag:][: RATE // 2] - decoded[: RATE // 2]).max())
    assert np.abs(read[lag : lag + len(x)] - decoded)[1152:-1152].max() < 1e-4
    assert probe(path).seconds is None, "a guess is no length"


def in_wav(data: bytes) -> bytes:
    """MP3 frames in a WAV file, as recorders and ffmpeg write them."""
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 16000, 1, 0, 12, 1, 2, 418, 1, 0)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"fact" + struct.pack("<II", 4, 0)
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize(
    "wrapped",
    [
        pytest.param(in_wav, id="in a WAV file"),
        pytest.param(lambda data: bytes(3000) + data, id="after zeros"),
        pytest.param(lambda data: data[data.index(b"\xff\xfb", 4) - 7 :], id="from within a frame"),
        pytest.param(lambda data: b"APETAGEX" + bytes(500) + data, id="after a tag that nobody reads"),
    ],
)
def test_frames_are_found_wherever_they_begin(tmp_path, wrapped):
    path = tmp_path / "a.mp3"
    x = sound(True)
    path.write_bytes(wrapped(without_xing(mp3(path, x))))
    read = read_audio(path)[0][0]
    assert len(x) - 2 * 1152 <= len(read) <= len(x) + 4 * 1152
    assert probe(path).seconds is None


def test_music_after_a_frame_that_is_cut_off_is_not_lost(tmp_path):
    """A stream that broke off and began again: libsndfile stops there without a word."""
    path = tmp_path / "a.mp3"
    x = sound(True)
    data = without_xing(mp3(path, x))
    half = len(data) // 2 + 100
    path.write_bytes(data[:half] + b"ID3\3\0\0\0\0\0\x64" + bytes(100) + data)
    read = read_audio(path)[0][0]
    assert len(read) > len(x) + RATE, "the first half holds the loud second, and more"


def test_a_file_that_lacks_a_few_frames_is_read(tmp_path):
    """Its Xing frame counts them all, and they go on after the hole."""
    path = tmp_path / "a.mp3"
    data = mp3(path, sound(True))
    whole = len(read_audio(path)[0][0])
    frames = list(containers._mpeg_frames(data, 0))
    half, few, many = (frames[len(frames) // 2 + more][0] for more in (0, 10, 100))
    path.write_bytes(data[:half] + bytes(50) + data[few:])
    assert whole - RATE // 2 < len(read_audio(path)[0][0]) < whole
    path.write_bytes(data[:half] + bytes(50) + data[many:])
    with pytest.raises(AudioError, match="truncated"):
        read_audio(path)


def test_such_a_file_is_whole_in_a_corpus(tmp_path):
    (tmp_path / "music").mkdir()
    for index, loud_first in enumerate((True, False)):
        path = tmp_path / "music" / f"{index}.mp3"
        path.write_bytes(without_xing(mp3(path, sound(loud_first, 6 + index))))
    build_corpus([str(tmp_path / "music")], tmp_path / "out", jobs=1, progress=False)
    found = sorted(track.seconds for track in load_manifest(tmp_path / "out"))
    assert found == pytest.approx([6, 7], abs=0.15)


def test_a_xing_frame_that_counts_too_few(tmp_path):
    path = tmp_path / "a.mp3"
    data = bytearray(mp3(path, sound(True)))
    whole = read_audio(path)[0]
    place = data.index(b"Xing") + 8
    (count,) = struct.unpack(">I", data[place : place + 4])
    data[place : place + 4] = struct.pack(">I", count // 3)
    path.write_bytes(data)
    assert np.array_equal(read_audio(path)[0], whole)
    data[place : place + 4] = struct.pack(">I", count * 3)
    path.write_bytes(data)
    with pytest.raises(AudioError, match="truncated"):
        read_audio(path)


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".opus", ".flac"])
def test_joined_files_are_read_one_after_another(tmp_path, suffix):
    rate = 48000
    time_s = np.arange(2 * rate) / rate
    parts = [
        write_audio(tmp_path / f"{hz}{suffix}", 0.3 * np.sin(hz * time_s), rate, {"title": "x"}) for hz in (900, 5000)
    ]
    each = [read_audio(part)[0] for part in parts]
    both = tmp_path / f"both{suffix}"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert soundfile.info(both).frames <= each[0].shape[1], "what this is about: libsndfile reads the first"
    read = read_audio(both)[0]
    assert np.array_equal(read, np.concatenate(each, axis=1))
    assert len(load(both)) == 4 * 24000


def test_joined_files_of_different_rates_are_refused(tmp_path):
    a = write_audio(tmp_path / "a.flac", np.zeros(24000, np.float32), 24000)
    b = write_audio(tmp_path / "b.flac", np.zeros(44100, np.float32), 44100)
    both = tmp_path / "both.flac"
    both.write_bytes(a.read_bytes() + b.read_bytes())
    with pytest.raises(AudioError, match=r"goes on after 1\.0 s with 44100 Hz"):
        read_audio(both)


def test_a_flac_whose_header_tells_no_length_or_too_short_a_one(tmp_path):
    x = 0.3 * np.sin(np.arange(3 * RATE) / 20)
    path = write_audio(tmp_path / "a.flac", x, RATE)
    data = bytearray(path.read_bytes())
    whole = read_audio(path)[0]
    for total in (0, RATE):
        data[21:26] = (int.from_bytes(data[21:26], "big") >> 36 << 36 | total).to_bytes(5, "big")
        path.write_bytes(data)
        assert np.array_equal(read_audio(path)[0], whole)


WAV_SIZES = {
    # name: (change of the RIFF size, or its value; the same of the data size)
    "RIFF 8 too large": (8, 0),
    "RIFF 8 too large, data a header too large": (8, 44),
    "RIFF 8 too small": (-8, 0),
    "zeros, as pipes leave them": ("0", "0"),
    "RIFF zero": ("0", 0),
    "data zero": (0, "0"),
    "all ones, by ffmpeg": ("4294967295", "4294967295"),
    "by sox": ("2147479588", "2147479552"),
}


@pytest.mark.parametrize("sizes", WAV_SIZES)
def test_whole_wavs_with_wrong_sizes(tmp_path, sizes):
    x = (0.5 * np.sin(np.arange(RATE) / 20)).astype(np.float32)
    path = write_audio(tmp_path / "a.wav", x, RATE)
    data = bytearray(path.read_bytes())
    for place, change in zip((4, data.index(b"data") + 4), WAV_SIZES[sizes], strict=True):
        old = struct.unpack_from("<I", data, place)[0]
        struct.pack_into("<I", data, place, int(change) if isinstance(change, str) else old + change)
    path.write_bytes(data)
    read, rate = read_audio(path)
    assert rate == RATE and read.shape == (1, len(x))
    np.testing.assert_allclose(read[0], x, atol=1e-4)


def test_a_wav_that_is_cut_short_is_still_refused(tmp_path):
    path = write_audio(tmp_path / "a.wav", np.zeros(RATE, np.float32), RATE)
    whole = path.read_bytes()
    for missing in (100, 50_000):
        path.write_bytes(whole[:-missing])
        with pytest.raises(AudioError, match="truncated"):
            read_audio(path)


def test_an_empty_wav_with_tags_after_it_is_empty(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 1)), RATE)
    data = (tmp_path / "a.wav").read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(AudioError, match="0 samples"):
        read_audio(tmp_path / "a.wav")


def test_a_reader_that_leaves_early_leaves_nothing_behind(tmp_path):
    """No thread that waits for ever, no open file."""
    path = tmp_path / "a.mp3"
    mp3(path, np.tile(sound(True), 8))
    before = threading.active_count()
    for _ in range(5):
        blocks = read_blocks(path)
        next(blocks)
        blocks.close()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(timeout=5)
    assert threading.active_count() == before


def test_music_that_looks_like_a_header_is_no_stream(tmp_path):
    """Tags may hold anything, names of formats too."""
    path = write_audio(tmp_path / "a.flac", np.zeros(24000, np.float32), tags={"title": "fLaC OggS Xing Info RIFF"})
    assert len(containers.streams(path, "FLAC")) == 1
    path = write_audio(tmp_path / "a.ogg", np.zeros(24000, np.float32), tags={"title": "OggS"})
    assert len(containers.streams(path, "OGG")) == 1
