"""What can be asked for: a class of requests a verb. Its docstring and fields are what OpenAPI says of it.

A verb checks a request in no time (`check`), and says in a worker what the request comes to (`piece`), by the functions
that the command line calls. All that a service does with music, it does for any verb.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from jaxtyping import Float
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from musiclm.generate.checks import (
    MAX_DURATION_S,
    MAX_PROMPT_CHARACTERS,
    MIN_DURATION_S,
    check_duration,
    check_prompt,
    check_seed,
)
from musiclm.generate.config import Acoustic
from musiclm.generate.music import tags_of
from musiclm.generate.session import MusicLM, Progress
from musiclm.generate.take import About, Take, begin_at_joint, check_codec, given_sound, load_take, sound_of
from musiclm.generate.wishes import check_setting, configure, wished
from musiclm.serve.store import Entry, Store

OnTake = Callable[[Take], None]


@dataclass(frozen=True)
class Context:
    """What verbs work with."""

    model: MusicLM
    store: Store
    max_duration_s: float
    max_sound_s: float

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
    blocks: Callable[[Progress, OnTake], Iterator[Float[np.ndarray, " s"]]]

    @property
    def num_samples(self) -> int:
        """Of its sound, whatever is given included."""
        return self.about.given_samples + self.about.num_samples

    @cached_property
    def tags(self) -> dict[str, str]:
        """Of its files, as the command line writes them."""
        return tags_of(self.about)


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
TakeId = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="A take or an upload, by its id.")]
NewOnly = Annotated[bool, Field(description="Without the given part: the sound begins at the joint.")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Drawing(_Request):
    """What new music may be asked for besides its prompt; what is left out is the bundle's choice."""

    duration_s: Annotated[
        float,
        AfterValidator(check_duration),
        Field(ge=MIN_DURATION_S, le=MAX_DURATION_S, description="Of new music, exact to the sample."),
    ] = 10.0
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
            *(self.acoustic, self.levels, self.temperature, self.guidance, self.tempo_bpm, self.key, self.beat)
        )


class Generate(Drawing):
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
        self.piece(context)

    def piece(self, context: Context) -> Piece:
        temperatures = (self.coarse_temperature, self.fine_temperature, self.storm_temperature)
        model, config = context.model, configure(context.model, self.prompt, self.wishes(), *temperatures)

        def blocks(on_progress: Progress, on_take: OnTake) -> Iterator[Float[np.ndarray, " s"]]:
            return model.stream(self.prompt, self.duration_s, self.seed, config, on_progress, on_take=on_take)

        return Piece(model.about(self.prompt, self.duration_s, self.seed, config), blocks)


class Continue(Drawing):
    """Music that goes on from a take or an upload. Without a prompt it stays as it was."""

    verb: ClassVar[str] = "continue"
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"take": "00112233aabbccdd", "prompt": "with drums", "duration_s": 10}]}
    )
    take: TakeId
    prompt: Prompt | None = None
    new_only: NewOnly = False

    def check(self, context: Context) -> None:
        entry = context.store.find(self.take)
        context.check_length(self.duration_s, 0.0 if self.new_only else entry.duration_s)
        configure(context.model, self.prompt or entry.prompt, self.wishes())

    def piece(self, context: Context) -> Piece:
        entry = context.store.find(self.take)
        model, config = context.model, configure(context.model, self.prompt or entry.prompt, self.wishes())
        given = model.given(context.store.source(entry))
        rest = (self.prompt, self.duration_s, self.seed, config)

        def blocks(on_progress: Progress, on_take: OnTake) -> Iterator[Float[np.ndarray, " s"]]:
            return model.stream(*rest, on_progress, given, self.new_only, on_take)

        return Piece(model.about(*rest, given, self.new_only), blocks)


class Render(_Request):
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


VERBS: dict[str, type[BaseModel]] = {request.verb: request for request in (Generate, Continue, Render)}
