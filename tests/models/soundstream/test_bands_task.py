"""Training of the bands network in miniature."""

from pathlib import Path

import pytest
import soundfile
import torch

from musiclm.data.corpus.build import build_corpus
from musiclm.models.soundstream.bands_task import BandsTask, BandsTaskConfig, magnitude_losses
from musiclm.models.soundstream.config import Band, SoundStreamConfig
from musiclm.models.soundstream.model import SoundStream
from musiclm.train.loop import TrainConfig, train
from tests.data.corpus.conftest import melody

MODEL = SoundStreamConfig(
    network="bands",
    bands=(
        Band(n_fft=1920, hop=480, low_hz=20, high_hz=480, fold=2, groups=2, decimation=15, rounds=2),
        Band(n_fft=960, hop=240, low_hz=480, high_hz=6000, fold=2, groups=3, num_pooled=40, rounds=2),
    ),
    levels=16,
    group_dim=8,
    latent_dim=64,
    codebook_size=16,
    group_width=16,
    group_blocks=1,
    trunk_width=32,
    trunk_blocks=2,
    block_frames=4,
)
TASK = BandsTaskConfig(
    model=MODEL,
    crop_s=0.96,
    adversary_crop_s=0.48,
    eval_clip_s=0.96,
    eval_clips=4,
    code_counts=(8, 10, 16),
    code_count_shares=(0.3, 0.2, 0.5),
    quantize_from_step=10,
    kmeans_batches=4,
    discriminator_patches=(8,),
    discriminator_channels=4,
    discriminator_from_step=40,
    adversary_from_step=45,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small tunes, enough that some are held out."""
    folder = tmp_path_factory.mktemp("tunes")
    for index in range(24):
        soundfile.write(folder / f"tune {chr(97 + index)}.wav", melody(index), 24000)
    build_corpus([str(folder)], folder / "corpus", jobs=1, progress=False)
    return folder / "corpus"


def test_what_the_losses_say() -> None:
    target = torch.rand(2, 20, 10)
    assert float(magnitude_losses(target, target).sum()) < 1e-3
    silent = magnitude_losses(torch.zeros_like(target), target)
    assert silent[:3].tolist() == pytest.approx([1, 1, 1], abs=0.05)
    quiet, loud = (magnitude_losses(0.9 * target * gain, target * gain)[:2] for gain in (0.3, 1.0))
    torch.testing.assert_close(quiet, loud, atol=0.01, rtol=0)


def test_learns_and_is_exported(corpus: Path, tmp_path: Path) -> None:
    task = BandsTask(TASK, corpus, batch_size=4, seed=0)
    config = TrainConfig(
        steps=60, batch_size=4, learning_rate=2e-3, warmup_steps=5, ema_decay=0.9, validate_every=60, save_every=20
    )
    artifact = train(task, config, tmp_path, quiet=True)
    assert artifact is not None
    with torch.no_grad():
        figures = task.validate(SoundStream.from_artifact(artifact))
    assert figures["rms"] < figures["rms_first"] < 0.9, "silence scores 1, and more codes are better"


def test_the_same_seed_is_the_same_run_and_a_stopped_run_goes_on(corpus: Path, tmp_path: Path) -> None:
    config = TrainConfig(steps=14, batch_size=2, warmup_steps=2, validate_every=100, save_every=7)

    def weights(folder: Path, stop_at: int | None) -> dict[str, torch.Tensor]:
        torch.rand(5)  # whatever was drawn before
        if stop_at is not None:
            first = TrainConfig(**{**vars(config), "steps": stop_at, "decay_fraction": 0.0})
            train(BandsTask(TASK, corpus, 2, 0), first, folder, quiet=True)
        whole = TrainConfig(**{**vars(config), "decay_fraction": 0.0})
        train(BandsTask(TASK, corpus, 2, 0), whole, folder, quiet=True)
        return SoundStream.from_artifact(folder / "artifact").state_dict()

    once, again = weights(tmp_path / "a", None), weights(tmp_path / "b", 12)
    assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_s": 0.99}, "crop_s must be whole code frames of 0.04 s"),
        ({"adversary_crop_s": 1.92}, "longer than crop_s"),
        ({"code_counts": (4, 10, 16)}, r"code_counts must lie in 8\.\.16"),
        ({"model": SoundStreamConfig()}, "trains the network `bands`"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BandsTaskConfig(**{**vars(TASK), **change})  # type: ignore[arg-type]
