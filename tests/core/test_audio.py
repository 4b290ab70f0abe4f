"""Files in and out: every format, streamed = whole, and one clear line for whatever is wrong with a file."""

import io
import json
import resource
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.core import audio
from musiclm.core.audio import AudioError, load, ogg_bytes, probe, read_blocks, resample, write_audio
from tests.files import read_audio

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def tone(seconds=1.0, rate_hz=24000, channels=1, hz=440.0):
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([0.5 * np.sin(2 * np.pi * hz * (k + 1) * t) for k in range(channels)]).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_round_trip_keeps_length_rate_and_signal(tmp_path, suffix, channels):
    x = tone(1.5, channels=channels)
    path = write_audio(tmp_path / f"a{suffix}", x, 24000)
    y, rate_hz = read_audio(path)
    if suffix == ".mp3":  # see write_blocks
        assert rate_hz == 48000
        y = resample(y, rate_hz, 24000)
    else:
        assert rate_hz == 24000
    assert y.shape == x.shape
    # Lossless formats err by half a step; the others keep the signal well above the error.
    error = np.abs(y - x)[:, 2400:-2400]
    assert error.max() < (1e-4 if suffix in (".wav", ".flac") else 0.1)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_tags_survive_and_unknown_ones_go_into_the_comment(tmp_path, suffix):
    tags = {"title": "Größe", "artist": "musiclm", "prompt": "a slow waltz", "seed": "7", "generated": "yes"}
    path = write_audio(tmp_path / f"a{suffix}", tone(0.5), tags=tags)
    read = probe(path).tags
    assert read["title"] == "Größe" and read["artist"] == "musiclm"
    assert json.loads(read["comment"]) == {"prompt": "a slow waltz", "seed": "7", "generated": "yes"}


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_the_same_audio_gives_the_same_bytes(tmp_path, suffix):
    x = tone(3.0)
    one = write_audio(tmp_path / f"a{suffix}", x, tags={"title": "x"}).read_bytes()
    two = write_audio(tmp_path / f"b{suffix}", x, tags={"title": "x"}).read_bytes()
    assert one == two


@settings(max_examples=15, deadline=None)
@given(
    rate_hz=st.sampled_from([8000, 11025, 22050, 44100, 48000, 96000, 192000]),
    channels=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_streamed_equals_whole(tmp_path_factory, rate_hz, channels, seed):
    """Blocks joined = read, mix and resample the whole file; for every rate and channel count we promise."""
    generator = np.random.default_rng(seed)
    num_samples = int(generator.integers(1, rate_hz))
    x = generator.uniform(-0.5, 0.5, (channels, num_samples)).astype(np.float32)
    path = tmp_path_factory.mktemp("a") / "a.wav"
    soundfile.write(path, x.T, rate_hz, subtype="FLOAT")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "_BLOCK_FRAMES", 1000)
        streamed = np.concatenate(list(read_blocks(path)), axis=1)
    whole = resample(x.mean(axis=0, keepdims=True), rate_hz, 24000)
    assert abs(streamed.shape[1] - num_samples * 24000 / rate_hz) <= 1
    assert streamed.shape == whole.shape
    np.testing.assert_allclose(streamed, whole, atol=2e-6)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_blocks_join_without_a_click(tmp_path, suffix, monkeypatch):
    """A sweep in small blocks: the sound on which an MP3 clicked if every read was followed by a seek."""
    t = np.arange(400000) / 48000
    x = (0.5 * np.sin(2 * np.pi * (200 * t + 300 * t * t))).astype(np.float32)
    path = write_audio(tmp_path / f"a{suffix}", x, 48000)
    whole = soundfile.read(path, dtype="float32")[0]
    for frames in (1 << 14, 1 << 18):
        monkeypatch.setattr(audio, "_BLOCK_FRAMES", frames)
        np.testing.assert_allclose(read_audio(path)[0][0], whole, atol=1e-5)


def test_resampling_keeps_a_tone_and_removes_what_would_alias():
    low, high = tone(1.0, 48000, hz=1000.0), tone(1.0, 48000, hz=15000.0)
    assert np.abs(resample(low, 48000, 24000)[:, 1000:-1000] - tone(1.0, 24000, hz=1000.0)[:, 1000:-1000]).max() < 1e-3
    assert np.abs(resample(high, 48000, 24000)[:, 1000:-1000]).max() < 1e-3


def test_a_long_file_is_never_held_whole(tmp_path):
    path = tmp_path / "long.flac"
    second = (tone(1.0, 8000)[0] * 32767).astype(np.int16)
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(1800):
            file.write(second)
    tracemalloc.start()
    num_samples = sum(block.shape[1] for block in read_blocks(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_samples == 1800 * 24000
    assert peak < 20e6  # the whole would be 173 MB


def _bad(tmp_path, kind):
    path = tmp_path / "bad.wav"
    whole = write_audio(tmp_path / "whole.wav", tone(2.0)).read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "zero samples":
        soundfile.write(path, np.zeros((0, 1)), 24000)
    elif kind == "truncated wav":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "truncated flac":
        path = tmp_path / "bad.flac"
        path.write_bytes(write_audio(tmp_path / "whole.flac", tone(20.0)).read_bytes()[:-5000])
    elif kind == "truncated ogg":
        path = tmp_path / "bad.ogg"
        path.write_bytes(write_audio(tmp_path / "whole.ogg", tone(20.0)).read_bytes()[:-5000])
    elif kind == "text":
        path.write_text("this is no music\n" * 100)
    elif kind == "text named mp3":
        path = tmp_path / "bad.mp3"
        path.write_text("this is no music\n" * 100)
    elif kind == "text named flac":
        path = tmp_path / "bad.flac"
        path.write_text("this is no music\n" * 100)
    elif kind == "text named mod":
        path = tmp_path / "bad.mod"
        path.write_text("this is no music\n" * 100)
    elif kind == "playlist":
        path = tmp_path / "bad.mp3"
        path.write_text("#EXTM3U\n#EXTINF:1\nhttp://127.0.0.1:9/a.mp3\n")
    elif kind == "zeros":
        path.write_bytes(bytes(100000))
    elif kind == "missing":
        path = tmp_path / "none.wav"
    elif kind == "folder":
        path = tmp_path / "folder.wav"
        path.mkdir()
    elif kind == "4 kHz":
        soundfile.write(path, np.zeros(4000), 4000)
    elif kind == "NaN":
        soundfile.write(path, np.full(2400, np.nan, np.float32), 24000, subtype="FLOAT")
    return path


KINDS = {
    "empty": "empty",
    "zero samples": "0 samples",
    "truncated wav": "truncated",
    "truncated flac": "truncated|damaged",
    "truncated ogg": "truncated",
    "text": "not readable|not audio",
    "text named mp3": "not readable|not audio|damaged",
    "text named flac": "not readable|not audio|damaged",
    "text named mod": "not readable|not audio|damaged",
    "playlist": "not readable|not audio|damaged",
    "zeros": "not readable|not audio|damaged",
    "missing": "no such file",
    "folder": "not a file",
    "4 kHz": "4000 Hz",
    "NaN": "NaN",
}


@pytest.mark.parametrize("kind", KINDS)
def test_bad_files_get_one_clear_line(tmp_path, kind):
    path = _bad(tmp_path, kind)
    with pytest.raises(AudioError, match=KINDS[kind]) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and len(message) < 500


def test_what_libsndfile_lacks_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "a.xm"
    path.write_bytes(b"Extended Module: " + bytes(500))
    monkeypatch.setattr(audio.shutil, "which", lambda name: None)
    with pytest.raises(AudioError, match="install ffmpeg"):
        load(path)


@needs_ffmpeg
def test_ffmpeg_reads_what_libsndfile_does_not(tmp_path):
    x = tone(2.0, 44100, 2)
    source = write_audio(tmp_path / "a.wav", x, 44100)
    path = tmp_path / "a.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-c:a", "alac", path], check=True)
    y, rate_hz = read_audio(path)
    assert rate_hz == 44100 and y.shape == x.shape
    assert np.abs(y - x).max() < 1e-4
    assert load(path).shape == (48000,)


@pytest.mark.parametrize(
    ("name", "x", "what"),
    [
        ("a.xyz", tone(), "'.xyz'"),
        ("none/a.wav", tone(), "does not exist"),
        ("a.wav", np.zeros(0, np.float32), "nothing to write"),
        ("a.wav", np.full(10, np.inf, np.float32), "NaN or infinite"),
    ],
)
def test_refuses_to_write(tmp_path, name, x, what):
    with pytest.raises(AudioError, match=what):
        write_audio(tmp_path / name, x)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    """A file size limit stands in for a full disk."""
    path = write_audio(tmp_path / "a.wav", tone(0.1))
    before = path.read_bytes()
    code = (
        "import resource, signal, numpy as np, sys\n"
        "from musiclm.core.audio import AudioError, write_audio\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "try:\n    write_audio(sys.argv[1], np.zeros(24000 * 10, np.float32))\n"
        "except AudioError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    assert "could not be written" in said and "\n" not in said.strip()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.wav"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100000


def test_loud_samples_are_clipped_not_wrapped(tmp_path):
    path = write_audio(tmp_path / "a.wav", np.array([1.5, -1.5, 0.0], np.float32))
    np.testing.assert_allclose(read_audio(path)[0][0], [1.0, -1.0, 0.0], atol=1e-4)


def test_a_clip_for_a_page_has_the_same_bytes_each_time() -> None:
    clip = (0.2 * np.sin(np.arange(24000) / 8)).astype(np.float32)
    made = ogg_bytes(clip, 24000)
    assert made == ogg_bytes(clip, 24000)
    again = soundfile.read(io.BytesIO(made))[0]
    assert len(again) == len(clip) and np.abs(again - clip).max() < 0.1
