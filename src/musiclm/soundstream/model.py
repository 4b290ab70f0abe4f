"""SoundStream (Zeghidour et al. 2021): audio -> residual codes -> audio, 24 kHz, 50 frames a second, 12 levels of 1024 in MusicLM.

Two networks behind one interface. `waveform` is the paper's (section III): strided causal convolutions with dilated residual units, mirrored
in the decoder. `stft` replaces front and back: the encoder reads compressed STFT frames, ConvNeXt blocks run at 100 and 50 Hz, and the
decoder's last layer gives magnitude and phase for an inverse STFT. Nothing then runs at the full sample rate, which is what two CPU cores need
(docs/decisions/001-codec-front-end.md). Convolutions are causal in both; the STFT frames of the second are centred on their hop, so it looks
`lookahead` samples ahead on either side (15 ms each in `base`).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.artifact import load_artifact, load_state
from musiclm.config import from_json
from musiclm.nn.rvq import TRAINING_STATE, Quantized, ResidualVQ
from musiclm.nn.stream import CausalConv1d, CausalConvTranspose1d, StreamState, left_context
from musiclm.tokens import TokenSpec


@dataclass(frozen=True, kw_only=True)
class SoundStreamConfig:
    """Sizes. Paper: waveform, C = 32, strides whose product is 480 in MusicLM, latent 256."""

    network: Literal["waveform", "stft"] = "stft"
    sample_rate_hz: int = 24000
    latent_dim: int = 64  # width of a quantized frame
    levels: int = 12  # RVQ levels
    codebook_size: int = 1024
    codebook_decay: float = 0.99  # EMA of the codebooks, per step
    normalize_latent: bool = (
        True  # LayerNorm without affine before the RVQ: latents can't shrink to please the commitment loss
    )
    # waveform network
    channels: int = 32  # of the first convolution; doubled by every strided one
    strides: tuple[int, ...] = (2, 4, 6, 10)
    # STFT network: `hop` samples a fast frame, `stride` fast frames a code
    n_fft: int = 960
    hop: int = 240
    stride: int = 2
    fast_width: int = 192  # ConvNeXt width at the fast rate
    slow_width: int = 320  # at the code rate
    fast_blocks: int = 3  # on either side
    slow_blocks: int = 4  # on either side

    def __post_init__(self) -> None:
        if self.network == "stft" and (self.n_fft % self.hop or self.n_fft < 2 * self.hop):
            raise ValueError(f"n_fft must be a multiple of hop, at least twice, got {self.n_fft} and {self.hop}")
        if self.sample_rate_hz % self.samples_per_frame:
            raise ValueError(
                f"a code must span a whole fraction of a second: {self.samples_per_frame} samples at "
                f"{self.sample_rate_hz} Hz do not"
            )

    @property
    def samples_per_frame(self) -> int:
        """Audio samples per code frame."""
        return math.prod(self.strides) if self.network == "waveform" else self.hop * self.stride

    @property
    def lookahead(self) -> int:
        """Samples past a frame's end that encoder and decoder each need."""
        return 0 if self.network == "waveform" else (self.n_fft - self.hop) // 2

    @property
    def spec(self) -> TokenSpec:
        """The stream of codes that a model of these sizes makes."""
        return TokenSpec(
            name="acoustic",
            codebook_size=self.codebook_size,
            levels=self.levels,
            frame_rate_hz=self.sample_rate_hz / self.samples_per_frame,
        )


class ResidualUnit(nn.Module):
    """Dilated convolution of 7, pointwise convolution, skip (figure 3)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.wide = CausalConv1d(channels, channels, 7, dilation=dilation)
        self.point = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "b d t"], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        return x + F.elu(self.point(F.elu(self.wide(x, state))))


class WaveformEncoder(nn.Module):
    """The paper's encoder: `b 1 s` -> `b d t`."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        width = config.channels
        layers: list[nn.Module] = [CausalConv1d(1, width, 7)]
        for stride in config.strides:
            layers += [ResidualUnit(width, dilation) for dilation in (1, 3, 9)]
            layers += [CausalConv1d(width, 2 * width, 2 * stride, stride)]
            width *= 2
        self.layers = nn.ModuleList([*layers, CausalConv1d(width, config.latent_dim, 3)])

    def forward(self, audio: Float[Tensor, "b 1 s"], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        x = audio
        for index, layer in enumerate(self.layers):
            # ELU between convolutions; a residual unit brings its own
            x = layer(x if index == 0 or isinstance(layer, ResidualUnit) else F.elu(x), state)
        return x


class WaveformDecoder(nn.Module):
    """The paper's decoder, the encoder mirrored: `b d t` -> `b 1 s`."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        width = config.channels * 2 ** len(config.strides)
        layers: list[nn.Module] = [CausalConv1d(config.latent_dim, width, 7)]
        for stride in reversed(config.strides):
            layers += [CausalConvTranspose1d(width, width // 2, 2 * stride, stride)]
            width //= 2
            layers += [ResidualUnit(width, dilation) for dilation in (1, 3, 9)]
        self.layers = nn.ModuleList([*layers, CausalConv1d(width, 1, 7)])

    def forward(self, latent: Float[Tensor, "b d t"], state: StreamState | None = None) -> Float[Tensor, "b 1 s"]:
        x = latent
        for index, layer in enumerate(self.layers):
            x = layer(x if index == 0 or isinstance(layer, ResidualUnit) else F.elu(x), state)
        return x


class ConvNeXtBlock(nn.Module):
    """Causal depthwise convolution of 7, LayerNorm, two pointwise layers three times as wide, scaled skip."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.depthwise = CausalConv1d(width, width, 7, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.contract = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Float[Tensor, "b d t"], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        y = self.norm(self.depthwise(x, state).transpose(1, 2))
        return x + (self.contract(F.gelu(self.expand(y))) * self.scale).transpose(1, 2)


def _blocks(width: int, num: int) -> nn.ModuleList:
    return nn.ModuleList([ConvNeXtBlock(width, 1 / max(1, num)) for _ in range(num)])


class StftEncoder(nn.Module):
    """Compressed complex STFT -> ConvNeXt at the fast rate -> strided convolution -> ConvNeXt at the code rate."""

    window: Tensor

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.n_fft, self.hop = config.n_fft, config.hop
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.project = nn.Conv1d(2 * (config.n_fft // 2 + 1), config.fast_width, 1)
        self.fast = _blocks(config.fast_width, config.fast_blocks)
        self.down = CausalConv1d(config.fast_width, config.slow_width, 2 * config.stride, config.stride)
        self.slow = _blocks(config.slow_width, config.slow_blocks)
        self.norm = nn.LayerNorm(config.slow_width)
        self.out = nn.Linear(config.slow_width, config.latent_dim)

    def forward(self, audio: Float[Tensor, "b 1 s"], state: StreamState | None = None) -> Float[Tensor, "b d t"]:
        frames = left_context(self, audio, self.n_fft - self.hop, state)[:, 0].unfold(-1, self.n_fft, self.hop)
        spectrum = torch.view_as_real(torch.fft.rfft(frames * self.window))  # b t f 2
        # |X|^0.3 with the phase kept: music spans 80 dB, and a plain linear input would show the network its loudest bins alone
        power = (spectrum.square().sum(-1, keepdim=True) + 1e-7) ** -0.35
        x = self.project((spectrum * power).flatten(2).transpose(1, 2))
        for block in self.fast:
            x = block(x, state)
        x = self.down(x, state)
        for block in self.slow:
            x = block(x, state)
        return self.out(self.norm(x.transpose(1, 2))).transpose(1, 2)


class StftDecoder(nn.Module):
    """ConvNeXt at the code rate -> transposed convolution -> ConvNeXt at the fast rate -> magnitude and phase -> inverse STFT."""

    window: Tensor

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.n_fft, self.hop = config.n_fft, config.hop
        window = torch.hann_window(config.n_fft)
        self.register_buffer("window", window * (config.hop / window.square().sum()), persistent=False)
        self.project = CausalConv1d(config.latent_dim, config.slow_width, 3)
        self.slow = _blocks(config.slow_width, config.slow_blocks)
        self.up = CausalConvTranspose1d(config.slow_width, config.fast_width, 2 * config.stride, config.stride)
        self.fast = _blocks(config.fast_width, config.fast_blocks)
        self.norm = nn.LayerNorm(config.fast_width)
        self.head = nn.Linear(config.fast_width, 2 * (config.n_fft // 2 + 1))

    def forward(self, latent: Float[Tensor, "b d t"], state: StreamState | None = None) -> Float[Tensor, "b 1 s"]:
        x = self.project(latent, state)
        for block in self.slow:
            x = block(x, state)
        x = self.up(x, state)
        for block in self.fast:
            x = block(x, state)
        # Magnitude and angle, as in Vocos. A gain and a complex number per bin learned more slowly (dev/LOG.md).
        log_magnitude, phase = self.head(self.norm(x.transpose(1, 2))).float().chunk(2, -1)
        magnitude = log_magnitude.clamp(max=6.0).exp()  # e^6 is past full scale at this window length
        frames = torch.fft.irfft(torch.polar(magnitude, phase), n=self.n_fft) * self.window
        audio = self._overlap_add(frames)
        overlap = self.n_fft - self.hop
        return audio[..., :-overlap] if state is None else state.overlap_add(self, audio, overlap)

    def _overlap_add(self, frames: Float[Tensor, "b t n"]) -> Float[Tensor, "b 1 s"]:
        b, t, _ = frames.shape
        ratio = self.n_fft // self.hop
        parts = frames.reshape(b, t, ratio, self.hop)
        total = frames.new_zeros(b, t + ratio - 1, self.hop)
        for index in range(ratio):
            total = total + F.pad(parts[:, :, index], (0, 0, index, ratio - 1 - index))
        return total.reshape(b, 1, -1)


class SoundStream(nn.Module):
    """The codec. `encode` and `decode` take a whole clip; `EncoderStream` and `DecoderStream` the same in pieces."""

    artifact_hash: str = ""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config = config
        waveform = config.network == "waveform"
        self.encoder: nn.Module = WaveformEncoder(config) if waveform else StftEncoder(config)
        self.decoder: nn.Module = WaveformDecoder(config) if waveform else StftDecoder(config)
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
        model = cls(from_json(SoundStreamConfig, artifact.config))
        load_state(model, artifact, skip=TRAINING_STATE)
        model.artifact_hash = artifact.hash
        return model.eval()

    @property
    def spec(self) -> TokenSpec:
        return self.config.spec

    def latents(self, audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b d t"]:
        """Frames before quantization of ceil(s / samples_per_frame) frames; the end is padded with zeros."""
        frame, ahead = self.config.samples_per_frame, self.config.lookahead
        s = audio.shape[-1]
        length = math.ceil(s / frame) * frame
        if not ahead:
            return self._normalize(self.encoder(F.pad(audio, (0, length - s))))
        # the first `ahead` samples make no code of their own: they go in as a fast frame whose output is dropped by the advance below
        padded = F.pad(audio, (0, length - s + ahead))
        return self._normalize(self._advanced(padded, length))

    def _advanced(self, padded: Float[Tensor, "b 1 s"], length: int) -> Float[Tensor, "b d t"]:
        """Encodes [0, length) with every STFT frame shifted ahead by `lookahead`; `padded` is that much longer."""
        state = self.initial_encoder_state(padded[..., : self.config.lookahead])
        return self.encoder(padded[..., self.config.lookahead : self.config.lookahead + length], state)

    def initial_encoder_state(self, first: Float[Tensor, "b 1 s"]) -> StreamState:
        """The state of a stream that has taken in the first `lookahead` samples."""
        state = StreamState()
        if self.config.lookahead:
            state.extend(self.encoder, first, self.config.n_fft - self.config.hop)
        return state

    def _normalize(self, latent: Float[Tensor, "b d t"]) -> Float[Tensor, "b d t"]:
        if not self.config.normalize_latent:
            return latent
        return F.layer_norm(latent.transpose(1, 2), latent.shape[1:2]).transpose(1, 2)

    @torch.no_grad()
    def encode(self, audio: Float[Tensor, "b 1 s"], levels: int | None = None) -> Int[Tensor, "b q t"]:
        """Codes of mono audio at the model's rate in [-1, 1]; t = ceil(s / samples_per_frame); the first `levels` levels.

        Raises: ValueError if `levels` is outside 1..config.levels.
        """
        return self.quantize(self.latents(audio), levels)

    def quantize(self, latent: Float[Tensor, "b d t"], levels: int | None = None) -> Int[Tensor, "b q t"]:
        """Codes of normalised latents."""
        if levels is not None and not 1 <= levels <= self.config.levels:
            raise ValueError(f"levels must lie in 1..{self.config.levels}, got {levels}")
        b, d, t = latent.shape
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
        """Audio from (quantized) latents."""
        ahead = self.config.lookahead
        if not ahead:
            return self.decoder(latent)
        state = StreamState()
        head = self.decoder(latent, state)
        tail = state.tails[id(self.decoder)]
        return torch.cat([head, tail], -1)[..., ahead : ahead + head.shape[-1]]

    def forward(
        self, audio: Float[Tensor, "b 1 s"], num_levels: Int[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b 1 s"], Quantized]:
        """Training: reconstruction of the same length and what the quantizer did. s must be whole frames."""
        quantized = self.rvq(self.latents(audio), num_levels)
        return self.synthesize(quantized.output), quantized


class EncoderStream:
    """Encodes a stream piece by piece; the codes equal those of the whole. One per stream."""

    def __init__(self, model: SoundStream, levels: int | None = None) -> None:
        self.model, self.levels = model, levels
        self.pending = torch.zeros(1, 1, 0)
        self.state: StreamState | None = None
        self.num_samples = self.num_frames = 0

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
        return self.model.quantize(self.model._normalize(latent), self.levels)

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
    """Decodes a stream piece by piece; the audio equals that of the whole. One per stream."""

    def __init__(self, model: SoundStream) -> None:
        self.model = model
        self.state = StreamState()
        self.skip = model.config.lookahead

    @torch.no_grad()
    def push(self, codes: Int[Tensor, "b q t"]) -> Float[Tensor, "b 1 s"]:
        """The samples that have become certain with these codes."""
        audio = self.model.decoder(self.model.dequantize(codes), self.state)
        skipped = min(self.skip, audio.shape[-1])
        self.skip -= skipped
        return audio[..., skipped:]

    def flush(self) -> Float[Tensor, "b 1 s"]:
        """The last samples."""
        ahead = self.model.config.lookahead
        tail = self.state.tails.get(id(self.model.decoder))
        if not ahead or tail is None:
            return torch.zeros(1, 1, 0)
        return tail[..., self.skip : ahead]
