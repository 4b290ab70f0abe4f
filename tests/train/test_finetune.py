"""`--from`: a bundle's encoders make the tokens of other music, and its language models go on from there."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from musiclm.cli import app
from musiclm.core.artifact import ArtifactError, codes_hash, read_config, save_artifact
from musiclm.core.bundle import BUNDLED, open_bundle
from musiclm.core.config import override
from musiclm.data.corpus.build import build_corpus
from musiclm.data.labels import label_corpus
from musiclm.data.store import HEADER_FILE
from musiclm.generate.session import MusicLM
from musiclm.models.melody.model import MelodyConfig, MelodyEncoder
from musiclm.models.soundstream.model import SoundStream
from musiclm.train.loop import STATE_FILE
from musiclm.train.pipeline import make_bundle, tokenize, train_stage
from musiclm.train.recipes import Preset, load_preset

CLIPS = Path(__file__).parents[1] / "data" / "clips"
SHORT = ("semantic.train.steps=2", "semantic.train.batch_size=2", "semantic.task.num_validation=2")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus([str(CLIPS)], folder, jobs=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def tokens(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that holds nothing but what base's encoders made of the corpus."""
    runs = tmp_path_factory.mktemp("runs")
    return tokenize(corpus, runs, start="base", streams=("mulan", "semantic"), max_seconds_per_track=10)


@pytest.fixture
def runs(tokens: Path, tmp_path: Path) -> Path:
    shutil.copytree(tokens, tmp_path / "runs" / "tokens")
    return tmp_path / "runs"


def preset(*more: str) -> Preset:
    return override(load_preset("base"), [*SHORT, *more])


def test_a_run_begins_with_the_bundles_weights_and_leaves_them(corpus: Path, runs: Path) -> None:
    base = load_file(BUNDLED / "base" / "semantic" / "model.safetensors")
    assert train_stage("semantic", preset(), corpus, runs, start="base", max_minutes=0, quiet=True) is None
    begun = load_file(runs / "semantic" / STATE_FILE)
    assert all(begun[f"{kind}.{name}"].equal(base[name].float()) for name in base for kind in ("model.model", "ema"))
    folder = train_stage("semantic", preset(), corpus, runs, start="base", quiet=True)
    assert folder is not None
    trained = load_file(folder / "model.safetensors")
    assert sum(not trained[name].equal(base[name]) for name in base) > len(base) / 2
    # far from random weights: the baseline is what frequencies alone score
    info = read_config(folder)["info"]
    assert info["metrics"]["loss"] < info["baseline"]["loss"] - 1
    assert info["from"]["hash"] == open_bundle("base").hashes["semantic"] and info["from"]["step"] > 0


def test_a_bundle_takes_what_was_not_trained_from_the_old_one(corpus: Path, runs: Path) -> None:
    train_stage("semantic", preset(), corpus, runs, start="base", quiet=True)
    base, mine = open_bundle("base"), make_bundle(runs, runs / "bundle", "mine", start="base")
    assert {part for part in base.parts if mine.hashes[part] != base.hashes[part]} == {"semantic"}
    assert mine.document["sampling"] == base.document["sampling"]
    card = (mine.folder / "README.md").read_text()
    before = read_config(base.part("semantic"))["info"]
    assert f"{before['step']} + 2" in card
    bare = make_bundle(runs, runs / "bare", "bare", start="base", sampling={})
    assert bare.document["sampling"] == {}
    small = make_bundle(runs, runs / "small", "small", start="base", leave_out=["storm"])
    assert set(base.parts) - set(small.parts) == {"storm"}
    for part in ("semantic", "mulan", "nothing"):
        with pytest.raises(ValueError, match=f"{part} can't be left out of a bundle; only coarse, fine, melody, storm"):
            make_bundle(runs, runs / "less", "less", start="base", leave_out=[part])


def test_mulans_text_side_learns_alone_and_the_language_models_go_on(corpus: Path, tmp_path: Path) -> None:
    for _ in label_corpus(corpus, None, windows_per_track=1):
        pass
    short = override(
        load_preset("base"),
        ["mulan_text.train.steps=2", "mulan-text.train.batch_size=4", "mulan-text.task.captions_per_window=2"],
    )
    folder = train_stage("mulan-text", short, corpus, tmp_path, start="base", quiet=True)
    assert folder is not None
    base, mine = open_bundle("base"), make_bundle(tmp_path, tmp_path / "bundle", "mine", start="base")
    assert mine.hashes["mulan"] != base.hashes["mulan"] and mine.hashes["semantic"] == base.hashes["semantic"]
    info = read_config(mine.part("mulan"))["info"]
    assert (
        info["codes_of"] == codes_hash(read_config(base.part("mulan"))) and info["from"]["hash"] == base.hashes["mulan"]
    )
    # tokens of one are tokens of the other
    store = tokenize(corpus, tmp_path, start="base", streams=("mulan",), max_seconds_per_track=10)
    header = json.loads((store / "mulan" / HEADER_FILE).read_text())
    assert header["encoder"] == info["codes_of"]
    # codes of another origin are refused
    config = mine.part("mulan") / "config.json"
    config.write_text(config.read_text().replace(info["codes_of"], "0" * 64))
    with pytest.raises(ArtifactError, match="learned from a mulan"):
        open_bundle(mine.folder)


def test_the_decoder_learns_alone_and_every_code_stays(corpus: Path, tmp_path: Path) -> None:
    short = override(
        load_preset("base"),
        [
            "soundstream-decoder.train.steps=3",
            "soundstream-decoder.train.batch_size=2",
            "soundstream-decoder.train.learning_rate=0.002",
            "soundstream-decoder.train.warmup_steps=1",
            "soundstream-decoder.task.eval_clips=2",
            "soundstream-decoder.task.eval_clip_s=1.28",
            "soundstream-decoder.task.crop_s=1.28",
            "soundstream-decoder.task.adversary_crop_s=0.64",
            "soundstream-decoder.task.adversary_from_step=2",
            "soundstream-decoder.task.discriminator_patches=[24]",
        ],
    )
    folder = train_stage("soundstream-decoder", short, corpus, tmp_path, start="base", quiet=True)
    assert folder is not None
    lines = [json.loads(line) for line in (tmp_path / "soundstream-decoder" / "log.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"][-1]
    assert {"adversarial", "feature", "discriminator/loss"} <= trained.keys()
    base, mine = open_bundle("base"), make_bundle(tmp_path, tmp_path / "bundle", "mine", start="base")
    old, new = (load_file(bundle.part("soundstream") / "model.safetensors") for bundle in (base, mine))
    changed = {name.split(".")[0] for name in new if not new[name].equal(old[name])}
    assert changed == {"decoder"}
    info = read_config(mine.part("soundstream"))["info"]
    assert info["codes_of"] == codes_hash(read_config(base.part("soundstream")))
    assert info["from"]["hash"] == base.hashes["soundstream"]
    codecs = [SoundStream.from_artifact(bundle.part("soundstream")) for bundle in (base, mine)]
    audio = torch.randn(1, 1, 24000, generator=torch.Generator().manual_seed(0)) * 0.1
    codes = [codec.encode(audio) for codec in codecs]
    assert codes[0].equal(codes[1])
    assert not codecs[0].decode(codes[0]).equal(codecs[1].decode(codes[0]))
    # tokens of one are tokens of the other, and base's language models go with it
    store = tokenize(corpus, tmp_path, start="base", streams=("acoustic",), max_seconds_per_track=5)
    assert json.loads((store / "acoustic" / HEADER_FILE).read_text())["encoder"] == info["codes_of"]
    MusicLM.from_pretrained(mine.folder)


def test_the_command_line(corpus: Path, runs: Path) -> None:
    where = ["--data", str(corpus), "--runs", str(runs), "--from", "base"]
    cli = CliRunner()
    # the streams are whole: nothing is done again, and base's encoders are told from others by hash
    done = cli.invoke(app, ["tokenize", *where, "--stream", "mulan", "--max-seconds", "10"])
    assert done.exit_code == 0, done.output
    settings = [word for setting in SHORT for word in ("--set", setting)]
    done = cli.invoke(app, ["train", "semantic", *where, *settings])
    assert done.exit_code == 0, done.output
    done = cli.invoke(app, ["bundle", "--runs", str(runs), "--from", "base", "--out", str(runs / "bundle")])
    assert done.exit_code == 0 and "bundle mine" in done.output, done.output
    assert cli.invoke(app, ["train", "all", *where]).exit_code != 0


def test_what_does_not_fit_is_refused(corpus: Path, runs: Path) -> None:
    with pytest.raises(ValueError, match="w2vbert is an encoder"):
        train_stage("w2vbert", preset(), corpus, runs, start="base", quiet=True)
    with pytest.raises(ValueError, match="soundstream is an encoder.*soundstream-decoder, mulan-text"):
        train_stage("soundstream", preset(), corpus, runs, start="base", quiet=True)
    with pytest.raises(ValueError, match="soundstream-decoder goes on with the soundstream of a bundle"):
        train_stage("soundstream-decoder", preset(), corpus, runs, quiet=True)
    for setting, reason in (
        ("task.crop_s=2.6", "crop_s must be whole code frames of 0.08 s, got 2.6"),
        ("task.code_counts=[24,28,36,49]", "code_counts must lie in 24..48"),
    ):
        other = preset(f"soundstream-decoder.{setting}")
        with pytest.raises(ValueError, match=reason):
            train_stage("soundstream-decoder", other, corpus, runs, start="base", quiet=True)
    with pytest.raises(ValueError, match="no recipe for mulan-text"):
        train_stage("mulan-text", load_preset("paper"), corpus, runs, start="base", quiet=True)
    other = preset("semantic.task.model.transformer.num_layers=2")
    with pytest.raises(ArtifactError, match="other sizes"):
        train_stage("semantic", other, corpus, runs, start="base", quiet=True)
    train_stage("semantic", preset(), corpus, runs, start="base", max_minutes=0, quiet=True)
    with pytest.raises(ArtifactError, match="other settings"):
        train_stage("semantic", preset(), corpus, runs, quiet=True)
    shutil.rmtree(runs / "semantic")
    header = runs / "tokens" / "semantic" / HEADER_FILE
    header.write_text(json.dumps({**json.loads(header.read_text()), "encoder": "0" * 64}))
    with pytest.raises(ArtifactError, match="learned from a w2vbert"):
        train_stage("semantic", preset(), corpus, runs, start="base", quiet=True)
    assert not (runs / "semantic").exists()
    with pytest.raises(ArtifactError, match="musiclm train mulan"):
        tokenize(corpus, runs, streams=("mulan",))


def test_a_bundle_that_knows_no_melody_is_a_beginning(corpus: Path, runs: Path) -> None:
    """The one setting `melody_levels`: what is new begins at no effect, learns alone if that is asked for, and the
    bundle has the encoder with it."""
    sizes = MelodyConfig(channels=(3, 4, 5), width=8, dim=6)
    encoder = MelodyEncoder(sizes)
    encoder.rvq.fit_kmeans(torch.randn(300, sizes.dim))
    save_artifact(runs / "melody" / "artifact", "melody", sizes, encoder, {"step": 1})
    tokenize(corpus, runs, streams=("melody",), max_seconds_per_track=10)
    hears = ("semantic.task.model.melody_levels=4", "semantic.task.melody_dropout=0")
    told = preset(*hears, "semantic.task.melody_alone=true")
    base = load_file(BUNDLED / "base" / "semantic" / "model.safetensors")
    assert train_stage("semantic", told, corpus, runs, start="base", max_minutes=0, quiet=True) is None
    begun = load_file(runs / "semantic" / STATE_FILE)
    assert all(begun[f"ema.{name}"].equal(base[name].float()) for name in base)
    assert begun["ema.melody.embedding.weight"].std() > 0.05 and not begun["ema.melody.out.weight"].any()
    folder = train_stage("semantic", told, corpus, runs, start="base", quiet=True)
    assert folder is not None
    learned = load_file(folder / "model.safetensors")
    assert learned["melody.out.weight"].any() and all(learned[name].equal(base[name]) for name in base)
    info = read_config(folder)["info"]
    assert {"given_melody", "shuffled_melody"} <= set(info["metrics"]) and set(info["encoders"]) == {
        *("mulan", "w2vbert", "melody"),
    }
    mine = make_bundle(runs, runs / "bundle", "mine", start="base")
    assert set(mine.parts) == {*open_bundle("base").parts, "melody"}
    MusicLM.from_pretrained(mine.folder).check_follows()
    bare = make_bundle(runs, runs / "bare", "bare", start="base", leave_out=["melody"])
    assert "melody" not in bare.parts
    with pytest.raises(ValueError, match="the bundle bare can't follow a melody"):
        MusicLM.from_pretrained(bare.folder).check_follows()
    with pytest.raises(ArtifactError, match="other sizes than this preset's"):
        train_stage(
            "semantic",
            preset("semantic.task.model.melody_levels=4", "semantic.task.model.crop_s=9"),
            corpus,
            runs / "b",
            start="base",
        )
