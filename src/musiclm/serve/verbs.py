"""What can be asked for: a class of requests a verb. Its docstring and fields are what OpenAPI says of it.

A verb checks a request in no time (`check`), and says in a worker what the request comes to (`piece`), by the functions
that the command line calls. All that a service does with music, it does for any verb.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from musiclm.core.audio import AudioError
from musiclm.generate.checks import (
    MAX_DURATION_S,
    MAX_PROMPT_CHARACTERS,
    MIN_DURATION_S,
    check_duration,
    check_prompt,
    check_seed,
)
from musiclm.generate.config import Acoustic, GenerateConfig
from musiclm.generate.edit import BEATS_PER_BAR, NUM_DRAFTS, Edit, check_span, loop, repaint, vary
from musiclm.generate.melody import Melody
from musiclm.generate.music import tags_of
from musiclm.generate.session import MusicLM, Progress
from musiclm.generate.splice import Blocks
from musiclm.generate.story import MAX_BLEND_S, Story, StorySection, check_blend
from musiclm.generate.take import (
    MOST_DRAFTS,
    About,
    Take,
    begin_at_joint,
    check_codec,
    given_sound,
    load_take,
    sound_of,
)
from musiclm.generate.wishes import check_setting, configure, wished
from musiclm.serve.store import MIDI, Entry, Shelf

OnTake = Callable[[Take], None]


@dataclass(frozen=True)
class Context:
    """What verbs work with."""

    model: MusicLM
    store: Shelf
    max_duration_s: float
    max_sound_s: float

    def sound(self, id: str) -> Entry:
        """A take or an upload that music can go on from. Raises: NoSuchTake; ValueError for a MIDI file."""
        entry = self.store.find(id)
        if entry.verb == MIDI:
            raise ValueError(f"{id} is a MIDI file, which has a melody and no sound; ask for it as the melody")
        return entry

    def check_length(self, new_s: float, given_s: float = 0.0) -> None:
        """Raises: ValueError for more music than this service makes at once."""
        if new_s > self.max_duration_s:
            raise ValueError(f"the duration is {new_s:g} s; this service makes at most {self.max_duration_s:g} s")
        if new_s + given_s > self.max_sound_s:
            raise ValueError(
                f"the sound would be {new_s + given_s:.1f} s long, and here it may be {self.max_sound_s:g} s; "
                "ask for what is new only (new_only)"
            )


@dataclass(frozen=True)
class Piece:
    """Music that is asked for and not made yet."""

    about: About
    blocks: Callable[[Progress, OnTake], Blocks]

    @property
    def num_samples(self) -> int:
        """Of its sound, whatever is given included."""
        return self.about.sound_samples

    @cached_property
    def tags(self) -> dict[str, str]:
        """Of its files, as the command line writes them."""
        return tags_of(self.about)


@runtime_checkable
class Verb(Protocol):
    """A request that was understood."""

    def check(self, context: Context) -> None:
        """Raises: ValueError for what can't be made, NoSuchTake (`musiclm.serve.store`). Takes no time."""

    def piece(self, context: Context) -> Piece:
        """Raises: ValueError, NoSuchTake. May take a while."""


def _setting(name: str) -> AfterValidator:
    """Refuses what the setting `name` of `GenerateConfig` can't have."""

    def check(value: Any) -> Any:
        if value is not None:
            check_setting(name, value)
        return value

    return AfterValidator(check)


Prompt = Annotated[
    str,
    AfterValidator(check_prompt),
    Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS, description="What the music is like, in English."),
]
Duration = Annotated[
    float,
    AfterValidator(check_duration),
    Field(ge=MIN_DURATION_S, le=MAX_DURATION_S, description="Of new music, exact to the sample."),
]
TakeId = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="A take or an upload, by its id.")]
NewOnly = Annotated[bool, Field(description="Without the given part: the sound begins at the joint.")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Drawing(_Request):
    """What new music may be asked for besides its prompt; what is left out is the bundle's choice."""

    seed: Annotated[
        int,
        AfterValidator(check_seed),
        Field(ge=0, lt=2**63, description="The same seed gives the same bytes, here and on the command line."),
    ] = 0
    tempo_bpm: Annotated[float, _setting("steer.tempo_bpm")] | None = Field(
        None, description="30 to 300; else what the prompt says."
    )
    key: Annotated[str, _setting("steer.key_name")] | None = Field(
        None, description="Such as D minor; else what the prompt says."
    )
    beat: Annotated[float, _setting("steer.beat")] | None = Field(
        None, description="How firmly music keeps its own time; 0 to 100."
    )
    again: Annotated[float, _setting("steer.again")] | None = Field(
        None, description="How firmly music of more than some 16 s comes back to what it played; 0 to 100."
    )
    temperature: Annotated[float, _setting("semantic.temperature")] | None = Field(
        None, description="Of what is played: low is safe, high is wild; 0, or 0.01 to 100."
    )
    guidance: Annotated[float, _setting("semantic.guidance")] | None = Field(
        None, description="How hard the prompt pulls; 1 is none; 0 to 100."
    )
    acoustic: Annotated[Acoustic | None, Field(description="storm, or ar: coarse and fine stages, slower.")] = None
    levels: Annotated[int, Field(ge=1), _setting("levels")] | None = Field(
        None, description="Acoustic levels that become sound."
    )

    def wishes(self) -> dict[str, Any]:
        """By settings of `GenerateConfig`."""
        return wished(
            *(self.acoustic, self.levels, self.temperature, self.guidance),
            *(self.tempo_bpm, self.key, self.beat, self.again),
        )


class Following(Drawing):
    """What new music may be asked for that can follow a melody."""

    melody: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = Field(
        None, description="An upload, sound or MIDI, by its id, whose melody the music follows; of a bundle that can."
    )

    def check_melody(self, context: Context) -> None:
        """Raises: ValueError for a bundle that follows none, or a take; NoSuchTake."""
        if self.melody is not None:
            context.model.check_follows()
            self._upload(context, self.melody)

    def followed(self, context: Context) -> Melody | None:
        """Raises: as `check_melody`; AudioError for what is no melody."""
        if self.melody is None:
            return None
        path = self._upload(context, self.melody)
        try:
            return context.model.melody(path)
        except AudioError as error:
            raise AudioError(str(error).replace(str(path), f"the upload {self.melody}")) from None

    def _upload(self, context: Context, id: str) -> Path:
        entry = context.store.find(id)
        if entry.kind != "upload":
            raise ValueError(f"{entry.id} is a take; upload the sound whose melody is to be followed")
        return context.store.source(entry)


class GenerateRequest(Following):
    """Music from a sentence, or from none."""

    verb: ClassVar[str] = "generate"
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "a calm piano piece", "duration_s": 10, "seed": 1},
                {"prompt": "house with a deep bass", "tempo_bpm": 124, "key": "A minor", "duration_s": 20},
            ]
        }
    )
    prompt: Prompt | None = None
    duration_s: Duration = 10.0
    top_k: Annotated[int, _setting("semantic.top_k")] | None = Field(None, description="Draw from the k likeliest.")
    top_p: Annotated[float, _setting("semantic.top_p")] | None = Field(None, description="Draw from this probability.")
    coarse_temperature: Annotated[float, _setting("coarse.temperature")] | None = Field(
        None, description="With acoustic: ar."
    )
    fine_temperature: Annotated[float, _setting("fine.temperature")] | None = Field(
        None, description="With acoustic: ar."
    )
    storm_temperature: Annotated[float, _setting("storm.temperature")] | None = Field(
        None, description="With acoustic: storm."
    )

    def wishes(self) -> dict[str, Any]:
        return {**super().wishes(), "semantic.top_k": self.top_k, "semantic.top_p": self.top_p}

    def check(self, context: Context) -> None:
        context.check_length(self.duration_s)
        if self.prompt is None and self.guidance is not None:
            raise ValueError("guidance does nothing without a prompt")
        self.check_melody(context)
        self._config(context)

    def _config(self, context: Context) -> GenerateConfig:
        temperatures = (self.coarse_temperature, self.fine_temperature, self.storm_temperature)
        return configure(context.model, self.prompt, self.wishes(), *temperatures)

    def piece(self, context: Context) -> Piece:
        model, config = context.model, self._config(context)
        rest = (self.prompt, self.duration_s, self.seed, config)
        melody = self.followed(context)

        def blocks(on_progress: Progress, on_take: OnTake) -> Blocks:
            return model.stream(*rest, on_progress, on_take=on_take, melody=melody)

        return Piece(model.about(*rest, melody=melody), blocks)


class ContinueRequest(Following):
    """Music that goes on from a take or an upload. Without a prompt it stays as it was."""

    verb: ClassVar[str] = "continue"
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"take": "00112233aabbccdd", "prompt": "with drums", "duration_s": 10}]}
    )
    take: TakeId
    prompt: Prompt | None = None
    duration_s: Duration = 10.0
    new_only: NewOnly = False

    def check(self, context: Context) -> None:
        entry = context.sound(self.take)
        self.check_melody(context)
        context.check_length(self.duration_s, 0.0 if self.new_only else entry.duration_s)
        configure(context.model, self.prompt or entry.prompt, self.wishes())

    def piece(self, context: Context) -> Piece:
        entry = context.sound(self.take)
        model, config = context.model, configure(context.model, self.prompt or entry.prompt, self.wishes())
        melody, given = self.followed(context), model.given(context.store.source(entry))
        rest = (self.prompt, self.duration_s, self.seed, config)

        def blocks(on_progress: Progress, on_take: OnTake) -> Blocks:
            return model.stream(*rest, on_progress, given, self.new_only, on_take, melody)

        return Piece(model.about(*rest, given, self.new_only, melody), blocks)


class RenderRequest(_Request):
    """The sound of a take again, from its codes: the same bytes."""

    verb: ClassVar[str] = "render"
    model_config = ConfigDict(json_schema_extra={"examples": [{"take": "00112233aabbccdd", "new_only": True}]})
    take: TakeId
    new_only: NewOnly = False

    def check(self, context: Context) -> None:
        self._entry(context)

    def _entry(self, context: Context) -> Entry:
        entry = context.store.find(self.take)
        if entry.kind != "take":
            raise ValueError(f"{entry.id} is an upload, which has no codes; download it as it is")
        return entry

    def piece(self, context: Context) -> Piece:
        codec, path = context.model.soundstream, context.store.source(self._entry(context))
        take = load_take(path)
        if self.new_only:
            take = begin_at_joint(take)
        check_codec(take, codec)
        given_sound(take, codec, path.parent)  # whether its parent is there
        return Piece(take.about, lambda on_progress, on_take: sound_of(take, codec, path.parent))


class SectionRequest(_Request):
    """What the music is to be like from a time on."""

    at_s: Annotated[float, Field(ge=0, lt=MAX_DURATION_S, description="From when on; 0 for the first.")]
    prompt: Prompt
    tempo_bpm: Annotated[float, _setting("steer.tempo_bpm")] | None = Field(
        None, description="Of this section; else that of the whole, or what its prompt says."
    )
    key: Annotated[str, _setting("steer.key_name")] | None = Field(
        None, description="Of this section; else that of the whole, or what its prompt says."
    )


class StoryRequest(Following):
    """Music that follows prompts by time."""

    verb: ClassVar[str] = "story"
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sections": [
                        {"at_s": 0, "prompt": "calm piano"},
                        {"at_s": 30, "prompt": "heavy metal with drums", "tempo_bpm": 150},
                    ],
                    "duration_s": 60,
                    "blend_s": 4,
                }
            ]
        }
    )
    sections: Annotated[
        list[SectionRequest], Field(min_length=1, max_length=600, description="In order of time, the first at 0.")
    ]
    blend_s: Annotated[
        float, AfterValidator(check_blend), Field(ge=0, le=MAX_BLEND_S, description="How long a change takes; 0: none.")
    ] = 0.0
    duration_s: Duration = 60.0

    def story(self) -> Story:
        """Raises: ValueError for sections out of order, or beyond the end."""
        sections = [
            StorySection(at_s=one.at_s, prompt=one.prompt, tempo_bpm=one.tempo_bpm, key_name=one.key)
            for one in self.sections
        ]
        story = Story(sections=tuple(sections), blend_s=self.blend_s)
        story.check_duration(self.duration_s)
        return story

    def check(self, context: Context) -> None:
        context.check_length(self.duration_s)
        self.check_melody(context)
        context.model.about(*self._asked(context))

    def _asked(self, context: Context) -> tuple[Story, float, int, GenerateConfig]:
        story = self.story()
        return story, self.duration_s, self.seed, configure(context.model, story, self.wishes())

    def piece(self, context: Context) -> Piece:
        model, rest, melody = context.model, self._asked(context), self.followed(context)

        def blocks(on_progress: Progress, on_take: OnTake) -> Blocks:
            return model.stream(*rest, on_progress, on_take=on_take, melody=melody)

        return Piece(model.about(*rest, melody=melody), blocks)


class _Editing(Drawing):
    """What is asked of music that is there and made anew in part."""

    take: TakeId
    prompt: Prompt | None = None

    def _config(self, context: Context, entry: Entry) -> GenerateConfig:
        """Of the take, but for what is wished for."""
        about = load_take(context.store.source(entry)).about if entry.kind == "take" else None
        return configure(
            context.model, self.prompt or entry.prompt, self.wishes(), base=None if about is None else about.config
        )

    def check(self, context: Context) -> None:
        entry = context.sound(self.take)
        self._config(context, entry)
        self._check_place(context, entry)

    def _check_place(self, context: Context, entry: Entry) -> None:
        """Raises: ValueError for a place that the sound does not have, or more than is made at once."""
        context.check_length(min(entry.duration_s, MAX_DURATION_S))

    def piece(self, context: Context) -> Piece:
        entry = context.sound(self.take)
        edit = self._edit(context.model, context.store.source(entry), self._config(context, entry))
        return Piece(edit.about, edit.blocks)

    def _edit(self, model: MusicLM, source: Path, config: GenerateConfig) -> Edit:
        raise NotImplementedError


Drafts = Annotated[
    int,
    Field(ge=1, le=MOST_DRAFTS, description="How often it is drawn; what the music after it fits best is kept."),
]


class RepaintRequest(_Editing):
    """A span of a take or an upload made anew, so that it fits both sides."""

    verb: ClassVar[str] = "repaint"
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"take": "00112233aabbccdd", "from_s": 4, "to_s": 8, "prompt": "with a flute"}]}
    )
    from_s: Annotated[float, Field(ge=0, description="Where the span begins.")] = 0.0
    to_s: Annotated[float, Field(gt=0)] | None = Field(None, description="Where it ends; else at the end of the sound.")
    drafts: Drafts = NUM_DRAFTS

    def _check_place(self, context: Context, entry: Entry) -> None:
        to_s = entry.duration_s if self.to_s is None else self.to_s
        check_span(self.from_s, to_s)
        if to_s > entry.duration_s + 1e-6:
            raise ValueError(
                f"the span ends at {to_s:g} s, after the end of the sound, which has {entry.duration_s:g} s"
            )
        context.check_length(to_s - self.from_s)

    def _edit(self, model: MusicLM, source: Path, config: GenerateConfig) -> Edit:
        return repaint(model, source, self.from_s, self.to_s, self.prompt, self.seed, config, self.drafts)


class VaryRequest(_Editing):
    """A take or an upload again, more or less the same."""

    verb: ClassVar[str] = "vary"
    model_config = ConfigDict(json_schema_extra={"examples": [{"take": "00112233aabbccdd", "strength": 0.3}]})
    strength: Annotated[
        float, Field(ge=0, le=1, description="0: the same notes in another sound; 1: a piece of the same conditions.")
    ] = 0.3

    def _edit(self, model: MusicLM, source: Path, config: GenerateConfig) -> Edit:
        return vary(model, source, self.strength, self.prompt, self.seed, config)


class LoopRequest(_Editing):
    """Whole bars of a take or an upload that run into their own beginning."""

    verb: ClassVar[str] = "loop"
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"take": "00112233aabbccdd", "duration_s": 8, "tempo_bpm": 124}]}
    )
    duration_s: Duration | None = Field(None, description="Near which whole bars are; else as many as there are.")
    from_s: Annotated[float, Field(ge=0, description="Where the loop begins.")] = 0.0
    beats: Annotated[int, Field(ge=1, le=16, description="In a bar.")] = BEATS_PER_BAR
    drafts: Drafts = NUM_DRAFTS

    def _check_place(self, context: Context, entry: Entry) -> None:
        if self.from_s >= entry.duration_s:
            raise ValueError(f"the loop begins at {self.from_s:g} s, and the sound has {entry.duration_s:g} s")
        context.check_length(min(self.duration_s or entry.duration_s - self.from_s, MAX_DURATION_S))

    def _edit(self, model: MusicLM, source: Path, config: GenerateConfig) -> Edit:
        rest = (self.tempo_bpm, self.prompt, self.seed, config, self.drafts, self.beats)
        return loop(model, source, self.duration_s, self.from_s, *rest)


VERBS: dict[str, type[BaseModel]] = {
    request.verb: request
    for request in (
        GenerateRequest,
        StoryRequest,
        ContinueRequest,
        RepaintRequest,
        VaryRequest,
        LoopRequest,
        RenderRequest,
    )
}
