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
from musiclm.core.streams import Pace
from musiclm.core.threads import num_threads, threads_for
from musiclm.generate import edit
from musiclm.generate.acoustic import AcousticDecoder, SemanticSource
from musiclm.generate.acoustic import Progress as StageProgress
from musiclm.generate.autoregressive import stream_semantic
from musiclm.generate.checks import check_device, check_prompt, check_seed
from musiclm.generate.config import Acoustic, GenerateConfig, item_generator
from musiclm.generate.decoders import Decoders
from musiclm.generate.given import Given, check_encoders, given_of
from musiclm.generate.live import DRAW_S, Live
from musiclm.generate.melody import Melody, melody_of
from musiclm.generate.music import Music
from musiclm.generate.schedule import Clock, Schedule, of_codes, of_story
from musiclm.generate.source import Source, source_of
from musiclm.generate.steer import CodeTraits, Steer, Steering
from musiclm.generate.storm import StormSampling
from musiclm.generate.story import Story, clock
from musiclm.generate.take import About, Take, assembled, decoded, load_take, sound_of
from musiclm.models.encoders import (
    Codec,
    JointEmbedding,
    SemanticEncoder,
    load_codec,
    load_cues,
    load_joint,
    load_semantic,
)
from musiclm.models.lm.frames import LeanLM
from musiclm.models.lm.model import TokenLM
from musiclm.models.melody.model import MelodyEncoder
from musiclm.models.melody.pitches import PitchTracker
from musiclm.nn.sampling import Sampling

Progress = Callable[[str, int, int], None]  # stage, steps done, steps in all


class MusicLM:
    """A loaded bundle."""

    def __init__(
        self,
        bundle: Bundle,
        soundstream: Codec,
        mulan: JointEmbedding,
        semantic: TokenLM,
        device: str = "cpu",
    ) -> None:
        self.bundle = bundle
        self.device = torch.device(device)
        self.soundstream: Codec = soundstream.to(self.device).eval()
        self.mulan: JointEmbedding = mulan.to(self.device).eval()
        self.semantic = semantic.to(self.device).eval()
        self._decoders = Decoders(bundle, self.device, self.soundstream.spec.levels)

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
            load_codec(bundle.part("soundstream")),
            load_joint(bundle.part("mulan")),
            TokenLM.from_artifact(bundle.part("semantic")),
            device,
        )

    @property
    def sample_rate_hz(self) -> int:
        return self.soundstream.sample_rate_hz

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
    def lean(self) -> LeanLM | None:
        """The semantic model's weights as they are read fastest, where there is such a way."""
        return LeanLM(self.semantic) if LeanLM.fits(self.semantic) else None

    @cached_property
    def _traits(self) -> CodeTraits | None:
        cues, rate = load_cues(self.bundle.part("w2vbert")), self.semantic.layout.target_spec.frame_rate_hz
        return None if cues is None or rate is None else CodeTraits.of(cues, rate)

    def steering(self, steer: Steer, prompt: str | Story) -> list[Steering]:
        """For one item: the tempo and key that are set, or that the prompt names; of a story those of its first
        section.

        Empty if the bundle's codes say nothing of onsets and pitch.

        Raises: ValueError if they do not, and a tempo or a key is set.
        """
        if isinstance(prompt, Story):
            first, *_ = [self.steering(section.set_in(steer), section.prompt) for section in prompt.sections]
            return first
        if self._traits is not None:
            return [Steering(self._traits, steer.as_asked(prompt))]
        if steer.tempo_bpm is not None or steer.key_name is not None:
            raise ValueError(
                f"the bundle {self.bundle.name} can't be given a tempo or a key: its semantic tokens were made "
                "without cues of onsets and pitch"
            )
        return []

    def understood(self, steer: Steer, prompt: str | Story) -> str:
        """Which tempo and key the music will be steered to, in one line; of a story a line for each section."""
        if isinstance(prompt, Story):
            return "\n".join(
                f"{clock(section.at_s)} {self.understood(section.set_in(steer), section.prompt)}"
                for section in prompt.sections
            )
        line = steer.understood(prompt)
        if self._traits is None and steer.as_asked(prompt) != steer:
            line += f"; the bundle {self.bundle.name} can keep to neither"
        return line

    def acoustic_decoder(self, config: GenerateConfig) -> AcousticDecoder:
        """SoundStorm, or the coarse stage and, if its levels are to be decoded, the fine one; loaded when first asked
        for.
        """
        return self._decoders.of(config)

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
        return self._decoders.with_temperatures(config, coarse, fine, storm)

    @torch.inference_mode()
    def text_codes(self, prompt: str) -> Int[Tensor, "1 q 1"]:
        """MuLan codes of a prompt: the condition of the language models.

        Raises ValueError for an empty or too long prompt.
        """
        with num_threads(threads_for(self.mulan)):
            return self.mulan.text_codes([check_prompt(prompt)]).to(self.device)

    def about(
        self,
        prompt: str | Story | None,
        duration_s: float = 10.0,
        seed: int = 0,
        config: GenerateConfig | None = None,
        given: Given | None = None,
        new_only: bool = False,
        melody: Melody | None = None,
    ) -> About:
        """What a take says of the music that `stream` makes of the same arguments, before it is made.

        Without a prompt of its own it has the tempo and key of what it goes on from, unless others are set; without a
        melody of its own it follows the rest of that one's.

        Raises: ValueError for a prompt, duration or seed outside its range, or a section after the end.
        """
        melody = _followed(melody, given)
        story = prompt if isinstance(prompt, Story) else None
        own = check_prompt(prompt) if isinstance(prompt, str) else None if story is None else story.sections[-1].prompt
        said = own if given is None else own or given.prompt
        config = config or self.default_config()
        if given is not None and prompt is None:
            before, steer = given.steer, config.steer
            steer = replace(
                steer, tempo_bpm=steer.tempo_bpm or before.tempo_bpm, key_name=steer.key_name or before.key_name
            )
            config = replace(config, steer=steer)
        about = About(
            prompt=said,
            condition="text" if said is not None else "none" if given is None else given.condition,
            seed=seed,
            duration_s=duration_s,
            sample_rate_hz=self.sample_rate_hz,
            config=config,
            bundle=self.bundle.name,
            bundle_hash=self.bundle.hash,
            encoders=self.encoders,
            parent=None if given is None else given.parent,
            new_only=new_only,
            story=story,
        )
        if melody is not None:
            encoders = {**about.encoders, "melody": melody.encoder}
            about = replace(about, melody=melody.file.later(about.given_samples), encoders=encoders)
        return from_json(About, to_json(about))  # as it is when it was written and read

    @cached_property
    def encoders(self) -> dict[str, str]:
        """By part, the hash of the codes that its encoders give."""
        semantic = codes_hash(read_config(self.bundle.part("w2vbert")))
        return {"soundstream": self.soundstream.codes_hash, "w2vbert": semantic, "mulan": self.mulan.codes_hash}

    @cached_property
    def tokenizer(self) -> SemanticEncoder:
        tokenizer: SemanticEncoder = load_semantic(self.bundle.part("w2vbert")).to(self.device)
        return tokenizer

    @cached_property
    def pace(self) -> Pace:
        """How the frames of both streams lie beside each other."""
        return Pace.of(self.soundstream.spec, self.semantic.layout.target_spec)

    @cached_property
    def clock(self) -> Clock:
        """How seconds become semantic frames."""
        rate, pace = self.semantic.layout.target_spec.frame_rate_hz or 0.0, self.pace
        per_unit = pace.semantic if pace.shared else 1
        return Clock(unit_hz=rate / per_unit, per_unit=per_unit)

    def semantic_frames(self, num_samples: int) -> int:
        """The fewest that cover so many samples."""
        return self.pace.semantic_frames(math.ceil(num_samples / self.soundstream.samples_per_frame))

    def given(self, source: str | Path | Music) -> Given:
        """What music goes on from: any sound file, a file of a take (`.take`) or music just made, one item of it.

        Of long ones the models read the last window only. Raises: AudioError for a file that is no sound or
        shorter than 0.5 s; ArtifactError for a take that is damaged or of other encoders; ValueError for music of
        several items.
        """
        return given_of(self, source)

    def _context_frames(self, about: About) -> int:
        """Semantic ones."""
        return self.clock.frame(about.context_samples / self.sample_rate_hz)

    def schedule_of(self, take: Take, story: Story | None = None, steer: Steer | None = None) -> Schedule:
        """The conditions of a take, by its semantic frames, or those of another form of its story or other settings.

        Raises: ValueError for a damaged one.
        """
        about, story = take.about, story or take.about.story
        if take.mulan is None:
            return Schedule.of(None)
        mulan = torch.from_numpy(take.mulan.astype(np.int64))[None].to(self.device)
        if story is None:
            return Schedule.of(mulan)
        schedule = of_codes(story, steer or about.config.steer, mulan, self.clock)
        first = about.codes_start_samples - about.story_start_samples
        return schedule.since(self.clock.frame(first / about.sample_rate_hz))

    def _conditions(self, prompt: str | Story | None, about: About, given: Given | None, num_frames: int) -> Schedule:
        """The conditions of the music, by semantic frames."""
        if isinstance(prompt, Story):
            return of_story(prompt, about.config.steer, self.mulan, self.clock, self._context_frames(about), num_frames)
        if prompt is not None:
            return Schedule.of(self.text_codes(prompt))
        return Schedule.of(None if given is None else given.mulan)

    @cached_property
    def _melody_encoder(self) -> MelodyEncoder | PitchTracker:
        if self.semantic.config.melody is None:
            return PitchTracker().to(self.device)
        return MelodyEncoder.from_artifact(self.bundle.part("melody")).to(self.device)

    @cached_property
    def can_follow(self) -> bool:
        """Whether the bundle can follow a melody: its semantic model has learned to, or can be steered to pitches."""
        if self.semantic.config.melody is not None:
            return "melody" in self.bundle.parts
        return self._traits is not None and self._traits.can_follow

    def check_follows(self) -> None:
        """Raises: ValueError for a bundle that can't follow a melody."""
        if not self.can_follow:
            raise ValueError(
                f"the bundle {self.bundle.name} can't follow a melody: its semantic model was trained without any, and "
                "its tokens tell no pitches; leave the melody out, or choose another --model"
            )

    def melody(self, source: str | Path) -> Melody:
        """What music is to follow: any sound file, hummed, whistled, sung or played, or a MIDI file.

        Raises: ValueError for a bundle that can't follow melodies; as `musiclm.generate.melody.melody_of`.
        """
        self.check_follows()
        return melody_of(source, self._melody_encoder)

    def melody_of_take(self, take: Take) -> Melody | None:
        """What a take follows, if it follows anything.

        Raises: ValueError for a bundle that can't follow melodies; ArtifactError if it has another melody encoder.
        """
        if take.melody is None:
            return None
        self.check_follows()
        check_encoders(take, {"melody": self._melody_encoder.codes_hash})
        return Melody.of_take(take, self._melody_encoder)

    def followed(self, melody: Melody, start_samples: int, num_frames: int) -> Int[Tensor, "1 q t"]:
        """A melody's codes by semantic frame, the first of which is at a sample of the sound."""
        return melody.frames(self.semantic.layout.target_spec, start_samples, num_frames, self.sample_rate_hz)

    @torch.inference_mode()
    def stream(
        self,
        prompt: str | Story | None,
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

        prompt: None is music of no prompt, of the null condition; a story, prompts by the time of what is new.
        given: what it goes on from (`given`); its sound comes first, unless `new_only`, and without a prompt its own
        condition holds. on_take: gets the take once all is made.
        melody: what is new follows it from its beginning on (`melody`), as long as that lasts; with a story, through
        all of its sections. Without one it follows what is left of that of `given`.

        Raises: ValueError for a prompt, duration or seed outside its range, or a section after the end.
        """
        melody = _followed(melody, given)
        about = self.about(prompt, duration_s, seed, config, given, new_only, melody)
        config = about.config
        num_frames = self.semantic_frames(about.context_samples + about.num_samples)
        schedule = self._conditions(prompt, about, given, num_frames)
        decoder = self.acoustic_decoder(config)
        before = None if given is None else _known_acoustic(given, decoder, config)
        if melody is not None and about.melody is not None:
            melody = replace(melody, file=about.melody)

        def report(stage: str) -> Callable[[int, int], None] | None:
            return None if on_progress is None else lambda done, total: on_progress(stage, done, total)

        semantic = self._semantic_of(about, schedule, num_frames, given, melody, report("semantic"))
        acoustic: list[Tensor] = []

        def keep(codes: Tensor) -> None:
            if on_take is not None:
                acoustic.append(codes.to(torch.int32))

        made = self.render(semantic, schedule, seed, config, report("acoustic"), before, keep)
        yield from assembled(made, about, iter(()) if given is None else given.sound())
        if on_take is not None:
            about = replace(about, pieces=tuple(codes.shape[2] for codes in acoustic))
            melody_codes = None if melody is None else melody.codes
            on_take(Take.of(about, semantic[0:num_frames], torch.cat(acoustic, 2), schedule.mulan, melody_codes))

    def _semantic_of(
        self,
        about: About,
        schedule: Schedule,
        num_frames: int,
        given: Given | None,
        melody: Melody | None,
        on_progress: StageProgress | None,
    ) -> SemanticSource:
        """Semantic codes of music that is described, made as they are asked for."""
        config = about.config
        steering = self.steering(config.steer, about.story or about.prompt or "")
        if given is not None:
            for each in steering:
                each.align(given.semantic[0].T.flatten().tolist())
        followed = None
        if melody is not None and about.melody is not None:
            followed = self.followed(melody, about.codes_start_samples, num_frames)
        pieces = stream_semantic(
            self.semantic,
            schedule,
            num_frames,
            config.semantic,
            [item_generator(about.seed, "semantic")],
            None if given is None else given.semantic,
            on_progress=on_progress,
            steering=steering,
            melody=followed,
            chunk_s=1 / self.clock.unit_hz,  # no frame before it is needed
            lean=self.lean,
        )
        return SemanticSource(pieces, 1, num_frames)

    @torch.inference_mode()
    def render(
        self,
        semantic: Int[Tensor, "1 s t"] | SemanticSource,
        mulan: Int[Tensor, "1 q 1"] | Schedule | None,
        seed: int = 0,
        config: GenerateConfig | None = None,
        on_progress: StageProgress | None = None,
        prompt: Int[Tensor, "1 p n"] | None = None,
        on_codes: Callable[[Int[Tensor, "1 p n"]], None] | None = None,
    ) -> Iterator[Float[np.ndarray, " s"]]:
        """The sound of one item's semantic codes, by the acoustic decoder and the codec: in pieces, each as soon as it
        is final, together as long as the acoustic frames of those codes.

        mulan: the condition of the acoustic decoder (`text_codes`, or `mulan.audio_codes`), by time if it is a
        schedule; None is nothing.
        prompt: the first acoustic frames, where they are known. on_codes: gets all acoustic codes, in pieces, as
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
        prompts: str | Story | Sequence[str | Story | None] | None,
        duration_s: float = 10.0,
        seed: int = 0,
        config: GenerateConfig | None = None,
        on_progress: Progress | None = None,
        melody: str | Path | None = None,
    ) -> Music:
        """Music for each prompt; item i has the seed `seed + i` and equals a single run with it, to the byte.

        A prompt of None is music of the models alone, without a condition. A story (`musiclm.generate.story`) has
        prompts by time. melody: a file whose melody all of it follows.

        Raises: ValueError for a prompt, duration or seed outside its range, or a section after the end; as `melody`.
        """
        prompts = (prompts,) if prompts is None or isinstance(prompts, str | Story) else tuple(prompts)
        if not prompts:
            raise ValueError("no prompts; give at least one, or None for music of no prompt")
        for index, prompt in enumerate(prompts):
            self.about(prompt, duration_s, seed + index, config)
        started = time.perf_counter()
        followed = None if melody is None else self.melody(melody)
        rows: list[np.ndarray] = []
        takes: list[Take] = []
        for index, prompt in enumerate(prompts):
            blocks = self.stream(
                prompt, duration_s, seed + index, config, on_progress, on_take=takes.append, melody=followed
            )
            rows.append(np.concatenate(list(blocks)))
        return Music(np.stack(rows), self.sample_rate_hz, tuple(takes), time.perf_counter() - started)

    def extend(
        self,
        source: str | Path | Music,
        prompt: str | Story | None = None,
        duration_s: float = 10.0,
        seed: int = 0,
        config: GenerateConfig | None = None,
        new_only: bool = False,
        on_progress: Progress | None = None,
        melody: str | Path | None = None,
    ) -> Music:
        """Music that goes on from a sound file, a take or music just made, for `duration_s` more.

        The given sound comes first, sample for sample up to the joint but for the last 50 ms, which fade into what is
        new; the joint is its last whole frame (`given.parent.joint_samples`). new_only: it begins at the joint. Without
        a prompt it stays like the given sound. melody: a file whose melody begins at the joint.

        Raises: as `given`, `melody` and `stream`.
        """
        self.about(prompt, duration_s, seed, config)
        takes: list[Take] = []
        started = time.perf_counter()
        followed = None if melody is None else self.melody(melody)
        given = self.given(source)
        blocks = self.stream(prompt, duration_s, seed, config, on_progress, given, new_only, takes.append, followed)
        audio = np.concatenate(list(blocks))[None]
        return Music(audio, self.sample_rate_hz, tuple(takes), time.perf_counter() - started)

    def live(
        self,
        prompt: str | None = None,
        seed: int = 0,
        config: GenerateConfig | None = None,
        draw_s: float = DRAW_S,
        melody: str | Path | Melody | None = None,
    ) -> Live:
        """Music without an end, whose prompt may be changed as it sounds. melody: that it begins with.

        Raises: as `melody` and `musiclm.generate.live.Live`.
        """
        followed = melody if melody is None or isinstance(melody, Melody) else self.melody(melody)
        return Live(self, prompt, seed, config, draw_s, followed)

    def from_take(self, path: str | Path) -> Music:
        """The music of a take again: what was saved beside it, to the byte. Raises: as `load_take` and `sound_of`
        (`musiclm.generate.take`)."""
        take, started = load_take(path), time.perf_counter()
        audio = np.concatenate(list(sound_of(take, self.soundstream, Path(path).parent)))[None]
        return Music(audio, self.sample_rate_hz, (take,), time.perf_counter() - started)

    # -- edits: music that is there, made anew in part (`musiclm.generate.edit`)

    def source(self, source: str | Path | Music) -> Source:
        """Music to be edited: any sound file, a file of a take or music just made, one item of it.

        Raises: AudioError for a file that is no sound; ArtifactError for a take that is damaged or of other encoders;
        ValueError for music of several items.
        """
        return source_of(self, source)

    def repaint(
        self,
        source: str | Path | Music,
        start_s: float = 0.0,
        stop_s: float | None = None,
        prompt: str | None = None,
        seed: int = 0,
        config: GenerateConfig | None = None,
        drafts: int = edit.NUM_DRAFTS,
        on_progress: Progress | None = None,
    ) -> Music:
        """A sound file, a take or music just made, with the span from `start_s` to `stop_s` (None: the end) made anew.

        Outside of the span every sample stays, but for 50 ms that fade into it and out of it; inside is what fits both
        sides. drafts: how often the semantic codes are drawn, of which those stay that what follows fits best.
        Without a prompt or a config those of the take hold.

        Raises: ValueError for a span shorter than 0.5 s or outside of the sound; as `source` and `stream`.
        """
        return edit.repaint(self, source, start_s, stop_s, prompt, seed, config, drafts).music(on_progress)

    def vary(
        self,
        source: str | Path | Music,
        strength: float = 0.3,
        prompt: str | None = None,
        seed: int = 0,
        config: GenerateConfig | None = None,
        on_progress: Progress | None = None,
    ) -> Music:
        """The same music again: from the same semantic codes in another sound (strength 0) to a piece of the same
        conditions (strength 1).

        Raises: ValueError for a strength outside 0..1 or music of more than 600 s; as `source` and `stream`.
        """
        return edit.vary(self, source, strength, prompt, seed, config).music(on_progress)

    def loop(
        self,
        source: str | Path | Music,
        duration_s: float | None = None,
        start_s: float = 0.0,
        tempo_bpm: float | None = None,
        prompt: str | None = None,
        seed: int = 0,
        config: GenerateConfig | None = None,
        drafts: int = edit.NUM_DRAFTS,
        beats_per_bar: int = edit.BEATS_PER_BAR,
        on_progress: Progress | None = None,
    ) -> Music:
        """Whole bars of a sound, near `duration_s` (None: as many as there are), that run into their own beginning.

        The end, at most a bar, is made anew to lead there; the rest stays as it was. The tempo is the one given, that
        of the prompt, that of the take, or measured.

        Raises: ValueError where no tempo is known or the bars are longer than the sound; as `source` and `stream`.
        """
        made = edit.loop(self, source, duration_s, start_s, tempo_bpm, prompt, seed, config, drafts, beats_per_bar)
        return made.music(on_progress)


def _known_acoustic(given: Given, decoder: AcousticDecoder, config: GenerateConfig) -> Int[Tensor, "1 q f"]:
    """The levels of what is given that a decoder goes on from. Raises: ArtifactError if it has fewer."""
    before = given.acoustic[:, : decoder.levels]
    if before.shape[1] < decoder.levels:
        raise ArtifactError(
            f"the take has {before.shape[1]} acoustic levels, and the decoder {config.acoustic} "
            f"needs {decoder.levels}; "
            "choose the decoder that made it, or go on from its sound"
        )
    return before


def _followed(melody: Melody | None, given: Given | None) -> Melody | None:
    """What new music follows: a melody of its own, or the rest of that of what it goes on from."""
    return melody if given is None else melody or given.melody


__all__ = ["MusicLM"]
