import numpy as np
import pytest
import torch

from musiclm.core.features import LogMel, frame_signal, mel_filterbank, stft


def test_frames_of_both_alignments() -> None:
    audio = torch.arange(1.0, 11)[None]
    causal = frame_signal(audio, 4, 2, left=2)
    assert causal[0, 0].tolist() == [0, 0, 1, 2] and causal[0, -1].tolist() == [7, 8, 9, 10]
    centred = frame_signal(audio, 4, 2)
    assert centred[0, 0].tolist() == [0, 1, 2, 3] and centred.shape == (1, 5, 4)
    assert frame_signal(audio[:, :9], 4, 2).shape[1] == 5, "a started hop is a frame"


def test_stft_equals_numpy() -> None:
    audio, window = torch.randn(1, 100), torch.hann_window(16)
    ours = stft(audio, 16, 4, window, left=12)
    padded = np.concatenate([np.zeros(12), audio[0].numpy()])
    for t in range(25):
        np.testing.assert_allclose(ours[0, t], np.fft.rfft(padded[t * 4 : t * 4 + 16] * window.numpy()), atol=1e-4)


def test_a_tone_lands_in_its_band() -> None:
    logmel = LogMel(n_fft=1024, hop=240, num_mels=80)
    time_s = torch.arange(24000) / 24000
    peaks = [int(logmel(torch.sin(2 * torch.pi * hz * time_s)[None])[0, :, 50].argmax()) for hz in (200, 1000, 5000)]
    assert peaks == sorted(peaks) and len(set(peaks)) == 3
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731
    for peak, hz in zip(peaks, (200, 1000, 5000), strict=True):
        assert abs((peak + 1) / 81 - mel(hz) / mel(12000)) < 0.02


def test_level_in_nepers_and_floor() -> None:
    logmel = LogMel()
    audio = torch.randn(1, 4800) * 0.1
    shift = (logmel(audio * 2) - logmel(audio))[..., 2:-2]
    torch.testing.assert_close(shift, torch.full_like(shift, float(np.log(2))), atol=1e-3, rtol=0)
    assert torch.allclose(logmel(torch.zeros(1, 4800)), torch.tensor(1e-5).log())


def test_filters_tile_the_range() -> None:
    filters = mel_filterbank(24000, 2048, 40, 50, 11000)
    bins = torch.linspace(0, 12000, 1025)
    inside = (bins > 150) & (bins < 10000)
    torch.testing.assert_close(filters.sum(1)[inside], torch.ones(int(inside.sum())), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="mel range"):
        mel_filterbank(24000, 1024, 40, 100, 13000)
