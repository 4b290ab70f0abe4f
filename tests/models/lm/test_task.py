from dataclasses import replace
from pathlib import Path

import pytest
import torch

from musiclm.data.store import StoreError, TokenStore
from musiclm.models.lm.model import TokenLM, TokenLMConfig
from musiclm.models.lm.task import LmTask, LmTaskConfig
from musiclm.nn.transformer import TransformerConfig
from musiclm.train.loop import TrainConfig, train
from tests.toy import SPECS, make_store

SMALL = TransformerConfig(width=32, num_layers=2, num_heads=2, ff_width=64, dropout=0.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return make_store(tmp_path_factory.mktemp("store"), seconds=32)


def task_of(store: TokenStore, stage: str, batch_size: int = 4) -> LmTask:
    model = TokenLMConfig(stage=stage, transformer=SMALL, mulan_levels=2, specs=SPECS)
    return LmTask(LmTaskConfig(model=model, num_validation=4), store, batch_size)


def run(task: LmTask, steps: int, batch: dict | None = None, learning_rate: float = 1e-2) -> list[float]:
    optimizer = torch.optim.Adam(task.model.parameters(), learning_rate)
    task.start(torch.device("cpu"))
    losses = []
    for step in range(steps):
        for update in task.updates(task.batch(step) if batch is None else batch, step):
            optimizer.zero_grad()
            update.loss.backward()
            optimizer.step()
            losses.append(float(update.loss))
    return losses


def short(batch: dict, frames: int, stage: str) -> dict:
    """The beginning of a batch, so that a test takes a second."""
    ratio = {"semantic": 1, "acoustic": 2, "mulan": 1}
    streams = {name: codes[..., : frames * ratio[name]] for name, codes in batch["streams"].items()}
    num_frames = {name: value.clamp(max=frames * ratio[name]) for name, value in batch["num_frames"].items()}
    return {**batch, "streams": streams, "num_frames": num_frames}


@pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])
def test_overfits_one_batch(store: TokenStore, stage: str) -> None:
    task = task_of(store, stage, batch_size=2)
    batch = short(task.batch(0), 12, stage)
    losses = run(task, 120, {**batch, "drop": torch.zeros(2, dtype=torch.bool)})
    assert losses[-1] < 0.2 < task.baseline["loss"] / 2


def test_beats_the_baseline_and_needs_its_condition(store: TokenStore) -> None:
    """The kind of a toy track, which only its MuLan code tells at first, decides its semantic codes: 4 out of 16."""
    task = task_of(store, "semantic", batch_size=8)
    task.validation = short(task.validation, 2, "semantic")
    whole = task.batch
    task.batch = lambda step: short(whole(step), 2, "semantic")  # type: ignore[method-assign]
    run(task, 100)
    figures = task.validate(task.model.eval())
    assert figures["loss"] < task.baseline["loss"] - 0.8
    assert figures["shuffled_mulan"] > 0.5
    assert figures["dropped_mulan"] > 0.1


def test_figures_name_every_level_and_condition(store: TokenStore) -> None:
    task = task_of(store, "coarse")
    task.validation = short(task.validation, 5, "coarse")
    figures = task.validate(task.model.eval())
    names = {
        "loss",
        "level_0",
        "level_1",
        "level_2",
        "level_3",
        "shuffled_mulan",
        "dropped_mulan",
        "shuffled_semantic",
    }
    assert set(figures) == names
    assert set(task.baseline) == {"loss", "level_0", "level_1", "level_2", "level_3"}
    assert figures["loss"] == pytest.approx(sum(figures[f"level_{k}"] for k in range(4)) / 4, abs=1e-5)
    assert {f"level_{k}" for k in range(4, 12)} <= set(task_of(store, "fine").baseline)


def test_batches_are_a_pure_function_of_the_step(store: TokenStore) -> None:
    one, other = task_of(store, "semantic"), task_of(store, "semantic")
    other.batch(3)
    a, b = one.batch(5), other.batch(5)
    assert torch.equal(a["streams"]["semantic"], b["streams"]["semantic"]) and torch.equal(a["drop"], b["drop"])
    assert "acoustic" not in a["streams"]


@pytest.mark.parametrize("stage", ["semantic", "coarse"])
def test_noise_changes_what_is_read_and_not_what_is_asked(store: TokenStore, stage: str) -> None:
    plain = task_of(store, stage)
    noised = LmTask(replace(plain.config, context_noise=0.5), store, 4)
    whole, batch = plain.batch(3), noised.batch(3)
    assert "context" not in whole and all(
        torch.equal(whole["streams"][k], batch["streams"][k]) for k in whole["streams"]
    )
    target = noised.layout.target_codes(batch["streams"])
    changed = (batch["context"] != target).float().mean((1, 2))
    assert batch["context"].shape == target.shape and 0 < float(changed.max()) <= 0.6 and len(set(changed.tolist())) > 1
    for level in range(target.shape[1]):
        assert set(batch["context"][:, level].flatten().tolist()) <= set(target[:, level].flatten().tolist())
    assert torch.equal(noised.batch(3)["context"], batch["context"])
    read = noised.model.loss(batch["streams"], target, batch["num_frames"], batch["drop"], batch["context"]).total
    logged = next(iter(noised.updates(batch, 3))).loss
    assert float(read) == float(logged)
    assert float(noised.model.loss(batch["streams"], target, batch["num_frames"], batch["drop"]).total) != float(read)
    with pytest.raises(ValueError, match="context_noise is 1.5"):
        replace(plain.config, context_noise=1.5)


def test_trains_exports_and_loads(store: TokenStore, tmp_path: Path) -> None:
    task = task_of(store, "fine", batch_size=1)
    config = TrainConfig(steps=2, batch_size=1, validate_every=2, save_every=1)
    folder = train(task, config, tmp_path / "run", quiet=True, precision="fp32")
    assert folder is not None
    model = TokenLM.from_artifact(folder)
    assert model.config == task.config.model and len(model.artifact_hash) == 64 and not model.training


def test_a_store_of_other_streams_is_refused(store: TokenStore) -> None:
    model = TokenLMConfig(stage="semantic", transformer=SMALL)
    with pytest.raises(StoreError, match="set `specs`"):
        LmTask(LmTaskConfig(model=model), store, 2)


def test_bad_settings_are_refused(store: TokenStore) -> None:
    good = task_of(store, "semantic").config
    for values in ({"condition_dropout": 1.0}, {"mulan_noise": -1.0}, {"num_validation": 1}):
        with pytest.raises(ValueError, match=next(iter(values))):
            replace(good, **values)
    with pytest.raises(ValueError, match="mulan_noise is 0.3, but this stage has no MuLan condition"):
        replace(task_of(store, "fine").config, mulan_noise=0.3)


def test_a_stage_reads_the_streams_it_needs(store: TokenStore) -> None:
    read = {stage: task_of(store, stage).config.streams for stage in ("semantic", "coarse", "fine")}
    assert read == {
        "semantic": ("mulan", "semantic"),
        "coarse": ("mulan", "semantic", "acoustic"),
        "fine": ("acoustic",),
    }
    for stage, streams in read.items():
        alone = LmTask(task_of(store, stage).config, TokenStore(store.folder, streams), 2)
        assert set(alone.batch(0)["streams"]) == set(streams)
        assert all(torch.isfinite(update.loss) for update in alone.updates(short(alone.batch(0), 2, stage), 0))


def test_a_melody_alone_needs_a_melody() -> None:
    model = TokenLMConfig(stage="semantic", transformer=SMALL, mulan_levels=2, specs=SPECS)
    with pytest.raises(ValueError, match="melody_alone is set for a model that reads no melody"):
        LmTaskConfig(model=model, melody_alone=True)
