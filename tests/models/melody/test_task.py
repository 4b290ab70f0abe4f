"""Training of the melody encoder: pairs, their loss, the stage in the pipeline, its tokens."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from musiclm.core.artifact import ArtifactError, read_config
from musiclm.core.config import override
from musiclm.core.streams import MELODY
from musiclm.data.corpus.build import build_corpus
from musiclm.data.corpus.manifest import CorpusError
from musiclm.data.corpus.melodies import LIST_FILE, load_renditions, read_rendition
from musiclm.data.store import TokenStore
from musiclm.models.melody.model import MelodyConfig
from musiclm.models.melody.task import MelodyTask, MelodyTaskConfig, Renditions, pair_loss, roll
from musiclm.nn.parts import BatchPart
from musiclm.train.pipeline import tokenize, train_all, train_stage
from musiclm.train.recipes import load_preset
from tests.models.melody.toy import write_melodies

CONFIG = MelodyTaskConfig(
    model=MelodyConfig(channels=(4, 6, 8), width=24, dim=12), num_validation=8, num_fit=64, transpose=0
)
CLIPS = Path(__file__).parents[2] / "data" / "clips"
SHORT = ("melody.train.steps=2", "melody.train.batch_size=3", "melody.task.num_validation=4", "melody.task.num_fit=24")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_melodies(tmp_path_factory.mktemp("melodies"))


@pytest.fixture(scope="module")
def task(folder: Path) -> MelodyTask:
    return MelodyTask(CONFIG, folder, batch_size=4)


def test_a_list_comes_back_and_damage_is_named(folder: Path, tmp_path: Path) -> None:
    found = load_renditions(folder)
    assert len(found) == 14 * 3 and found[4].at(2.0) == pytest.approx(2.0 / found[4].tempo)
    sides = read_rendition(folder, found[0], -0.5, 1.0)
    assert sides.shape == (2, 24000) and not sides[:, :12000].any() and sides[0, 12000:].any()
    assert not read_rendition(folder, found[0], 99.0, 0.1).any()
    with pytest.raises(CorpusError, match="no melodies here"):
        load_renditions(tmp_path)
    (tmp_path / LIST_FILE).write_text((folder / LIST_FILE).read_text() + '{"melody": 1}\n')
    with pytest.raises(CorpusError, match="line 43 is no rendition"):
        load_renditions(tmp_path)
    with pytest.raises(CorpusError, match="can't be read"):
        read_rendition(tmp_path, found[0], 0.0, 1.0)


def test_a_batch_is_a_function_of_the_step(task: MelodyTask, folder: Path) -> None:
    again = MelodyTask(CONFIG, folder, batch_size=4).batch(3)
    batch = task.batch(3)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["spectra"], task.batch(4)["spectra"])
    assert batch["spectra"].shape[:2] == (2, 8)


def test_parts_of_a_batch_are_its_melodies(task: MelodyTask) -> None:
    whole, parts = task.batch(3), [task.batch(3, BatchPart(index=index, count=2)) for index in range(2)]
    assert torch.equal(torch.cat([part["spectra"] for part in parts], 1), whole["spectra"])
    assert torch.equal(torch.cat([part["roll"] for part in parts]), whole["roll"])


def test_pairs_are_of_one_melody_at_one_moment(folder: Path) -> None:
    """Without accompaniment and noise, what is loudest at a moment has one pitch class in both windows."""
    config = MelodyTaskConfig(model=CONFIG.model, no_backing_share=1.0, noise_db=(-90.0, -80.0), transpose=0)
    pairs = Renditions(folder, load_renditions(folder), config).pairs(10, (0, 1))
    classes = (pairs.spectra.argmax(2) // 2) % 12
    agree = [(a[2:-2] == b[2:-2]).float().mean() for a, b in zip(*classes, strict=True)]
    others = [(a[2:-2] == b[2:-2]).float().mean() for a, b in zip(classes[0], classes[1].roll(3, 0), strict=True)]
    assert np.mean(agree) > 0.6 > 0.35 > np.mean(others)


def test_transposing_moves_spectra_and_notes(folder: Path) -> None:
    config = MelodyTaskConfig(model=CONFIG.model, transpose=6)
    renditions = Renditions(folder, load_renditions(folder), config)
    one = load_renditions(folder)[0]
    random = [np.random.default_rng(0) for _ in range(2)]
    plain, up = (renditions._window(one, 1.0, shift, r) for shift, r in zip((0, 3), random, strict=True))
    assert abs(int(up.sum(1).argmax()) - int(plain.sum(1).argmax()) - 6) <= 1
    flat = roll(one, 1.0, 3.0).reshape(2, -1, 12)
    assert np.allclose(np.roll(flat, 3, 2), roll(one, 1.0, 3.0, 3).reshape(2, -1, 12))
    assert np.linalg.norm(flat) == pytest.approx(1) and not roll(one, 50.0, 3.0).any()


def test_what_sounds_the_same_is_no_negative() -> None:
    vectors = F.normalize(torch.randn(6, 5), dim=-1)
    vectors[3] = vectors[0]
    nothing = torch.eye(6, dtype=torch.bool)
    same = nothing.clone()
    same[0, 3] = same[3, 0] = True
    assert pair_loss(vectors, vectors, same, 0.1).loss < pair_loss(vectors, vectors, nothing, 0.1).loss - 0.1
    assert float(pair_loss(vectors, vectors, same, 0.1).recall) == 1
    even = pair_loss(vectors[:1].expand(6, 5), vectors[:1].expand(6, 5), same, 0.1)
    assert float(even.loss) == pytest.approx(float(even.baseline), abs=1e-5)


def test_overfits_one_batch(task: MelodyTask) -> None:
    batch = task.batch(0)
    optimizer = torch.optim.Adam(task.model.parameters(), 5e-3)
    losses = []
    for step in range(25):
        (update,) = task.updates(batch, step)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        losses.append(float(update.loss))
    assert losses[-1] < 0.2 < 1.0 < losses[0]
    figures = task.validate(task.model.eval())
    assert set(figures) == {"loss", "recall"} and set(task.baseline) == {"loss", "recall"}


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    train_stage("melody", override(load_preset("tiny"), list(SHORT)), folder, out, quiet=True)
    return out


def test_the_stage_trains_and_says_what_it_is(runs: Path, folder: Path) -> None:
    document = read_config(runs / "melody" / "artifact")
    assert document["kind"] == "melody" and document["info"]["step"] == 2
    assert document["info"]["data"]["tracks"] == 42 and "sines" in json.dumps(document["info"]["data"])
    assert set(document["info"]["baseline"]) == {"loss", "recall"}
    with pytest.raises(ValueError, match="melody is an encoder"):
        train_stage("melody", load_preset("tiny"), folder, runs, start="base")
    with pytest.raises(ValueError, match="no recipe for melody"):
        load_preset("paper").recipe("melody")


def test_its_tokens_fill_a_stream(runs: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    build_corpus([str(CLIPS)], corpus, jobs=1, progress=False)
    tokenize(corpus, runs, streams=("melody",), max_seconds_per_track=4)
    store = TokenStore(runs / "tokens", ("melody",))
    assert store.specs == (MELODY,) and store.clock_hz == 2.5
    assert store.streams(store.eval_crops("validation", 2.0, 3))["melody"].shape == (3, 4, 5)


def test_what_follows_melodies_is_not_begun_without_an_encoder(tmp_path: Path) -> None:
    preset = override(load_preset("tiny"), ["semantic.task.model.melody_levels=2"])
    with pytest.raises(ArtifactError, match="melody is not trained in .* yet; run: musiclm train melody"):
        train_all(preset, tmp_path / "none", tmp_path, name="x", quiet=True)
