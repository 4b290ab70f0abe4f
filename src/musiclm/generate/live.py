"""Music without an end, whose prompt may change while it sounds.

    live = model.live("calm piano", seed=1)
    for block in live:                # float32, about `draw_s` each, as long as it is asked for
        speakers.write(block)         # meanwhile, in any thread: live.change("heavy metal with drums")

Nothing is drawn before it is asked for, and only `draw_s` at a time: SoundStorm's windows are as long as ever, but most
of each is what came before. So a new prompt sounds after what the codec holds back, which is less than two seconds,
and the memory does not grow. What was played can be had again as a story: the same seed and changes at the same times
give the same sound.
"""

import math
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from musiclm.generate.acoustic import SemanticSource
from musiclm.generate.autoregressive import stream_semantic
from musiclm.generate.checks import check_prompt, check_seed
from musiclm.generate.config import GenerateConfig, item_generator
from musiclm.generate.melody import Melody
from musiclm.generate.schedule import Asked, Condition, Schedule
from musiclm.generate.story import blend, check_blend

if TYPE_CHECKING:
    from musiclm.generate.session import MusicLM

DRAW_S = 0.5  # of music that is drawn at a time
LONGEST_DRAW_S = 1.0
MOST_CHANGES = 1000  # that are remembered


class Live:
    """Endless music: an iterator of float32 blocks in [-1, 1]. One thread iterates; any may change the prompt."""

    @torch.inference_mode()
    def __init__(
        self,
        model: "MusicLM",
        prompt: str | None = None,
        seed: int = 0,
        config: GenerateConfig | None = None,
        draw_s: float = DRAW_S,
        melody: Melody | None = None,
    ) -> None:
        """draw_s: how much is drawn at a time; the less, the sooner a new prompt sounds, and the more work it is.

        melody: followed from the beginning of the music to its own end, whatever the prompts.

        Raises: ValueError for a prompt, seed or `draw_s` out of range, or a decoder that can't draw little at a time.
        """
        self.model, self.seed, self.prompt, self.melody = model, check_seed(seed), prompt, melody
        config = config or model.default_config()
        if config.acoustic != "storm":
            raise ValueError(f"live music needs the acoustic decoder storm, not {config.acoustic}")
        longest = min(LONGEST_DRAW_S, config.storm.window_s / 2)
        if not 1 / model.clock.unit_hz <= draw_s <= longest:
            raise ValueError(
                f"draw_s is {draw_s}; it must lie between {1 / model.clock.unit_hz:g} and {longest:g} seconds"
            )
        storm = replace(config.storm, prompt_s=config.storm.window_s - draw_s, draw_s=draw_s)
        self.config = replace(config, storm=storm)
        self._steering = model.steering(config.steer, prompt or "")
        first, behind = self._asked(prompt).condition(model.mulan), model.clock.frame(2 * draw_s)
        self._schedule = _Changes(first, model.clock.per_unit, behind)
        self._schedule.began.append((0, prompt))
        self.made_samples = 0  # handed out
        self._blocks = self._made()

    def __iter__(self) -> Iterator[Float[np.ndarray, " s"]]:
        return self

    def __next__(self) -> Float[np.ndarray, " s"]:
        block = next(self._blocks)
        self.made_samples += len(block)
        return block

    @property
    def made_s(self) -> float:
        """Seconds handed out."""
        return self.made_samples / self.model.sample_rate_hz

    @property
    def played(self) -> list[tuple[float, str | None]]:
        """The last `MOST_CHANGES` prompts that were begun with, and the times in seconds from which they hold."""
        rate = self.model.semantic.layout.target_spec.frame_rate_hz or 1.0
        return [(frame / rate, prompt) for frame, prompt in list(self._schedule.began)]

    @torch.inference_mode()
    def change(self, prompt: str | None, blend_s: float = 0.0) -> None:
        """Another prompt for what is drawn from now on, or none; at once, or as a blend that takes `blend_s`.

        Raises: ValueError for a prompt or blend out of range; the music goes on as it was.
        """
        asked, before = self._asked(prompt), self._schedule.now.asked
        assert before is not None
        steps = [
            (self.model.clock.frame(after_s), before.towards(asked, share).condition(self.model.mulan))
            for after_s, share in blend(check_blend(blend_s))
        ]
        self._schedule.ask(steps, prompt)
        self.prompt = prompt

    @torch.inference_mode()
    def _asked(self, prompt: str | None) -> Asked:
        return Asked.of(self.model.mulan, None if prompt is None else check_prompt(prompt), self.config.steer)

    def _made(self) -> Iterator[Float[np.ndarray, " s"]]:
        followed = None
        if self.melody is not None:
            rate_hz = self.model.semantic.layout.target_spec.frame_rate_hz or 0.0
            followed = self.model.followed(self.melody, 0, math.ceil(self.melody.seconds * rate_hz))
        codes = stream_semantic(
            self.model.semantic,
            self._schedule,
            None,
            self.config.semantic,
            [item_generator(self.seed, "semantic")],
            chunk_s=1 / self.model.clock.unit_hz,  # no frame before it is needed
            steering=self._steering,
            lean=self.model.lean,
            melody=followed,
        )
        source = SemanticSource(codes, 1, None, forgets=True)
        yield from self.model.render(source, self._schedule, self.seed, self.config)


class _Changes(Schedule):
    """Conditions that are asked for while the music is made, and begin with the frame that is drawn next."""

    def __init__(self, first: Condition, per_unit: int, behind: int) -> None:
        """behind: how many frames the acoustic stage is behind, at most."""
        super().__init__([(0, first)])
        self.began: deque[tuple[int, str | None]] = deque(maxlen=MOST_CHANGES)
        self.now = first
        self._per_unit, self._behind = per_unit, behind
        self._lock = threading.Lock()
        self._asked: tuple[list[tuple[int, Condition]], str | None] | None = None

    def ask(self, steps: list[tuple[int, Condition]], prompt: str | None) -> None:
        """Conditions with the frames after which they begin, the first at 0, in place of any that are not begun yet."""
        with self._lock:
            self._asked = steps, prompt

    def begin(self, frame: int) -> Condition:
        with self._lock:
            if self._asked is not None and frame % self._per_unit == 0:
                steps, prompt = self._asked
                kept = [(start, condition) for start, condition in self.changes if start < frame]
                self.changes = kept + [(frame + after, condition) for after, condition in steps]
                self._asked = None
                self.began.append((frame, prompt))
            while len(self.changes) > 1 and self.changes[1][0] < frame - self._behind:
                del self.changes[0]
            self.now = super().at(frame)
            return self.now

    def at(self, frame: int) -> Condition:
        with self._lock:
            return super().at(frame)

    def until(self, frame: int) -> int | None:
        with self._lock:
            return super().until(frame)


__all__ = ["Live"]
