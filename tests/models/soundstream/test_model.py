"""The codec's networks: lengths, levels, saving; the paper's size.

`tests/test_streaming.py` holds streams and batches.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from musiclm.core.artifact import save_artifact
from musiclm.models.soundstream.config import Band, SoundStreamConfig
from musiclm.models.soundstream.model import EncoderStream, SoundStream

NETWORKS = {
    "waveform": SoundStreamConfig(latent_dim=8, levels=3, codebook_size=16, channels=2),
    "bands": SoundStreamConfig(
        network="bands",
        bands=(
            Band(n_fft=1920, hop=480, low_hz=20, high_hz=480, fold=2, groups=2, decimation=15, rounds=3),
            Band(n_fft=960, hop=240, low_hz=480, high_hz=6000, fold=2, groups=3, num_pooled=40, rounds=3),
        ),
        levels=16,
        group_dim=4,
        latent_dim=32,
        codebook_size=16,
        group_width=8,
        group_blocks=1,
        trunk_width=16,
        trunk_blocks=2,
        trunk_kernel=3,
        block_frames=4,
    ),
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
def test_whole_frames_and_back(codec: SoundStream, samples: int) -> None:
    codes, frame = codec.encode(noise(samples)), codec.config.samples_per_frame
    assert codes.shape == (1, codec.config.levels, -(-samples // frame))
    assert 0 <= int(codes.min()) and int(codes.max()) < 16
    assert codec.decode(codes).shape == (1, 1, frame * codes.shape[-1])
    assert codec.spec.frame_rate_hz == 24000 / frame


def test_a_short_stream_comes_out_at_the_flush(codec: SoundStream) -> None:
    audio = noise(100)
    stream = EncoderStream(codec)
    assert stream.push(audio).shape[-1] == 0
    assert torch.equal(stream.flush(), codec.encode(audio))
    assert EncoderStream(codec).flush().shape[-1] == 0


def test_fewer_levels_are_the_first_of_all(codec: SoundStream) -> None:
    audio = noise(4800)
    assert torch.equal(codec.encode(audio, 2), codec.encode(audio)[:, :2])
    every = codec.config.levels
    with pytest.raises(ValueError, match=rf"levels must lie in 1\.\.{every}, got {every + 1}"):
        codec.encode(audio, every + 1)
    with pytest.raises(ValueError, match=r"must lie in \[0, 16\)"):
        codec.decode(torch.full((1, every, 2), 16))


def test_training_and_inference_agree(codec: SoundStream) -> None:
    audio = noise(4800)
    output, quantized = codec(audio)
    assert torch.equal(quantized.codes, codec.encode(audio))
    torch.testing.assert_close(output, codec.decode(quantized.codes), atol=1e-5, rtol=1e-4)
    if codec.config.network == "bands":  # trained on magnitudes: its audio carries no gradient
        output = torch.cat([part.flatten(1) for part in codec.decoder(quantized.output)], 1)
    output.sum().backward()
    assert all(p.grad is not None for p in codec.encoder.parameters()), "gradients pass straight through the quantizer"


def test_saved_and_loaded(codec: SoundStream, tmp_path: Path) -> None:
    digest = save_artifact(tmp_path / "codec", "soundstream", codec.config, codec, {})
    loaded = SoundStream.from_artifact(tmp_path / "codec")
    assert loaded.codes_hash == digest and loaded.config == codec.config
    assert torch.equal(loaded.encode(noise(4800)), codec.encode(noise(4800)))


def test_the_papers_network() -> None:
    config = SoundStreamConfig()
    assert (config.samples_per_frame, config.spec.frame_rate_hz, config.spec.levels) == (480, 50.0, 12)
    with torch.device("meta"):
        model = SoundStream(config)
    parameters = sum(p.numel() for p in model.parameters())
    # SoundStream, table 1: 8.4 M with strides 2 4 5 8; a stride of 6 and 10 in place of 5 and 8 makes kernels wider
    assert 8e6 < parameters < 13e6


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="whole fraction of two seconds"):
        SoundStreamConfig(strides=(7, 7))


def test_codes_that_hold_are_a_setting_of_the_bands_network() -> None:
    """Streams, prefixes and batches as ever; what is decoded knows nothing of it."""
    torch.manual_seed(1)
    plain = SoundStream(NETWORKS["bands"]).eval()
    plain.rvq.fit_kmeans(plain.latents(noise(24000, 4)).transpose(1, 2).flatten(0, 1).detach())
    model = SoundStream(replace(NETWORKS["bands"], hold=10.0)).eval()
    model.load_state_dict(plain.state_dict())
    audio = noise(24000, 2)
    codes, free = model.encode(audio), plain.encode(audio)
    changes = [int((own[..., 1:] != own[..., :-1]).sum()) for own in (codes[:, :8], free[:, :8])]
    assert codes.shape == free.shape and changes[0] < 0.9 * changes[1]
    assert torch.equal(model.encode(audio, 8), codes[:, :8]) and torch.equal(model.encode(audio[1:]), codes[1:])
    assert torch.equal(model.decode(codes), plain.decode(codes))
    stream, short = EncoderStream(model), EncoderStream(model, 8)
    for one, wanted in ((stream, codes), (short, codes[:, :8])):
        pieces = [one.push(piece) for piece in audio[:1].split(1777, -1)] + [one.flush()]
        assert torch.equal(torch.cat(pieces, -1), wanted[:1])


@pytest.mark.parametrize("network", list(NETWORKS))
def test_codes_hold_in_groups_alone_and_for_a_cost_of_0_or_more(network: str) -> None:
    with pytest.raises(ValueError, match="hold is -1"):
        replace(NETWORKS[network], hold=-1.0)
    if network != "bands":
        with pytest.raises(ValueError, match="bands"):
            replace(NETWORKS[network], hold=0.5)
