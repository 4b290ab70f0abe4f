"""Every stage trains (bf16 too), tokenizes and generates on a device other than the CPU (see `tests.away`)."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from musiclm.bench.training import make_task, make_up, step_of
from musiclm.core.bundle import Bundle
from musiclm.core.config import override
from musiclm.data.corpus.build import build_corpus
from musiclm.data.labels import label_corpus
from musiclm.generate.config import GenerateConfig
from musiclm.generate.session import MusicLM
from musiclm.models.soundstream.model import SoundStream
from musiclm.nn.precision import double
from musiclm.train.loop import Run
from musiclm.train.pipeline import make_bundle, tokenize, train_stage
from musiclm.train.recipes import STAGES, Preset, load_preset
from tests.away import AWAY, Away, AwayDevice
from tests.models.soundstream.test_model import NETWORKS

CLIPS = Path(__file__).parent / "data" / "clips"
DEVICE = str(AWAY)


@pytest.fixture
def away() -> Iterator[None]:
    with AwayDevice():
        yield


def preset() -> Preset:
    """tiny, a few steps of every kind."""
    short = [f"{stage}.train.{name}" for stage in STAGES for name in ("steps=4", "validate_every=4", "save_every=2")]
    starts = {"quantize_from_step": 1, "kmeans_batches": 1}
    return override(load_preset("tiny"), [*short, *(f"soundstream.task.{name}={n}" for name, n in starts.items())])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus([str(CLIPS)], folder, jobs=1, progress=False)
    list(label_corpus(folder, None, windows_per_track=1))
    return folder


def test_the_device_is_strict(away: None) -> None:
    there = torch.ones(2, 3).to(AWAY)
    assert isinstance(there, Away) and there.device == AWAY and (there + 1).cpu().tolist() == [[2.0] * 3] * 2
    with pytest.raises(RuntimeError, match="meets tensors"):
        there + torch.ones(2, 3)
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(2, device=AWAY, generator=torch.Generator())
    with pytest.raises(TypeError, match="no torch.float64"):
        there.double()
    with pytest.raises(TypeError, match="no torch.float64"):
        torch.zeros(2, dtype=torch.float64).to(AWAY)
    assert double(there).dtype == torch.float64 and double(there).device.type == "cpu"
    with pytest.raises(TypeError, match="copy it"):
        there.numpy()


def test_the_codec_makes_its_phases_there(away: None) -> None:
    """Phases add up in float64, which the device has not. The sound is that of the CPU."""
    torch.manual_seed(0)
    codec, audio = SoundStream(NETWORKS["bands"]), 0.2 * torch.randn(2, 1, 24000)
    with torch.no_grad():
        codec.rvq.fit_kmeans(codec.latents(audio).transpose(1, 2).flatten(0, 1))
        codes = codec.eval().encode(audio)
        here = codec.decode(codes)
        there = copy.deepcopy(codec).to(AWAY).decode(codes.to(AWAY))
    assert there.device == AWAY and here.std() > 0
    torch.testing.assert_close(there.cpu(), here)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "soundstream"])
def test_a_step_does_not_wait_for_the_device(away: None, stage: str, tmp_path: Path) -> None:
    """Else the device would wait for the CPU in turn, at every step."""
    chosen = load_preset("tiny")
    task, config = make_task(stage, chosen, *make_up(tmp_path, chosen))
    run = Run(task, config, tmp_path, AWAY)
    run.prepare()
    steps = step_of(run, 0, "fp32", num_batches=2)
    steps()  # the optimizer's states are made
    AwayDevice.waits.clear()
    steps()
    assert AwayDevice.waits == [] and len(run.unchecked) == 8
    run.check()
    assert AwayDevice.waits, "the device says when it is waited for"


def test_the_whole_chain_on_another_device(away: None, corpus: Path, tmp_path: Path) -> None:
    chosen = preset()
    for stage in STAGES:
        if stage == "semantic":
            tokenize(corpus, tmp_path, device=DEVICE)
        # stopped and resumed: the checkpoint finds its way back to the device
        first = train_stage(stage, chosen, corpus, tmp_path, device=DEVICE, max_minutes=0, quiet=True)
        assert first is None
        assert train_stage(stage, chosen, corpus, tmp_path, device=DEVICE, quiet=True) is not None
    make_bundle(tmp_path, tmp_path / "bundle", "away")
    model = MusicLM.from_pretrained(tmp_path / "bundle", device=DEVICE)
    assert model.device == AWAY
    for acoustic in (GenerateConfig(acoustic="storm"), GenerateConfig(acoustic="ar")):
        made = model.generate("a calm piano", duration_s=1.0, seed=1, config=acoustic)
        assert made.audio.shape == (1, 24000) and torch.isfinite(torch.as_tensor(made.audio)).all()


def test_every_stage_trains_in_bf16(corpus: Path, tmp_path: Path) -> None:
    chosen = preset()
    for stage in STAGES:
        if stage == "semantic":
            tokenize(corpus, tmp_path)
        folder = train_stage(stage, chosen, corpus, tmp_path, precision="bf16", quiet=True)
        assert folder is not None
        weights = load_file(folder / "model.safetensors")
        assert all(torch.isfinite(value.float()).all() for value in weights.values() if value.is_floating_point()), (
            stage
        )


def test_text_is_embedded_under_autocast(bundle: Bundle) -> None:
    mulan = MusicLM.from_pretrained(bundle.folder).mulan
    mulan.text_pull.fill_(0.5)
    with torch.no_grad():
        plain = mulan.embed_text(["a calm piano"])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.cosine_similarity(mulan.embed_text(["a calm piano"]).float(), plain) > 0.99
