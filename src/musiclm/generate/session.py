"""Text to music with a bundle (MusicLM, section 3.2): text -> MuLan codes -> semantic -> acoustic codes -> 24 kHz audio.

    music = MusicLM.from_pretrained("base").generate(["a calm piano piece"], duration_s=10, seed=1)
    music.save("piano.wav")

Every item runs on its own, each stage with a generator of its own made from the item's seed. So an item of a batch equals the single run
with its seed to the byte, and the stream equals the whole: nothing depends on what else is being made.
"""

import base64
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm import __version__
from musiclm.core.audio import write_audio
from musiclm.core.bundle import Bundle, open_bundle
from musiclm.core.config import from_json
from musiclm.core.streams import common_rate_hz
from musiclm.core.unicode import typed_text
from musiclm.generate.acoustic import AcousticDecoder, SemanticSource
from musiclm.generate.autoregressive import ArAcoustic, stream_semantic
from musiclm.generate.steer import CodeTraits, Steer, Steering
from musiclm.generate.storm import StormAcoustic, StormSampling
from musiclm.models.lm.model import TokenLM
from musiclm.models.mulan.model import MuLan
from musiclm.models.soundstream.model import DecoderStream, SoundStream
from musiclm.models.storm.model import SoundStorm
from musiclm.models.w2vbert.tokenizer import cues_of_codes
from musiclm.nn.sampling import Sampling

MIN_DURATION_S, MAX_DURATION_S = 0.5, 600.0
MAX_PROMPT_CHARACTERS = 10_000
Acoustic = Literal["storm", "ar"]
Progress = Callable[[str, int, int], None]  # stage, steps done, steps in all


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """How codes are drawn. Temperatures default to the bundle's own choice, made on validation pieces."""

    semantic: Sampling = field(default_factory=Sampling)
    coarse: Sampling = field(default_factory=lambda: Sampling(temperature=0.95))
    fine: Sampling = field(default_factory=lambda: Sampling(temperature=0.4))
    acoustic: Acoustic = "storm"
    storm: StormSampling = field(default_factory=StormSampling)
    levels: int | None = None  # acoustic levels that become sound; all by default
    # keeps time, a tempo and a key, where the bundle's semantic codes tell them
    steer: Steer = field(default_factory=Steer)

    def __post_init__(self) -> None:
        if self.acoustic not in ("storm", "ar"):
            raise ValueError(f"acoustic must be storm or ar, got {self.acoustic!r}")
        if self.levels is not None and self.levels < 1:
            raise ValueError(f"levels is {self.levels}; it must be 1 or more")


def tags_of(prompt: str, seed: int, model_hash: str) -> dict[str, str]:
    """Tags of a file of generated music."""
    return {
        "title": prompt[:200],
        "artist": f"musiclm {__version__} (generated)",
        "software": f"musiclm {__version__}",
        "prompt": prompt,
        "seed": str(seed),
        "model": model_hash,
        "generated": "true",
    }


@dataclass(frozen=True)
class Music:
    """Generated music: `len` items of equal length. Plays in a notebook, saves to a file."""

    audio: Float[np.ndarray, "b s"]  # in [-1, 1]
    sample_rate_hz: int
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    model_hash: str
    seconds_taken: float = 0.0

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> "Music":
        """One item alone."""
        i = range(len(self))[index]
        return Music(
            self.audio[i : i + 1],
            self.sample_rate_hz,
            self.prompts[i : i + 1],
            self.seeds[i : i + 1],
            self.model_hash,
            self.seconds_taken / len(self),
        )

    @property
    def duration_s(self) -> float:
        return self.audio.shape[1] / self.sample_rate_hz

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of music: below 1 is faster than real time."""
        return self.seconds_taken / (self.duration_s * len(self))

    def tags(self, index: int = 0) -> dict[str, str]:
        """What a saved file says of itself."""
        return tags_of(self.prompts[index], self.seeds[index], self.model_hash)

    def save(self, path: str | Path) -> list[Path]:
        """Writes wav, flac, ogg, opus or mp3 by the suffix; several items become name-1.wav, name-2.wav, …

        Raises: AudioError when the file can't be written.
        """
        return [
            write_audio(target, self.audio[i], self.sample_rate_hz, self.tags(i))
            for i, target in enumerate(output_paths(path, len(self)))
        ]

    def _repr_html_(self) -> str:
        players = []
        for i, prompt in enumerate(self.prompts):
            file = io.BytesIO()
            soundfile.write(file, self.audio[i], self.sample_rate_hz, format="WAV", subtype="PCM_16")
            data = base64.b64encode(file.getvalue()).decode()
            text = prompt.replace("&", "&amp;").replace("<", "&lt;")
            players.append(f'<p>{text}<br><audio controls src="data:audio/wav;base64,{data}"></audio></p>')
        return "".join(players)


def output_paths(path: str | Path, num: int) -> list[Path]:
    """The files that `num` items go to."""
    path = Path(path)
    return [path] if num == 1 else [path.with_stem(f"{path.stem}-{i + 1}") for i in range(num)]


def check_prompt(prompt: str) -> str:
    """The prompt without outer space, as text that can be stored (`musiclm.core.unicode.typed_text`).

    Raises ValueError if it is empty, longer than MAX_PROMPT_CHARACTERS or holds what no character is.
    """
    if not isinstance(prompt, str):
        raise ValueError(f"a prompt must be text, got {type(prompt).__name__}")
    prompt = typed_text(prompt, "the prompt")
    if not prompt.strip():
        raise ValueError("the prompt is empty; describe the music, for example: a calm piano piece")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"the prompt has {len(prompt)} characters, more than {MAX_PROMPT_CHARACTERS}; shorten it")
    return prompt.strip()


def check_duration(duration_s: float) -> float:
    """The duration. Raises ValueError outside MIN_DURATION_S..MAX_DURATION_S, NaN included."""
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise ValueError(
            f"the duration is {duration_s} s; it must lie between {MIN_DURATION_S} s and {MAX_DURATION_S:.0f} s"
        )
    return float(duration_s)


def item_generator(seed: int, stage: str) -> torch.Generator:
    """The random source of one stage of one item."""
    offset = sum(ord(letter) * 257**i for i, letter in enumerate(stage))
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + offset) % 2**63)


class MusicLM:
    """A loaded bundle."""

    def __init__(
        self,
        bundle: Bundle,
        soundstream: SoundStream,
        mulan: MuLan,
        semantic: TokenLM,
        device: str = "cpu",
    ) -> None:
        self.bundle = bundle
        self.device = torch.device(device)
        self.soundstream = soundstream.to(self.device).eval()
        self.mulan = mulan.to(self.device).eval()
        self.semantic = semantic.to(self.device).eval()
        self._storm: SoundStorm | None = None
        self._coarse: TokenLM | None = None
        self._fine: TokenLM | None = None

    @classmethod
    def from_pretrained(cls, model: str | Path = "base", device: str = "cpu") -> "MusicLM":
        """Loads a bundle: a shipped one by name, a folder, or a Hugging Face id.

        Raises: ArtifactError (a ValueError) saying what is missing or damaged; ValueError for a device that is not there.
        """
        check_device(device)
        bundle = open_bundle(model)
        return cls(
            bundle,
            SoundStream.from_artifact(bundle.part("soundstream")),
            MuLan.from_artifact(bundle.part("mulan")),
            TokenLM.from_artifact(bundle.part("semantic")),
            device,
        )

    @property
    def sample_rate_hz(self) -> int:
        return self.soundstream.config.sample_rate_hz

    def default_config(self, acoustic: Acoustic | None = None) -> GenerateConfig:
        """The sampling and, unless given, the acoustic decoder that the bundle recommends in its index."""
        chosen = self.bundle.document.get("sampling", {})
        return GenerateConfig(
            semantic=from_json(Sampling, chosen.get("semantic", {})),
            storm=from_json(StormSampling, chosen.get("storm", {})),
            acoustic=acoustic or chosen.get("acoustic", "storm"),
            levels=chosen.get("levels"),
            steer=from_json(Steer, chosen.get("steer", {})),
        )

    @cached_property
    def _traits(self) -> CodeTraits | None:
        cues, rate = cues_of_codes(self.bundle.part("w2vbert")), self.semantic.layout.target_spec.frame_rate_hz
        return None if cues is None or rate is None else CodeTraits.of(cues, rate)

    def steering(self, steer: Steer, prompt: str) -> list[Steering]:
        """For one item: the tempo and key that are set, or that the prompt names. Empty if the bundle's codes say nothing of onsets and pitch.

        Raises: ValueError if they do not, and a tempo or a key is set.
        """
        if self._traits is not None:
            return [Steering(self._traits, steer.as_asked(prompt))]
        if steer.tempo_bpm is not None or steer.key_name is not None:
            raise ValueError(
                f"the bundle {self.bundle.name} can't be given a tempo or a key: its semantic tokens were made without cues of onsets and pitch"
            )
        return []

    def understood(self, steer: Steer, prompt: str) -> str:
        """Which tempo and key the music will be steered to, in one line."""
        line = steer.understood(prompt)
        if self._traits is None and steer.as_asked(prompt) != steer:
            line += f"; the bundle {self.bundle.name} can keep to neither"
        return line

    def acoustic_decoder(self, config: GenerateConfig) -> AcousticDecoder:
        """SoundStorm, or the coarse stage and, if its levels are to be heard, the fine one; loaded when first asked for."""
        if config.acoustic == "storm":
            if self._storm is None:
                self._storm = SoundStorm.from_artifact(self.bundle.part("storm")).to(self.device).eval()
            return StormAcoustic(self._storm, config.storm)
        if self._coarse is None:
            self._coarse = TokenLM.from_artifact(self.bundle.part("coarse")).to(self.device).eval()
        if config.levels is not None and config.levels <= self._coarse.layout.target_spec.levels:
            return ArAcoustic(self._coarse, None, config.coarse)  # no finer level becomes sound
        if self._fine is None:
            self._fine = TokenLM.from_artifact(self.bundle.part("fine")).to(self.device).eval()
        return ArAcoustic(self._coarse, self._fine, config.coarse, config.fine)

    def with_temperatures(
        self,
        config: GenerateConfig,
        coarse: float | None = None,
        fine: float | None = None,
        storm: float | None = None,
    ) -> GenerateConfig:
        """`config` with other temperatures of acoustic stages; None leaves one as it is.

        Raises: ValueError for the temperature of a stage that does not run: one of the other decoder, or the fine stage
        where none of its levels becomes sound.
        """
        for stage, temperature in (("coarse", coarse), ("fine", fine), ("storm", storm)):
            if temperature is None:
                continue
            decoder = self.acoustic_decoder(config)
            if (stage == "storm") != isinstance(decoder, StormAcoustic):
                raise ValueError(
                    f"the {stage} temperature does nothing here: the acoustic decoder is {config.acoustic}"
                )
            if stage == "fine" and isinstance(decoder, ArAcoustic) and decoder.fine is None:
                raise ValueError(
                    f"the fine temperature does nothing here: {config.levels} levels become sound, all of the coarse stage"
                )
            config = replace(config, **{stage: replace(getattr(config, stage), temperature=temperature)})
        return config

    @torch.inference_mode()
    def text_codes(self, prompt: str) -> Int[Tensor, "1 q 1"]:
        """MuLan codes of a prompt: what the language models are told. Raises ValueError for an empty or too long prompt."""
        return self.mulan.text_codes([check_prompt(prompt)]).to(self.device)

    @torch.inference_mode()
    def stream(
        self,
        prompt: str,
        duration_s: float = 10.0,
        seed: int = 0,
        config: GenerateConfig | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Float[np.ndarray, " s"]]:
        """The music of one prompt in pieces, each as soon as it is final; together exactly round(duration_s * rate) samples.

        Raises: ValueError for a prompt, duration or seed outside its range.
        """
        check_duration(duration_s)
        check_seed(seed)
        config = config or self.default_config()
        mulan = self.text_codes(prompt)
        num_samples = round(duration_s * self.sample_rate_hz)
        spec = self.semantic.layout.target_spec
        unit_hz = common_rate_hz([spec, self.soundstream.spec])  # whole frames of either stream
        num_frames = math.ceil(num_samples / self.sample_rate_hz * unit_hz) * round((spec.frame_rate_hz or 0) / unit_hz)

        def report(stage: str) -> Callable[[int, int], None] | None:
            return None if on_progress is None else lambda done, total: on_progress(stage, done, total)

        pieces = stream_semantic(
            self.semantic,
            mulan,
            num_frames,
            config.semantic,
            [item_generator(seed, "semantic")],
            on_progress=report("semantic"),
            steering=self.steering(config.steer, prompt),
        )
        semantic = SemanticSource(pieces, 1, num_frames)
        decoder = self.acoustic_decoder(config)
        codec = DecoderStream(self.soundstream)
        left = num_samples
        generators = [item_generator(seed, config.acoustic)]
        for codes in decoder.stream(semantic, mulan, generators, on_progress=report("acoustic")):
            audio = codec.push(codes[:, : config.levels])[0, 0].clamp(-1, 1).cpu().numpy()[:left]
            left -= len(audio)
            if len(audio):
                yield audio
        rest = codec.flush()[0, 0].clamp(-1, 1).cpu().numpy()[:left]
        if len(rest):
            yield rest

    def generate(
        self,
        prompts: str | Sequence[str],
        duration_s: float = 10.0,
        seed: int = 0,
        config: GenerateConfig | None = None,
        on_progress: Progress | None = None,
    ) -> Music:
        """Music for each prompt; item i has the seed `seed + i` and equals a single run with it, to the byte.

        Raises: ValueError for a prompt, duration or seed outside its range.
        """
        prompts = (prompts,) if isinstance(prompts, str) else tuple(prompts)
        if not prompts:
            raise ValueError("no prompts; give at least one")
        prompts = tuple(check_prompt(prompt) for prompt in prompts)
        check_duration(duration_s)
        seeds = tuple(check_seed(seed + i) for i in range(len(prompts)))
        started = time.perf_counter()
        rows = [
            np.concatenate(list(self.stream(prompt, duration_s, item_seed, config, on_progress)))
            for prompt, item_seed in zip(prompts, seeds, strict=True)
        ]
        return Music(
            np.stack(rows),
            self.sample_rate_hz,
            prompts,
            seeds,
            self.bundle.hash,
            time.perf_counter() - started,
        )


def check_seed(seed: int) -> int:
    """The seed. Raises ValueError unless it is a whole number from 0 to 2^63 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"the seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
    return seed


def check_device(device: str) -> torch.device:
    """The device. Raises ValueError when this machine has none of the kind."""
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"no device is called {device!r}; use cpu, cuda, cuda:1 or mps") from None
    missing = (found.type == "cuda" and not torch.cuda.is_available()) or (
        found.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ValueError(f"device {device!r} is not available on this machine; use cpu")
    return found


def read_tags(path: str | Path) -> dict[str, str]:
    """What a file written by `Music.save` says of itself: prompt, seed, model and more; {} for any other file."""
    from musiclm.core.audio import probe

    tags = dict(probe(path).tags)
    try:
        told = json.loads(tags.pop("comment", "{}"))
    except (json.JSONDecodeError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    tags |= told
    return tags if tags.get("generated") == "true" else {}


__all__ = ["GenerateConfig", "Music", "MusicLM", "read_tags"]
