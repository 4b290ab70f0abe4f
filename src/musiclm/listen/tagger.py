"""The taggers of the PyPI package `musicnn`, read and run without TensorFlow.

The one trained on MagnaTagATune (MTT) gives weak labels to real tracks: 50 tags with scores in [0, 1]. The checkpoint
is a TensorFlow V2 one, a sorted table of names (`.index`) beside the raw arrays (`.data-00000-of-00001`);
`read_checkpoint` reads that layout, forty lines.

Its published front end rounds mel energies to float16, which overflows on loud music and turns every tag to noise; here
all is float32. The one trained on the Million Song Dataset (MSD) is kept for judging (`musiclm.listen.judge`), since a
model that labels what we train on must not judge the result.
"""

import struct
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soxr
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.features import SAMPLE_RATE_HZ as CLIP_RATE_HZ

SAMPLE_RATE_HZ = 16000
PIECE_S = 3  # what the networks were trained on; scores and embeddings of a clip are means over its pieces
MTT_TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no_vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male_vocal", "no_vocal", "pop", "soft", "sitar", "solo", "man",
    "classic", "choir", "voice", "new_age", "dance", "male_voice", "female_vocal", "beats", "harp", "cello",
    "no_voice", "weird", "country", "metal", "female_voice", "choral",
)  # fmt: skip


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _fields(message: bytes) -> dict[int, list]:
    """The fields of a protocol-buffer message: number -> values (ints or bytes)."""
    found: dict[int, list] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(message, at)
        elif tag & 7 == 2:
            size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        elif tag & 7 == 5:
            value, at = message[at : at + 4], at + 4
        else:
            raise ValueError(f"wire type {tag & 7} in a checkpoint index: the file is damaged or of another format")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of one block of a sorted table; keys share prefixes with the key before."""
    if table[offset + size] != 0:
        raise ValueError("the checkpoint index is compressed, which TensorFlow never writes: not a checkpoint")
    block = table[offset : offset + size]
    end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]  # restart points follow the entries
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length


def read_checkpoint(prefix: Path | str) -> dict[str, NDArray[np.float32]]:
    """All float32 arrays of a TensorFlow V2 checkpoint of one shard, by variable name.

    `prefix` is what TensorFlow calls the checkpoint: the files are `prefix + ".index"` and `prefix +
    ".data-00000-of-00001"`. Raises: ValueError if it is no such checkpoint.
    """
    table = Path(f"{prefix}.index").read_bytes()
    data = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    if len(table) < 48 or table[-8:] != struct.pack("<Q", 0xDB4775248B80FB57):
        raise ValueError(f"{prefix}.index is no TensorFlow checkpoint index (wrong magic number)")
    _, at = _varint(table, len(table) - 48)
    _, at = _varint(table, at)  # the first handle is the meta index, empty here
    offset, at = _varint(table, at)
    size, at = _varint(table, at)
    arrays = {}
    for _, handle in _block(table, offset, size):
        start, at = _varint(handle, 0)
        length, _ = _varint(handle, at)
        for name, entry in _block(table, start, length):
            fields = _fields(entry)
            if name == b"" or fields[1] != [1]:  # the header, or not float32
                continue
            shape = [_fields(dim).get(1, [0])[0] for dim in _fields(fields[2][0]).get(2, [])] if 2 in fields else []
            first, num_bytes = fields.get(4, [0])[0], fields[5][0]
            array = np.frombuffer(data[first : first + num_bytes], dtype="<f4")
            arrays[name.decode()] = array.reshape(shape).copy()
    return arrays


def pieces(clip: Float[np.ndarray, " s"], shares: Sequence[float] | None = None) -> Float[Tensor, "n t"]:
    """Pieces of 3 s at 16 kHz, as the taggers take them, of a clip at 24 kHz.

    One after another, what is left over at the end dropped; or with `shares` one for each of them, from the first that
    there could be (0) to the last (1). Raises: ValueError for a clip shorter than 3 s.
    """
    if len(clip) < PIECE_S * CLIP_RATE_HZ:
        raise ValueError(f"a clip of {len(clip) / CLIP_RATE_HZ:.2f} s; the tagger needs {PIECE_S} s or more")
    low = torch.from_numpy(soxr.resample(np.asarray(clip, np.float32), CLIP_RATE_HZ, SAMPLE_RATE_HZ))
    size = PIECE_S * SAMPLE_RATE_HZ
    if shares is None:
        return low.unfold(0, size, size)
    return torch.stack([low[int(share * (low.numel() - size)) :][:size] for share in shares])


class Tagger(nn.Module):
    """musicnn, inference only: 16 kHz audio -> 50 tag scores."""

    def __init__(self, arrays: dict[str, NDArray[np.float32]], tags: tuple[str, ...] = MTT_TAGS) -> None:
        super().__init__()
        import librosa

        self.tags = tags
        self.arrays = {name: torch.from_numpy(value) for name, value in arrays.items() if "Adam" not in name}
        # the mel scale it was trained with: Slaney's, area-normalised, on power spectra
        self.filters = torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=512, n_mels=96))

    @classmethod
    def load(cls, weights: str = "MTT", tags: tuple[str, ...] = MTT_TAGS) -> "Tagger":
        """From the installed package. Raises: ValueError with the command that installs it."""
        spec = find_spec("musicnn")
        if spec is None or spec.origin is None:
            raise ValueError("the tagger's weights are not installed; run: pip install --no-deps musicnn==0.1.0")
        return cls(read_checkpoint(str(Path(spec.origin).parent / f"{weights}_musicnn") + "/"), tags)

    @torch.no_grad()
    def embed_clip(self, clip: Float[np.ndarray, " s"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " tags"]]:
        """Embedding and scores of a clip at 24 kHz, means over its pieces. Raises: ValueError as `pieces`."""
        embeddings, scores = self.embed_and_score(pieces(clip))
        return embeddings.mean(0), scores.mean(0)

    def _norm(self, x: Tensor, index: int, axis: int = 1) -> Tensor:
        name = "batch_normalization" + (f"_{index}" if index else "")
        a = {k: self.arrays[f"{name}/{k}"] for k in ("gamma", "beta", "moving_mean", "moving_variance")}
        scale = a["gamma"] / torch.sqrt(a["moving_variance"] + 1e-3)
        shape = [1] * x.ndim
        shape[axis] = -1
        return x * scale.view(shape) + (a["beta"] - a["moving_mean"] * scale).view(shape)

    def _conv(self, x: Tensor, index: int) -> Tensor:
        name = "conv2d" + (f"_{index}" if index else "")
        kernel = self.arrays[f"{name}/kernel"].permute(3, 2, 0, 1)  # TensorFlow: time, frequency, in, out
        size = kernel.shape[2]
        padded = F.pad(x, (0, 0, (size - 1) // 2, size // 2))  # TensorFlow's "same": the odd zero comes after
        return F.relu(F.conv2d(padded, kernel, self.arrays[f"{name}/bias"]))

    def forward(self, audio: Float[Tensor, "b s"]) -> Float[Tensor, "b tags"]:
        """Scores in [0, 1] of `tags` for 16 kHz clips of 3 s or more (trained on 3 s, pooled over what is given)."""
        return self.embed_and_score(audio)[1]

    @torch.no_grad()
    def embed_and_score(self, audio: Float[Tensor, "b s"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b tags"]]:
        """The last hidden layer (200 wide) and the scores."""
        spectrum = torch.stft(audio, 512, 256, window=torch.hann_window(512), pad_mode="constant", return_complex=True)
        mel = self.filters @ spectrum.abs().square()
        x = torch.log10(10000.0 * mel + 1.0).transpose(1, 2)[:, None]  # b 1 t f
        x = self._norm(x, 0)
        front = torch.cat([self._norm(self._conv(x, i), i + 1).amax(dim=3) for i in range(5)], dim=1)  # b 561 t
        features = [front]
        hidden = None
        for i in (5, 6, 7):
            source = front if hidden is None else hidden
            out = self._norm(self._conv(source.transpose(1, 2)[:, None], i), i + 1)[..., 0]
            hidden = out if hidden is None else out + hidden
            features.append(hidden)
        stacked = torch.cat(features, dim=1)
        pooled = torch.stack([stacked.amax(dim=2), stacked.mean(dim=2)], dim=2).flatten(1)
        a = self.arrays
        dense = F.relu(self._norm(pooled, 9) @ a["dense/kernel"] + a["dense/bias"])
        return dense, torch.sigmoid(self._norm(dense, 10) @ a["dense_1/kernel"] + a["dense_1/bias"])
