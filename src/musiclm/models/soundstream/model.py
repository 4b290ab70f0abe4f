"""SoundStream (Zeghidour et al. 2021): audio -> residual codes -> audio, 24 kHz, 50 frames a second, 12 levels of 1024
in MusicLM.

Two networks behind one interface. `waveform` is the paper's (`waveform.py`). `bands` (`bands.py`, `griffin_lim.py`)
codes magnitudes at 12.5 frames a second of 48 codes and makes the phases anew; nothing learned runs at the full sample
rate, which is what two CPU cores need. Its encoder looks `lookahead` samples ahead, its decoder `decoder_lookahead`.
"""

import math
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import build, load_artifact
from musiclm.core.config import from_json
from musiclm.core.retired import RETIRED_FIELDS
from musiclm.core.streams import TokenSpec
from musiclm.models.soundstream.bands import BandsDecoder, BandsEncoder
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.griffin_lim import BandsStream, BandsSynthesis
from musiclm.models.soundstream.waveform import WaveformDecoder, WaveformEncoder
from musiclm.nn.rvq import GroupedVQ, Quantized, ResidualVQ, training_state
from musiclm.nn.stream import StreamState


class SoundStream(nn.Module):
    """The codec. `encode` and `decode` take a whole clip; `EncoderStream` and `DecoderStream` the same in pieces."""

    codes_hash: str = ""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: nn.Module
        self.decoder: nn.Module
        self.rvq: ResidualVQ | GroupedVQ
        self.phase: BandsSynthesis | None = None
        if config.network == "bands":
            self.encoder, self.decoder, self.phase = BandsEncoder(config), BandsDecoder(config), BandsSynthesis(config)
            self.rvq = GroupedVQ(
                groups=config.place_groups,
                dim=config.group_dim,
                codebook_size=config.codebook_size,
                levels=config.group_levels,
                decay=config.codebook_decay,
            )
            return
        self.encoder, self.decoder = WaveformEncoder(config), WaveformDecoder(config)
        self.rvq = ResidualVQ(
            dim=config.latent_dim,
            codebook_size=config.codebook_size,
            levels=config.levels,
            decay=config.codebook_decay,
        )

    @classmethod
    def from_artifact(cls, folder: Path) -> "SoundStream":
        """Loads a trained codec in eval mode. Raises ArtifactError when the folder is not one."""
        artifact = load_artifact(folder, "soundstream")
        # configurations were written with fields of a third network
        own = {name: value for name, value in artifact.config.items() if name not in RETIRED_FIELDS}
        config = from_json(SoundStreamConfig, own)
        model = build(lambda: cls(config), artifact, skip=training_state)
        model.codes_hash = artifact.codes_hash
        return model

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
        """The vectors behind the codes of each level."""
        return self.rvq.codebooks

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encoder_stream(self, levels: int | None = None) -> "EncoderStream":
        """Encodes in pieces."""
        return EncoderStream(self, levels)

    def decoder_stream(self) -> "DecoderStream":
        """Decodes in pieces."""
        return DecoderStream(self)

    def tell_every_bin(self) -> None:
        """From now on the decoder of the bands network tells every bin of pooled bands: at first what it gave of each
        band. Codes stay what they are."""
        assert isinstance(self.decoder, BandsDecoder)
        if not self.config.every_bin:
            self.decoder = self.decoder.tell_every_bin()
            self.config = self.decoder.config
            self.phase = BandsSynthesis(self.config)

    def latents(self, audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b d t"]:
        """Frames before quantization of ceil(s / samples_per_frame) frames; the end is padded with zeros."""
        frame, ahead = self.config.samples_per_frame, self.config.lookahead
        s = audio.shape[-1]
        length = math.ceil(s / frame) * frame
        if not ahead:
            return self.encoder(F.pad(audio, (0, length - s)))
        # the first `ahead` samples make no code of their own
        padded = F.pad(audio, (0, length - s + ahead))
        return self._advanced(padded, length)

    def _advanced(self, padded: Float[Tensor, "b 1 s"], length: int) -> Float[Tensor, "b d t"]:
        """Encodes [0, length) with every STFT frame shifted ahead by `lookahead`; `padded` is that much longer."""
        state = self.initial_encoder_state(padded[..., : self.config.lookahead])
        return self.encoder(padded[..., self.config.lookahead : self.config.lookahead + length], state)

    def initial_encoder_state(self, first: Float[Tensor, "b 1 s"]) -> StreamState:
        """The state of a stream that has taken in the first `lookahead` samples."""
        state = StreamState()
        if self.config.lookahead:
            assert isinstance(self.encoder, BandsEncoder)
            state.extend(self.encoder, first, self.encoder.context)
        return state

    @torch.no_grad()
    def encode(self, audio: Float[Tensor, "b 1 s"], levels: int | None = None) -> Int[Tensor, "b q t"]:
        """Codes of mono audio at the model's rate in [-1, 1]; t = ceil(s / samples_per_frame); the first `levels`
        levels.

        Raises: ValueError if `levels` is outside 1..config.levels.
        """
        return self.quantize(self.latents(audio), levels)

    def quantize(
        self,
        latent: Float[Tensor, "b d t"],
        levels: int | None = None,
        before: dict[int, Int[Tensor, " b"]] | None = None,
    ) -> Int[Tensor, "b q t"]:
        """Codes of latents. before: of codes that hold (`config.hold`), the last ones of what came before; moved on."""
        if levels is not None and not 1 <= levels <= self.config.levels:
            raise ValueError(f"levels must lie in 1..{self.config.levels}, got {levels}")
        b, d, t = latent.shape
        if self.config.hold:
            assert isinstance(self.rvq, GroupedVQ)
            held = self.rvq.encode_held(latent.transpose(1, 2), self.config.hold, {} if before is None else before)
            return held[..., :levels].transpose(1, 2)
        codes = self.rvq.encode(latent.transpose(1, 2).reshape(b * t, d), levels)
        return codes.reshape(b, t, -1).transpose(1, 2)

    def dequantize(self, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b d t"]:
        """Latents of codes of any number of levels, the first ones first."""
        b, q, t = codes.shape
        return self.rvq.decode(codes.transpose(1, 2).reshape(b * t, q)).reshape(b, t, -1).transpose(1, 2)

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b 1 s"]:
        """Audio of s = t * samples_per_frame samples from codes of 1..config.levels levels."""
        return self.synthesize(self.dequantize(codes))

    def synthesize(self, latent: Float[Tensor, "b d t"]) -> Float[Tensor, "b 1 s"]:
        """Audio from (quantized) latents. That of the bands network carries no gradient."""
        if isinstance(self.decoder, BandsDecoder):
            assert isinstance(self.phase, BandsSynthesis)
            stream = BandsStream(self.decoder, self.phase)
            return torch.cat([stream.push(latent), stream.flush()], -1)
        return self.decoder(latent)

    def magnitudes(self, audio: Float[Tensor, "b 1 s"]) -> list[Float[Tensor, "b _ _"]]:
        """What a perfect decoder of the bands network would tell of `audio`, s in whole frames."""
        assert isinstance(self.encoder, BandsEncoder)
        padded = F.pad(audio, (0, self.config.lookahead))
        state = self.initial_encoder_state(padded[..., : self.config.lookahead])
        return self.encoder.analyse(padded[..., self.config.lookahead :], state, self.config.every_bin)

    def forward(
        self, audio: Float[Tensor, "b 1 s"], num_levels: Int[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b 1 s"], Quantized]:
        """Training: reconstruction of the same length and what the quantizer did. s must be whole frames."""
        quantized = self.rvq(self.latents(audio), num_levels)
        return self.synthesize(quantized.output), quantized


class EncoderStream:
    """Encodes a stream piece by piece; the codes equal those of the whole.

    But for a vector that lies as near to two codes as the last bits of a sum. One per stream.
    """

    def __init__(self, model: SoundStream, levels: int | None = None) -> None:
        self.model, self.levels = model, levels
        self.pending = torch.zeros(1, 1, 0)
        self.state: StreamState | None = None
        self.num_samples = self.num_frames = 0
        self.held: dict[int, Int[Tensor, " 1"]] = {}

    @torch.no_grad()
    def push(self, audio: Float[Tensor, "1 1 s"]) -> Int[Tensor, "1 q t"]:
        """The codes that have become certain with these samples, maybe none."""
        self.num_samples += audio.shape[-1]
        return self._encode(audio)

    def _encode(self, audio: Float[Tensor, "1 1 s"]) -> Int[Tensor, "1 q t"]:
        self.pending = torch.cat([self.pending.to(audio), audio], -1)
        ahead, frame = self.model.config.lookahead, self.model.config.samples_per_frame
        if self.state is None:
            if self.pending.shape[-1] < ahead:
                return self._none()
            self.state = self.model.initial_encoder_state(self.pending[..., :ahead])
            self.pending = self.pending[..., ahead:]
        num = self.pending.shape[-1] // frame
        if not num:
            return self._none()
        latent = self.model.encoder(self.pending[..., : num * frame], self.state)
        self.pending = self.pending[..., num * frame :]
        self.num_frames += num
        return self.model.quantize(latent, self.levels, self.held)

    @torch.no_grad()
    def flush(self) -> Int[Tensor, "1 q t"]:
        """The last codes; the end is padded with zeros, which `num_samples` does not count."""
        frame, samples = self.model.config.samples_per_frame, self.num_samples
        missing = math.ceil(samples / frame) - self.num_frames
        if not missing:
            return self._none()
        total = (self.num_frames + missing) * frame + self.model.config.lookahead
        return self._encode(self.pending.new_zeros(1, 1, total - samples))

    def _none(self) -> Int[Tensor, "1 q t"]:
        return torch.zeros(1, self.levels or self.model.config.levels, 0, dtype=torch.long)


class DecoderStream:
    """Decodes a stream piece by piece; the audio equals that of the whole, that of the bands network to the bit.

    The other works on pieces as they come, whose sums end with other last bits. One per stream.
    """

    def __init__(self, model: SoundStream) -> None:
        self.model = model
        self.state = StreamState()
        self.batch = 1
        self.bands: BandsStream | None = None
        if isinstance(model.decoder, BandsDecoder):
            assert isinstance(model.phase, BandsSynthesis)
            self.bands = BandsStream(model.decoder, model.phase)

    @torch.no_grad()
    def push(self, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b 1 s"]:
        """The samples that have become certain with these codes."""
        self.batch = codes.shape[0]
        latent = self.model.dequantize(codes)
        if self.bands is not None:
            return self.bands.push(latent)
        return self.model.decoder(latent, self.state)

    @torch.no_grad()
    def flush(self) -> Float[Tensor, "b 1 s"]:
        """The last samples."""
        if self.bands is not None:
            return self.bands.flush()
        return torch.zeros(self.batch, 1, 0)
