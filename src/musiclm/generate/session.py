"""Text to music with a bundle (MusicLM, section 3.2): text -> MuLan codes -> semantic -> acoustic codes -> 24 kHz
audio.

    music = MusicLM.from_pretrained("base").generate(["a calm piano piece"], duration_s=10, seed=1)
    music.save("piano.wav")

Every item runs on its own, each stage with a generator of its own made from the item's seed. So an item of a batch
equals the single run with its seed to the byte, and the stream equals the whole: nothing depends on what else is being
made.
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

from musiclm.core.artifact import ArtifactError, codes_hash, read_config
from musiclm.core.bundle import Bundle, open_bundle
from musiclm.core.config import from_json, to_json
from musiclm.core.streams import MULAN, TokenSpec, common_rate_hz
from musiclm.generate.acoustic import AcousticDecoder, SemanticSource
from musiclm.generate.acoustic import Progress as StageProgress
from musiclm.generate.autoregressive import ArAcoustic, stream_semantic
from musiclm.generate.checks import check_device, check_prompt, check_seed
from musiclm.generate.config import Acoustic, GenerateConfig, item_generator
from musiclm.generate.given import Given, Windows, of_audio, of_take
from musiclm.generate.melody import Melody, melody_of
from musiclm.generate.music import Music
from musiclm.generate.steer import CodeTraits, Steer, Steering
from musiclm.generate.storm import StormAcoustic, StormSampling
from musiclm.generate.take import SUFFIX, About, Take, as_heard, decoded, load_take, sound_of
from musiclm.models.lm.model import TokenLM
from musiclm.models.melody.model import MelodyEncoder
from musiclm.models.mulan.model import MuLan
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.storm.model import SoundStorm
from musiclm.models.w2vbert.tokenizer import SemanticTokenizer, cues_of_codes
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

        Raises: ArtifactError (a ValueError) saying what is missing or damaged; ValueError for a device that is not
        there.
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
        """For one item: the tempo and key that are set, or that the prompt names.

        Empty if the bundle's codes say nothing of onsets and pitch.

        Raises: ValueError if they do not, and a tempo or a key is set.
        """
        if self._traits is not None:
            return [Steering(self._traits, steer.as_asked(prompt))]
        if steer.tempo_bpm is not None or steer.key_name is not None:
            raise ValueError(
                f"the bundle {self.bundle.name} can't be given a tempo or a key: its semantic tokens were made "
                "without cues of onsets and pitch"
            )
        return []

    def understood(self, steer: Steer, prompt: str) -> str:
        """Which tempo and key the music will be steered to, in one line."""
        line = steer.understood(prompt)
        if self._traits is None and steer.as_asked(prompt) != steer:
            line += f"; the bundle {self.bundle.name} can keep to neither"
        return line

    def acoustic_decoder(self, config: GenerateConfig) -> AcousticDecoder:
        """SoundStorm, or the coarse stage and, if its levels are to be heard, the fine one; loaded when first asked
        for.
        """
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
                    f"the fine temperature does nothing here: {config.levels} levels become sound, all of the coarse "
                    "stage"
                )
            config = replace(config, **{stage: replace(getattr(config, stage), temperature=temperature)})
        return config

    @torch.inference_mode()
    def text_codes(self, prompt: str) -> Int[Tensor, "1 q 1"]:
        """MuLan codes of a prompt: what the language models are told.

        Raises ValueError for an empty or too long prompt.
        """
        return self.mulan.text_codes([check_prompt(prompt)]).to(self.device)

    def about(
        self,
        prompt: str | None,
        duration_s: float = 10.0,
        seed: int = 0,
        config: GenerateConfig | None = None,
        given: Given | None = None,
        new_only: bool = False,
        melody: Melody | None = None,
    ) -> About:
        """What a take says of the music that `stream` makes of the same arguments, before it is made.

        Raises: ValueError for a prompt, duration or seed outside its range.
        """
        own = None if prompt is None else check_prompt(prompt)
        said = own if given is None else own or given.prompt
        about = About(
            prompt=said,
            condition="text" if said is not None else "none" if given is None else given.condition,
            seed=seed,
            duration_s=duration_s,
            sample_rate_hz=self.sample_rate_hz,
            config=config or self.default_config(),
            bundle=self.bundle.name,
            bundle_hash=self.bundle.hash,
            encoders=self._encoders,
            parent=None if given is None else given.parent,
            melody=None if melody is None else melody.file,
            new_only=new_only,
        )
        return from_json(About, to_json(about))  # as it is when it was written and read

    @cached_property
    def _encoders(self) -> dict[str, str]:
        semantic = codes_hash(read_config(self.bundle.part("w2vbert")))
        return {"soundstream": self.soundstream.codes_hash, "w2vbert": semantic, "mulan": self.mulan.codes_hash}

    @cached_property
    def _tokenizer(self) -> SemanticTokenizer:
        return SemanticTokenizer.from_artifact(self.bundle.part("w2vbert")).to(self.device)

    @cached_property
    def _unit_hz(self) -> float:
        """How often frames of both streams begin together."""
        return common_rate_hz([self.semantic.layout.target_spec, self.soundstream.spec])

    def _semantic_frames(self, num_samples: int) -> int:
        """The fewest that cover so many samples and are whole frames of either stream."""
        per_unit = round((self.semantic.layout.target_spec.frame_rate_hz or 0.0) / self._unit_hz)
        return math.ceil(num_samples / self.sample_rate_hz * self._unit_hz) * per_unit

    def given(self, source: str | Path | Music) -> Given:
        """What music goes on from: any sound file, a file of a take (`.take`) or music just made, one item of it.

        Of long ones the models are told of the last window only. Raises: AudioError for a file that is no sound or
        shorter than 0.5 s; ArtifactError for a take that is damaged or of other encoders; ValueError for music of
        several items.
        """
        unit = round(self.sample_rate_hz / self._unit_hz)
        layout = self.semantic.layout
        window_s = layout.crop_frames() / (layout.target_spec.frame_rate_hz or 1.0)
        windows = Windows(unit, round(window_s * self.sample_rate_hz) // unit * unit)
        if not isinstance(source, Music) and Path(source).suffix != SUFFIX:
            return of_audio(source, windows, self.soundstream, self._tokenizer, self.mulan)
        rvq = self.mulan.rvq
        told = TokenSpec(name=MULAN.name, codebook_size=rvq.codebook_size, levels=rvq.levels, frame_rate_hz=None)
        rest = (windows, self.soundstream, layout.target_spec, told, self._encoders)
        if isinstance(source, Music):
            if len(source) != 1:
                raise ValueError(
                    f"music of {len(source)} items can't be gone on from; take one of them, as in music[0]"
                )
            audio = source.audio[0]
            return of_take(source.takes[0], "", lambda: iter([audio]), *rest)
        path = Path(source)
        take = load_take(path)
        return of_take(take, path.name, lambda: sound_of(take, self.soundstream, path.parent), *rest)

    @cached_property
    def _melody_encoder(self) -> MelodyEncoder:
        return MelodyEncoder.from_artifact(self.bundle.part("melody")).to(self.device)

    def check_follows(self) -> None:
        """Raises: ValueError for a bundle that can't follow a melody, which most can't."""
        if self.semantic.config.melody is None or "melody" not in self.bundle.parts:
            raise ValueError(
                f"the bundle {self.bundle.name} can't follow a melody: its semantic model was trained without any; "
                "leave the melody out, or choose another --model"
            )

    def melody(self, source: str | Path) -> Melody:
        """What music is to follow: any sound file, hummed, whistled, sung or played, or a MIDI file.

        Raises: ValueError for a bundle that can't follow melodies; as `musiclm.generate.melody.melody_of`.
        """
        self.check_follows()
        return melody_of(source, self._melody_encoder)

    @torch.inference_mode()
    def stream(
        self,
        prompt: str | None,
        duration_s: float = 10.0,
        seed: int = 0,
        config: GenerateConfig | None = None,
        on_progress: Progress | None = None,
        given: Given | None = None,
        new_only: bool = False,
        on_take: Callable[[Take], None] | None = None,
        melody: Melody | None = None,
    ) -> Iterator[Float[np.ndarray, " s"]]:
        """The music of one prompt in pieces, each as soon as it is final; together exactly round(duration_s * rate)
        samples.

        prompt: None is music of no prompt, of the null condition. given: what it goes on from (`given`); its sound
        comes first, unless `new_only`, and without a prompt its own condition holds. on_take: told of the take once all
        is made. melody: what the new part follows from its beginning on (`melody`), as long as that lasts.

        Raises: ValueError for a prompt, duration or seed outside its range.
        """
        about = self.about(prompt, duration_s, seed, config, given, new_only, melody)
        config = about.config
        mulan = self.text_codes(prompt) if prompt is not None else None if given is None else given.mulan
        num_frames = self._semantic_frames(about.context_samples + about.num_samples)
        decoder = self.acoustic_decoder(config)
        before = None if given is None else given.acoustic[:, : decoder.levels]
        if before is not None and before.shape[1] < decoder.levels:
            raise ArtifactError(
                f"the take has {before.shape[1]} acoustic levels, and the decoder {config.acoustic} "
                f"needs {decoder.levels}; "
                "choose the decoder that made it, or go on from its sound"
            )

        def report(stage: str) -> Callable[[int, int], None] | None:
            return None if on_progress is None else lambda done, total: on_progress(stage, done, total)

        steering = self.steering(config.steer, about.prompt or "")
        if given is not None:
            for each in steering:
                each.align(given.semantic[0].T.flatten().tolist())
        followed = None
        if melody is not None:
            known = 0 if given is None else given.semantic.shape[2]
            followed = melody.frames(self.semantic.layout.target_spec, known, num_frames)
        pieces = stream_semantic(
            self.semantic,
            mulan,
            num_frames,
            config.semantic,
            [item_generator(seed, "semantic")],
            None if given is None else given.semantic,
            on_progress=report("semantic"),
            steering=steering,
            melody=followed,
        )
        semantic = SemanticSource(pieces, 1, num_frames)
        acoustic: list[Tensor] = []

        def keep(codes: Tensor) -> None:
            if on_take is not None:
                acoustic.append(codes.to(torch.int32))

        made = self.render(semantic, mulan, seed, config, report("acoustic"), before, keep)
        yield from as_heard(made, about, iter(()) if given is None else given.sound())
        if on_take is not None:
            about = replace(about, pieces=tuple(codes.shape[2] for codes in acoustic))
            told = None if melody is None else melody.codes
            on_take(Take.of(about, semantic[0:num_frames], torch.cat(acoustic, 2), mulan, told))

    @torch.inference_mode()
    def render(
        self,
        semantic: Int[Tensor, "1 s t"] | SemanticSource,
        mulan: Int[Tensor, "1 q 1"] | None,
        seed: int = 0,
        config: GenerateConfig | None = None,
        on_progress: StageProgress | None = None,
        prompt: Int[Tensor, "1 p n"] | None = None,
        on_codes: Callable[[Int[Tensor, "1 p n"]], None] | None = None,
    ) -> Iterator[Float[np.ndarray, " s"]]:
        """The sound of one item's semantic codes, by the acoustic decoder and the codec: in pieces, each as soon as it
        is final, together as long as the acoustic frames of those codes.

        mulan: what the acoustic decoder is told of the music (`text_codes`, or `mulan.audio_codes`); None is nothing.
        prompt: the first acoustic frames, where they are known. on_codes: told of all acoustic codes, in pieces, as
        they are decoded.

        Raises: ValueError for a seed outside its range, a source that ends before it said, or a prompt that does not
        fit.
        """
        check_seed(seed)
        config = config or self.default_config()
        generators = [item_generator(seed, config.acoustic)]

        def kept_levels() -> Iterator[Tensor]:
            for codes in self.acoustic_decoder(config).stream(semantic, mulan, generators, prompt, on_progress):
                if on_codes is not None:
                    on_codes(codes)
                yield codes[:, : config.levels]

        yield from decoded(self.soundstream, kept_levels())

    def generate(
        self,
        prompts: str | Sequence[str | None] | None,
        duration_s: float = 10.0,
        seed: int = 0,
        config: GenerateConfig | None = None,
        on_progress: Progress | None = None,
        melody: str | Path | None = None,
    ) -> Music:
        """Music for each prompt; item i has the seed `seed + i` and equals a single run with it, to the byte.

        A prompt of None is music of the models alone, without a condition. melody: a file whose melody all of it
        follows.

        Raises: ValueError for a prompt, duration or seed outside its range; as `melody`.
        """
        prompts = (prompts,) if prompts is None or isinstance(prompts, str) else tuple(prompts)
        if not prompts:
            raise ValueError("no prompts; give at least one, or None for music of no prompt")
        for index, prompt in enumerate(prompts):
            self.about(prompt, duration_s, seed + index, config)
        started = time.perf_counter()
        told = None if melody is None else self.melody(melody)
        rows: list[np.ndarray] = []
        takes: list[Take] = []
        for index, prompt in enumerate(prompts):
            blocks = self.stream(
                prompt, duration_s, seed + index, config, on_progress, on_take=takes.append, melody=told
            )
            rows.append(np.concatenate(list(blocks)))
        return Music(np.stack(rows), self.sample_rate_hz, tuple(takes), time.perf_counter() - started)

    def extend(
        self,
        source: str | Path | Music,
        prompt: str | None = None,
        duration_s: float = 10.0,
        seed: int = 0,
        config: GenerateConfig | None = None,
        new_only: bool = False,
        on_progress: Progress | None = None,
    ) -> Music:
        """Music that goes on from a sound file, a take or music just made, for `duration_s` more.

        The given sound comes first, sample for sample up to the joint but for the last 50 ms, which fade into what is
        new; the joint is its last whole frame (`given.parent.joint_samples`). new_only: it begins at the joint. Without
        a prompt it stays like the given sound.

        Raises: as `given` and `stream`.
        """
        self.about(prompt, duration_s, seed, config)
        takes: list[Take] = []
        started = time.perf_counter()
        given = self.given(source)
        blocks = self.stream(prompt, duration_s, seed, config, on_progress, given, new_only, takes.append)
        audio = np.concatenate(list(blocks))[None]
        return Music(audio, self.sample_rate_hz, tuple(takes), time.perf_counter() - started)

    def from_take(self, path: str | Path) -> Music:
        """The music of a take again: what was saved beside it, to the byte. Raises: as `load_take` and `sound_of`
        (`musiclm.generate.take`)."""
        take, started = load_take(path), time.perf_counter()
        audio = np.concatenate(list(sound_of(take, self.soundstream, Path(path).parent)))[None]
        return Music(audio, self.sample_rate_hz, (take,), time.perf_counter() - started)


__all__ = ["MusicLM"]
