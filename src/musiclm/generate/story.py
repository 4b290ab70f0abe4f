"""Stories: prompts with the times from which they hold (MusicLM, section 5 and its "story mode").

A file of a story has a section a line, in order, the first at 0:00:

    # anything after a hash at the beginning of a line is left out
    0:00 calm piano
    0:30 heavy metal with drums  tempo=150 key=E minor
    1:05.5 ambient pads

Times are seconds, mm:ss or h:mm:ss, the seconds with a fraction if wanted. `tempo=` and `key=` may stand anywhere after
the time; a key of two words needs no quotes.

A change may come at once or as a blend: then the condition goes from one prompt's to the next one's in steps of about a
second, which begin at the section's time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from musiclm.core.unicode import typed_text
from musiclm.generate.checks import MAX_DURATION_S, check_prompt
from musiclm.generate.steer import Steer

STEP_S = 1.0  # of a blend, about
MIN_SECTION_S = 0.5
MAX_BLEND_S = 60.0
LARGEST_BYTES = 1 << 20  # of a file
_TIME = re.compile(r"(?:(?:(\d{1,3}):)?(\d{1,4}):)?(\d{1,5}(?:\.\d{1,6})?)")
_KEY = r"[^\s\"]+(?:[ -](?:flat|sharp))?(?:[ -](?:major|minor|maj|min)\b)?"
_OPTION = re.compile(rf"(?<!\S)(tempo|key)=(?:\"([^\"]*)\"|({_KEY}))(?!\S)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class StorySection:
    """What the music is to be like from a time on."""

    at_s: float
    prompt: str
    tempo_bpm: float | None = None  # None: that of the whole, or what the prompt says
    key_name: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.at_s < MAX_DURATION_S:
            raise ValueError(f"a section is at {self.at_s} s; it must lie between 0 and {MAX_DURATION_S:.0f} s")
        if check_prompt(self.prompt) != self.prompt:
            raise ValueError(f"the prompt {self.prompt[:40]!r} has space around it or controls in it")
        Steer(tempo_bpm=self.tempo_bpm, key_name=self.key_name)  # raises for what these can't be

    @classmethod
    def parse(cls, line: str) -> "StorySection":
        """A line such as "0:30 heavy metal tempo=150". Raises: ValueError."""
        time, _, rest = typed_text(line, "the line").strip().partition(" ")
        at_s = parse_time(time)
        options: dict[str, str] = {}
        for found in _OPTION.finditer(rest):
            name = found[1].lower()
            if name in options:
                raise ValueError(f"{name}= is there twice")
            options[name] = found[2] if found[2] is not None else found[3]
        prompt = " ".join(_OPTION.sub(" ", rest).split()) if options else rest.strip()
        if not prompt:
            raise ValueError(f"there is no prompt after {time}; write it as in: 0:30 heavy metal with drums")
        try:
            tempo_bpm = float(options["tempo"]) if "tempo" in options else None
        except ValueError:
            raise ValueError(f"tempo={options['tempo']} is no number; write it as in: tempo=120") from None
        return cls(at_s=at_s, prompt=check_prompt(prompt), tempo_bpm=tempo_bpm, key_name=options.get("key"))

    def set_in(self, whole: Steer) -> Steer:
        """The settings of the whole with the section's own tempo and key."""
        return replace(whole, tempo_bpm=self.tempo_bpm or whole.tempo_bpm, key_name=self.key_name or whole.key_name)

    def __str__(self) -> str:
        tempo = "" if self.tempo_bpm is None else f" tempo={self.tempo_bpm:g}"
        key = "" if self.key_name is None else f' key="{self.key_name}"'
        return f"{clock(self.at_s)} {self.prompt}{tempo}{key}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """From a time on the condition is that of a section, or a blend with that of the section before it."""

    at_s: float
    section: int
    share: float = 1.0  # of the section; the rest is the one before


@dataclass(frozen=True, kw_only=True)
class Story:
    """Sections in order, the first at 0 s."""

    sections: tuple[StorySection, ...]
    blend_s: float = 0.0  # how long a change takes, no longer than its section; half a second or less is at once

    def __post_init__(self) -> None:
        check_blend(self.blend_s)
        if not self.sections:
            raise ValueError("the story has no sections; write one as in: 0:00 calm piano")
        if self.sections[0].at_s != 0:
            raise ValueError(f"the first section is at {clock(self.sections[0].at_s)}; it must be at 0:00")
        for before, after in zip(self.sections, self.sections[1:], strict=False):
            if after.at_s - before.at_s < MIN_SECTION_S:
                raise ValueError(
                    f"the section at {clock(after.at_s)} comes less than {MIN_SECTION_S} s after the one at "
                    f"{clock(before.at_s)}; give sections in order of time"
                )

    @classmethod
    def parse(cls, text: str, blend_s: float = 0.0, name: str = "the story") -> "Story":
        """Of a file's text. Raises: ValueError that names the file and the line."""
        sections: list[StorySection] = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                sections.append(StorySection.parse(line))
                if len(sections) > 1 or sections[0].at_s:
                    cls(sections=tuple(sections))  # so that what does not fit is known by its line
            except ValueError as error:
                raise ValueError(f"{name}, line {number}: {error}") from None
        try:
            return cls(sections=tuple(sections), blend_s=blend_s)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    @property
    def title(self) -> str:
        """All prompts, one after another."""
        return " → ".join(section.prompt for section in self.sections)

    def check_duration(self, duration_s: float) -> None:
        """Raises: ValueError if a section begins after so much music."""
        last = self.sections[-1]
        if last.at_s >= duration_s:
            raise ValueError(
                f"the section at {clock(last.at_s)} begins after the end of the music, {duration_s:g} s; "
                "make it longer, or leave the section out"
            )

    def at(self, time_s: float) -> StorySection:
        """The section that holds at a time; the first one before the beginning as well."""
        return next((one for one in reversed(self.sections) if one.at_s <= time_s), self.sections[0])

    def steered(self, tempo_bpm: float | None, key_name: str | None) -> "Story":
        """The same with a tempo and a key, where they are given, in every section."""
        own = {"tempo_bpm": tempo_bpm, "key_name": key_name}
        given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        return replace(self, sections=tuple(replace(section, **given) for section in self.sections))

    def steps(self) -> tuple[Step, ...]:
        """How the condition goes, in order of time."""
        found = [Step(at_s=0.0, section=0)]
        ends_s = [section.at_s for section in self.sections[1:]] + [float("inf")]
        for place, section in enumerate(self.sections[1:], 1):
            length_s = min(self.blend_s, ends_s[place] - section.at_s)
            found += [
                Step(at_s=section.at_s + after_s, section=place, share=share) for after_s, share in blend(length_s)
            ]
        return tuple(found)

    def __str__(self) -> str:
        return "\n".join(map(str, self.sections))


def blend(length_s: float) -> list[tuple[float, float]]:
    """Steps of a blend: seconds after its beginning, and the share of what it leads to, which ends with 1."""
    num = round(length_s / STEP_S)
    if not num:
        return [(0.0, 1.0)]
    return [(place * length_s / num, (place + 1) / (num + 1)) for place in range(num)] + [(length_s, 1.0)]


def check_blend(blend_s: float) -> float:
    """How long a change takes. Raises: ValueError outside 0 to 60 s."""
    if not 0 <= blend_s <= MAX_BLEND_S:
        raise ValueError(f"the blend is {blend_s} s; it must lie between 0 and {MAX_BLEND_S:.0f} s")
    return float(blend_s)


def parse_time(text: str) -> float:
    """Seconds of "75", "1:15", "1:15.5" or "0:01:15". Raises: ValueError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no time; write it as 0:30, 1:05.5, 0:01:30 or in seconds")
    hours, minutes, seconds = int(found[1] or 0), int(found[2] or 0), float(found[3])
    if (found[2] is not None and seconds >= 60) or (found[1] is not None and minutes >= 60):
        raise ValueError(f"{text!r} is no time: minutes and seconds after a colon are less than 60")
    return 3600 * hours + 60 * minutes + seconds


def clock(time_s: float) -> str:
    """As "1:05" or "1:05.5"."""
    minutes, seconds = divmod(round(time_s, 6), 60)
    text = f"{seconds:09.6f}".rstrip("0").rstrip(".")
    return f"{minutes:.0f}:{text}"


def load_story(path: str | Path, blend_s: float = 0.0) -> Story:
    """Reads a file of a story. Raises: ValueError for one that is missing, too large or no story, with the line."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"{path} has {path.stat().st_size} bytes, more than any story; it is not read")
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ValueError(f"{path} can't be read ({error.strerror or error}); check the name") from None
    return Story.parse(text, blend_s, str(path))


def of_prompts(prompt: str, changes: Sequence[str], blend_s: float = 0.0) -> Story:
    """A prompt from the beginning, and changes as lines such as "0:30 heavy metal". Raises: ValueError."""
    sections = [StorySection(at_s=0.0, prompt=check_prompt(prompt)), *(StorySection.parse(line) for line in changes)]
    return Story(sections=tuple(sections), blend_s=blend_s)


__all__ = ["Story", "StorySection", "load_story"]
