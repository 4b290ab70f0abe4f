"""Text to music with a bundle (MusicLM, section 3.2): text -> MuLan codes -> semantic -> acoustic codes -> 24 kHz audio.

    music = MusicLM.from_pretrained("base").generate(["a calm piano piece"], duration_s=10, seed=1)
    music.save("piano.wav")

Every item runs on its own, each stage with a generator of its own made from the item's seed. So an item of a batch equals
the single run with its seed to the byte, and the stream equals the whole: nothing depends on what else is being made.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.core.bundle import Bundle, open_bundle
from musiclm.core.config import from_json
from musiclm.core.streams import common_rate_hz
from musiclm.generate.acoustic import AcousticDecoder, SemanticSource
from musiclm.generate.acoustic import Progress as StageProgress
from musiclm.generate.autoregressive import ArAcoustic, stream_semantic
from musiclm.generate.checks import check_device, check_duration, check_prompt, check_seed
from musiclm.generate.config import Acoustic, GenerateConfig, item_generator
from musiclm.generate.music import Music
from musiclm.generate.steer import CodeTraits, Steer, Steering
from musiclm.generate.storm import StormAcoustic, StormSampling
from musiclm.models.lm.model import TokenLM
from musiclm.models.mulan.model import MuLan
from musiclm.models.soundstream.model import DecoderStream, SoundStream
from musiclm.models.storm.model import SoundStorm
from musiclm.models.w2vbert.tokenizer import cues_of_codes
from musiclm.nn.sampling import Sampling

Progress = Callable[[str, int, int], None]  # stage, steps done, steps in all


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
        left = num_samples
        for audio in self.render(SemanticSource(pieces, 1, num_frames), mulan, seed, config, report("acoustic")):
            if left:
                yield audio[:left]
            left = max(0, left - len(audio))

    @torch.inference_mode()
    def render(
        self,
        semantic: Int[Tensor, "1 s t"] | SemanticSource,
        mulan: Int[Tensor, "1 q 1"] | None,
        seed: int = 0,
        config: GenerateConfig | None = None,
        on_progress: StageProgress | None = None,
    ) -> Iterator[Float[np.ndarray, " s"]]:
        """The sound of one item's semantic codes, by the acoustic decoder and the codec: in pieces, each as soon as it is
        final, together as long as the acoustic frames of those codes.

        mulan: what the acoustic decoder is told of the music (`text_codes`, or `mulan.audio_codes`); None is nothing.

        Raises: ValueError for a seed outside its range, or a source that ends before it said.
        """
        check_seed(seed)
        config = config or self.default_config()
        generators = [item_generator(seed, config.acoustic)]
        codec = DecoderStream(self.soundstream)
        for codes in self.acoustic_decoder(config).stream(semantic, mulan, generators, on_progress=on_progress):
            audio = _samples(codec.push(codes[:, : config.levels]))
            if len(audio):
                yield audio
        rest = _samples(codec.flush())
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


def _samples(audio: Float[Tensor, "1 1 s"]) -> Float[np.ndarray, " s"]:
    """What a file holds of a codec's output."""
    return audio[0, 0].clamp(-1, 1).cpu().numpy()


__all__ = ["MusicLM"]
