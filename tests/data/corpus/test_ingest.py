"""One original to one FLAC: exact samples, exact trimming, whatever the blocks."""

import base64
import hashlib

import numpy as np
import pytest
import soundfile

from musiclm.core.audio import write_audio
from musiclm.data.corpus import ingest as module
from musiclm.data.corpus.assemble import NEAR_DB, is_near
from musiclm.data.corpus.ingest import Silent, ingest
from musiclm.data.corpus.manifest import CorpusError

from .conftest import melody


def levels(made):
    return np.frombuffer(base64.b64decode(made.fingerprint), np.uint8).astype(np.float32) * 0.375


def test_the_flac_holds_the_samples_and_is_named_by_their_hash(tmp_path):
    x = melody(0, 3.21)
    made = ingest([write_audio(tmp_path / "a.wav", x)], tmp_path)
    y, rate_hz = soundfile.read(tmp_path / f"{made.id}.flac", dtype="int16")
    info = soundfile.info(tmp_path / f"{made.id}.flac")
    assert (rate_hz, info.channels, info.subtype) == (24000, 1, "PCM_16")
    assert hashlib.sha256(y.astype("<i2").tobytes()).hexdigest() == made.sha256 and made.sha256.startswith(made.id)
    np.testing.assert_allclose(y / 32768, x, atol=2e-4)
    assert made.seconds == pytest.approx(3.21, abs=1e-4)


@pytest.mark.parametrize("block", [100, 480, 1000, 100000])
@pytest.mark.parametrize("pending_bytes", [1 << 24, 1000])
def test_trims_both_ends_and_keeps_silence_within(block, pending_bytes, monkeypatch):
    """Against the obvious way on the whole array; frames of 480 samples."""
    monkeypatch.setattr(module, "_PENDING_BYTES", pending_bytes)
    sound = np.full(2400, 3000, np.int16)
    x = np.concatenate([np.zeros(5000, np.int16), sound, np.zeros(30000, np.int16), sound, np.full(7000, 20, np.int16)])
    loud = np.flatnonzero(np.abs(x.astype(int)) > 33)
    expected = x[loud[0] // 480 * 480 : -(-(loud[-1] + 1) // 480) * 480]
    blocks = iter([x[start : start + block] for start in range(0, len(x), block)])
    np.testing.assert_array_equal(np.concatenate(list(module._trimmed(blocks))), expected)


def test_nothing_is_left_of_silence():
    assert list(module._trimmed(iter([np.zeros(10000, np.int16), np.full(777, -5, np.int16)]))) == []


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (np.zeros(48000), "silent"),
        (np.concatenate([np.zeros(24000), np.full(2400, 0.5)]), "too short"),
        (np.full(48000, 0.0011) * (np.arange(48000) % 24000 == 0) * 30, "too short|nearly silent"),
        (0.0012 * np.sin(np.arange(48000)), "nearly silent"),
    ],
)
def test_drops_what_can_not_be_heard(tmp_path, x, why):
    path = write_audio(tmp_path / "a.wav", x)
    with pytest.raises(Silent, match=why):
        ingest([path], tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_stems_are_added_without_clipping(tmp_path):
    one, two = melody(1, 2.0) * 2, melody(2, 3.0) * 2
    files = [write_audio(tmp_path / "1.flac", one), write_audio(tmp_path / "2.flac", two)]
    total = np.clip(two, -1, 1)
    total[: len(one)] += np.clip(one, -1, 1)
    y = soundfile.read(tmp_path / f"{ingest(files, tmp_path).id}.flac", dtype="float32")[0]
    np.testing.assert_allclose(y, total / max(1.0, np.abs(total).max()), atol=2e-4)


def test_other_encodings_of_a_piece_are_near_and_other_pieces_far(tmp_path):
    x = melody(3, 8.0)
    made = {
        suffix: levels(ingest([write_audio(tmp_path / f"a{suffix}", gain * x)], tmp_path))
        for suffix, gain in ((".wav", 1.0), (".ogg", 1.0), (".mp3", 0.7), (".opus", 1.0))
    }
    assert all(is_near(one, other) for one in made.values() for other in made.values())
    others = [levels(ingest([write_audio(tmp_path / "b.wav", melody(seed, 8.0))], tmp_path)) for seed in range(4, 9)]
    distances = [np.abs(made[".wav"] - other).mean() for other in others]
    assert not any(is_near(made[".wav"], other) for other in others) and min(distances) > 2 * NEAR_DB


def test_an_output_that_can_not_be_written_is_no_fault_of_the_track(tmp_path):
    path = write_audio(tmp_path / "a.wav", melody(0))
    with pytest.raises(CorpusError, match="finished tracks are kept"):
        ingest([path], tmp_path / "none")
