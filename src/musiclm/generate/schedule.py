"""The conditions of the music, by time: one holds until the next begins.

The semantic stage begins anew with each condition: it reads the codes of the window so far after another prefix.
Acoustic windows end where a condition ends, and are drawn with that of their frames. Times are semantic frames from the
first one of the codes, where frames of all streams begin together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from musiclm.core.threads import num_threads, threads_for
from musiclm.generate.steer import Steer, between
from musiclm.generate.story import Step, Story
from musiclm.models.encoders import JointEmbedding


@dataclass(frozen=True, eq=False)
class Condition:
    """What holds for a while."""

    mulan: Int[Tensor, "b m 1"] | None  # None is the null condition
    steers: tuple[Steer, ...] = ()  # what each item is steered to; none: as before
    asked: "Asked | None" = None  # what it was made of


@dataclass(frozen=True, eq=False)
class Asked:
    """What a prompt asks for, as a point that blends lie between; None is no prompt."""

    vector: Tensor | None  # (1, d), of the text, before it is drawn to audio
    steer: Steer

    @classmethod
    def of(cls, mulan: JointEmbedding, prompt: str | None, steer: Steer) -> "Asked":
        with num_threads(threads_for(mulan)):
            vector = None if prompt is None else mulan.text_vectors(mulan.encode_text([prompt]))
        return cls(vector, steer.as_asked(prompt or ""))

    def towards(self, other: "Asked", share: float) -> "Asked":
        """A blend: `share` of the other. At once where one of them has no prompt."""
        if share == 1 or self.vector is None or other.vector is None:
            return other
        vector = F.normalize(torch.lerp(self.vector, other.vector, share), dim=-1)
        return Asked(vector, between(self.steer, other.steer, share))

    def condition(self, mulan: JointEmbedding) -> Condition:
        """RVQ codes of the point, drawn to audio as a prompt's are: those of a prompt alone are `MuLan.text_codes`."""
        codes = None if self.vector is None else mulan.quantize(mulan.project_text(self.vector))
        return Condition(codes, (self.steer,), self)


class Schedule:
    """Conditions, each from a frame on."""

    def __init__(self, changes: Sequence[tuple[int, Condition]]) -> None:
        """Raises: ValueError unless the first begins at frame 0 and each after the one before."""
        frames = [frame for frame, _ in changes]
        if not frames or frames[0] != 0 or any(a >= b for a, b in zip(frames, frames[1:], strict=False)):
            raise ValueError(f"conditions begin at frames {frames}; they must be in order, the first at 0")
        self.changes = list(changes)

    @classmethod
    def of(cls, mulan: "Int[Tensor, 'b m 1'] | Schedule | None") -> "Schedule":
        """Of MuLan codes that hold throughout, or of none."""
        return mulan if isinstance(mulan, Schedule) else cls([(0, Condition(mulan))])

    def at(self, frame: int) -> Condition:
        """The condition of a frame that is drawn, or will be."""
        return next(condition for start, condition in reversed(self.changes) if start <= frame)

    def begin(self, frame: int) -> Condition:
        """The same for the frame that is drawn next. Another answer than for the frame before is a change."""
        return self.at(frame)

    def until(self, frame: int) -> int | None:
        """The first frame after this one that has another condition; None if none is known."""
        return next((start for start, _ in self.changes if start > frame), None)

    def since(self, frame: int) -> "Schedule":
        """The same as seen from a frame on, which is the new frame 0; from one before the first, that holds sooner."""
        now = max((i for i, (start, _) in enumerate(self.changes) if start <= frame), default=0)
        later = [(start - frame, condition) for start, condition in self.changes[now + 1 :]]
        return Schedule([(0, self.changes[now][1]), *later])

    def again(self, frame: int) -> "Schedule":
        """The same up to a frame, from which on it comes again."""
        return Schedule(
            [change for change in self.changes if change[0] < frame]
            + [(frame + start, condition) for start, condition in self.changes]
        )

    def expand(self, batch: int) -> "Schedule":
        """Of one item, for so many of the same."""
        return Schedule(
            [
                (
                    start,
                    Condition(
                        None if one.mulan is None else one.mulan.expand(batch, -1, -1), one.steers * batch, one.asked
                    ),
                )
                for start, one in self.changes
            ]
        )

    def parts(self, frames: range) -> list[tuple[range, Condition]]:
        """A span cut where the condition changes, with what holds in each part."""
        starts = [start for start, _ in self.changes if frames.start < start < frames.stop]
        edges = [frames.start, *starts, frames.stop]
        return [(range(a, b), self.at(a)) for a, b in zip(edges, edges[1:], strict=False) if a < b]

    @property
    def mulan(self) -> Int[Tensor, "b m k"] | None:
        """MuLan codes of all conditions side by side; None if the first has none."""
        rows = [condition.mulan for _, condition in self.changes if condition.mulan is not None]
        return torch.cat(rows, 2) if rows else None


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How seconds become semantic frames."""

    unit_hz: float  # how often frames of all streams begin together
    per_unit: int  # semantic frames from one such time to the next

    def frame(self, time_s: float) -> int:
        """The frame at which what is to come at a time begins."""
        return round(time_s * self.unit_hz) * self.per_unit


def steps_of(story: Story, clock: Clock) -> list[tuple[int, Step]]:
    """The steps of a story with the frames of its time at which they begin."""
    found: list[tuple[int, Step]] = []
    for step in story.steps():
        frame = clock.frame(step.at_s) if found else 0
        if found and frame == found[-1][0]:  # a blend that lasts as long as its section
            found.pop()
        found.append((frame, step))
    return found


@torch.inference_mode()
def of_story(story: Story, whole: Steer, mulan: JointEmbedding, clock: Clock, before: int, stop: int) -> Schedule:
    """Of one item that a story tells. whole: tempo, key and strengths of all.

    before: frames of a context, where the first section holds too. stop: frames in all; steps that begin later are left
    out.
    """
    asked = [Asked.of(mulan, section.prompt, section.set_in(whole)) for section in story.sections]
    changes: list[tuple[int, Condition]] = []
    for frame, step in steps_of(story, clock):
        if changes and before + frame >= stop:
            break
        point = (
            asked[step.section] if step.share == 1 else asked[step.section - 1].towards(asked[step.section], step.share)
        )
        changes.append((frame, point.condition(mulan)))
    return Schedule(changes).since(-before)


def of_codes(story: Story, whole: Steer, mulan: Int[Tensor, "1 m n"], clock: Clock) -> Schedule:
    """`of_story` of codes that were kept, one for each step that was reached, by frames of the story's time.

    Raises: ValueError if there are more codes than steps.
    """
    steps = steps_of(story, clock)
    if len(steps) < mulan.shape[2]:
        raise ValueError(f"the story has {len(steps)} steps and the take codes of {mulan.shape[2]}; it is damaged")
    steers = [section.set_in(whole).as_asked(section.prompt) for section in story.sections]
    changes = []
    for column, (frame, step) in enumerate(steps[: mulan.shape[2]]):
        steer = steers[step.section]
        if step.share < 1:
            steer = between(steers[step.section - 1], steer, step.share)
        changes.append((frame, Condition(mulan[:, :, column : column + 1], (steer,))))
    return Schedule(changes)


__all__ = ["Condition", "Schedule"]
