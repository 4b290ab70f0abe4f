"""Contracts of both codec networks: lengths, causality, streaming, batching, saving; the paper's size."""

from pathlib import Path

import pytest
import torch

from musiclm.core.artifact import save_artifact
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.model import DecoderStream, EncoderStream, SoundStream

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


def test_streamed_codes_equal_whole(codec: SoundStream) -> None:
    audio = noise(30011)
    whole = codec.encode(audio)
    stream, pieces, position = EncoderStream(codec), [], 0
    for length in (100, 3000, 1, 480, 20000, 6430):
        pieces.append(stream.push(audio[..., position : position + length]))
        position += length
    pieces.append(stream.flush())
    assert position == audio.shape[-1] == stream.num_samples
    assert torch.equal(torch.cat(pieces, -1), whole)


def test_streamed_audio_equals_whole(codec: SoundStream) -> None:
    codes = codec.encode(noise(30011))
    stream = DecoderStream(codec)
    pieces = [stream.push(part) for part in codes.split([1, 2, 40, codes.shape[-1] - 43], -1)] + [stream.flush()]
    torch.testing.assert_close(torch.cat(pieces, -1), codec.decode(codes), atol=2e-5, rtol=0)


def test_a_short_stream_comes_out_at_the_flush(codec: SoundStream) -> None:
    audio = noise(100)
    stream = EncoderStream(codec)
    assert stream.push(audio).shape[-1] == 0
    assert torch.equal(stream.flush(), codec.encode(audio))
    assert EncoderStream(codec).flush().shape[-1] == 0


def test_looks_no_further_ahead_than_it_says(codec: SoundStream) -> None:
    audio = noise(4800).requires_grad_()
    latent = codec.latents(audio)
    frame = 4
    (gradient,) = torch.autograd.grad(latent[..., frame].square().sum(), audio)
    end = (frame + 1) * 480 + codec.config.lookahead
    assert gradient[..., end:].abs().max() == 0
    assert gradient[..., end - 240 : end].abs().max() > 0 or codec.config.lookahead == 0
    latents = torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(3))
    changed = latents.clone()
    # the samples up to frame 5's start need the frames before it, and those within the lookahead
    last = 5 + -(-codec.config.decoder_lookahead // 480)
    changed[..., last:] += 1
    with torch.no_grad():
        before, after = codec.synthesize(latents), codec.synthesize(changed)
    torch.testing.assert_close(after[..., : 5 * 480], before[..., : 5 * 480], atol=1e-6, rtol=0)
    assert not torch.allclose(after[..., last * 480 :], before[..., last * 480 :], atol=1e-3)


def test_an_item_of_a_batch_equals_the_item_alone(codec: SoundStream) -> None:
    audio = noise(9600, batch=3)
    codes = codec.encode(audio)
    assert torch.equal(codes[1:2], codec.encode(audio[1:2]))
    torch.testing.assert_close(codec.decode(codes)[1:2], codec.decode(codes[1:2]), atol=2e-5, rtol=0)


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
