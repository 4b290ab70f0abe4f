"""Codecs made by others: windows on a grid are the stream and the whole, and what the model makes of the whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from musiclm.core.artifact import ArtifactError, read_config
from musiclm.core.pretrained import find_source, take_in
from musiclm.models.encoders import is_foreign, load_codec
from musiclm.models.foreign.codec import KIND, ForeignCodec, decode_window, encode_window
from tests.foreign import CODECS, small_codec

RATES = {"encodec": 75.0, "dac": 24000 / 512, "mimi": 12.5}
LEVELS = {"encodec": 8, "dac": 3, "mimi": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("codecs")
    return {kind: small_codec(kind, folder / kind) for kind in CODECS}


def noise(seconds: float, rate_hz: int = 24000) -> torch.Tensor:
    return 0.3 * torch.randn(1, 1, round(seconds * rate_hz), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", CODECS)
def test_a_codec_says_what_its_codes_are(folders: dict[str, Path], kind: str) -> None:
    codec = ForeignCodec.from_pretrained(str(folders[kind]))
    assert (codec.spec.frame_rate_hz, codec.spec.levels) == (RATES[kind], LEVELS[kind])
    assert codec.sample_rate_hz / codec.samples_per_frame == RATES[kind]
    audio = noise(1.03)
    codes = codec.encode(audio)
    frames = -(-audio.shape[-1] // codec.samples_per_frame)
    assert codes.shape == (1, LEVELS[kind], frames) and 0 <= codes.min() and codes.max() < codec.spec.codebook_size
    assert len(codes.unique()) > 4
    assert codec.decode(codes).shape == (1, 1, frames * codec.samples_per_frame)
    two = ForeignCodec.from_pretrained(str(folders[kind]), 2)
    assert torch.equal(two.encode(audio), codes[:, :2]) and two.decode(codes[:, :2]).isfinite().all()
    assert torch.equal(codec.encode(audio, 1), codes[:, :1])
    for wrong in (0, LEVELS[kind] + 1):
        with pytest.raises(ValueError, match="1 to"):
            ForeignCodec.from_pretrained(str(folders[kind]), wrong)
        with pytest.raises(ValueError, match="levels must lie in"):
            codec.encoder_stream(wrong if wrong else -1)


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("piece", [1, 7, 40, 500])
def test_a_stream_is_the_whole(folders: dict[str, Path], kind: str, piece: int) -> None:
    codec = ForeignCodec.from_pretrained(str(folders[kind]))
    audio = noise(4.37)
    codes = codec.encode(audio)
    encoder, decoder = codec.encoder_stream(), codec.decoder_stream()
    parts = [encoder.push(part) for part in audio.split(piece * 977, -1)]
    assert torch.equal(torch.cat([*parts, encoder.flush()], -1), codes) and encoder.num_samples == audio.shape[-1]
    sound = codec.decode(codes)
    pieces, held, config = [], [], codec.config
    for part in codes.split(piece, 2):
        pieces.append(decoder.push(part))
        assert decoder.grid.held is not None
        held.append(decoder.grid.held.shape[-1])
    assert torch.equal(torch.cat([*pieces, decoder.flush()], -1), sound)
    if piece == 1:  # sound comes with the first chunk and what lies after it, and no more is held than a window
        first = [bool(part.shape[-1]) for part in pieces].index(True)
        assert first + 1 == config.chunk_frames + config.right_frames
        assert max(held) <= config.left_frames + config.chunk_frames + config.right_frames


def test_nothing_becomes_nothing(folders: dict[str, Path]) -> None:
    codec = ForeignCodec.from_pretrained(str(folders["mimi"]))
    assert codec.encode(torch.zeros(1, 1, 0)).shape == (1, 4, 0)
    assert codec.decode(torch.zeros(1, 4, 0, dtype=torch.long)).shape == (1, 1, 0)
    two = torch.cat([noise(2.5), -0.5 * noise(2.5)])
    alone = torch.cat([codec.encode(row[None]) for row in two])
    assert torch.equal(codec.encode(two), alone)


def apart(codec: ForeignCodec, seconds: float) -> tuple[float, float]:
    """From what the model makes of the whole: share of codes that differ, relative distance of sound."""
    audio = noise(seconds)
    with torch.no_grad():
        codes = encode_window(codec.model, audio)[:, : codec.spec.levels]
        sound = decode_window(codec.model, codes)
    own = codec.decode(codes)[..., : sound.shape[-1]]
    length = min(own.shape[-1], sound.shape[-1])
    error = (own[..., :length] - sound[..., :length]).norm() / sound.norm()
    return float((codec.encode(audio) != codes[..., : codes.shape[2]]).float().mean()), float(error)


@pytest.mark.parametrize("kind", CODECS)
def test_windows_are_what_the_model_makes_of_the_whole(folders: dict[str, Path], kind: str) -> None:
    codec = ForeignCodec.from_pretrained(str(folders[kind]))
    codes, sound = apart(codec, 9.6)
    assert codes < 1e-3 and sound < 1e-4, (codes, sound)


@pytest.mark.parametrize(
    ("kind", "changes", "rate_hz", "spf"),
    [
        # as DAC at 44.1 kHz, whose frames are no whole number of 24 kHz samples, and at 24 kHz, with an odd stride
        ("dac", {"sampling_rate": 44100}, 44100, 512),
        ("dac", {"downsampling_ratios": [2, 4, 5, 8], "upsampling_ratios": [8, 5, 4, 2]}, 24000, 320),
        # as MusicGen's EnCodec: 50 Hz at 32 kHz, convolutions that see both sides
        (
            "encodec",
            {"sampling_rate": 32000, "upsampling_ratios": [8, 5, 4, 4], "use_causal_conv": False, "codebook_size": 16},
            32000,
            640,
        ),
        ("mimi", {"num_quantizers": 2}, 24000, 1920),
    ],
)
def test_other_rates_and_strides(tmp_path: Path, kind: str, changes: dict[str, Any], rate_hz: int, spf: int) -> None:
    codec = ForeignCodec.from_pretrained(str(small_codec(kind, tmp_path / "codec", **changes)))
    assert (codec.sample_rate_hz, codec.samples_per_frame) == (rate_hz, spf)
    audio = noise(3.0, rate_hz)
    codes = codec.encode(audio)
    frames = -(-audio.shape[-1] // spf)
    assert codes.shape[2] == frames and codec.decode(codes).shape[-1] == frames * spf
    with torch.no_grad():
        whole = decode_window(codec.model, codes)
    own = codec.decode(codes)[..., : whole.shape[-1]]
    assert (own - whole).norm() < 1e-4 * whole.norm()


@pytest.mark.parametrize("kind", CODECS)
def test_an_artifact_refers_and_is_bound(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    source = Path(shutil.copytree(folders[kind], tmp_path / "source"))
    place = tmp_path / "artifact"
    made = ForeignCodec.from_pretrained(str(source))
    made.save(place, KIND, {})
    assert sum(path.stat().st_size for path in place.rglob("*")) < 10_000 and is_foreign(place)
    codec = load_codec(place)
    audio = noise(1.0)
    assert torch.equal(codec.encode(audio), made.encode(audio)) and codec.codes_hash
    # other levels are another encoder
    ForeignCodec.from_pretrained(str(source), 1).save(tmp_path / "one", KIND, {})
    assert load_codec(tmp_path / "one").codes_hash != codec.codes_hash
    # the same model, taken in, gives the same codes under the same hash, and names no folder of this machine
    take_in(place, tmp_path / "whole")
    moved = Path(shutil.move(source, tmp_path / "gone"))
    with pytest.raises(ArtifactError, match="is not there; put it back"):
        load_codec(place)
    whole = load_codec(tmp_path / "whole")
    assert whole.codes_hash == codec.codes_hash and torch.equal(whole.encode(audio), codec.encode(audio))
    assert str(tmp_path) not in (tmp_path / "whole" / "config.json").read_text()
    assert read_config(tmp_path / "whole")["hash"] == read_config(place)["hash"]
    take_in(tmp_path / "whole", tmp_path / "again")
    assert load_codec(tmp_path / "again").codes_hash == codec.codes_hash
    shutil.move(moved, source)
    settings = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**settings, "note": "changed"}))
    with pytest.raises(ArtifactError, match="but it has"):
        load_codec(place)
    (tmp_path / "whole" / "source" / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="has hash"):
        load_codec(tmp_path / "whole")


def test_what_can_not_be_used_is_refused_in_a_line(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(ArtifactError, match=r"no model 'here/or/there'"):
        ForeignCodec.from_pretrained("here/or/there")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"it has no config\.json"):
        find_source(str(tmp_path / "empty"))
    pickled = Path(shutil.copytree(folders["mimi"], tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="is pickle, which is never read"):
        ForeignCodec.from_pretrained(str(pickled))
    stereo = small_codec("encodec", tmp_path / "stereo", audio_channels=2)
    with pytest.raises(ValueError, match="codes 2 channels"):
        ForeignCodec.from_pretrained(str(stereo))
    loud = small_codec("encodec", tmp_path / "loud", normalize=True)
    with pytest.raises(ValueError, match="keeps the level"):
        ForeignCodec.from_pretrained(str(loud))
