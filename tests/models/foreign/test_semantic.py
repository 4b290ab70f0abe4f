"""k-means on a layer of models made by others: frames where they belong, windows, and what the layer is."""

from pathlib import Path

import pytest
import torch

from musiclm.core.artifact import ArtifactError
from musiclm.core.audio import resample
from musiclm.core.pretrained import load_pretrained, loading
from musiclm.models.encoders import load_cues, load_semantic
from musiclm.models.foreign.semantic import KIND, ForeignSemantic, layers_of, num_fit_clips
from tests.foreign import CONVOLUTIONS, small_clap, small_codec, small_hubert, small_semantic

KINDS = {"hubert": 50.0, "mert": 75.0, "w2vbert": 50.0}
RATE = 24000


def clip(seconds: float, seed: int = 0) -> torch.Tensor:
    """Noise in bursts, so that frames differ."""
    generator = torch.Generator().manual_seed(seed)
    samples = round(seconds * RATE)
    level = torch.rand(1, 1, samples // 2400 + 1, generator=generator).repeat_interleave(2400, -1)[..., :samples]
    return 0.3 * level * torch.randn(1, 1, samples, generator=generator)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("semantic")
    return {kind: small_semantic(kind, folder / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def fitted(folders: dict[str, Path]) -> dict[str, ForeignSemantic]:
    found = {}
    for kind, folder in folders.items():
        found[kind] = ForeignSemantic.from_pretrained(str(folder), num_clusters=8)
        found[kind].fit([clip(4.0, seed) for seed in range(2)])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_whole_frames(fitted: dict[str, ForeignSemantic], kind: str) -> None:
    encoder, rate_hz = fitted[kind], KINDS[kind]
    assert encoder.spec.frame_rate_hz == rate_hz and encoder.spec.codebook_size == 8 and encoder.config.layer == 2
    for seconds in (0.01, 1.0, 2.5, 3.333):
        codes = encoder.encode(clip(seconds))
        assert codes.shape == (1, 1, int(seconds * rate_hz + 1e-6))
    assert len(encoder.encode(clip(3.0)).unique()) > 2
    batch = torch.cat([clip(3.0, 1), clip(3.0, 2)])
    assert torch.equal(encoder.encode(batch)[1:], encoder.encode(batch[1:]))


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_layer(folders: dict[str, Path], kind: str) -> None:
    audio = clip(2.0)
    encoder = ForeignSemantic.from_pretrained(str(folders[kind]), layer=1, num_clusters=4)
    assert len(layers_of(encoder.model)) == 1  # what is above is not run
    model = load_pretrained(folders[kind])
    extractor = loading(folders[kind], lambda library: library.AutoFeatureExtractor.from_pretrained(folders[kind]))
    wave = resample(audio[0].numpy(), RATE, extractor.sampling_rate)[0]
    inputs = extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    inputs.pop("attention_mask", None)
    with torch.no_grad():
        wanted = model(**inputs, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(encoder.features(audio, wanted.shape[1]), wanted, rtol=1e-4, atol=1e-5)


def test_a_code_stands_where_its_sound_is(fitted: dict[str, ForeignSemantic]) -> None:
    """Loudness that changes in the middle changes codes there, not a frame or two off."""
    for encoder in fitted.values():
        rate_hz = encoder.spec.frame_rate_hz or 0.0
        sound = torch.cat([torch.zeros(1, 1, 2 * RATE), clip(2.0)], -1)
        codes = encoder.encode(sound)[0, 0]
        changes_s = ((codes[1:] != codes[:-1]).nonzero()[:, 0] + 1) / rate_hz
        inside = changes_s[changes_s > 0.5]  # the clip's own beginning is a change
        assert len(inside) and abs(float(inside[0]) - 2.0) < 0.4, inside


def test_long_audio_is_read_in_windows(fitted: dict[str, ForeignSemantic]) -> None:
    """The inside of a window is what it gives alone, and the first codes do not depend on how long it goes on."""
    encoder = fitted["hubert"]
    audio = clip(27.0)
    codes = encoder.encode(audio)
    assert codes.shape[2] == 1350
    assert torch.equal(codes, encoder.encode(audio, windows_at_once=1))
    assert torch.equal(codes[:, :, :450], encoder.encode(audio[..., : 10 * RATE + 2400])[:, :, :450])


def test_an_artifact_keeps_the_codes(
    folders: dict[str, Path], fitted: dict[str, ForeignSemantic], tmp_path: Path
) -> None:
    for kind, encoder in fitted.items():
        encoder.save(tmp_path / kind, KIND, {"data": {"tracks": 2}})
        again = load_semantic(tmp_path / kind)
        assert torch.equal(again.encode(clip(2.0)), encoder.encode(clip(2.0)))
        assert torch.equal(again.codebooks, encoder.centroids[None]) and load_cues(tmp_path / kind) is None
    hashes = {load_semantic(tmp_path / kind).codes_hash for kind in fitted}
    other = ForeignSemantic.from_pretrained(str(folders["hubert"]), num_clusters=8)
    other.fit([clip(4.0, 5)])
    other.save(tmp_path / "other", KIND, {})
    assert len({*hashes, load_semantic(tmp_path / "other").codes_hash}) == 4


def test_what_does_not_suit_is_refused_in_a_line(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="has layers 1 to 3, got 4"):
        ForeignSemantic.from_pretrained(str(folders["hubert"]), layer=4)
    with pytest.raises(ArtifactError, match="can't be run on audio alone"):
        ForeignSemantic.from_pretrained(str(add_extractor(small_codec("encodec", tmp_path / "codec"))))
    with pytest.raises(ArtifactError, match="feature_extractor_cqt"):
        ForeignSemantic.from_pretrained(
            str(small_hubert(tmp_path / "cqt", "mert_model", feature_extractor_cqt=True, **CONVOLUTIONS))
        )
    with pytest.raises(ValueError, match="no clips"):
        ForeignSemantic.from_pretrained(str(folders["hubert"]), num_clusters=4).fit([])
    encoder = ForeignSemantic.from_pretrained(str(folders["hubert"]))
    assert num_fit_clips(encoder.config, 10.0) * 10.0 * 50 >= 50 * 1024


def add_extractor(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=24000).save_pretrained(folder)
    return folder


def test_a_clap_is_no_semantic_encoder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ClapModel has no encoder\.layers"):
        ForeignSemantic.from_pretrained(str(small_clap(tmp_path / "clap")))
