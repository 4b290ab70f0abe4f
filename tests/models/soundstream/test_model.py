"""Both codec networks: lengths, levels, saving; the paper's size. `tests/test_streaming.py` holds streams and batches."""

from pathlib import Path

import pytest
import torch

from musiclm.core.artifact import save_artifact
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.model import EncoderStream, SoundStream

NETWORKS = {
    "spectrogram": SoundStreamConfig(
        latent_dim=8, levels=3, codebook_size=16, fast_width=16, slow_width=24, fast_blocks=1, slow_blocks=2
    ),
    "waveform": SoundStreamConfig(network="waveform", latent_dim=8, levels=3, codebook_size=16, channels=2),
}


@pytest.fixture(params=list(NETWORKS))
def codec(request: pytest.FixtureRequest) -> SoundStream:
    torch.manual_seed(1)
    model = SoundStream(NETWORKS[request.param])
    frames = model.latents(torch.randn(4, 1, 24000) * 0.2).transpose(1, 2).flatten(0, 1)
    model.rvq.fit_kmeans(frames.detach())
    return model.eval()


def noise(samples: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(samples)) * 0.2


@pytest.mark.parametrize("samples", [1, 479, 480, 481, 24000, 24001])
def test_50_frames_a_second_and_back(codec: SoundStream, samples: int) -> None:
    codes = codec.encode(noise(samples))
    assert codes.shape == (1, 3, -(-samples // 480))
    assert 0 <= int(codes.min()) and int(codes.max()) < 16
    assert codec.decode(codes).shape == (1, 1, 480 * codes.shape[-1])


def test_a_short_stream_comes_out_at_the_flush(codec: SoundStream) -> None:
    audio = noise(100)
    stream = EncoderStream(codec)
    assert stream.push(audio).shape[-1] == 0
    assert torch.equal(stream.flush(), codec.encode(audio))
    assert EncoderStream(codec).flush().shape[-1] == 0


def test_fewer_levels_are_the_first_of_all(codec: SoundStream) -> None:
    audio = noise(4800)
    assert torch.equal(codec.encode(audio, 2), codec.encode(audio)[:, :2])
    with pytest.raises(ValueError, match=r"levels must lie in 1\.\.3, got 4"):
        codec.encode(audio, 4)
    with pytest.raises(ValueError, match=r"must lie in \[0, 16\)"):
        codec.decode(torch.full((1, 3, 2), 16))


def test_training_and_inference_agree(codec: SoundStream) -> None:
    audio = noise(4800)
    output, quantized = codec(audio)
    assert torch.equal(quantized.codes, codec.encode(audio))
    torch.testing.assert_close(output, codec.decode(quantized.codes), atol=1e-5, rtol=1e-4)
    output.sum().backward()
    assert all(p.grad is not None for p in codec.encoder.parameters()), "gradients pass straight through the quantizer"


def test_saved_and_loaded(codec: SoundStream, tmp_path: Path) -> None:
    digest = save_artifact(tmp_path / "codec", "soundstream", codec.config, codec, {})
    loaded = SoundStream.from_artifact(tmp_path / "codec")
    assert loaded.codes_hash == digest and loaded.config == codec.config
    assert torch.equal(loaded.encode(noise(4800)), codec.encode(noise(4800)))


def test_the_papers_network() -> None:
    config = SoundStreamConfig(network="waveform", latent_dim=256)
    assert (config.samples_per_frame, config.spec.frame_rate_hz, config.spec.levels) == (480, 50.0, 12)
    with torch.device("meta"):
        model = SoundStream(config)
    parameters = sum(p.numel() for p in model.parameters())
    # SoundStream, table 1: 8.4 M with strides 2 4 5 8; a stride of 6 and 10 in place of 5 and 8 makes kernels wider
    assert 8e6 < parameters < 13e6


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of hop"):
        SoundStreamConfig(n_fft=1000, hop=240)
    with pytest.raises(ValueError, match="whole fraction of a second"):
        SoundStreamConfig(network="waveform", strides=(7, 7))
