"""The melody encoder (MusicLM, section 3.4): windows of three seconds to vectors that are near one another where the
melody is the same, whoever plays it in whatever octave, beside whatever else.

The paper trains a ViT on mel frames. Here what is known about melodies is built in, since training is short: pitch is
an axis that convolutions run along; the network chooses, frame by frame, which tones are the melody; and what it chose
is summed over octaves. What stays is the order of pitch classes in time, not transposed.

Vectors come 2.5 times a second and are quantized residually, as the paper's are (24 levels of 512 there).
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import load_model
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.streams import MELODY, TokenSpec
from musiclm.models.melody.features import (
    HARMONICS,
    HOP,
    MARGIN,
    OCTAVES,
    PER_SEMITONE,
    PitchSpectra,
    levelled,
    with_harmonics,
)
from musiclm.nn.precision import full_precision
from musiclm.nn.rvq import ResidualVQ

KIND = "melody"
FRAME_RATE_HZ = 2.5
FRAMES = round(SAMPLE_RATE_HZ / FRAME_RATE_HZ / HOP)  # spectra of a melody frame
PIECE = 64  # melody frames that are encoded at a time: memory does not grow with the length


@dataclass(frozen=True, kw_only=True)
class MelodyConfig:
    """Sizes. MusicLM: ViT of 12 layers x 512, vectors of 192 for 4 s, hop 3 s, 24 levels of 512."""

    window: int = 41  # spectra of a window, 80 ms each; odd
    channels: tuple[int, int, int] = (12, 20, 24)  # of the convolutions over pitch and time
    width: int = 128  # of those over time alone
    dim: int = 64  # of a vector, which has length 1
    rvq_levels: int = MELODY.levels
    rvq_size: int = MELODY.codebook_size

    def __post_init__(self) -> None:
        if self.window < 9 or self.window % 2 == 0:
            raise ValueError(f"window is {self.window}; it must be odd and at least 9")
        if min(*self.channels, self.width, self.dim, self.rvq_levels) < 1 or self.rvq_size < 2:
            raise ValueError("channels, width, dim and rvq_levels must be at least 1, rvq_size at least 2")

    @property
    def spec(self) -> TokenSpec:
        return TokenSpec(
            name=MELODY.name, codebook_size=self.rvq_size, levels=self.rvq_levels, frame_rate_hz=FRAME_RATE_HZ
        )


class MelodyEncoder(nn.Module):
    """24 kHz audio -> a vector of length 1, or codes, 2.5 times a second."""

    def __init__(self, config: MelodyConfig) -> None:
        super().__init__()
        self.config = config
        self.spectra = PitchSpectra()
        first, second, third = config.channels
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(len(HARMONICS), first, (5, 3), stride=(PER_SEMITONE, 1), padding=(2, 1)),
                nn.Conv2d(first, second, (3, 5), padding=(1, 2)),
                nn.Conv2d(second, third, (5, 5), padding=(2, 2)),
            ]
        )
        self.norms = nn.ModuleList([nn.GroupNorm(1, channels) for channels in config.channels])
        self.choose = nn.Conv2d(third, 1, 1)
        self.register_bias = nn.Parameter(torch.zeros(OCTAVES * 12))  # of the choice, by semitone
        self.join = nn.Linear(12 * (third + 1), config.width)
        self.over_time = nn.ModuleList(nn.Conv1d(config.width, config.width, 5, stride=2, padding=2) for _ in range(2))
        steps = config.window
        for _ in self.over_time:
            steps = (steps + 1) // 2
        self.hidden = nn.Linear(steps * config.width, 2 * config.width)
        self.head = nn.Linear(2 * config.width, config.dim)
        self.rvq = ResidualVQ(dim=config.dim, codebook_size=config.rvq_size, levels=config.rvq_levels)
        self.codes_hash = ""  # of the artifact, see `musiclm.core.artifact.codes_hash`

    @classmethod
    def from_artifact(cls, folder: Path) -> "MelodyEncoder":
        """Loads a trained encoder in evaluation mode. Raises ArtifactError when the folder is not one."""
        model, artifact = load_model(folder, KIND, MelodyConfig, cls, lambda module: unstored(module.state_dict()))
        model.codes_hash = artifact.codes_hash
        return model

    @property
    def spec(self) -> TokenSpec:
        return self.config.spec

    def forward(self, windows: Float[Tensor, "b n t"]) -> Float[Tensor, "b c"]:
        """Vectors of length 1 of windows of spectra (`PitchSpectra`), t = config.window."""
        x = with_harmonics(levelled(windows))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.gelu(norm(conv(x)))
        score = self.choose(x)[:, 0] + self.register_bias[:, None]
        chosen = score.float().softmax(1)[:, None].to(x.dtype)  # b 1 p t
        # which tones, and what they are like, by pitch class
        folded = (torch.cat([x, torch.ones_like(chosen)], 1) * chosen).unflatten(2, (OCTAVES, 12)).sum(2)
        h = self.join(folded.flatten(1, 2).transpose(1, 2)).transpose(1, 2)
        for conv in self.over_time:
            h = conv(F.gelu(h))
        return F.normalize(self.head(F.gelu(self.hidden(F.gelu(h).flatten(1)))).float(), dim=-1)

    def embed(self, audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b t c"]:
        """Vectors of audio, each of the window around its frame, zeros outside; t = s // 9600, at least 1."""
        config = self.config
        num = max(1, audio.shape[-1] // (FRAMES * HOP))
        before = config.window // 2 - FRAMES // 2  # spectra of a window before those of its own frame
        out = []
        for first in range(0, num, PIECE):
            last = min(first + PIECE, num)
            start = first * FRAMES - before - MARGIN
            stop = (last - 1) * FRAMES - before + config.window + MARGIN
            spectra = self.spectra(_cut(audio[:, 0], start * HOP, stop * HOP))[..., MARGIN : stop - start - MARGIN]
            windows = spectra.unfold(2, config.window, FRAMES).transpose(1, 2)  # b t n w
            out.append(self(windows.flatten(0, 1)).unflatten(0, windows.shape[:2]))
        return torch.cat(out, 1)

    @torch.no_grad()
    def encode(self, audio: Float[Tensor, "b 1 s"]) -> Int[Tensor, "b q t"]:
        """Codes, in whole precision so that they do not depend on how training was set up."""
        with full_precision(audio.device):
            vectors = self.embed(audio)
        return self.rvq.encode(vectors.flatten(0, 1)).unflatten(0, vectors.shape[:2]).transpose(1, 2)


def _cut(audio: Float[Tensor, "b s"], start: int, stop: int) -> Float[Tensor, "b n"]:
    """Samples [start, stop), zeros outside."""
    inside = audio[:, max(0, start) : max(0, stop)]
    left = max(0, -start)
    return F.pad(inside, (left, stop - start - left - inside.shape[1]))


def unstored(names: Collection[str]) -> list[str]:
    """Tensors that training the quantizer would need and that are not stored."""
    return [name for name in names if name in ("rvq.sums", "rvq.counts")]
