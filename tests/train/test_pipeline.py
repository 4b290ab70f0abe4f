"""The stages as the pipeline builds them: they begin with what their seed says, whatever the process did before."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from musiclm.core.artifact import ArtifactError
from musiclm.core.bundle import open_bundle
from musiclm.core.config import to_json
from musiclm.data.corpus.build import build_corpus
from musiclm.data.labels import label_corpus
from musiclm.data.store import StoreError
from musiclm.train.pipeline import artifact_of, build_task, parts_added, same_run, tokenize, train_stage
from musiclm.train.recipes import Preset, load_preset

CLIPS = Path(__file__).parents[1] / "data" / "clips"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus([str(CLIPS)], folder, jobs=1, progress=False)
    for _ in label_corpus(folder, None, windows_per_track=1):
        pass
    return folder


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with tokens of base's encoders: the language models need some."""
    folder = tmp_path_factory.mktemp("runs")
    tokenize(corpus, folder, start="base", max_seconds_per_track=5)
    return folder


def first_weights(preset: Preset, stage: str, corpus: Path, runs: Path, before: int) -> dict[str, Tensor]:
    torch.manual_seed(before)
    task, _ = build_task(stage, preset, corpus, runs)
    return {
        f"{group}.{name}": value for group, module in task.groups.items() for name, value in module.state_dict().items()
    }


@pytest.mark.parametrize(("stage", "streams"), [("semantic", ("mulan", "semantic")), ("fine", ("acoustic",))])
def test_a_stage_waits_only_for_the_streams_it_reads(
    stage: str, streams: tuple[str, ...], corpus: Path, runs: Path, tmp_path: Path
) -> None:
    for stream in streams:
        shutil.copytree(runs / "tokens" / stream, tmp_path / "tokens" / stream)
    task, _ = build_task(stage, load_preset("base"), corpus, tmp_path)
    assert set(task.batch(0)["streams"]) == set(streams)
    shutil.rmtree(tmp_path / "tokens" / streams[0])
    with pytest.raises(StoreError, match=f"{streams[0]} holds no tokens"):
        build_task(stage, load_preset("base"), corpus, tmp_path)


def test_a_side_trained_alone_comes_before_the_whole_if_codes_agree(tmp_path: Path) -> None:
    base = open_bundle("base").part("soundstream")
    with pytest.raises(ArtifactError, match="musiclm train soundstream"):
        artifact_of(tmp_path, "soundstream")
    assert artifact_of(tmp_path, "soundstream", "base") == base
    for name in ("soundstream", "soundstream-decoder"):
        shutil.copytree(base, tmp_path / name / "artifact")
        assert artifact_of(tmp_path, "soundstream", "base") == tmp_path / name / "artifact"
    path = tmp_path / "soundstream" / "artifact" / "config.json"
    document = json.loads(path.read_text())
    document["info"]["codes_of"] = "0" * 64
    path.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="soundstream and soundstream-decoder in .* give other codes"):
        artifact_of(tmp_path, "soundstream", "base")


@pytest.mark.parametrize("stage", ["soundstream", "w2vbert", "mulan", "semantic", "storm", "coarse", "fine"])
def test_first_weights_are_a_function_of_the_seed(stage: str, corpus: Path, runs: Path) -> None:
    preset = load_preset("base" if stage in ("semantic", "storm", "coarse", "fine") else "tiny")
    weights = first_weights(preset, stage, corpus, runs, before=1)
    again = first_weights(preset, stage, corpus, runs, before=2)
    assert weights.keys() == again.keys() and all(weights[name].equal(again[name]) for name in weights)
    recipe = getattr(preset, stage)
    other = replace(preset, **{stage: replace(recipe, train=replace(recipe.train, seed=5))})
    changed = first_weights(other, stage, corpus, runs, before=1)
    assert any(not weights[name].equal(changed[name]) for name in weights)


def test_two_runs_of_one_seed_end_with_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    """The codec's start fits a linear path and its codebooks by k-means: those too."""
    preset = load_preset("tiny")
    recipe = preset.soundstream
    short = replace(recipe, train=replace(recipe.train, steps=3, batch_size=2))
    preset = replace(preset, soundstream=replace(short, task=replace(short.task, quantize_from_step=1)))
    hashes = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        folder = train_stage("soundstream", preset, corpus, tmp_path / str(seed), quiet=True)
        assert folder is not None
        hashes.add((folder / "model.safetensors").read_bytes())
    assert len(hashes) == 1


def test_a_run_goes_on_under_settings_that_were_added_since() -> None:
    """What was recorded without them has their defaults; anything else would make another model under the same name."""
    recipe = load_preset("tiny").semantic
    now = to_json(recipe)
    before = json.loads(json.dumps(now))
    del before["task"]["melody_dropout"], before["task"]["model"]["melody_levels"]
    before["train"]["steps"] = 7
    assert same_run(before, now, recipe.task)
    for change in (
        lambda one: one["task"].update(context_noise=0.5),
        lambda one: one["train"].update(seed=5),
        lambda one: one.update({"from": "x"}),
        lambda one: one["task"].update(unknown=1),
    ):
        other = json.loads(json.dumps(before))
        change(other)
        assert not same_run(other, now, recipe.task)


def test_a_model_without_parts_that_begin_at_no_effect_is_a_beginning() -> None:
    task = load_preset("tiny").recipe("semantic").task
    with_all = replace(task, model=replace(task.model, pointer_heads=2, melody_levels=4))
    for had, new in (
        ({"melody_levels": 0}, ["melody."]),
        ({"pointer_heads": 0}, ["pointer."]),
        ({"pointer_heads": 0, "melody_levels": 0}, ["melody.", "pointer."]),
        ({"pointer_heads": 0, "depth_width": 3}, []),
        ({"pointer_heads": 3}, []),
    ):
        assert parts_added(to_json(replace(with_all.model, **had)), with_all) == new
