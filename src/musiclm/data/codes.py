"""Whole files through the codec in constant memory, and files of codes.

Audio is read, encoded, decoded and written block by block; only the codes, about 1 kB a second, are held. A file of
codes is safetensors: `codes` int16 (q, t), with the hash of the codec and the exact number of samples in its metadata.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor

from musiclm.core import tensors
from musiclm.core.artifact import ArtifactError
from musiclm.core.audio import AudioError, read_blocks
from musiclm.core.output import check_output
from musiclm.core.retired import retired_codes
from musiclm.core.streams import TokenSpec
from musiclm.models.encoders import Codec

BLOCK_FRAMES = 500  # 10 s decoded at a time
LARGEST_BYTES = 2**30  # of a file of codes: more than a week of music at 12 levels of 50 Hz
KIND = "musiclm codes"


@dataclass(frozen=True)
class Encoded:
    """A clip as codes."""

    codes: Int[Tensor, "q t"]
    num_samples: int  # of the audio, so that its length comes back exactly
    codec_hash: str

    def bits_per_second(self, spec: TokenSpec) -> float:
        """Bitrate of these levels before any entropy coding; `spec` is the codec's."""
        assert spec.frame_rate_hz is not None
        return self.codes.shape[0] * spec.frame_rate_hz * float(np.log2(spec.codebook_size))


def encode_file(codec: Codec, path: Path, levels: int | None = None) -> Encoded:
    """Codes of any audio file, mixed to mono and resampled. Raises AudioError; ValueError for levels out of range."""
    if levels is not None and not 1 <= levels <= codec.spec.levels:
        raise ValueError(f"--levels must lie in 1..{codec.spec.levels}, got {levels}")
    stream = codec.encoder_stream(levels)
    pieces = []
    for block in read_blocks(path, sample_rate_hz=codec.sample_rate_hz):
        # seconds at a time: a block of a low-rate file can be long after resampling
        for piece in np.split(block, range(240_000, block.shape[1], 240_000), axis=1):
            pieces.append(stream.push(torch.from_numpy(np.ascontiguousarray(piece))[None]).to(torch.int16))
    pieces.append(stream.flush().to(torch.int16))
    if stream.num_samples == 0:
        raise AudioError(f"{path}: there is no audio in it")
    return Encoded(torch.cat(pieces, -1)[0], stream.num_samples, codec.codes_hash)


def decode_blocks(codec: Codec, encoded: Encoded) -> Iterator[Float[np.ndarray, "1 s"]]:
    """Audio of an encoded clip, block by block, exactly `num_samples` long."""
    stream, left = codec.decoder_stream(), encoded.num_samples
    for codes in encoded.codes.split(BLOCK_FRAMES, 1):
        audio = stream.push(codes[None].long())[0, :, :left].numpy()
        left -= audio.shape[1]
        if audio.shape[1]:
            yield audio
    rest = stream.flush()[0, :, :left].numpy()
    if rest.shape[1]:
        yield rest


def save_codes(path: Path, encoded: Encoded) -> None:
    """Writes a file of codes; it appears under its name only when whole.

    Raises OutputError for a place that can't be written to, OSError.
    """
    check_output(path)
    about = {"kind": KIND, "samples": encoded.num_samples, "codec": encoded.codec_hash}
    # one key: of several, safetensors changes the order from file to file
    tensors.save({"codes": encoded.codes.contiguous()}, path, {"about": json.dumps(about)})


def describe_codes(path: Path) -> dict[str, Any]:
    """Metadata and shape of a file of codes, looked at before anything is loaded.

    Raises: ArtifactError for a file that is missing, too large or damaged, or no file of codes.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    if path.stat().st_size > LARGEST_BYTES:
        raise ArtifactError(f"{path} has {path.stat().st_size} bytes, more than any file of codes; it is not read")
    try:
        with tensors.reader(path) as file:
            metadata = file.metadata() or {}
            about = (
                json.loads(metadata["about"]) if "about" in metadata else metadata
            )  # files of old have a key for each fact
            names = set(file.keys())
            codes = file.get_slice("codes")
            shape, kind = codes.get_shape(), codes.get_dtype()
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: no file of codes ({error}); make one with `musiclm codec encode`") from None
    if not isinstance(about, dict) or about.get("kind") != KIND:
        raise ArtifactError(f"{path}: no file of codes; make one with `musiclm codec encode`")
    samples = str(about.get("samples", ""))  # a number, in files of old as text
    whole = names == {"codes"} and kind == "I16" and len(shape) == 2 and min(shape, default=0) >= 1
    if not whole or not (samples.isdecimal() and int(samples) >= 1) or not isinstance(about.get("codec"), str):
        raise ArtifactError(f"{path}: a damaged file of codes, of {kind} {shape} and {samples or 'no'} samples")
    return {**about, "levels": shape[0], "frames": shape[1]}


def load_codes(path: Path, codec: Codec, levels: int | None = None) -> Encoded:
    """Reads a file of codes for this codec, the first `levels` levels.

    Raises: ArtifactError if it is damaged or from another codec; ValueError for levels it does not have.
    """
    about = describe_codes(path)
    if about["codec"] != codec.codes_hash:
        if retired := retired_codes(about["codec"], "encode the sound anew"):
            raise ArtifactError(f"{path} was {retired}")
        raise ArtifactError(
            f"{path} was made by codec {about['codec'][:12]}…, this one is {codec.codes_hash[:12]}…; name the right "
            "--model"
        )
    if levels is not None and not 1 <= levels <= about["levels"]:
        raise ValueError(f"--levels must lie in 1..{about['levels']} for this file, got {levels}")
    with tensors.reader(path) as file:
        codes = file.get_tensor("codes")
    size, frames = codec.spec.codebook_size, -(-int(about["samples"]) // codec.samples_per_frame)
    right = codes.shape[0] <= codec.spec.levels and codes.shape[1] == frames
    if not right or codes.min() < 0 or codes.max() >= size:
        raise ArtifactError(
            f"{path} is damaged: {codes.shape[0]} levels of {codes.shape[1]} codes from {codes.min()} to {codes.max()} "
            f"for {about['samples']} samples, where this codec has {codec.spec.levels} levels of {size}"
        )
    return Encoded(codes[:levels], int(about["samples"]), about["codec"])
