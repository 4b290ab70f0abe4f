"""Training of the bands network in miniature."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import soundfile
import torch

from musiclm.core.artifact import read_config
from musiclm.data.corpus.build import build_corpus
from musiclm.models.soundstream.bands import BandsDecoder
from musiclm.models.soundstream.bands_task import (
    BandDiscriminators,
    BandsDecoderTask,
    BandsDecoderTaskConfig,
    BandsTask,
    BandsTaskConfig,
    magnitude_losses,
)
from musiclm.models.soundstream.config import Band, SoundStreamConfig
from musiclm.models.soundstream.loss import discriminator_loss
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
CROPS = {
    "crop_s": 0.96,
    "eval_clip_s": 0.96,
    "eval_clips": 4,
    "code_counts": (8, 10, 16),
    "code_count_shares": (0.3, 0.2, 0.5),
}
TASK = BandsTaskConfig(**CROPS, model=MODEL, quantize_from_step=10, kmeans_batches=4)  # type: ignore[arg-type]
DECODER = BandsDecoderTaskConfig(
    **CROPS,  # type: ignore[arg-type]
    adversary_crop_s=0.48,
    discriminator_patches=(8,),
    discriminator_channels=4,
    adversary_from_step=3,
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


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of sixty steps."""
    config = TrainConfig(
        steps=60, batch_size=4, learning_rate=2e-3, warmup_steps=5, ema_decay=0.9, validate_every=60, save_every=20
    )
    artifact = train(BandsTask(TASK, corpus, 4, 0), config, tmp_path_factory.mktemp("codec"), quiet=True)
    assert artifact is not None
    return artifact


def test_learns_and_is_exported(corpus: Path, trained: Path) -> None:
    task = BandsTask(TASK, corpus, batch_size=4, seed=0)
    with torch.no_grad():
        figures = task.validate(SoundStream.from_artifact(trained))
    assert figures["rms"] < figures["rms_first"] < 0.9, "silence scores 1, and more codes are better"


def test_the_decoder_learns_alone_and_codes_stay(corpus: Path, trained: Path, tmp_path: Path) -> None:
    config = TrainConfig(steps=8, batch_size=2, warmup_steps=1, ema_decay=0.5, validate_every=4, save_every=4)
    task = BandsDecoderTask(DECODER, corpus, 2, 0, trained)
    with patch.object(BandsDecoder, "calibrate", autospec=True, side_effect=BandsDecoder.calibrate) as calibrate:
        artifact = train(task, config, tmp_path, quiet=True)
    assert artifact is not None and len(read_config(artifact)["info"]["calibration"]) == len(MODEL.bands)
    assert calibrate.call_count == 1, "at the end, and not at each validation"
    before, after = SoundStream.from_artifact(trained), SoundStream.from_artifact(artifact)
    audio = torch.from_numpy(melody(99))[None, None]
    codes = before.encode(audio)
    assert torch.equal(after.encode(audio), codes) and after.codes_hash == before.codes_hash
    assert not torch.equal(after.decode(codes), before.decode(codes))
    assert after.config.every_bin and not before.config.every_bin
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    last = [line for line in log if line["kind"] == "train"][-1]
    assert {"adversarial", "feature", "discriminator/loss", "rms"} <= last.keys()


def test_blurred_magnitudes_are_told_from_sharp_ones() -> None:
    """Discriminators learn in a few steps what a mean over time has lost."""
    torch.manual_seed(0)
    networks = BandDiscriminators(MODEL, (8,), 8)
    optimizer = torch.optim.Adam(networks.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        real = [torch.rand(4, 48, band.width(24000)) for band in MODEL.bands]
        fake = [torch.full_like(part, 0.5) + 0.05 * torch.randn_like(part) for part in real]
        loss = discriminator_loss(networks(real), networks(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.7 and losses[-1] < 0.7


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
        ({"code_counts": (4, 10, 16)}, r"code_counts must lie in 8\.\.16"),
        ({"model": SoundStreamConfig()}, "trains the network `bands`"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BandsTaskConfig(**{**vars(TASK), **change})  # type: ignore[arg-type]


def test_a_crop_for_discriminators_is_part_of_the_crop() -> None:
    with pytest.raises(ValueError, match="longer than crop_s"):
        BandsDecoderTaskConfig(crop_s=0.96, adversary_crop_s=1.92)
