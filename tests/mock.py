"""A whole bundle of random tiny weights: generation, command line and bundles are tested without training."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from musiclm.core.artifact import save_artifact
from musiclm.core.bundle import Bundle, assemble
from musiclm.core.streams import TokenSpec
from musiclm.models.lm.model import KIND as LM_KIND
from musiclm.models.lm.model import TokenLM, TokenLMConfig
from musiclm.models.melody.model import KIND as MELODY_KIND
from musiclm.models.melody.model import MelodyConfig, MelodyEncoder
from musiclm.models.mulan.model import AudioConfig, MuLan, MuLanConfig
from musiclm.models.mulan.text import TextConfig
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.storm.model import KIND as STORM_KIND
from musiclm.models.storm.model import SoundStorm, SoundStormConfig
from musiclm.models.w2vbert.cues import NUM_CUES
from musiclm.models.w2vbert.model import W2vBertConfig
from musiclm.models.w2vbert.tokenizer import SemanticTokenizer, SemanticTokenizerConfig
from musiclm.nn.conformer import ConformerConfig
from musiclm.nn.transformer import TransformerConfig
from tests.models.mulan.test_text import small_tokenizer
from tests.models.soundstream.test_model import NETWORKS

SPECS = (
    TokenSpec(name="mulan", codebook_size=8, levels=12, frame_rate_hz=None),
    TokenSpec(name="semantic", codebook_size=16, levels=1, frame_rate_hz=25.0),
    TokenSpec(name="acoustic", codebook_size=16, levels=12, frame_rate_hz=50.0),
)


def mock_bundle(folder: Path, harmony: bool = False, melody: bool = False, cues: bool = True) -> Bundle:
    """Random weights, but every part is real; two prompts give different tokens because nothing is zero.

    harmony: as the preset `base` has it: semantic frames of four codes, read whole, and a codec of bands whose codes
    hold. melody: with a melody encoder, and a semantic stage that reads its codes. cues: semantic tokens tell onsets
    and pitches, so that music can be steered.
    """
    torch.manual_seed(0)
    work = folder / "parts"
    small = SoundStreamConfig(latent_dim=8, codebook_size=16, channels=2)
    codec = SoundStream(replace(NETWORKS["bands"], hold=1.0) if harmony else small)
    codec.rvq.fit_kmeans(torch.randn(200, codec.config.latent_dim))
    mulan_spec, semantic_spec, acoustic_spec = SPECS
    if harmony:
        semantic_spec, acoustic_spec = replace(semantic_spec, levels=4, frame_rate_hz=12.5), codec.spec
    specs = (mulan_spec, semantic_spec, acoustic_spec)
    hashes = {"soundstream": save_artifact(work / "soundstream", "soundstream", codec.config, codec, {})}
    tokenizer = Tokenizer.from_str(json.dumps(small_tokenizer()))
    text = TextConfig(vocab_size=tokenizer.get_vocab_size(), width=16, num_layers=1, num_heads=2, feed_forward=32)
    config = MuLanConfig(
        audio=AudioConfig(channels=(4, 8), width=16, num_layers=1, num_heads=2),
        text=text,
        dim=8,
        text_hidden=16,
        rvq_size=8,
    )
    mulan = MuLan(config, tokenizer)
    rows = F.normalize(torch.randn(200, 8), dim=-1)
    mulan.rvq.fit_kmeans(rows)
    mulan.memory.copy_(rows[:1].expand_as(mulan.memory))
    hashes["mulan"] = mulan.save(work / "mulan", {})
    info = {"encoders": hashes}
    sizes = MelodyConfig(channels=(3, 4, 5), width=8, dim=6)
    if melody:
        encoder = MelodyEncoder(sizes)
        encoder.rvq.fit_kmeans(F.normalize(torch.randn(300, sizes.dim), dim=-1))
        save_artifact(work / "melody", MELODY_KIND, sizes, encoder, {})
    transformer = TransformerConfig(width=16, num_layers=1, num_heads=2, ff_width=32, dropout=0.0)
    for stage in ("semantic", "coarse", "fine"):
        levels = 2 if melody and stage == "semantic" else 0
        depth_width = 24 if harmony else 0
        lm = TokenLM(
            TokenLMConfig(
                stage=stage, transformer=transformer, specs=specs, depth_width=depth_width, melody_levels=levels
            )
        )
        if levels:
            torch.nn.init.normal_(lm.melody.out.weight)
        for parameter in lm.parameters():
            parameter.data.mul_(4)  # random logits far from even, so that conditions show
        save_artifact(work / stage, LM_KIND, lm.config, lm, info)
    conformer = ConformerConfig(width=16, num_heads=2, num_layers=1, ff_width=32, kernel=3, dropout=0.0)
    storm = SoundStorm(
        SoundStormConfig(
            conformer=conformer,
            mulan_levels=2,
            depth_width=24 if harmony else 0,
            code_width=6 if harmony else 0,
            series=codec.config.series if harmony else (),
            mulan=mulan_spec,
            semantic=semantic_spec,
            acoustic=acoustic_spec,
        )
    )
    save_artifact(work / "storm", STORM_KIND, storm.config, storm, info)
    tokenizer_config = SemanticTokenizerConfig(
        w2vbert=W2vBertConfig(
            conformer=conformer, contrastive_layers=1, num_codebooks=1, codebook_size=16, code_width=16
        ),
        layer=1,
        num_clusters=16,
        num_cues=NUM_CUES if cues else 0,
        harmony=harmony,
    )
    semantic = SemanticTokenizer(tokenizer_config)
    semantic.centroids.normal_()
    if harmony:
        semantic.harmony.uniform_()
    save_artifact(work / "w2vbert", "semantic", tokenizer_config, semantic, {})
    parts = ("soundstream", "w2vbert", "mulan", "semantic", "storm", "coarse", "fine", *(("melody",) if melody else ()))
    return assemble(folder / "mock", {part: work / part for part in parts}, "mock", "# mock\n")
