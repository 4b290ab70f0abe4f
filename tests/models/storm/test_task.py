from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.data.store import StoreError, TokenStore
from musiclm.models.storm.model import SoundStorm, SoundStormConfig
from musiclm.models.storm.task import StormTask, StormTaskConfig, draw_masking, hide, whole_frame_losses
from musiclm.nn.conformer import ConformerConfig
from musiclm.nn.parts import BatchPart
from musiclm.train.loop import TrainConfig, train
from tests.toy import SPECS, make_store

MULAN, SEMANTIC, ACOUSTIC = SPECS
CONFORMER = ConformerConfig(width=32, num_heads=2, num_layers=2, ff_width=64, dropout=0.0)
MODEL = SoundStormConfig(conformer=CONFORMER, mulan_levels=2, acoustic=ACOUSTIC, semantic=SEMANTIC, mulan=MULAN)
CONFIG = StormTaskConfig(model=MODEL, crop_s=0.8, num_validation=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return make_store(tmp_path_factory.mktemp("store"), seconds=12)


DEEP = replace(CONFIG, model=replace(MODEL, depth_width=32), level_power=0.0)
IN_ORDER = replace(DEEP, model=replace(DEEP.model, series=tuple(range(12))))


def run(task: StormTask, steps: int, batches: int | None = None) -> list[float]:
    optimizer = torch.optim.Adam(task.model.parameters(), 1e-2)
    task.start(torch.device("cpu"))
    losses = []
    for step in range(steps):
        for update in task.updates(task.batch(step % (batches or steps)), step):
            optimizer.zero_grad()
            update.loss.backward()
            optimizer.step()
            losses.append(float(update.loss.detach()))
    return losses


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), frames=st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_masking_hides_what_it_should(seed: int, frames: list[int]) -> None:
    num_frames = torch.tensor(frames)
    masking = draw_masking(num_frames, 20, 12, CONFIG, torch.Generator().manual_seed(seed))
    codes = torch.randint(0, 16, (len(frames), 12, 20))
    hidden = hide(codes, masking, 99)
    for row, real in enumerate(frames):
        level, cut = int(masking.level[row]), int(masking.cut[row])
        assert 0 <= cut < real and 1 <= int(masking.masked[row].sum())
        for frame in range(20):
            masked = bool(masking.masked[row, frame])
            assert not masked or cut <= frame < real
            for q in range(12):
                gone = (q == level and masked) or (q > level and frame >= cut)
                assert int(hidden[row, q, frame]) == (99 if gone else int(codes[row, q, frame]))


def test_masking_covers_levels_prompts_and_shares() -> None:
    masking = draw_masking(torch.full((4000,), 40), 40, 12, CONFIG, torch.Generator().manual_seed(0))
    drawn = torch.bincount(masking.level, minlength=12) / 4000
    expected = torch.arange(1.0, 13) ** -CONFIG.level_power
    torch.testing.assert_close(drawn, expected / expected.sum(), atol=0.02, rtol=0)
    even = draw_masking(
        torch.full((4000,), 40), 40, 12, replace(CONFIG, level_power=0.0), torch.Generator().manual_seed(0)
    )
    assert torch.bincount(even.level, minlength=12).min() > 250
    assert (masking.cut == 0).float().mean() == pytest.approx(0.5 + 0.5 / 40, abs=0.03)
    free = 40 - masking.cut
    share = masking.masked.sum(1) / free
    whole = (share == 1)[(masking.level > 0) & (free > 10)].float().mean()
    assert whole > 0.45 and share[masking.level == 0].mean() == pytest.approx(2 / torch.pi, abs=0.05)


@pytest.mark.parametrize("config", [CONFIG, DEEP])
def test_overfits_one_batch(store: TokenStore, config: StormTaskConfig) -> None:
    task = StormTask(config, store, batch_size=6)
    losses = run(task, 120, batches=1)
    assert losses[-1] < 0.3 < task.baseline["loss"] / 2


@pytest.mark.parametrize("config", [CONFIG, DEEP])
def test_beats_the_baseline_and_needs_its_condition(store: TokenStore, config: StormTaskConfig) -> None:
    """Level 0 is a function of the semantic code and a coin; with them known, the other levels are certain."""
    task = StormTask(replace(config, level_power=0.0), store, batch_size=8)
    run(task, 150)
    figures = task.validate(task.model.eval())
    assert figures["loss"] < task.baseline["loss"] - 0.8
    assert figures["shuffled_semantic"] > 0.5
    assert {"loss", "first_round", "shuffled_semantic", "shuffled_mulan", *(f"level_{k}" for k in range(12))} == set(
        figures
    )


def test_given_codes_are_partly_wrong(store: TokenStore) -> None:
    """What is learned stays as it is; a part of a batch is wrong in the same places."""
    task = StormTask(replace(IN_ORDER, context_noise=0.5), store, batch_size=6)
    batch = task.batch(3)
    codes, context = batch["streams"]["acoustic"], batch["context"]
    wrong = (codes != context).float()
    assert 0.05 < wrong.mean() < 0.5 and wrong.mean((1, 2)).max() < 0.6
    for level in range(12):
        assert set(context[:, level].unique().tolist()) <= set(codes[:, level].unique().tolist())
    assert torch.equal(task.batch(3, BatchPart(index=1, count=2))["context"], context[3:])
    run(task, 1)  # away from tables that say nothing

    masked, real = batch["masking"]["masked"], batch["real"]
    with torch.no_grad():
        losses = {
            name: whole_frame_losses(task.model, batch["streams"], real, masked, read)
            for name, read in {"none": None, "same": codes, "wrong": context}.items()
        }
    assert torch.equal(losses["none"], losses["same"]) and not torch.equal(losses["none"], losses["wrong"])
    # in a frame each level is told what was drawn in it, right in any case: only those of earlier frames may be wrong
    before, after = task.model.neighbours(codes, context, context)
    assert torch.equal(before[:, :, 1:], context[:, :, :-1]) and torch.equal(after[:, :, :-1], context[:, :, 1:])
    with pytest.raises(ValueError, match="needs a model with series"):
        replace(DEEP, context_noise=0.5)


def test_batches_are_a_pure_function_of_the_step(store: TokenStore) -> None:
    one, other = StormTask(CONFIG, store, 3), StormTask(CONFIG, store, 3)
    other.batch(1)
    a, b = one.batch(4), other.batch(4)
    assert torch.equal(a["streams"]["mulan"], b["streams"]["mulan"])
    assert torch.equal(a["masking"]["masked"], b["masking"]["masked"])


def test_without_mulan_none_is_read(store: TokenStore) -> None:
    config = replace(CONFIG, model=replace(MODEL, mulan_levels=0))
    task = StormTask(config, TokenStore(store.folder, config.streams), 2)
    assert config.streams == ("semantic", "acoustic") and set(task.store.encoders) == {"w2vbert", "soundstream"}
    assert "mulan" not in task.batch(0)["streams"] and "shuffled_mulan" not in task.validate(task.model.eval())


def test_crops_longer_than_the_tracks(store: TokenStore) -> None:
    task = StormTask(replace(CONFIG, crop_s=13.0), store, 2)
    batch = task.batch(0)
    assert batch["streams"]["acoustic"].shape[2] == 650 and int(batch["real"].sum(1).max()) < 650
    assert all(torch.isfinite(update.loss) for update in task.updates(batch, 0))


def test_trains_exports_and_loads(store: TokenStore, tmp_path: Path) -> None:
    task = StormTask(CONFIG, store, batch_size=2)
    config = TrainConfig(steps=2, batch_size=2, validate_every=2, save_every=1)
    folder = train(task, config, tmp_path / "run", quiet=True, precision="fp32")
    assert folder is not None
    model = SoundStorm.from_artifact(folder)
    assert model.config == MODEL and len(model.artifact_hash) == 64 and not model.training


def test_a_store_of_other_streams_is_refused(store: TokenStore) -> None:
    with pytest.raises(StoreError, match="set them to match"):
        StormTask(StormTaskConfig(model=SoundStormConfig(conformer=CONFORMER)), store, 2)
