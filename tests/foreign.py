"""Models of transformers with random weights on disk: rates and levels of published ones, and small networks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

CODECS = ("encodec", "dac", "mimi")


def small_codec(kind: str, folder: Path, **changes: Any) -> Path:
    """EnCodec at 75 Hz (2 and 8 levels), DAC at 24000 / 512 Hz (3 levels), Mimi at 12.5 Hz (4 levels of 64 codes)."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(CODECS.index(kind))
    sizes: dict[str, dict[str, Any]] = {
        "encodec": {
            "num_filters": 4,
            "hidden_size": 8,
            "codebook_dim": 8,
            "num_lstm_layers": 1,
            "target_bandwidths": [1.5, 6.0],
        },
        "dac": {
            "encoder_hidden_size": 4,
            "decoder_hidden_size": 16,
            "downsampling_ratios": [2, 4, 8, 8],
            "upsampling_ratios": [8, 8, 4, 2],
            "n_codebooks": 3,
            "codebook_dim": 4,
            "sampling_rate": 24000,
        },
        "mimi": {
            "num_filters": 4,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "intermediate_size": 16,
            "codebook_dim": 8,
            "vector_quantization_hidden_dimension": 8,
            "num_quantizers": 4,
            "codebook_size": 64,
            "upsample_groups": 16,
        },
    }
    name = {"encodec": "Encodec", "dac": "Dac", "mimi": "Mimi"}[kind]
    config = getattr(transformers, f"{name}Config")(**(sizes[kind] | changes))
    model = getattr(transformers, f"{name}Model")(config)
    if kind == "encodec":  # its codebooks begin as zeros
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_()
    if kind == "mimi":
        for name, buffer in model.named_buffers():
            if name.endswith("embed_sum"):
                buffer.normal_()
            if name.endswith("cluster_usage"):
                buffer.fill_(1.0)
    model.save_pretrained(folder)
    return folder


def small_hubert(folder: Path, model_type: str = "hubert", rate_hz: int = 24000, **changes: Any) -> Path:
    """HuBERT with convolutions of stride 20, or as changed. model_type "mert_model": as MERT calls itself."""
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": (8, 8),
        "conv_stride": (5, 4),
        "conv_kernel": (10, 8),
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    }
    transformers.HubertModel(transformers.HubertConfig(**(sizes | changes))).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=rate_hz).save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": model_type}))
    return folder


# the published convolutions: a frame every 320 samples, which reaches over 400
CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": (8,) * 7,
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "num_hidden_layers": 3,
}


def small_semantic(kind: str, folder: Path) -> Path:
    """HuBERT at 16 kHz (50 Hz), MERT at 24 kHz (75 Hz), w2v-BERT 2.0 at 16 kHz (50 Hz), three layers each."""
    torch.manual_seed(7)
    if kind == "hubert":
        return small_hubert(folder, rate_hz=16000, **CONVOLUTIONS)
    if kind == "mert":
        return small_hubert(folder, "mert_model", **CONVOLUTIONS)
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2BertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        conv_depthwise_kernel_size=5,
    )
    transformers.Wav2Vec2BertModel(config).save_pretrained(folder)
    transformers.SeamlessM4TFeatureExtractor(padding_value=1).save_pretrained(folder)
    return folder


def small_clap(folder: Path) -> Path:
    """CLAP with a vector of 12 numbers, and a tokenizer of a few words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    from tests.models.mulan.test_text import small_tokenizer

    torch.manual_seed(11)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ClapConfig(
        text_config={**text, "pad_token_id": 0},
        audio_config={
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1],
            "num_attention_heads": [1, 1],
            "hidden_size": 16,
            "num_mel_bins": 64,
            "spec_size": 256,
            "window_size": 8,
        },
        projection_dim=12,
    )
    transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad").save_pretrained(folder)
    tokenizer = Tokenizer.from_str(json.dumps(small_tokenizer()))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(
        folder
    )
    return folder
