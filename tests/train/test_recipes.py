"""Every preset builds, the papers' sizes without memory; JSON brings each back; names are checked."""

import pytest
import torch
from torch import nn

from musiclm.core.bundle import open_bundle
from musiclm.core.config import from_json, override, to_json
from musiclm.core.streams import STAGES, TRAINABLES
from musiclm.models.lm.model import TokenLM
from musiclm.models.soundstream.bands_task import BandsTaskConfig
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.soundstream.task import SoundStreamTaskConfig
from musiclm.models.storm.model import SoundStorm
from musiclm.models.w2vbert.model import W2vBert
from musiclm.train.recipes import PRESETS, Preset, configure, load_preset


def build(preset: Preset) -> dict[str, nn.Module]:
    with torch.device("meta"):
        return {
            "soundstream": SoundStream(preset.soundstream.task.model),
            "w2vbert": W2vBert(preset.w2vbert.task.model),
            "storm": SoundStorm(preset.storm.task.model),
            **{stage: TokenLM(getattr(preset, stage).task.model) for stage in ("semantic", "coarse", "fine")},
        }


def millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


@pytest.mark.parametrize("name", PRESETS)
def test_builds_and_comes_back_from_json(name: str) -> None:
    preset = load_preset(name)
    assert from_json(Preset, to_json(preset)) == preset
    assert set(build(preset)) >= set(STAGES) - {"mulan"}


def test_the_papers_sizes() -> None:
    models = build(load_preset("paper"))
    # MusicLM: 430 M a stage; SoundStorm: 350 M with its embeddings for another vocabulary; w2v-BERT XL: 0.6 B
    for stage in ("semantic", "coarse", "fine"):
        assert millions(models[stage]) == pytest.approx(430, rel=0.05)
    assert millions(models["storm"]) == pytest.approx(350, rel=0.12)
    assert millions(models["w2vbert"]) == pytest.approx(600, rel=0.15)
    paper = load_preset("paper")
    assert paper.soundstream.task.model.spec.frame_rate_hz == 50.0
    assert (paper.soundstream.task.model.levels, paper.soundstream.task.model.codebook_size) == (12, 1024)
    assert [stage.task.model.layout.stage.crop_s for stage in (paper.semantic, paper.coarse, paper.fine)] == [30, 10, 3]


def test_base_fits_its_package() -> None:
    """68 MB, MuLan's 32 not counted: half precision, and rows of int8 for nearly all of SoundStorm."""
    models = build(load_preset("base"))
    half = sum(millions(models[name]) for name in ("soundstream", "w2vbert", "semantic"))
    assert half * 2 + millions(models["storm"]) * 1.05 < 68


def test_the_bundle_that_ships_is_small_enough() -> None:
    files = [path.stat().st_size for path in open_bundle("base").folder.rglob("*") if path.is_file()]
    assert sum(files) < 100e6 and max(files) < 50e6


def test_overrides_reach_every_stage() -> None:
    changed = override(load_preset("base"), ["storm.train.steps=7", "soundstream.task.model.trunk_width=96"])
    assert changed.storm.train.steps == 7 and changed.soundstream.task.model.trunk_width == 96
    with pytest.raises(ValueError, match="did you mean 'storm'"):
        override(load_preset("base"), ["stormy.train.steps=7"])
    with pytest.raises(ValueError, match="no preset 'huge'"):
        load_preset("huge")
    with pytest.raises(ValueError, match="no preset 'bands'; there are tiny, base, large, paper"):
        load_preset("bands")


@pytest.mark.parametrize("name", PRESETS)
def test_every_stage_has_a_recipe_or_says_that_it_has_none(name: str) -> None:
    preset = load_preset(name)
    for stage in TRAINABLES:
        if stage in STAGES or name not in ("paper", "large"):
            assert preset.recipe(stage).train.steps > 0
    with pytest.raises(ValueError, match="no stage 'stormy'"):
        preset.recipe("stormy")
    if name == "paper":
        with pytest.raises(ValueError, match="no recipe for mulan-text"):
            preset.recipe("mulan-text")


def test_settings_that_do_nothing_are_refused() -> None:
    assert configure("base", "storm", ["storm.train.steps=7"]).storm.train.steps == 7
    changed = configure("base", "mulan-text", ["mulan-text.task.anchor=3"])
    assert changed.mulan_text is not None and changed.mulan_text.task.anchor == 3
    assert configure("base", "all", ["semantic.train.steps=7", "speeds=[]"]).speeds == ()
    for stage, setting in (
        ("storm", "semantic.train.steps=7"),
        ("storm", "speeds=[]"),
        ("soundstream", "soundstream_decoder.train.steps=7"),
        ("soundstream-decoder", "soundstream.train.steps=7"),
        ("all", "mulan-text.train.steps=7"),
    ):
        with pytest.raises(ValueError, match=rf"--set {setting.split('=')[0]} does nothing here"):
            configure("base", stage, [setting])
    for setting in ("mulan.task.anchor=10", "soundstream.task.every_bin=true", "fine.task.anchor=1"):
        with pytest.raises(ValueError, match="unknown setting"):
            configure("base", setting.split(".")[0], [setting])
    with pytest.raises(ValueError, match="no recipe for soundstream-decoder"):
        configure("paper", "soundstream-decoder", [])


def test_each_training_of_a_codec_is_of_its_own_network() -> None:
    base, paper = load_preset("base").soundstream.task.model, load_preset("paper").soundstream.task.model
    assert (base.network, paper.network) == ("bands", "waveform")
    with pytest.raises(ValueError, match="trains the network `waveform`, got 'bands'"):
        SoundStreamTaskConfig(model=base)
    with pytest.raises(ValueError, match="trains the network `bands`, got 'waveform'"):
        BandsTaskConfig(model=paper)
