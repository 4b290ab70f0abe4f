"""EnCodec, DAC and Mimi of transformers as the acoustic encoder and decoder.

They are not built to run in pieces, or each in its own way. So audio and codes go through all of them in windows on a
grid that begins with the clip: `chunk_frames` at a time, with `left_frames` before and `right_frames` after them that
are thrown away again. What runs in pieces then equals what runs whole, and memory does not grow with the length. DAC's
windows reach further than its convolutions, so they give what the model gives of the whole. EnCodec's LSTM and Mimi's
transformer look back further than two and four seconds; what they remember from before that is lost.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from musiclm.core.artifact import ArtifactError
from musiclm.core.pretrained import PretrainedSource, find_folder, find_source, load_pretrained
from musiclm.core.streams import ACOUSTIC, TokenSpec
from musiclm.models.foreign.artifact import Foreign, read_foreign

KIND = "foreign-codec"
CHUNK_S = 1.0
# seconds that an LSTM, and a transformer of ten, are given to find their states
ENCODEC_CONTEXT_S, MIMI_CONTEXT_S = 2.0, 4.0
REACH_FRAMES = 16  # further than convolutions of the published strides reach to either side
MOST_LEVELS = 8  # by default: of EnCodec at 24 kHz 6 kbps, of Mimi as Moshi has it; of DAC all


@dataclass(frozen=True, kw_only=True)
class ForeignCodecConfig:
    """Which codec, how many of its levels, and how it is run in pieces."""

    source: PretrainedSource
    model: Literal["encodec", "dac", "mimi"]
    sample_rate_hz: int
    samples_per_frame: int
    levels: int
    codebook_size: int
    chunk_frames: int
    left_frames: int
    right_frames: int

    @property
    def spec(self) -> TokenSpec:
        """The stream of its codes."""
        return TokenSpec(
            name=ACOUSTIC.name,
            codebook_size=self.codebook_size,
            levels=self.levels,
            frame_rate_hz=self.sample_rate_hz / self.samples_per_frame,
        )


class ForeignCodec(Foreign):
    """A codec with the interface of `musiclm.models.encoders.Codec`."""

    config: ForeignCodecConfig

    @classmethod
    def from_pretrained(cls, name: str, levels: int | None = None) -> "ForeignCodec":
        """By folder or hub id, with the first `levels` levels of its codes.

        Raises: ArtifactError if it can't be had; ValueError if it is no mono codec of these, or has fewer levels.
        """
        source, folder = find_source(name)
        model = load_codec(folder)
        kind, settings = model.config.model_type, model.config
        frame = samples_per_frame(model)
        rate_hz = int(settings.sampling_rate) / frame
        available = num_levels(model)
        if levels is not None and not 1 <= levels <= available:
            raise ValueError(f"{name} has 1 to {available} levels of codes, got {levels}")
        left, right = REACH_FRAMES, REACH_FRAMES
        if kind == "encodec":
            left, right = round(ENCODEC_CONTEXT_S * rate_hz), 0 if settings.use_causal_conv else REACH_FRAMES
        elif kind == "mimi":
            left, right = round(MIMI_CONTEXT_S * rate_hz), 0 if settings.use_causal_conv else REACH_FRAMES
        config = ForeignCodecConfig(
            source=source,
            model=kind,
            sample_rate_hz=int(settings.sampling_rate),
            samples_per_frame=frame,
            levels=levels or (available if kind == "dac" else min(available, MOST_LEVELS)),
            codebook_size=int(settings.codebook_size),
            chunk_frames=max(1, round(CHUNK_S * rate_hz)),
            left_frames=left,
            right_frames=right,
        )
        return cls(config, model).eval()

    @classmethod
    def from_artifact(cls, folder: Path) -> "ForeignCodec":
        """Loads what `save` wrote, in eval mode. Raises: ArtifactError."""
        artifact, config, source = read_foreign(folder, KIND, ForeignCodecConfig)
        codec = cls(config, load_codec(source))
        codec.restore(artifact)
        return codec

    @property
    def spec(self) -> TokenSpec:
        return self.config.spec

    @property
    def sample_rate_hz(self) -> int:
        return self.config.sample_rate_hz

    @property
    def samples_per_frame(self) -> int:
        return self.config.samples_per_frame

    @property
    def codebooks(self) -> Float[Tensor, "q v c"]:
        """The vectors behind the codes of each level, without their mean."""
        return codebooks_of(self.model, self.config)

    @torch.no_grad()
    def encode(self, audio: Float[Tensor, "b 1 s"], levels: int | None = None) -> Int[Tensor, "b q t"]:
        """Codes of mono audio at the codec's rate; t = ceil(s / samples_per_frame).

        Raises: ValueError for levels out of range.
        """
        stream = self.encoder_stream(levels)
        return torch.cat([stream.push(audio), stream.flush()], -1)

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b 1 s"]:
        """Audio of t * samples_per_frame samples, of the first levels."""
        stream = self.decoder_stream()
        return torch.cat([stream.push(codes), stream.flush()], -1)

    def encoder_stream(self, levels: int | None = None) -> "WindowedEncoder":
        """Raises: ValueError for levels out of range."""
        if levels is not None and not 1 <= levels <= self.config.levels:
            raise ValueError(f"levels must lie in 1..{self.config.levels}, got {levels}")
        return WindowedEncoder(self, levels or self.config.levels)

    def decoder_stream(self) -> "WindowedDecoder":
        return WindowedDecoder(self)


class _Grid:
    """A stream that is cut into chunks on a grid, each seen with what lies around it.

    Lengths are in frames of `size` values.
    """

    def __init__(self, config: ForeignCodecConfig, size: int, run: Callable[[Tensor, int, int], Tensor]) -> None:
        """run(window, skip, keep): what comes of `keep` frames of the window after the first `skip`."""
        self.config, self.size, self.run = config, size, run
        self.held: Tensor | None = None  # from the left context of the next chunk on
        self.first = self.next = 0  # frames: of `held`, of the next chunk

    def push(self, values: Tensor) -> list[Tensor]:
        self.held = values if self.held is None else torch.cat([self.held, values], -1)
        config, out = self.config, []
        while self.held.shape[-1] >= (self.next + config.chunk_frames + config.right_frames - self.first) * self.size:
            out.append(self._chunk(config.chunk_frames))
        return out

    def flush(self) -> list[Tensor]:
        """What is left, in whole frames."""
        out: list[Tensor] = []
        while self.held is not None and (left := self.first + self.held.shape[-1] // self.size - self.next) > 0:
            out.append(self._chunk(min(left, self.config.chunk_frames)))
        return out

    def _chunk(self, num: int) -> Tensor:
        assert self.held is not None
        skip = self.next - self.first
        window = self.held[..., : (skip + num + self.config.right_frames) * self.size]
        made = self.run(window, skip, num)
        self.next += num
        first = max(0, self.next - self.config.left_frames)
        self.held = self.held[..., (first - self.first) * self.size :]
        self.first = first
        return made


class WindowedEncoder:
    """Encodes a stream piece by piece; the codes equal those of the whole. One per stream."""

    def __init__(self, codec: ForeignCodec, levels: int) -> None:
        self.codec, self.levels = codec, levels
        self.num_samples = 0
        self.grid = _Grid(codec.config, codec.samples_per_frame, self._run)
        self.batch = 1

    def _run(self, window: Tensor, skip: int, keep: int) -> Tensor:
        return encode_window(self.codec.model, window)[:, : self.levels, skip : skip + keep]

    @torch.no_grad()
    def push(self, audio: Float[Tensor, "b 1 s"]) -> Int[Tensor, "b q t"]:
        """The codes that have become certain with these samples, maybe none."""
        self.num_samples += audio.shape[-1]
        self.batch = audio.shape[0]
        return self._joined(self.grid.push(audio.to(self.codec.device)))

    @torch.no_grad()
    def flush(self) -> Int[Tensor, "b q t"]:
        """The last codes; the end is padded with zeros, which `num_samples` does not count."""
        frame = self.codec.samples_per_frame
        missing = math.ceil(self.num_samples / frame) * frame - self.num_samples
        before = self.grid.push(torch.zeros(self.batch, 1, missing, device=self.codec.device)) if missing else []
        return self._joined([*before, *self.grid.flush()])

    def _joined(self, pieces: list[Tensor]) -> Int[Tensor, "b q t"]:
        none = torch.zeros(self.batch, self.levels, 0, dtype=torch.long, device=self.codec.device)
        return torch.cat([none, *pieces], -1)


class WindowedDecoder:
    """Decodes a stream piece by piece; the audio equals that of the whole. One per stream."""

    def __init__(self, codec: ForeignCodec) -> None:
        self.codec = codec
        self.grid = _Grid(codec.config, 1, self._run)
        self.batch = 1

    def _run(self, window: Tensor, skip: int, keep: int) -> Tensor:
        frame = self.codec.samples_per_frame
        audio = decode_window(self.codec.model, window)[..., skip * frame : (skip + keep) * frame]
        # strides that are odd lose some of the last samples
        return F.pad(audio, (0, keep * frame - audio.shape[-1]))

    @torch.no_grad()
    def push(self, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b 1 s"]:
        """The samples that have become certain with these codes."""
        self.batch = codes.shape[0]
        return self._joined(self.grid.push(codes.to(self.codec.device)))

    @torch.no_grad()
    def flush(self) -> Float[Tensor, "b 1 s"]:
        """The last samples."""
        return self._joined(self.grid.flush())

    def _joined(self, pieces: list[Tensor]) -> Float[Tensor, "b 1 s"]:
        return torch.cat([torch.zeros(self.batch, 1, 0, device=self.codec.device), *pieces], -1)


# -- what transformers calls the same things, model by model


def load_codec(name: str | Path) -> Any:
    """A codec of transformers.

    Raises: ArtifactError if it can't be loaded; ValueError if it is none, of two channels, or keeps levels of sound.
    """
    model = load_pretrained(find_folder(name), "the codec")
    kind, settings = model.config.model_type, model.config
    if kind not in ("encodec", "dac", "mimi"):
        raise ValueError(f"{name} is a model of type {kind}; wanted encodec, dac or mimi")
    if getattr(settings, "audio_channels", 1) != 1:
        raise ValueError(f"{name} codes {settings.audio_channels} channels; wanted a mono model")
    if getattr(settings, "normalize", False) or getattr(settings, "chunk_length_s", None):
        raise ValueError(f"{name} keeps the level of its chunks beside the codes; wanted a model that does not")
    return model


def samples_per_frame(model: Any) -> int:
    """Samples of a frame of codes. Raises: ArtifactError if they are no whole number."""
    settings = model.config
    if settings.model_type != "mimi":
        return int(settings.hop_length)
    frame = float(settings.sampling_rate) / float(settings.frame_rate)
    if abs(frame - round(frame)) > 1e-6:
        raise ArtifactError(f"a frame of this Mimi has {frame} samples, which is no whole number")
    return round(frame)


def num_levels(model: Any) -> int:
    """Levels that a codec has."""
    settings = model.config
    if settings.model_type == "encodec":
        most: int = model.quantizer.get_num_quantizers_for_bandwidth(max(settings.target_bandwidths))
        return min(most, len(model.quantizer.layers))
    return int(settings.n_codebooks if settings.model_type == "dac" else settings.num_quantizers)


def encode_window(model: Any, audio: Float[Tensor, "b 1 s"], bandwidth: float | None = None) -> Int[Tensor, "b q t"]:
    """All codes of audio at the codec's rate. bandwidth: of EnCodec, in kbps; the highest by default."""
    if model.config.model_type == "encodec":
        codes: Tensor = model.encode(audio, bandwidth=bandwidth or max(model.config.target_bandwidths)).audio_codes[0]
        return codes
    return model.encode(audio).audio_codes  # type: ignore[no-any-return]


def decode_window(model: Any, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b 1 s"]:
    """Audio of codes of the first levels."""
    if model.config.model_type == "encodec":
        out: Tensor = model.decode(codes[None], [None]).audio_values
    elif model.config.model_type == "dac":
        out = model.decode(audio_codes=codes).audio_values
    else:
        out = model.decode(codes).audio_values
    return out.reshape(codes.shape[0], 1, -1)


@torch.no_grad()
def codebooks_of(model: Any, config: ForeignCodecConfig) -> Float[Tensor, "q v c"]:
    """What each code adds to the latent frame that is decoded, without the mean of its level."""
    zeros = torch.zeros(
        1, config.levels, config.codebook_size, dtype=torch.long, device=next(model.parameters()).device
    )
    rows = []
    for level in range(config.levels):
        codes = zeros.clone()
        codes[0, level] = torch.arange(config.codebook_size)
        if config.model == "encodec":
            latent: Tensor = model.quantizer.decode(codes.transpose(0, 1))
        elif config.model == "dac":
            latent = model.quantizer.from_codes(codes)[0]
        else:
            latent = model.quantizer.decode(codes)
        own = latent[0].T.float()
        rows.append(own - own.mean(0))
    return torch.stack(rows)
