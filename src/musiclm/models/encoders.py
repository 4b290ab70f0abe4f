"""The encoders of a chain, whoever made them: what each kind can do, and how one is opened from its artifact.

A part of a bundle is a role, named after the paper's model: `soundstream` is the codec, `w2vbert` the semantic encoder,
`mulan` the joint embedding. Another model in a role has an artifact of another kind (`musiclm.models.foreign`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.core.artifact import read_config
from musiclm.core.streams import ACOUSTIC, MULAN, SEMANTIC, TokenSpec
from musiclm.models.foreign.codec import KIND as FOREIGN_CODEC
from musiclm.models.foreign.codec import ForeignCodec
from musiclm.models.foreign.joint import KIND as FOREIGN_JOINT
from musiclm.models.foreign.joint import ForeignJoint
from musiclm.models.foreign.semantic import KIND as FOREIGN_SEMANTIC
from musiclm.models.foreign.semantic import ForeignSemantic
from musiclm.models.mulan.model import MuLan
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.w2vbert.tokenizer import CodeCues, SemanticTokenizer, cues_of_codes

FOREIGN = {FOREIGN_CODEC: ACOUSTIC.name, FOREIGN_SEMANTIC: SEMANTIC.name, FOREIGN_JOINT: MULAN.name}  # -> stream


@runtime_checkable
class Encoder(Protocol):
    """What all have."""

    codes_hash: str  # which codes it gives (`musiclm.core.artifact.codes_hash`); empty for a model of no artifact

    @property
    def device(self) -> torch.device: ...
    def to(self, device: Any) -> Any: ...
    def eval(self) -> Any: ...


@runtime_checkable
class CodecEncoderStream(Protocol):
    """Audio in pieces to codes: together those of the whole."""

    num_samples: int  # that came so far

    def push(self, audio: Float[Tensor, "1 1 s"]) -> Int[Tensor, "1 q t"]: ...
    def flush(self) -> Int[Tensor, "1 q t"]: ...


@runtime_checkable
class CodecDecoderStream(Protocol):
    """Codes in pieces to audio: together that of the whole."""

    def push(self, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b 1 s"]: ...
    def flush(self) -> Float[Tensor, "b 1 s"]: ...


@runtime_checkable
class Codec(Encoder, Protocol):
    """Audio at its own rate to acoustic codes and back. A frame is a whole number of samples."""

    config: Any

    @property
    def spec(self) -> TokenSpec: ...
    @property
    def sample_rate_hz(self) -> int: ...
    @property
    def samples_per_frame(self) -> int: ...
    @property
    def codebooks(self) -> Float[Tensor, "q v c"]: ...
    def encode(self, audio: Float[Tensor, "b 1 s"], levels: int | None = None) -> Int[Tensor, "b q t"]: ...
    def decode(self, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b 1 s"]: ...
    def encoder_stream(self, levels: int | None = None) -> CodecEncoderStream: ...
    def decoder_stream(self) -> CodecDecoderStream: ...


@runtime_checkable
class SemanticEncoder(Encoder, Protocol):
    """Audio at 24 kHz to semantic codes: one frame for each that is whole, in constant memory."""

    @property
    def spec(self) -> TokenSpec: ...
    @property
    def codebooks(self) -> Float[Tensor, "q v c"]: ...
    def encode(self, audio: Float[Tensor, "b 1 s"]) -> Int[Tensor, "b q t"]: ...


@runtime_checkable
class JointEmbedding(Encoder, Protocol):
    """Audio at 24 kHz and text to vectors of length 1 in one space, and to codes of one quantizer."""

    rvq: Any  # a ResidualVQ

    def embed_audio_windows(self, audio: Float[Tensor, "1 s"]) -> Float[Tensor, "n d"]: ...
    def embed_audio(self, audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b d"]: ...
    def quantize(self, embedding: Float[Tensor, "b d"]) -> Int[Tensor, "b q 1"]: ...
    def embed_text(self, texts: list[str]) -> Float[Tensor, "b d"]: ...
    def encode_text(self, texts: list[str]) -> Float[Tensor, "b e"]: ...
    def text_vectors(self, pooled: Float[Tensor, "b e"]) -> Float[Tensor, "b d"]: ...
    def project_text(self, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]: ...
    def audio_codes(self, audio: Float[Tensor, "b 1 s"]) -> Int[Tensor, "b q 1"]: ...
    def text_codes(self, texts: list[str]) -> Int[Tensor, "b q 1"]: ...


def is_foreign(folder: Path) -> bool:
    """Whether an artifact's model was made by others. Raises: ArtifactError if there is none."""
    return read_config(folder)["kind"] in FOREIGN


def load_codec(folder: Path) -> Codec:
    """The codec of an artifact, in eval mode. Raises: ArtifactError if the folder holds none."""
    load: Callable[[Path], Codec] = ForeignCodec.from_artifact if is_foreign(folder) else SoundStream.from_artifact
    return load(folder)


def load_semantic(folder: Path) -> SemanticEncoder:
    """The semantic encoder of an artifact, in eval mode. Raises: ArtifactError if the folder holds none."""
    load: Callable[[Path], SemanticEncoder]
    load = ForeignSemantic.from_artifact if is_foreign(folder) else SemanticTokenizer.from_artifact
    return load(folder)


def load_joint(folder: Path) -> JointEmbedding:
    """The joint embedding of an artifact, in eval mode. Raises: ArtifactError if the folder holds none."""
    load: Callable[[Path], JointEmbedding] = ForeignJoint.from_artifact if is_foreign(folder) else MuLan.from_artifact
    return load(folder)


def load_cues(folder: Path) -> list[CodeCues] | None:
    """What the codes of a semantic encoder say of pitch and onset; None if nothing. Raises: ArtifactError."""
    return None if is_foreign(folder) else cues_of_codes(folder)
