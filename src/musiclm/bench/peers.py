"""Other projects' models beside ours: MusicGen-small, EnCodec, DAC and Mimi, built by `transformers` at their published
sizes.

Weights are random, for speed does not depend on them, and nothing is downloaded. Each peer is met twice: by the bundle
as it is, and by ours scaled to the peer's number of parameters. They run in turn in one process, round after round
(peer, ours, ours scaled, peer, ...), and `times_faster` is the median over the rounds of what the peer took over what
ours took, so that other work on the machine slows both.

What is scaled: for the codecs the widths of our network, in the same proportion, depth and codes as they are; for
MusicGen's decoder the widths of our semantic model and of SoundStorm, half of the parameters each, at the published
depths (24 layers, 12). Ours makes more music than MusicGen in a run, so that its windows overlap as they do in long
music.
"""

import functools
import gc
import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from musiclm.bench.measure import num_parameters, wait
from musiclm.core.threads import num_threads
from musiclm.generate.autoregressive import generate_semantic
from musiclm.generate.config import GenerateConfig, item_generator
from musiclm.generate.session import MusicLM
from musiclm.generate.storm import StormAcoustic
from musiclm.models.lm.model import TokenLM
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.storm.model import SoundStorm

Say = Callable[[str], None]
Contestant = Callable[[], dict[str, float]]  # one run: figure -> real-time factor (or seconds)
PROMPT_IDS = 12  # of the peers' text, about as many words
SEED = 0


@dataclass(frozen=True, kw_only=True)
class PeersConfig:
    """What runs against what, and for how long. The defaults take about eight minutes on two cores."""

    musicgen_s: float = 2.0  # of music from MusicGen, which takes twelve times as long
    ours_s: float = 8.5  # of music from our language models: two windows of 5 s that share 1.5 s
    codec_s: float = 5.0
    lm_rounds: int = 3
    codec_rounds: int = 5
    layers: tuple[int, int] = (24, 12)  # of the scaled semantic model and SoundStorm, as published
    heads: int = 16
    small: bool = False  # peers of a few layers, for tests; no published size

    @classmethod
    def tiny(cls) -> "PeersConfig":
        return cls(
            musicgen_s=0.2, ours_s=0.5, codec_s=0.5, lm_rounds=1, codec_rounds=1, layers=(2, 1), heads=2, small=True
        )


def peers(
    model: MusicLM, config: PeersConfig, device: str = "cpu", threads: int = 2, say: Say = print
) -> dict[str, Any]:
    """A group of figures for each peer.

    Raises: ImportError without `transformers`; ArtifactError for a bundle without SoundStorm.
    """
    library = load_transformers()
    found: dict[str, Any] = {}
    with num_threads(threads):
        for name, build in CODECS.items():
            say(f"{name} beside ours, in turn")
            found[name] = codec_figures(build(library, config.small).to(device).eval(), model, name, config, device)
            gc.collect()
        say("musicgen_small beside ours, in turn")
        found["musicgen_small"] = musicgen_figures(library, model, config, device)
    return found


def load_transformers() -> Any:
    """The library. Raises: ImportError with the command that installs it."""
    try:
        library = importlib.import_module("transformers")
    except ImportError:
        raise ImportError("--peers builds the other models with transformers; run: pip install transformers") from None
    library.logging.set_verbosity_error()
    return library


# -- the contest


@torch.inference_mode()
def in_turn(contestants: dict[str, Contestant], rounds: int) -> dict[str, list[dict[str, float]]]:
    """What each contestant measured in each round.

    In a round every one runs once, in the order given; a first round warms up.
    """
    results: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            figures = run()
            if number:
                results[name].append(figures)
    return results


def summary(results: dict[str, list[dict[str, float]]], parameters: dict[str, int]) -> dict[str, Any]:
    """Medians of every contestant, and how many times faster than `peer` each of the others was, round by round."""
    found: dict[str, Any] = {}
    for name, rounds in results.items():
        medians = {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}
        found[name] = {"parameters": parameters[name], **medians}
    found["times_faster"] = {
        name: {
            key: statistics.median(theirs[key] / own[key] for theirs, own in zip(results["peer"], rounds, strict=True))
            for key in rounds[0]
            if key in results["peer"][0]
        }
        for name, rounds in results.items()
        if name != "peer"
    }
    return found


def clock(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds of one run and what it returned."""
    wait(device)
    started = time.perf_counter()
    result = work()
    wait(device)
    return time.perf_counter() - started, result


# -- ours, scaled


def nearest_width(count: Callable[[int], int], target: int, step: int) -> int:
    """The multiple of `step` whose model (`count` of a width, rising) comes nearest to `target` parameters."""
    low, high = 0, 1
    while count(high * step) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle * step) < target else (low, middle)
    around = [width * step for width in (low, high) if width]
    return min(around, key=lambda width: abs(count(width) - target))


def on_meta(build: Callable[[], nn.Module]) -> int:
    """Parameters of a model, built without memory."""
    with torch.device("meta"):
        return num_parameters(build())


def scaled_codec(config: SoundStreamConfig, target: int) -> SoundStreamConfig:
    """Our codec's network with about `target` parameters."""

    def sized(width: int) -> SoundStreamConfig:
        if config.network == "waveform":
            return replace(config, channels=width)
        return replace(
            config, trunk_width=width, group_width=max(1, round(width * config.group_width / config.trunk_width))
        )

    step = 1 if config.network == "waveform" else 4
    return sized(nearest_width(lambda width: on_meta(lambda: SoundStream(sized(width))), target, step))


def scaled_models(
    semantic: TokenLM, storm: SoundStorm, target: int, layers: tuple[int, int], heads: int
) -> tuple[TokenLM, SoundStorm]:
    """A semantic model and a SoundStorm with about `target` parameters together, half each, of random weights.

    What the bundle's are (streams, conditions, positions, a depth network if there is one) stays; feed-forwards are
    four times the width.
    """

    def lm(width: int) -> TokenLM:
        sizes = {"width": width, "num_layers": layers[0], "num_heads": heads, "ff_width": 4 * width}
        return TokenLM(replace(semantic.config, transformer=replace(semantic.config.transformer, **sizes)))  # type: ignore[arg-type]

    def decoder(width: int) -> SoundStorm:
        own = storm.config
        sizes = {"width": width, "num_layers": layers[1], "num_heads": heads, "ff_width": 4 * width}
        depth = round(width * own.depth_width / own.conformer.width)
        return SoundStorm(replace(own, conformer=replace(own.conformer, **sizes), depth_width=depth))  # type: ignore[arg-type]

    first = nearest_width(lambda width: on_meta(lambda: lm(width)), target // 2, 2 * heads)
    made = lm(first).eval()
    rest = target - num_parameters(made)
    second = nearest_width(lambda width: on_meta(lambda: decoder(width)), rest, 2 * heads)
    return made, decoder(second).eval()


# -- codecs


def encodec_24khz(library: Any, small: bool) -> nn.Module:
    """EnCodec 24 kHz (Defossez et al. 2022) as released."""
    return library.EncodecModel(library.EncodecConfig(**({"num_filters": 8} if small else {})))


def dac_24khz(library: Any, small: bool) -> nn.Module:
    """Descript Audio Codec, 24 kHz: 32 codebooks at 75 Hz, 24 kbit/s."""
    sizes = {"encoder_hidden_size": 8, "decoder_hidden_size": 96} if small else {"decoder_hidden_size": 1536}
    ratios = (2, 4, 5, 8)
    return library.DacModel(library.DacConfig(**sizes, downsampling_ratios=ratios, n_codebooks=32, sampling_rate=24000))


def mimi(library: Any, small: bool) -> nn.Module:
    """Mimi, the codec of Moshi, with 8 codebooks at 12.5 Hz in use, as there."""
    sizes: dict[str, int] = {}
    if small:
        sizes = {"num_filters": 4, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        sizes |= {"num_key_value_heads": 2, "intermediate_size": 64, "upsample_groups": 64, "codebook_dim": 32}
        sizes |= {"vector_quantization_hidden_dimension": 32}
    return library.MimiModel(library.MimiConfig(**sizes))


CODECS: dict[str, Callable[[Any, bool], nn.Module]] = {
    "encodec_24khz": encodec_24khz,
    "dac_24khz": dac_24khz,
    "mimi": mimi,
}
# how each is asked for codes: EnCodec and Mimi at the bitrate they are known for
ENCODE_OPTIONS: dict[str, dict[str, Any]] = {"encodec_24khz": {"bandwidth": 6.0}, "mimi": {"num_quantizers": 8}}


def codec_figures(peer: nn.Module, model: MusicLM, name: str, config: PeersConfig, device: str) -> dict[str, Any]:
    """A peer codec, ours and ours scaled: real-time factors of encoding and decoding, batch 1, all of our levels."""
    generator = torch.Generator().manual_seed(SEED)
    audio = (0.1 * torch.randn(1, 1, round(config.codec_s * 24000), generator=generator)).to(device)
    codec = model.soundstream
    assert isinstance(codec, SoundStream)
    own = scaled_codec(codec.config, num_parameters(peer))
    scaled = SoundStream(own).to(device).eval()
    scaled.rvq.codebooks.normal_()
    theirs: Any = peer

    def run_peer() -> dict[str, float]:
        taken, encoded = clock(lambda: theirs.encode(audio, **ENCODE_OPTIONS.get(name, {})), device)
        given = {"audio_codes": encoded.audio_codes}
        if name == "encodec_24khz":
            given["audio_scales"] = encoded.audio_scales
        back, _ = clock(lambda: theirs.decode(**given), device)
        return {"encode_real_time_factor": taken / config.codec_s, "decode_real_time_factor": back / config.codec_s}

    def run(codec: SoundStream) -> dict[str, float]:
        taken, codes = clock(lambda: codec.encode(audio), device)
        back, _ = clock(lambda: codec.decode(codes), device)
        return {"encode_real_time_factor": taken / config.codec_s, "decode_real_time_factor": back / config.codec_s}

    contestants: dict[str, Contestant] = {
        "peer": run_peer,
        "ours": lambda: run(codec),
        "ours_equal": lambda: run(scaled),
    }
    parameters = {
        "peer": num_parameters(peer),
        "ours": num_parameters(codec),
        "ours_equal": num_parameters(scaled),
    }
    found = summary(in_turn(contestants, config.codec_rounds), parameters)
    return {"scaled": describe_codec(own), **found}


def describe_codec(config: SoundStreamConfig) -> str:
    if config.network == "waveform":
        return f"waveform network of {config.channels} channels"
    return f"bands network, groups {config.group_width} and decoder {config.trunk_width} wide"


# -- MusicGen


def musicgen_small(library: Any, small: bool) -> Any:
    """MusicGen-small (Copet et al. 2023): decoder 24 x 1024 x 16 heads, 4 codebooks of 2048 at 50 Hz; T5-base; EnCodec
    32 kHz of 64 filters.
    """
    text = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    decoder = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 4096}
    if small:
        text = {"d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2}
        decoder = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 512}
    codec = library.EncodecConfig(
        sampling_rate=32000,
        num_filters=4 if small else 64,
        upsampling_ratios=[8, 5, 4, 4],
        codebook_size=2048,
        target_bandwidths=[2.2],
        use_causal_conv=False,
        use_conv_shortcut=False,
    )
    sizes = library.MusicgenConfig(
        text_encoder=library.T5Config(vocab_size=32128, **text),
        audio_encoder=codec,
        decoder=library.MusicgenDecoderConfig(vocab_size=2048, num_codebooks=4, **decoder),
    )
    model = library.MusicgenForConditionalGeneration(sizes)
    settings = model.generation_config
    settings.pad_token_id = settings.bos_token_id = settings.decoder_start_token_id = 2048
    settings.eos_token_id = None  # no end before the number of steps is made
    return model


class MusicGenRun:
    """One generation with guidance 3; text encoder and codec are clocked inside it, the rest is the language model."""

    def __init__(self, model: Any, seconds: float, device: str) -> None:
        self.model, self.device = model, device
        self.frames = round(seconds * 50)
        self.inside: dict[str, float] = {}
        self.ids = torch.randint(3, 32000, (1, PROMPT_IDS), generator=torch.Generator().manual_seed(SEED)).to(device)
        model.text_encoder.forward = self._clocked("text", model.text_encoder.forward)
        model.audio_encoder.decode = self._clocked("codec", model.audio_encoder.decode)

    def _clocked(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)  # transformers looks at the signature
        def run(*arguments: Any, **named: Any) -> Any:
            taken, result = clock(lambda: work(*arguments, **named), self.device)
            self.inside[name] = self.inside.get(name, 0.0) + taken
            return result

        return run

    def __call__(self) -> dict[str, float]:
        self.inside = {}
        delay = self.model.decoder.num_codebooks - 1  # steps until the last codebook has begun
        taken, audio = clock(
            lambda: self.model.generate(
                inputs=self.ids,
                attention_mask=torch.ones_like(self.ids),
                do_sample=True,
                guidance_scale=3.0,
                max_new_tokens=self.frames + delay,
            ),
            self.device,
        )
        seconds = audio.shape[-1] / self.model.config.audio_encoder.sampling_rate
        assert round(seconds * 50) == self.frames, f"{seconds} s of music came where {self.frames / 50} were asked for"
        lm = taken - self.inside["text"] - self.inside["codec"]
        return {
            "lm_real_time_factor": lm / seconds,
            "codec_real_time_factor": self.inside["codec"] / seconds,
            "text_s": self.inside["text"],
        }


def our_run(
    semantic: TokenLM,
    storm: SoundStorm,
    codec: SoundStream | None,
    mulan: Tensor,
    config: GenerateConfig,
    seconds: float,
    device: str,
) -> Contestant:
    """One generation with the bundle's sampling, from MuLan codes on; with a codec also its decoding."""

    def languages() -> Tensor:
        frames = round(seconds * (semantic.layout.target_spec.frame_rate_hz or 0))
        codes = generate_semantic(semantic, mulan, frames, config.semantic, [item_generator(SEED, "semantic")])
        return StormAcoustic(storm, config.storm).generate(codes, mulan, [item_generator(SEED, "storm")])

    def run() -> dict[str, float]:
        taken, codes = clock(languages, device)
        figures = {"lm_real_time_factor": taken / seconds}
        if codec is not None:
            back, _ = clock(lambda: codec.decode(codes[:, : config.levels]), device)
            figures["codec_real_time_factor"] = back / seconds
        return figures

    return run


def musicgen_figures(library: Any, model: MusicLM, config: PeersConfig, device: str) -> dict[str, Any]:
    """MusicGen-small, the bundle, and the bundle's two models scaled to MusicGen's decoder."""
    sampling = model.default_config("storm")
    decoder = model.acoustic_decoder(sampling)
    codec = model.soundstream
    assert isinstance(decoder, StormAcoustic) and isinstance(codec, SoundStream)
    mulan = model.text_codes("a calm piano piece with soft strings and a slow beat")
    torch.manual_seed(SEED)
    peer = musicgen_small(library, config.small).to(device).eval()
    target = num_parameters(peer.decoder)
    semantic, storm = scaled_models(model.semantic, decoder.model, target, config.layers, config.heads)
    semantic, storm = semantic.to(device), storm.to(device)
    contestants: dict[str, Contestant] = {
        "peer": MusicGenRun(peer, config.musicgen_s, device),
        "ours": our_run(model.semantic, decoder.model, codec, mulan, sampling, config.ours_s, device),
        "ours_equal": our_run(semantic, storm, None, mulan, sampling, config.ours_s, device),
    }
    parameters = {
        "peer": target,
        "ours": num_parameters(model.semantic, decoder.model),
        "ours_equal": num_parameters(semantic, storm),
    }
    found = summary(in_turn(contestants, config.lm_rounds), parameters)
    widths = semantic.config.transformer.width, storm.config.conformer.width
    scaled = (
        f"semantic {config.layers[0]} x {widths[0]}, SoundStorm {config.layers[1]} x {widths[1]}, {config.heads} heads"
    )
    return {"scaled": scaled, **found}
