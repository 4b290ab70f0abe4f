"""The codec metrics put clips in an order that is known, and agree with cases worked by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import musiclm.evaluate.codec as module
from musiclm.data.corpus.manifest import Track
from musiclm.evaluate.codec import (
    Comparison,
    PretrainedCodec,
    evaluate_codec,
    level_counts,
    mel_distance_db,
    pitch_correlation,
    si_sdr_db,
)
from musiclm.listen.notes import Transcription
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.model import SoundStream
from tests.foreign import small_codec

RATE = 24000
FACTS = ("path", "sha256", "source", "package", "origin", "title", "artist", "genre", "licence", "piece")
TRACK: dict[str, Any] = {**dict.fromkeys(FACTS, "x"), "split": "test", "held_out": False}


def tone(hz: float, seconds: float = 2.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * sum(np.sin(2 * np.pi * hz * k * t) / k for k in (1, 2, 3))).astype(np.float32)


def noise(seconds: float = 2.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def test_mel_distance_of_a_louder_clip_is_its_gain() -> None:
    clip = noise()
    assert mel_distance_db(clip, clip) == 0
    assert mel_distance_db(clip * 2, clip) == pytest.approx(6.02, abs=0.05)


@pytest.mark.usefixtures("unchecked")
def test_clips_of_two_lengths_are_not_compared() -> None:
    with pytest.raises(ValueError, match="clips of 48000 and 47999 samples can't be compared"):
        mel_distance_db(noise(), noise()[:-1])


def test_si_sdr_by_hand() -> None:
    rng = np.random.default_rng(1)
    signal = rng.normal(size=48000)
    signal -= signal.mean()
    error = rng.normal(size=48000)
    error -= error.mean()
    error -= (
        signal * (error @ signal) / (signal @ signal)
    )  # orthogonal, so that the ratio of energies is the whole story
    error *= np.linalg.norm(signal) / np.linalg.norm(error) / 10
    assert si_sdr_db(signal + error, signal) == pytest.approx(20, abs=1e-6)
    assert si_sdr_db(3 * (signal + error), signal) == pytest.approx(20, abs=1e-6)


def test_pitch_correlation_hears_what_mels_do_not() -> None:
    clip = tone(220)
    assert pitch_correlation(clip, clip) == pytest.approx(1)
    assert pitch_correlation(-0.5 * clip, clip) == pytest.approx(1), "neither level nor polarity counts"
    near, far = (pitch_correlation(tone(220 * 2 ** (cents / 1200)), clip) for cents in (3, 50))
    assert near > 0.95 and far < 0.2, (near, far)
    rng = np.random.default_rng(2)
    wobble = np.cumsum(220 * 2 ** (rng.normal(0, 0.03, len(clip) // 240).repeat(240)) / RATE) * 2 * np.pi
    wavering = (0.3 * sum(np.sin(k * wobble) / k for k in (1, 2, 3))).astype(np.float32)
    assert pitch_correlation(wavering, clip[: len(wavering)]) < near - 0.05
    assert abs(pitch_correlation(noise(), clip)) < 0.3
    assert pitch_correlation(np.zeros_like(clip), clip) == 0
    with pytest.raises(ValueError, match="at least 16384"):
        pitch_correlation(clip[:1000], clip[:1000])


BANDS = SoundStreamConfig(network="bands", levels=48, latent_dim=768)


def test_level_counts_follow_the_codec() -> None:
    assert level_counts(SoundStreamConfig(levels=12), 4) == [1, 3, 4, 6, 12]
    assert level_counts(BANDS, 24) == [24, 48] == level_counts(BANDS), "a level of every group, and two"
    assert level_counts(SoundStreamConfig(levels=1)) == [1]
    assert level_counts(SoundStreamConfig(levels=3), 9) == [1, 3]


@pytest.mark.parametrize("config", [SoundStreamConfig(), BANDS])
def test_a_report_of_any_network(monkeypatch: pytest.MonkeyPatch, config: SoundStreamConfig) -> None:
    """Rows, rates and the other clip, of random weights; the clips' lengths are no whole number of frames."""
    clips = [0.3 * tone(hz, 1.01) for hz in (110, 220, 330, 440)]
    tracks = [Track(id=str(k), seconds=2.0, **TRACK) for k in (0, 1, 0, 1)]  # the second round is of the same tracks
    found = torch.from_numpy(np.stack(clips))[:, None], tracks, [0.0] * 4
    monkeypatch.setattr(module, "eval_clips", lambda *_: found)
    report = evaluate_codec(
        SoundStream(config).eval(),
        Path(),
        tracks,
        opus_kbps=(),
        num_clips=2,
        clip_s=1.01,
        notes=Bassless(),  # type: ignore[arg-type]
    )
    rows = {row.name: row for row in report.rows}
    counts = level_counts(config)
    assert list(rows) == [*(f"{num} levels" for num in counts), "another clip"]
    assert rows[f"{counts[-1]} levels"].kbps == pytest.approx(6.0)
    assert report.sounding_below_c4 and report.sounding_below_c4.value == 1.0
    # 440 Hz is put beside 110 Hz and 330 beside 220: never a clip of the same track
    expected = [pitch_correlation(clips[3], clips[0]), pitch_correlation(clips[2], clips[1])]
    assert rows["another clip"].pitch_correlation.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert len(report.perplexity) == config.levels


class Bassless:
    """Says that keys sound where the clip does: key 30 by its level below 300 Hz, key 60 by that above."""

    def transcribe(self, clip: np.ndarray) -> Transcription:
        power = np.abs(np.fft.rfft(clip[: len(clip) // 1000 * 1000].reshape(-1, 1000))) ** 2
        sounding = np.zeros((len(power), 88), bool)
        sounding[:, 30], sounding[:, 60] = power[:, :12].sum(1) > 1, power[:, 13:].sum(1) > 1
        onsets = np.zeros_like(sounding)
        onsets[0] = sounding[0]
        return Transcription(sounding, onsets)


class Level:
    name = "level"

    def __call__(self, clip: np.ndarray) -> dict[str, list[float]]:
        return {"embedding": [float(np.abs(clip).mean()), float(clip[0])]}


def test_a_copy_without_bass_shows_in_notes_and_a_softer_one_in_real_or_not() -> None:
    rng = np.random.default_rng(0)
    bass, treble = tone(120, 1.0), tone(960, 1.0)  # whole periods in 1000 samples
    gains = rng.uniform(0.9, 1.1, 12)
    originals = [gain * (bass + treble) for gain in gains]
    compare = Comparison(originals, None, Bassless(), [Level()])  # type: ignore[arg-type]
    same = compare.figures("same", originals, 6.0, 1.2)
    assert same.keys_below_c4 and same.keys_above_c4 and same.onsets and same.sounding_below_c4
    assert same.keys_below_c4.value == same.keys_above_c4.value == same.onsets.value == 1.0
    assert same.sounding_below_c4.value == 1.0 and same.mel_distance_db.value == 0
    assert same.real_time_factor == pytest.approx(0.1) and same.kbps == 6.0 and same.visqol is None
    lost = compare.figures("treble", [gain * treble for gain in gains])
    assert lost.keys_below_c4 and lost.keys_above_c4 and lost.sounding_below_c4 and lost.real_or_not
    assert lost.keys_below_c4.value == 0.0 == lost.sounding_below_c4.value and lost.keys_above_c4.value == 1.0
    assert lost.real_or_not["level"].value == 1.0 and lost.kbps is None
    softer = compare.figures("soft", [0.5 * clip for clip in originals])
    found = softer.mel_distance_db  # 6 dB where there is sound; levels near -60 dB count as equal
    assert 0.5 < found.low <= found.value <= found.high < 6.1


@pytest.mark.parametrize(
    ("kind", "kbps"),
    # codes a second by bits a code: EnCodec 75 by 2 and 8 levels of 10 bits, DAC 24000 / 512 by 3 of 10, Mimi 12.5 by 4
    # of 6
    [("encodec", [1.5, 6.0]), ("dac", [24000 / 512 * 30 / 1000]), ("mimi", [12.5 * 24 / 1000])],
)
def test_other_codecs_from_a_folder(tmp_path: Path, kind: str, kbps: list[float]) -> None:
    codec = PretrainedCodec(str(small_codec(kind, tmp_path / kind)))
    clip = tone(220)
    assert len(codec.settings()) == len(kbps)
    for setting, wanted in zip(codec.settings(), kbps, strict=True):
        out, found = codec(clip, setting)
        assert out.shape == clip.shape and out.dtype == np.float32 and np.abs(out).max() <= 1
        assert found == pytest.approx(wanted, rel=0.03)


def test_what_is_no_codec_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=r"no model .*nothing': it is no folder here"):
        PretrainedCodec(str(tmp_path / "nothing"))
    small = transformers.ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    transformers.ASTModel(small).save_pretrained(tmp_path / "ast")
    with pytest.raises(ValueError, match="type audio-spectrogram-transformer; wanted encodec, dac or mimi"):
        PretrainedCodec(str(tmp_path / "ast"))
