"""MuLan: an audio tower and a text tower to one space of 128 dimensions, and the residual quantizer over it.

MuLan, section 3 (towers, contrastive training); MusicLM, section 3.1 (10 s windows at 1 s stride, averaged, 12 x 1024
codes). Differences:

- The audio tower is a transformer over short pieces of log-mel, as AST, but the pieces are made by a small
  convolutional stem that looks at one second at a time. Windows one second apart then share all but the top of the
  tower, so that embedding a track window by window costs a tenth, to the last bit the same (`embed_audio_windows`). See
  docs/decisions on the audio tower.
- The text tower starts from MiniLM, with mean pooling, not from BERT-base with [CLS].
- Each tower's mean over the training set is subtracted before the vectors are normalised again, and text vectors are
  then drawn to the audio vectors the quantizer knows (`project_text`): without both, text lies where no audio lies and
  hits other codes (the modality gap).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import ArtifactError, build, load_artifact, save_artifact
from musiclm.core.config import from_json
from musiclm.core.features import SAMPLE_RATE_HZ, LogMel
from musiclm.models.mulan.text import TextConfig, TextEncoder, tokenize
from musiclm.nn.attention import attention
from musiclm.nn.block import Block
from musiclm.nn.rvq import ResidualVQ, training_state

KIND = "mulan"
TOKENIZER_FILE = "tokenizer.json"
WINDOW_S = 10  # seconds the audio tower sees at once


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """The audio tower. tiny: channels (8, 16), width 64, 1 layer; base: the defaults; paper (AST): see the fields."""

    num_mels: int = 64  # paper 128
    n_fft: int = 1440  # window of 60 ms: 48 windows with a hop of 20 ms lie wholly inside one second
    hop: int = 480  # paper 10 ms at 16 kHz
    channels: tuple[int, int] = (32, 96)  # of the stem's two stages; paper (64, 256)
    width: int = 256  # paper 768
    num_layers: int = 3  # paper 12
    num_heads: int = 4  # paper 12
    tokens_per_s: int = 2  # paper 6, at most frames_per_s / 8
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.num_mels % 8:
            raise ValueError(f"num_mels must be a multiple of 8 (the stem divides by 8), got {self.num_mels}")
        if (self.frames_per_s // 8) % self.tokens_per_s or self.frames_per_s % 8:
            raise ValueError(
                f"{self.frames_per_s} whole frames a second (n_fft {self.n_fft}, hop {self.hop}) do not divide into 8 "
                "and then "
                f"into {self.tokens_per_s} tokens; change hop, n_fft or tokens_per_s"
            )
        if self.width % self.num_heads:
            raise ValueError(
                f"audio width {self.width} is not a multiple of {self.num_heads} heads; change one of them"
            )

    @property
    def frames_per_s(self) -> int:
        """Frames that lie wholly inside a second of audio."""
        return (SAMPLE_RATE_HZ - self.n_fft) // self.hop + 1


@dataclass(frozen=True, kw_only=True)
class MuLanConfig:
    """Both towers and the quantizer."""

    audio: AudioConfig = field(default_factory=AudioConfig)
    text: TextConfig = field(default_factory=TextConfig)
    dim: int = 128  # of the joint space; paper 128
    text_hidden: int = 512  # of the head over the text encoder; paper: one linear layer
    text_trained_layers: int = 0  # top layers of the text encoder that learn; the rest keep their weights. paper: all
    dropout: float = 0.1  # in the text head
    rvq_levels: int = 12  # paper 12
    rvq_size: int = 1024  # paper 1024
    memory_size: int = 1024  # audio vectors that text is drawn to (`MuLan.project_text`); not in the paper
    temperature: float = 0.07  # at the start; learned

    def __post_init__(self) -> None:
        if not 0 <= self.text_trained_layers <= self.text.num_layers:
            raise ValueError(
                f"text_trained_layers must lie in 0..{self.text.num_layers} (the encoder's layers), got "
                f"{self.text_trained_layers}"
            )


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with a residual; the first may halve both axes and change the channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(4, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm2 = nn.GroupNorm(4, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Float[Tensor, "b c f t"]) -> Float[Tensor, "b c2 f2 t2"]:
        h = self.conv1(F.gelu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.gelu(self.norm2(h)))


class AudioLayer(Block):
    """Pre-LN self-attention and feed-forward."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        x = x + self.dropout(self.out(attention(self.qkv(self.norm1(x)), self.num_heads)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class AudioTower(nn.Module):
    """Log-mel seconds -> one vector per window."""

    mel_mean: Tensor
    mel_std: Tensor

    def __init__(self, config: AudioConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        # left=0: frame t starts at t * hop, so frames 0..frames_per_s - 1 of a second see that second only
        self.log_mel = LogMel(
            n_fft=config.n_fft, hop=config.hop, num_mels=config.num_mels, fmin_hz=30.0, floor=1e-4, left=0
        )
        self.register_buffer("mel_mean", torch.full((config.num_mels,), -5.0))  # set from data by the task
        self.register_buffer("mel_std", torch.full((config.num_mels,), 2.0))
        first, second = config.channels
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, (8, 7), stride=4, padding=(2, 3)),
            ConvBlock(first, first, 1),
            ConvBlock(first, second, 2),
        )
        steps = config.frames_per_s // 8 // config.tokens_per_s
        self.join = nn.Linear(second * (config.num_mels // 8) * steps, config.width)
        self.positions = nn.Parameter(torch.randn(WINDOW_S, config.tokens_per_s, config.width) * 0.02)
        self.layers = nn.ModuleList(
            AudioLayer(config.width, config.num_heads, config.dropout) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, dim)

    def mels(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n f t"]:
        """Log-mel of single seconds of audio (s = 24000), frames wholly inside them."""
        return self.log_mel(audio)[..., : self.config.frames_per_s]

    def seconds(self, mels: Float[Tensor, "n f t"]) -> Float[Tensor, "n p d"]:
        """The stem: `tokens_per_s` vectors for each second of log-mel."""
        x = (mels - self.mel_mean[:, None]) / self.mel_std[:, None]
        x = self.stem(x[:, None])  # n c f/8 t/8
        n = x.shape[0]
        return self.join(x.permute(0, 3, 1, 2).reshape(n, self.config.tokens_per_s, -1))

    def pool(self, tokens: Float[Tensor, "b w p d"], where: Int[Tensor, "b w"] | None = None) -> Float[Tensor, "b d2"]:
        """The top: attention over the seconds of a window, then their mean, before the head.

        `where` says which of the window's ten seconds are given, where some were left out in training.
        """
        places = self.positions[None] if where is None else self.positions[where]
        x = (tokens + places).flatten(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x).mean(1)

    def forward(self, mels: Float[Tensor, "b w f t"], where: Int[Tensor, "b w"] | None = None) -> Float[Tensor, "b d"]:
        """Features (before `head`) of windows given as seconds of log-mel."""
        b, w = mels.shape[:2]
        return self.pool(self.seconds(mels.flatten(0, 1)).unflatten(0, (b, w)), where)


class TextHead(nn.Module):
    """Pooled text features -> the joint space: a linear map, and a small correction to it."""

    def __init__(self, width: int, hidden: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, dim)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d2"]:
        x = self.dropout(self.norm(x))
        return self.linear(x) + self.down(self.dropout(F.gelu(self.up(x))))


class MuLan(nn.Module):
    """The joint embedding. Use `embed_audio`, `embed_text`, and `audio_codes`, `text_codes` for the tokens of MusicLM.

    Lengths of 10 s are `WINDOW_S`; audio is mono at 24 kHz in [-1, 1]. All embeddings have length 1.
    """

    audio_mean: Tensor
    text_mean: Tensor
    memory: Tensor
    text_pull: Tensor
    text_heat: Tensor
    codes_hash: str = ""

    def __init__(self, config: MuLanConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.audio = AudioTower(config.audio, config.dim)
        self.text_encoder = TextEncoder(config.text)
        self.text = TextHead(config.text.width, config.text_hidden, config.dim, config.dropout)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.rvq = ResidualVQ(dim=config.dim, codebook_size=config.rvq_size, levels=config.rvq_levels)
        # closing the modality gap (musiclm.models.mulan.gap fits these after training; zeros leave the towers as they
        # are)
        self.register_buffer("audio_mean", torch.zeros(config.dim))
        self.register_buffer("text_mean", torch.zeros(config.dim))
        self.register_buffer("memory", torch.zeros(config.memory_size, config.dim))
        self.register_buffer("text_pull", torch.tensor(0.0))  # share of the projection onto audio, 0..1
        self.register_buffer("text_heat", torch.tensor(0.05))  # its temperature, under the name it has on disk
        frozen = config.text.num_layers - config.text_trained_layers
        for module in (self.text_encoder if frozen == config.text.num_layers else self.text_encoder.layers[:frozen],):
            module.requires_grad_(False)
        if 0 < frozen < config.text.num_layers:
            for name in ("words", "positions", "norm"):
                getattr(self.text_encoder, name).requires_grad_(False)
            self.text_encoder.segment.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.log_scale.device

    # -- towers

    def audio_vectors(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b d2"]:
        """Features of the audio tower -> the joint space."""
        raw = F.normalize(self.audio.head(features), dim=-1)
        return F.normalize(raw - self.audio_mean, dim=-1)

    def text_vectors(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b d2"]:
        """Output of the text encoder -> the joint space."""
        raw = F.normalize(self.text(pooled), dim=-1)
        return F.normalize(raw - self.text_mean, dim=-1)

    def embed_audio_windows(self, audio: Float[Tensor, "1 s"]) -> Float[Tensor, "n d"]:
        """Embeddings of every 10 s window at 1 s stride of one track; one window where it is shorter than 11 s.

        Audio shorter than 10 s is repeated until it is long enough. A last part shorter than a second is left out.
        Raises: ValueError if there is no audio.
        """
        return self.audio_vectors(self.window_features(audio))

    def window_features(self, audio: Float[Tensor, "1 s"]) -> Float[Tensor, "n d"]:
        """As `embed_audio_windows`, before the head."""
        seconds = self._seconds(audio)
        tokens = torch.cat([self.audio.seconds(self.audio.mels(part)) for part in seconds.split(64)])
        windows = tokens.unfold(0, WINDOW_S, 1).movedim(-1, 1)  # n 10 p d
        return torch.cat([self.audio.pool(part) for part in windows.split(32)])

    def embed_audio(self, audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b d"]:
        """One embedding per clip: the mean over its windows, normalised (MusicLM, section 3.1)."""
        rows = [self.embed_audio_windows(clip).mean(0) for clip in audio]
        return F.normalize(torch.stack(rows), dim=-1)

    def _seconds(self, audio: Float[Tensor, "1 s"]) -> Float[Tensor, "w s2"]:
        samples = audio[0]
        if samples.numel() == 0:
            raise ValueError("there is no audio to embed: the clip has 0 samples")
        need = WINDOW_S * SAMPLE_RATE_HZ
        if samples.numel() < need:
            samples = samples.repeat(-(-need // samples.numel()))[:need]
        count = samples.numel() // SAMPLE_RATE_HZ
        return samples[: count * SAMPLE_RATE_HZ].view(count, SAMPLE_RATE_HZ)

    def encode_text(self, texts: list[str]) -> Float[Tensor, "b d"]:
        """Pooled output of the text encoder, before the head.

        Raises and warns as `musiclm.models.mulan.text.tokenize`.
        """
        if self.tokenizer is None:
            raise ValueError("this MuLan has no tokenizer; load it with MuLan.from_artifact or pass one")
        ids, keep = tokenize(self.tokenizer, texts, self.config.text.max_tokens)
        device = self.log_scale.device
        return self.text_encoder(ids.to(device), keep.to(device))

    def embed_text(self, texts: list[str]) -> Float[Tensor, "b d"]:
        """One embedding per text. Texts over 256 tokens are cut, with a warning; ValueError for an empty one."""
        return self.project_text(self.text_vectors(self.encode_text(texts)))

    def project_text(self, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Draws text vectors to audio vectors nearby: a softmax-weighted mean of the memory, centroids of training
        audio.

        The mean lies where audio lies (after DeCap, arXiv 2303.03032, which draws images to texts). `text_pull` 0
        leaves the vectors as they are.
        """
        if float(self.text_pull) == 0.0:
            return vectors
        weights = F.softmax(vectors @ self.memory.T / self.text_heat, dim=-1)
        drawn = F.normalize((weights @ self.memory).float(), dim=-1)
        return F.normalize(torch.lerp(vectors.float(), drawn, self.text_pull), dim=-1)

    # -- tokens

    def quantize(self, embedding: Float[Tensor, "b d"]) -> Int[Tensor, "b q 1"]:
        """MuLan tokens of embeddings, of means of them too: they are normalised first."""
        return self.rvq.encode(F.normalize(embedding.float(), dim=-1))[..., None]

    def audio_codes(self, audio: Float[Tensor, "b 1 s"]) -> Int[Tensor, "b q 1"]:
        """M_A: tokens of clips."""
        return self.quantize(self.embed_audio(audio))

    def text_codes(self, texts: list[str]) -> Int[Tensor, "b q 1"]:
        """M_T: tokens of texts, by the same quantizer."""
        return self.quantize(self.embed_text(texts))

    # -- disk

    def save(self, folder: Path, info: dict[str, Any]) -> str:
        """Writes the artifact: float16, the text encoder's matrices as 8-bit rows, the tokenizer inside.

        Returns its hash.
        """
        if self.tokenizer is None:
            raise ValueError("a MuLan without a tokenizer can't be saved: text could not be embedded")
        files = {TOKENIZER_FILE: self.tokenizer.to_str().encode()}
        # 27.6 k word pieces and six layers are 85 MB in float32, 22 MB in rows of int8
        rows = [f"text_encoder.{name}" for name, value in self.text_encoder.state_dict().items() if value.ndim == 2]
        return save_artifact(
            folder, KIND, self.config, self, info, torch.float16, files, training_state(self), int8_rows=rows
        )

    @classmethod
    def from_artifact(cls, folder: Path | str) -> "MuLan":
        """Loads what `save` wrote, in eval mode. Raises: ArtifactError naming what is wrong with the folder."""
        artifact = load_artifact(Path(folder), KIND)
        path = Path(folder) / TOKENIZER_FILE
        if not path.is_file():
            raise ArtifactError(f"{folder} has no {TOKENIZER_FILE}; the model is incomplete, copy it again")
        config, tokenizer = from_json(MuLanConfig, artifact.config), Tokenizer.from_str(path.read_text())
        model = build(lambda: cls(config, tokenizer), artifact, skip=training_state)
        model.codes_hash = artifact.codes_hash
        return model


@dataclass(frozen=True)
class ContrastiveLoss:
    """What `contrastive_loss` returns."""

    loss: Float[Tensor, ""]
    audio_to_text: Float[Tensor, ""]  # recall at 1 within the batch
    text_to_audio: Float[Tensor, ""]


def contrastive_loss(
    audio: Float[Tensor, "b d"],
    text: Float[Tensor, "b d"],
    log_scale: Float[Tensor, ""],
    same: Bool[Tensor, "b b"],
) -> ContrastiveLoss:
    """Symmetric cross-entropy over the batch's similarities (MuLan, equation 1).

    `same[i, j]`: i and j say the same (one track, one caption), so j is no negative of i; such pairs leave the
    denominator. The baseline is ln(b) where no pair is left out.
    """
    b = audio.shape[0]
    logits = audio @ text.T * log_scale.clamp(max=math.log(100.0)).exp()
    eye = torch.eye(b, dtype=torch.bool, device=logits.device)
    logits = logits.float().masked_fill(same & ~eye, -1e4)
    target = torch.arange(b, device=logits.device)
    loss = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))
    hit_text = (logits.argmax(1) == target).float().mean()
    hit_audio = (logits.argmax(0) == target).float().mean()
    return ContrastiveLoss(loss=loss, audio_to_text=hit_text, text_to_audio=hit_audio)
