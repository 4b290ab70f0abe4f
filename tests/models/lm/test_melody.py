"""A melody as a condition of the semantic stage: where it acts, that nothing changes without, that it is learned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from musiclm.core.artifact import load_artifact, load_state, save_artifact
from musiclm.core.config import to_json
from musiclm.core.streams import TokenSpec
from musiclm.data.store import StoreError, StreamHeader, StreamWriter, TokenStore
from musiclm.models.lm.melody import NO_MELODY, by_frame, some_of_it
from musiclm.models.lm.model import KIND, TokenLM, TokenLMConfig
from musiclm.models.lm.task import LmTask, LmTaskConfig
from musiclm.nn.parts import BatchPart
from musiclm.nn.transformer import TransformerConfig
from musiclm.train.pipeline import parts_added
from tests.models.lm.test_depth import FOUR, four_streams
from tests.toy import SPECS, Writers, make_track, random_streams

MELODY = TokenSpec(name="melody", codebook_size=8, levels=3, frame_rate_hz=2.5)
SMALL = TransformerConfig(width=16, num_layers=2, num_heads=2, ff_width=24, dropout=0.0)


def make(whole_frames: bool, melody_levels: int = 2, deaf: bool = False) -> TokenLM:
    """`deaf`: what a melody adds is still zero."""
    torch.manual_seed(5)
    specs = (*(FOUR if whole_frames else SPECS), MELODY)
    model = TokenLM(
        TokenLMConfig(
            stage="semantic",
            transformer=SMALL,
            mulan_levels=2,
            specs=specs,
            depth_width=24 if whole_frames else 0,
            crop_s=2.0,
            melody_levels=melody_levels,
        )
    ).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and not (deaf and name == "melody.out.weight"):
                weight.normal_(std=0.4)
    return model


def streams_of(whole_frames: bool, frames: int = 10) -> dict[str, Tensor]:
    return four_streams(2, frames) if whole_frames else random_streams(2, frames)


def melody_codes(frames: int, seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randint(0, 8, (batch, 3, frames), generator=torch.Generator().manual_seed(seed))


def logits(model: TokenLM, streams: dict[str, Tensor], melody: Tensor | None = None) -> Tensor:
    layout, target = model.layout, model.layout.target_codes(streams)
    if melody is not None:
        melody = by_frame(melody, 2.5, layout.target_spec.frame_rate_hz or 0.0, target.shape[2])
    return model(*layout.prefix(streams), target, melody=melody)


BOTH = pytest.mark.parametrize("whole_frames", [True, False])


def test_frames_are_told_of_their_own_moment() -> None:
    codes = torch.arange(3)[None, None]
    assert by_frame(codes, 2.5, 12.5, 17)[0, 0].tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [NO_MELODY] * 2
    assert by_frame(codes, 2.5, 25.0, 12)[0, 0].tolist() == [0] * 10 + [1, 1]
    assert by_frame(codes, 2.0, 3.0, 6)[0, 0].tolist() == [0, 1, 1, 2, NO_MELODY, NO_MELODY]
    assert by_frame(codes, 2.5, 12.5, 9, 4)[0, 0].tolist() == [0] + [1] * 5 + [2] * 3
    assert by_frame(codes, 2.5, 12.5, 5, -3)[0, 0].tolist() == [NO_MELODY] * 3 + [0] * 2


@BOTH
def test_nothing_changes_without_a_melody_or_before_it_has_an_effect(whole_frames: bool) -> None:
    deaf, hears = make(whole_frames, deaf=True), make(whole_frames)
    none = make(whole_frames, melody_levels=0)
    rest = {name: value for name, value in deaf.state_dict().items() if not name.startswith("melody.")}
    none.load_state_dict(rest)
    streams = streams_of(whole_frames)
    plain = logits(none, streams)
    assert torch.equal(logits(deaf, streams, melody_codes(9)), plain)
    silent = torch.full_like(melody_codes(9), NO_MELODY)
    own = logits(hears, streams)
    assert torch.equal(logits(hears, streams, silent), own)
    assert not torch.allclose(logits(hears, streams, melody_codes(9)), own)


@BOTH
def test_a_frame_follows_from_its_own_moment_on(whole_frames: bool) -> None:
    """The logits of frames before a change of melody stay; those of the frame at that moment change already."""
    model, streams = make(whole_frames), streams_of(whole_frames, 20)
    one, other = melody_codes(4, 1), melody_codes(4, 1)
    other[:, :, 1] = (other[:, :, 1] + 1) % 8
    at = 5 if whole_frames else 10  # 12.5 or 25 frames a second
    a, b = (logits(model, streams, codes) for codes in (one, other))
    changed = (a - b).abs().amax((0, 1, 3)) > 1e-4
    assert not changed[:at].any() and changed[at]


def test_levels_beyond_those_read_do_nothing() -> None:
    model, streams = make(True), streams_of(True)
    one, other = melody_codes(4), melody_codes(4)
    other[:, 2] = (other[:, 2] + 3) % 8
    a, b = (logits(model, streams, codes) for codes in (one, other))
    assert torch.equal(a, b)


def test_embeddings_begin_from_what_codes_mean() -> None:
    model = make(True)
    vectors = torch.randn(3, 8, 6)
    vectors[:, 1] = vectors[:, 0] + 0.01
    model.start_embeddings("melody", vectors)
    rows = model.melody.embedding.weight.view(2, 8, -1)
    assert (rows[0, 0] - rows[0, 1]).norm() < 0.2 * (rows[0, 0] - rows[0, 2]).norm()
    make(True, melody_levels=0).start_embeddings("melody", vectors)  # nothing to start


def test_shares_of_melodies_are_left_out() -> None:
    codes = melody_codes(20, batch=4000)
    some = some_of_it(codes, 0.5, 0.5, torch.Generator().manual_seed(0))
    there = some[:, 0] >= 0
    assert torch.equal(torch.where(there[:, None], codes, NO_MELODY), some), "what is there is as it was"
    share = there.float().mean(1)
    assert (share == 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert (share == 1).float().mean() == pytest.approx(0.25, abs=0.03)
    edges = (there[:, 1:] != there[:, :-1]).sum(1)
    assert int(edges.max()) == 2, "one stretch"
    assert torch.equal(some_of_it(codes, 0.0, 0.0, torch.Generator()), codes)


def test_only_the_semantic_stage_can_be_told() -> None:
    with pytest.raises(ValueError, match="only the semantic stage"):
        TokenLMConfig(stage="coarse", transformer=SMALL, melody_levels=1)
    with pytest.raises(ValueError, match="levels 0:9 of stream 'melody'"):
        TokenLMConfig(stage="semantic", transformer=SMALL, melody_levels=9)


def test_weights_that_know_no_melody_are_a_beginning(tmp_path: Path) -> None:
    before, after = make(True, melody_levels=0), make(True, deaf=True)
    save_artifact(tmp_path / "lm", KIND, before.config, before, {})
    artifact = load_artifact(tmp_path / "lm", KIND)
    assert parts_added(to_json(before.config), LmTaskConfig(model=after.config)) == ["melody."]
    assert not parts_added(to_json(make(False, 0).config), LmTaskConfig(model=after.config))
    load_state(after, artifact, [name for name in after.state_dict() if name.startswith("melody.")])
    streams = streams_of(True)
    loss = {
        model: float(model.loss({**streams, "melody": melody_codes(2)}, model.layout.target_codes(streams)).total)
        for model in (before, after)
    }
    assert loss[before] == loss[after]


# -- training


def melody_of(semantic: np.ndarray) -> np.ndarray:
    """Says which of their four semantic codes the frames of 0.4 s have most."""
    frames = semantic[0, : semantic.shape[1] // 10 * 10].reshape(-1, 10) % 4
    most = np.array([np.bincount(row, minlength=4).argmax() for row in frames])
    return np.stack([most, most * 0, most * 0])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Each semantic code lasts 0.4 s, so that the melody tells it."""
    folder = tmp_path_factory.mktemp("store")
    writers = Writers(folder)
    header = StreamHeader(spec=MELODY, encoder="d" * 64)
    melodies = StreamWriter(folder, header, torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(0)))
    for split, count in (("train", 8), ("validation", 4)):
        for index in range(count):
            track = make_track(index % 4, 32 * 25, len(split) * 50 + index)
            track["semantic"] = track["semantic"][:, ::10].repeat(10, 1)
            writers.add(f"{split}{index}", split, track)
            melodies.add(f"{split}{index}", split, 0.0, 32.0, melody_of(track["semantic"]))
    writers.flush()
    melodies.flush()
    return TokenStore(folder, ("mulan", "semantic", "melody"))


def task_of(store: TokenStore, levels: int = 1, **settings: Any) -> LmTask:
    model = TokenLMConfig(
        stage="semantic",
        transformer=TransformerConfig(width=32, num_layers=2, num_heads=2, ff_width=64, dropout=0.0),
        mulan_levels=2,
        specs=(*SPECS, MELODY),
        crop_s=4.0,
        melody_levels=levels,
    )
    return LmTask(LmTaskConfig(model=model, num_validation=4, **settings), store, 8)


def test_a_store_is_read_by_the_melodys_clock(store: TokenStore) -> None:
    assert store.clock_hz == 2.5
    streams = store.streams(store.crops("train", 4.0, 3, 0, 0))
    assert {name: codes.shape[2] for name, codes in streams.items()} == {"mulan": 1, "semantic": 100, "melody": 10}


def test_batches_lose_melodies_and_are_functions_of_the_step(store: TokenStore) -> None:
    batch = task_of(store).batch(0)
    again = task_of(store).batch(0)
    assert torch.equal(batch["streams"]["melody"], again["streams"]["melody"])
    gone = (batch["streams"]["melody"][:, 0] == NO_MELODY).all(1)
    assert 0 < int(gone.sum()) < 8
    assert not (task_of(store, melody_dropout=0.0, melody_span_share=0.0).batch(0)["streams"]["melody"] < 0).any()


def test_parts_of_a_batch_are_its_rows(store: TokenStore) -> None:
    for settings in ({}, {"context_noise": 0.3}):
        task = task_of(store, **settings)
        whole, parts = task.batch(2), [task.batch(2, BatchPart(index=index, count=2)) for index in range(2)]
        for name, codes in whole["streams"].items():
            assert torch.equal(torch.cat([part["streams"][name] for part in parts]), codes), name


def test_it_learns_to_follow_and_stays_as_good_without(store: TokenStore) -> None:
    task = task_of(store)
    assert task.config.streams == ("mulan", "semantic", "melody")
    optimizer = torch.optim.Adam(task.model.parameters(), 1e-2)
    task.start(torch.device("cpu"))
    for step in range(60):
        for update in task.updates(task.batch(step), step):
            optimizer.zero_grad()
            update.loss.backward()
            optimizer.step()
    figures = task.validate(task.model.eval())
    assert figures["given_melody"] < -0.03 < 0.03 < figures["shuffled_melody"], figures
    assert figures["loss"] < task.baseline["loss"] - 0.5


def test_another_encoders_stream_is_refused(store: TokenStore) -> None:
    config = LmTaskConfig(
        model=TokenLMConfig(stage="semantic", transformer=SMALL, specs=SPECS, mulan_levels=2, melody_levels=2)
    )
    with pytest.raises(StoreError, match="set melody_levels or specs to match"):
        LmTask(config, store, 2)
