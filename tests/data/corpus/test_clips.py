"""Clips: exact lengths, right places, a pure function of (seed, step)."""

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from musiclm.data.corpus.clips import ClipSampler, eval_clips, read_clip, rms_db
from musiclm.data.corpus.manifest import CorpusError, Track


def make(folder, tracks):
    """Tracks of given samples, written as a build would."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    made = []
    for number, samples in enumerate(tracks):
        soundfile.write(folder / "audio" / f"{number}.flac", samples, 24000, subtype="PCM_16")
        made.append(
            Track(
                id=str(number), path=f"audio/{number}.flac", source="s", package="", origin=str(number), title="",
                artist="",
                genre="", licence="", seconds=len(samples) / 24000, sha256="", split="train", piece=str(number),
                held_out=False,
            )
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A ramp (its value tells the place), a longer constant, a short one."""
    folder = tmp_path_factory.mktemp("corpus")
    ramp = np.arange(30000, dtype=np.int16)
    return folder, make(folder, [ramp, np.full(120000, 8000, np.int16), np.full(6000, 4000, np.int16)])


@given(start=st.integers(0, 40000), num=st.integers(0, 40000))
def test_reads_the_right_samples_and_pads_with_zeros(corpus, start, num):
    folder, tracks = corpus
    clip = read_clip(folder, tracks[0], start / 24000, num / 24000)
    expected = np.zeros(num, np.float32)
    inside = np.arange(30000, dtype=np.float32)[start : start + num] / 32768
    expected[: len(inside)] = inside
    np.testing.assert_array_equal(clip, expected)


def test_without_a_duration_to_the_end(corpus):
    folder, tracks = corpus
    assert len(read_clip(folder, tracks[0])) == 30000 and len(read_clip(folder, tracks[0], 1.0)) == 6000
    with pytest.raises(ValueError, match="negative"):
        read_clip(folder, tracks[0], -1.0, 1.0)


def test_a_batch_is_a_function_of_seed_and_step(corpus):
    folder, tracks = corpus
    one, two = ClipSampler(folder, tracks, 0.5, seed=3), ClipSampler(folder, tracks[::-1], 0.5, seed=3)
    first = [one.batch(step, 4) for step in range(3)]
    again = [two.batch(step, 4) for step in reversed(range(3))][::-1]  # other order, of tracks and of steps
    for (audio, chosen, starts), (audio2, chosen2, starts2) in zip(first, again, strict=True):
        assert audio.shape == (4, 1, 12000) and audio.dtype == torch.float32
        assert torch.equal(audio, audio2) and chosen == chosen2 and starts == starts2
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], ClipSampler(folder, tracks, 0.5, seed=4).batch(0, 4)[0])
    assert torch.equal(one.batch(0, 2)[0], first[0][0][:2])  # the batch's size changes no clip
    for audio, track, start_s in zip(*first[0], strict=True):
        np.testing.assert_array_equal(audio[0], read_clip(folder, track, start_s, 0.5))


def test_every_second_is_equally_likely(corpus):
    folder, tracks = corpus
    chosen = ClipSampler(folder, tracks, 0.01, seed=0).batch(0, 600)[1]
    share = sum(track.id == "1" for track in chosen) / 600
    assert share == pytest.approx(120000 / 156000, abs=0.06)


def test_near_silence_is_drawn_again(tmp_path):
    samples = np.zeros(24000 * 20, np.int16)
    samples[-24000 * 8 :] = 1000
    tracks = make(tmp_path, [samples])
    audio, _, starts = ClipSampler(tmp_path, tracks, 1.0, seed=0).batch(0, 30)
    assert all(rms_db(clip[0].numpy()) > -60 for clip in audio) and min(starts) > 10
    only_silence = make(tmp_path / "b", [np.zeros(24000, np.int16)])
    assert ClipSampler(tmp_path / "b", only_silence, 0.5).batch(0, 1)[0].abs().max() == 0  # it ends all the same


def test_evaluation_clips_spread_over_tracks_and_a_larger_set_holds_the_smaller(corpus):
    folder, tracks = corpus
    audio, chosen, starts = eval_clips(folder, tracks, 0.2, 7)
    assert audio.shape == (7, 1, 4800)
    assert [sum(track.id == name for track in chosen) for name in "012"] in ([3, 2, 2], [2, 3, 2], [2, 2, 3])
    assert torch.equal(eval_clips(folder, tracks[::-1], 0.2, 4)[0], audio[:4])
    assert len(set(zip((track.id for track in chosen), starts, strict=True))) == 7


def test_what_can_not_be_sampled(tmp_path, corpus):
    folder, tracks = corpus
    with pytest.raises(CorpusError, match="no tracks"):
        ClipSampler(folder, [], 1.0)
    with pytest.raises(CorpusError, match="no tracks"):
        eval_clips(folder, [], 1.0, 1)
    with pytest.raises(ValueError, match="crop_s"):
        ClipSampler(folder, tracks, 0.0)
    with pytest.raises(CorpusError, match="build the corpus again"):
        read_clip(tmp_path, tracks[0])


def test_a_track_that_ends_too_soon_is_no_silence(tmp_path):
    noise = np.random.default_rng(0).integers(-9000, 9000, 48000).astype(np.int16)
    (track,) = make(tmp_path, [noise])
    path = tmp_path / track.path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorpusError, match=f"{path}: can't be read .*delete it and build the corpus again"):
        read_clip(tmp_path, track)
