"""The codec metrics put clips in an order that is known, and agree with cases worked by hand."""

from pathlib import Path

import numpy as np
import pytest

from musiclm.evaluate.codec import PretrainedCodec, mel_distance_db, pitch_correlation, si_sdr_db

RATE = 24000


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


def small_codec(kind: str, folder: Path) -> Path:
    """A codec of transformers with random weights."""
    transformers = pytest.importorskip("transformers")
    configs = {
        "encodec": lambda: transformers.EncodecConfig(
            num_filters=4, hidden_size=8, codebook_dim=8, num_lstm_layers=1, target_bandwidths=[1.5, 6.0]
        ),
        "dac": lambda: transformers.DacConfig(
            encoder_hidden_size=4,
            decoder_hidden_size=16,
            downsampling_ratios=[2, 4, 8, 8],
            upsampling_ratios=[8, 8, 4, 2],
            n_codebooks=3,
            codebook_dim=4,
            sampling_rate=24000,
        ),
        "mimi": lambda: transformers.MimiConfig(
            num_filters=4,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            intermediate_size=16,
            codebook_dim=8,
            vector_quantization_hidden_dimension=8,
            num_quantizers=4,
            codebook_size=64,
            upsample_groups=16,
        ),
    }
    config = configs[kind]()
    model = {"encodec": "EncodecModel", "dac": "DacModel", "mimi": "MimiModel"}[kind]
    getattr(transformers, model)(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "kbps"),
    # codes a second by bits a code: EnCodec 75 by 2 and 8 levels of 10 bits, DAC 24000 / 512 by 3 of 10, Mimi 12.5 by 4 of 6
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
    with pytest.raises(ValueError, match="nothing can't be loaded"):
        PretrainedCodec(str(tmp_path / "nothing"))
    small = transformers.ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    transformers.ASTModel(small).save_pretrained(tmp_path / "ast")
    with pytest.raises(ValueError, match="type audio-spectrogram-transformer; wanted encodec, dac or mimi"):
        PretrainedCodec(str(tmp_path / "ast"))
