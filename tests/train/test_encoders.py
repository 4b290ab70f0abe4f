"""Encoders made by others, from a corpus to sound: added, tokenized with, trained for, bundled, played."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from musiclm.core.artifact import ArtifactError, read_config
from musiclm.core.bundle import Bundle
from musiclm.core.streams import ENCODER_OF
from musiclm.data.corpus.build import build_corpus
from musiclm.data.store import StoreError, TokenStore, read_header
from musiclm.generate.session import MusicLM
from musiclm.train.encoders import STREAM_OF, add_encoder
from musiclm.train.pipeline import fitted, make_bundle, tokenize, train_all, train_stage
from musiclm.train.recipes import Preset, configure, load_preset, num_fine_levels
from tests.foreign import small_clap, small_codec, small_semantic

STEPS = ("semantic", "storm", "coarse", "fine")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tracks of sliding tones, 12 s each."""
    pytest.importorskip("transformers")
    folder, random = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    (folder / "music").mkdir()
    time_s = np.arange(24000 * 12) / 24000
    for index in range(8):
        hz = 150 * 2 ** random.uniform(0, 3) * (1 + 0.1 * np.floor(time_s * random.uniform(1, 4)) % 2)
        sound = 0.3 * np.sin(2 * np.pi * np.cumsum(hz) / 24000) * (0.5 + 0.5 * np.sin(time_s * random.uniform(3, 9)))
        soundfile.write(folder / "music" / f"{index}.wav", sound, 24000)
    build_corpus([str(folder / "music")], folder / "corpus", jobs=1, progress=False)
    return folder / "corpus"


def few_steps(*more: str) -> Preset:
    """The preset `tiny` with two steps a stage."""
    settings = [f"{stage}.train.{name}={value}" for stage in STEPS for name, value in (("steps", 2), ("batch_size", 2))]
    settings += [f"{stage}.task.num_validation=2" for stage in STEPS]
    return configure("tiny", "all", [*settings, *more])


@dataclass(frozen=True)
class Chain:
    """Encoders, and what their streams are."""

    codec: Callable[[Path], Path]
    semantic: str
    rates_hz: tuple[float, float]  # acoustic, semantic
    levels: int
    sample_rate_hz: int = 24000
    num_levels: int | None = None  # asked for
    fine: int = 1  # whether there is a fine stage


CHAINS = {
    # 3 acoustic frames beside 2 semantic ones
    "encodec w2v-bert": Chain(lambda f: small_codec("encodec", f, codebook_size=16), "w2vbert", (75, 50), 8),
    # rates that hardly ever begin together, sound at 44.1 kHz
    "dac hubert": Chain(
        lambda f: small_codec("dac", f, codebook_size=16, sampling_rate=44100), "hubert", (44100 / 512, 50), 3, 44100
    ),
    # 6 semantic frames in an acoustic one
    "mimi mert": Chain(lambda f: small_codec("mimi", f), "mert", (12.5, 75), 4),
    # a single level: the coarse stage has all
    "mimi of one level, hubert": Chain(lambda f: small_codec("mimi", f), "hubert", (12.5, 50), 1, num_levels=1, fine=0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_from_a_corpus_to_sound(corpus: Path, tmp_path: Path, name: str) -> None:
    chain, runs = CHAINS[name], tmp_path / "runs"
    codec = chain.codec(tmp_path / "codec")
    add_encoder("acoustic", str(codec), runs, levels=chain.num_levels)
    semantic = small_semantic(chain.semantic, tmp_path / "semantic")
    add_encoder("semantic", str(semantic), runs, data=corpus, codebook_size=16)
    clap = small_clap(tmp_path / "clap")
    add_encoder("joint", str(clap), runs, data=corpus, levels=3, codebook_size=8)

    said: list[str] = []
    made = train_all(few_steps(), corpus, runs, name="foreign", say=said.append, quiet=True)
    assert made is not None
    specs = {stream: read_header(runs / "tokens" / stream).spec for stream in ("acoustic", "semantic", "mulan")}
    assert (specs["acoustic"].frame_rate_hz, specs["semantic"].frame_rate_hz) == chain.rates_hz
    assert specs["acoustic"].levels == chain.levels and specs["mulan"].levels == 3
    assert ("fine" in made.parts) == bool(chain.fine)
    for folder in (codec, semantic, clap):
        shutil.rmtree(folder)  # the bundle has all it needs

    model = MusicLM.from_pretrained(made.folder)
    assert model.sample_rate_hz == chain.sample_rate_hz
    storm = model.generate("slow music", 3.1, seed=1)
    assert storm.audio.shape == (1, round(3.1 * chain.sample_rate_hz)) and np.isfinite(storm.audio).all()
    # the same seed, the same bytes; streamed as whole; from its codes too
    pieces = list(model.stream("slow music", 3.1, seed=1))
    assert len(pieces) > 1 and np.array_equal(np.concatenate(pieces), storm.audio[0])
    paths = storm.save(tmp_path / "a.wav", take=True)
    assert np.array_equal(model.from_take(paths[0].with_suffix(".take")).audio, storm.audio)
    again = model.generate("slow music", 3.1, seed=1, config=model.default_config("ar"))
    assert again.audio.shape == storm.audio.shape
    # it goes on from a sound file and from a take, whole frames of which come first
    for source in (paths[0], paths[0].with_suffix(".take")):
        more = model.extend(source, duration_s=1.0)
        joint = more.takes[0].about.parent
        assert joint is not None and joint.joint_samples > 2.9 * chain.sample_rate_hz
        kept = joint.joint_samples - round(0.05 * chain.sample_rate_hz)
        assert np.abs(more.audio[0, :kept] - storm.audio[0, :kept]).max() < 1e-3
        assert more.audio.shape[1] == joint.joint_samples + chain.sample_rate_hz


def test_one_encoder_beside_ours(bundle: Bundle, corpus: Path, tmp_path: Path) -> None:
    """A codec made by others, and the semantic encoder and MuLan of a bundle."""
    runs = tmp_path / "runs"
    add_encoder("acoustic", str(small_codec("mimi", tmp_path / "codec")), runs, levels=2)
    tokenize(corpus, runs, start=str(bundle.folder))
    for stage in ("semantic", "storm"):
        trained = train_stage(stage, few_steps(), corpus, runs, quiet=True)
    assert trained is not None
    config = read_config(trained)["config"]
    assert (config["acoustic"]["frame_rate_hz"], config["acoustic"]["levels"]) == (12.5, 2)
    assert config["semantic"]["frame_rate_hz"] == 25
    made = make_bundle(runs, tmp_path / "bundle", "mixed", start=str(bundle.folder), leave_out=("coarse", "fine"))
    music = MusicLM.from_pretrained(made.folder).generate("piano", 1.0)
    assert music.audio.shape == (1, 24000) and np.abs(music.audio).max() > 0
    card = (made.folder / "README.md").read_text()
    assert "codec was made by others" in card and "MiniLM" in card and str(tmp_path) not in card


def test_stages_are_bound_to_the_encoder_they_learned_from(bundle: Bundle, corpus: Path, tmp_path: Path) -> None:
    runs, other = tmp_path / "runs", tmp_path / "other"
    first = small_codec("mimi", tmp_path / "first")
    add_encoder("acoustic", str(first), runs, levels=2)
    tokenize(corpus, runs, start=str(bundle.folder))
    add_encoder("acoustic", str(first), other, levels=1)
    shutil.copytree(runs / "tokens", other / "tokens")
    with pytest.raises(StoreError, match="tokens of another soundstream"):
        tokenize(corpus, other, start=str(bundle.folder), streams=("acoustic",))
    for stage in ("semantic", "storm"):
        train_stage(stage, few_steps(), corpus, runs, quiet=True)
        shutil.copytree(runs / stage, other / stage)
    with pytest.raises(ArtifactError, match="storm model learned from a soundstream with hash"):
        make_bundle(other, tmp_path / "b", "x", start=str(bundle.folder), leave_out=("coarse", "fine"))
    assert not (tmp_path / "b").exists()


def test_a_place_is_taken_once_and_options_are_read(corpus: Path, tmp_path: Path, bundle: Bundle) -> None:
    codec = str(small_codec("mimi", tmp_path / "codec"))
    add_encoder("acoustic", codec, tmp_path)
    with pytest.raises(ArtifactError, match="holds another encoder made by others"):
        add_encoder("acoustic", codec, tmp_path)
    shutil.copytree(bundle.part("mulan"), tmp_path / "mulan" / "artifact")
    with pytest.raises(ArtifactError, match="holds a model that was trained here"):
        add_encoder("joint", codec, tmp_path, data=corpus)
    for kind, options, message in (
        ("drums", {}, "no kind of encoder 'drums'"),
        ("acoustic", {"layer": 2}, "--layer does nothing here"),
        ("semantic", {"levels": 2, "data": corpus}, "--levels does nothing here"),
        ("semantic", {}, "name a corpus: --data"),
    ):
        with pytest.raises(ValueError, match=message):
            add_encoder(kind, codec, tmp_path / "new", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_presets_follow_the_streams(tmp_path: Path) -> None:
    """By default nothing changes; else every model reads what is there, whatever rate, levels and sizes."""
    from dataclasses import replace

    from musiclm.core.streams import ACOUSTIC, MELODY, MULAN, SEMANTIC
    from musiclm.train.recipes import fit_to_streams

    for name in ("tiny", "base", "large", "paper"):
        preset = load_preset(name)
        assert fit_to_streams(preset, {}) == preset
        own = {spec.name: spec for spec in preset.coarse.task.model.specs}
        assert fit_to_streams(preset, own) == preset and num_fine_levels(preset) > 0
        for levels, rate_hz, coarse in ((8, 75.0, 4), (4, 50.0, 2), (2, 12.5, 1), (32, 12.5, 4), (9, 44100 / 512, 4)):
            acoustic = replace(ACOUSTIC, levels=levels, frame_rate_hz=rate_hz, codebook_size=64)
            semantic, mulan = replace(SEMANTIC, frame_rate_hz=50.0), replace(MULAN, levels=3)
            found = fit_to_streams(preset, {spec.name: spec for spec in (acoustic, semantic, mulan)})
            for stage in (found.semantic, found.coarse, found.fine):
                assert set(stage.task.model.specs) == {acoustic, semantic, mulan}
                assert stage.task.model.mulan_levels <= 3
            chosen = found.coarse.task.model.coarse_levels
            wide = name in ("base", "large")  # their coarse stage has 24 levels
            assert chosen == ((max(1, levels // 2) if levels <= 24 else 24) if wide else coarse)
            assert (found.storm.task.model.acoustic, found.storm.task.model.semantic) == (acoustic, semantic)
    assert fitted(load_preset("base"), tmp_path) == load_preset("base")
    assert set(STREAM_OF.values()) == set(ENCODER_OF) - {MELODY.name}, "melodies have no encoder but ours"


def test_a_store_of_rates_that_hardly_meet(tmp_path: Path) -> None:
    """Crops of both streams are of the same moments, to less than a frame, and as long for every place."""
    from musiclm.core.streams import TokenSpec
    from musiclm.data.store import StreamHeader, StreamWriter

    rates, seconds = {"acoustic": 44100 / 512, "semantic": 50.0}, 40
    for name, rate_hz in rates.items():
        spec = TokenSpec(name=name, codebook_size=4096, levels=1, frame_rate_hz=rate_hz)
        writer = StreamWriter(tmp_path, StreamHeader(spec=spec, encoder="a" * 64), torch.zeros(1, 4096, 2))
        start = 2 if name == "acoustic" else 0
        frames = np.arange(int((seconds - start) * rate_hz))
        writer.add("t", "train", float(start), float(seconds - start), frames[None])
        writer.flush()
    store = TokenStore(tmp_path, ("acoustic", "semantic"))
    crops = store.cut([(0, start) for start in range(0, 1000, 37)], 100)
    first_s = {name: crops.codes[name][:, 0, 0] / rate for name, rate in rates.items()}
    apart = (first_s["acoustic"] + 2 - first_s["semantic"]).abs()
    assert float(apart.max()) < 1 / 50 + 1e-6
    assert crops.codes["acoustic"].shape[2] == 172 and crops.codes["semantic"].shape[2] == 100
