"""SoundStorm's decoding (SoundStorm, section 3.3): level by level, the first in a few rounds that keep what is most
certain.

Round i of N leaves cos(pi/2 * (i + 1) / N) of a level's frames masked. Levels after the first take one greedy pass.
Long audio goes in windows of the length of training, each begun by frames of the one before, so memory and time per
second stay constant.

A model with `series` draws frames in order, as many in each round, the later ones of a round knowing the codes of the
earlier ones.

A model with `depth_width` alone fixes frames whole: each round draws every level of the masked frames and keeps the
frames whose first level is most certain, so the rounds of the first level are all there are.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from musiclm.core.threads import on_threads, threads_for
from musiclm.generate.acoustic import AcousticDecoder, Progress, SemanticSource
from musiclm.generate.schedule import Schedule
from musiclm.models.storm.frames import FrameDrawer, FrameHistory
from musiclm.models.storm.model import SoundStorm
from musiclm.nn.sampling import Sampling as Drawing
from musiclm.nn.sampling import at, below_one, check_generators, check_temperature, draw, probabilities, uniforms

MOST_NOISE = 100.0  # of the choice of what stays masked


@dataclass(frozen=True, kw_only=True)
class StormSampling:
    """How SoundStorm decodes.

    The paper: 16 rounds on the first level, then one greedy pass a level, in windows of 30 s.
    """

    rounds: tuple[int, ...] = (8,)  # passes per level; levels past the end of the list take one
    temperature: float = 1.0  # of the draws at levels with several rounds; 0 takes the likeliest code
    rest_temperature: float = 0.0  # of the draws at levels with one pass; 0 is greedy, as published
    top_p: float = 1.0  # of both: only the likeliest codes that together reach this probability
    choice_noise: float = 1.0  # Gumbel noise on the log-confidences, falling to 0 by the last round (MaskGIT)
    window_s: float = 10.0  # seen at once; no longer than the crops of training
    prompt_s: float = 3.0  # of each window after the first, taken from the one before
    first_window_s: float | None = None  # shorter than the others, so that sound comes early; None: as long
    draw_s: float | None = None  # the most that a window adds, from the first on; None: what it has room for

    def __post_init__(self) -> None:
        if not self.rounds or min(self.rounds) < 1:
            raise ValueError(f"rounds is {self.rounds}; every level needs at least one")
        for name in ("temperature", "rest_temperature"):
            check_temperature(getattr(self, name), name)
        if not 0 <= self.choice_noise <= MOST_NOISE:
            raise ValueError(f"choice_noise is {self.choice_noise}; it must lie between 0 and {MOST_NOISE:g}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be in (0, 1]")
        if not 0 <= self.prompt_s < self.window_s:
            raise ValueError(f"prompt_s {self.prompt_s} must be less than window_s {self.window_s}")
        if self.first_window_s is not None and not 0 < self.first_window_s <= self.window_s:
            raise ValueError(
                f"first_window_s {self.first_window_s} must lie above 0 and up to window_s {self.window_s}"
            )

        if self.draw_s is not None and not 0 < self.draw_s <= self.window_s:
            raise ValueError(f"draw_s {self.draw_s} must lie above 0 and up to window_s {self.window_s}")

    def rounds_of(self, level: int) -> int:
        return self.rounds[level] if level < len(self.rounds) else 1


def num_masked(frames: int, round_index: int, rounds: int) -> int:
    """How many of `frames` stay masked after a round (counted from 0): the cosine schedule, 0 after the last."""
    if round_index + 1 == rounds:
        return 0
    return min(frames - 1, math.floor(frames * math.cos(math.pi / 2 * (round_index + 1) / rounds)))


@on_threads(lambda model, *_, **__: threads_for(model))
@torch.inference_mode()
def fill(
    model: SoundStorm,
    codes: Int[Tensor, "b q f"],
    free: slice,
    semantic: Int[Tensor, "b s t"],
    mulan: Int[Tensor, "b m 1"] | None,
    sampling: StormSampling,
    generators: Sequence[torch.Generator],
    drawer: FrameDrawer | None = None,
) -> Iterator[Int[Tensor, "b q f"]]:
    """Codes after each pass, those of the frames `free` drawn anew; the last ones are complete.

    The other frames are known, on both sides, and stay. drawer: that of a model with `series`, if it is at hand.
    """
    codes = codes.clone()
    codes[:, :, free] = model.mask_code
    if model.config.depth_width:
        given = (model, codes, free, semantic, mulan, sampling, generators)
        yield from _fill_in_order(*given, drawer) if model.config.series else _fill_frames(*given)
        return
    b, levels, frames = codes.shape
    num = len(range(frames)[free])
    for level in range(levels):
        rounds = sampling.rounds_of(level)
        drawing = Drawing(
            temperature=sampling.temperature if rounds > 1 else sampling.rest_temperature, top_p=sampling.top_p
        )
        masked = torch.ones(b, num, dtype=torch.bool, device=codes.device)
        for index in range(rounds):
            hidden = model(codes, semantic, mulan)[:, free]
            p = probabilities(model.logits(hidden, level), drawing)
            if drawing.temperature == 0:
                drawn = p.argmax(-1)
            else:
                drawn = draw(p, uniforms(generators, num, codes.device))
            now = torch.where(masked, drawn, codes[:, level, free])
            masked = _still_masked(p, drawn, masked, index, rounds, sampling.choice_noise, generators)
            codes[:, level, free] = now.masked_fill(masked, model.mask_code)
            yield codes


def _still_masked(
    p: Float[Tensor, "b f v"],
    drawn: Int[Tensor, "b f"],
    masked: Bool[Tensor, "b f"],
    index: int,
    rounds: int,
    noise: float,
    generators: Sequence[torch.Generator],
) -> Bool[Tensor, "b f"]:
    """Which of the masked frames stay so after a round: those whose draw was least certain.

    Fixed ones are out of reach.
    """
    left = num_masked(masked.shape[1], index, rounds)
    if not left:
        return torch.zeros_like(masked)
    confidence = p.gather(-1, drawn[..., None])[..., 0].clamp(min=1e-20).log()
    if noise:
        u = uniforms(generators, masked.shape[1], p.device).clamp(1e-9, 1 - 1e-7)
        confidence = confidence - (-u.log()).log() * noise * (1 - (index + 1) / rounds)
    lowest = confidence.masked_fill(~masked, math.inf).argsort(dim=-1, stable=True)[:, :left]
    return torch.zeros_like(masked).scatter(1, lowest, True)


@torch.inference_mode()
def _fill_frames(
    model: SoundStorm,
    codes: Int[Tensor, "b q f"],
    free: slice,
    semantic: Int[Tensor, "b s t"],
    mulan: Int[Tensor, "b m 1"] | None,
    sampling: StormSampling,
    generators: Sequence[torch.Generator],
) -> Iterator[Int[Tensor, "b q f"]]:
    """`fill` for a model with `depth_width`, into `codes`, which are masked where they are free."""
    b, levels, frames = codes.shape
    num, rounds = len(range(frames)[free]), sampling.rounds_of(0)
    masked = torch.ones(b, num, dtype=torch.bool, device=codes.device)

    def drawn(state: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Probabilities and codes of a level, `b f v` and `b f`, from states `b f d`."""
        temperature = sampling.temperature if level == 0 else sampling.rest_temperature
        logits = model.depth_logits(state.flatten(0, 1), level).unflatten(0, state.shape[:2])
        p = probabilities(logits, Drawing(temperature=temperature, top_p=sampling.top_p))
        return p, p.argmax(-1) if temperature == 0 else draw(p, uniforms(generators, state.shape[1], codes.device))

    for index in range(rounds):
        state = model(codes, semantic, mulan)[:, free]
        p, first = drawn(state, 0)
        after = _still_masked(p, first, masked, index, rounds, sampling.choice_noise, generators)
        # as many frames in every item; only they need the levels above
        where = (masked & ~after).nonzero()[:, 1].view(b, -1)
        state = state.gather(1, where[..., None].expand(-1, -1, state.shape[2]))
        new = [first.gather(1, where)]
        for level in range(1, levels):
            state = model.depth_state(state.flatten(0, 1), level - 1, new[-1].flatten()).view_as(state)
            new.append(drawn(state, level)[1])
        codes[:, :, free].scatter_(2, where[:, None].expand(-1, levels, -1), torch.stack(new, 1))
        masked = after
        yield codes


@torch.inference_mode()
def _fill_in_order(
    model: SoundStorm,
    codes: Int[Tensor, "b q f"],
    free: slice,
    semantic: Int[Tensor, "b s t"],
    mulan: Int[Tensor, "b m 1"] | None,
    sampling: StormSampling,
    generators: Sequence[torch.Generator],
    drawer: FrameDrawer | None = None,
) -> Iterator[Int[Tensor, "b q f"]]:
    """`fill` for a model with `series`, into `codes`, masked where they are free. drawer: the model's, if at hand."""
    b, levels, frames = codes.shape
    places, rounds = range(frames)[free], sampling.rounds_of(0)
    u = below_one(uniforms(generators, len(places) * levels, codes.device)).view(b, -1, levels, 1)
    drawing = [
        Drawing(temperature=sampling.temperature if level == 0 else sampling.rest_temperature, top_p=sampling.top_p)
        for level in range(levels)
    ]

    def choose(u: Sequence[Float[Tensor, "b 1"]], level: int, logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
        if drawing[level].temperature == 0:
            return logits.argmax(-1)
        return at(probabilities(logits, drawing[level]), u[level])[:, 0]

    drawer, edge = drawer or FrameDrawer(model), codes.new_full((b, levels), model.mask_code)
    for index in range(rounds):
        start, stop = (places.start + len(places) * i // rounds for i in (index, index + 1))
        hidden = model(codes, semantic, mulan) if stop > start else codes
        cache = step = None
        if model.config.history_layers and stop > start:
            cache = model.history.new_cache(b, frames)
            if start:
                cache = model.with_history(hidden[:, :start], model.frames_before(codes[:, :, :start]), 0, cache)[1]
            assert cache is not None
            if drawer.history is not None and FrameHistory.fits(model):  # autocast may have come since
                step = drawer.history.begin(cache)
        for frame in range(start, stop):
            earlier = codes[:, :, frame - 1] if frame else edge
            later = codes[:, :, frame + 1] if frame + 1 < frames else edge
            state = hidden[:, frame]
            if cache is not None and drawer.history is not None and step is not None:
                state, cache = drawer.history(state, earlier, frame, cache, step)
            elif cache is not None:
                states, cache = model.with_history(state[:, None], earlier[..., None], frame, cache)
                state = states[:, 0]
            own = partial(choose, u[:, frame - places.start].unbind(1))
            codes[:, :, frame] = drawer(state, earlier, later, own)
        yield codes


class StormAcoustic(AcousticDecoder):
    """SoundStorm as an `AcousticDecoder`."""

    def __init__(
        self, model: SoundStorm, sampling: StormSampling | None = None, drawer: FrameDrawer | None = None
    ) -> None:
        """drawer: that of a model with `series`, if it is at hand."""
        self.model = model
        self._drawer = FrameDrawer(model) if drawer is None and model.config.series else drawer
        self.sampling = sampling or StormSampling()
        config = model.config
        unit = config.pace.unit
        units_hz = (config.acoustic.frame_rate_hz or 0.0) / unit
        self.window = max(1, round(self.sampling.window_s * units_hz)) * unit
        first_s = self.sampling.first_window_s
        self.first = self.window if first_s is None else max(1, round(first_s * units_hz)) * unit
        self.prompt = round(self.sampling.prompt_s * units_hz) * unit
        draw_s = self.sampling.draw_s
        self.draw = None if draw_s is None else max(1, round(draw_s * units_hz)) * unit

    @property
    def levels(self) -> int:
        """See `AcousticDecoder.levels`."""
        return self.model.config.acoustic.levels

    def seams_s(self, duration_s: float) -> tuple[float, ...]:
        """See `AcousticDecoder.seams_s`."""
        rate = self.model.config.acoustic.frame_rate_hz or 0.0
        return tuple(stop / rate for _, stop in self.plan(round(duration_s * rate), 0)[:-1])

    def stream(
        self,
        semantic: Int[Tensor, "b s t"] | SemanticSource,
        mulan: Int[Tensor, "b m 1"] | Schedule | None,
        generators: Sequence[torch.Generator],
        prompt: Int[Tensor, "b q p"] | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Int[Tensor, "b q n"]]:
        """See `AcousticDecoder.stream`. A piece is what a window adds. Semantic codes may have no end; then there is no
        progress to report.

        Raises: ValueError if the generators or the prompt do not fit.
        """
        semantic, schedule = SemanticSource.of(semantic), Schedule.of(mulan)
        b, pace = semantic.batch, self.model.config.pace
        levels = self.levels
        check_generators(generators, b)
        num_frames = None if semantic.num_frames is None else pace.acoustic_frames(semantic.num_frames)
        device = self.model.head.device
        held = torch.zeros(b, levels, 0, dtype=torch.long, device=device) if prompt is None else prompt.long()
        if held.shape[:2] != (b, levels) or (num_frames is not None and held.shape[2] > num_frames):
            raise ValueError(f"the prompt must be ({b}, {levels}, at most {num_frames}), got {tuple(held.shape)}")
        total = 0 if num_frames is None else self.passes * len(self.plan(num_frames, held.shape[2], schedule))
        done, stop = 0, held.shape[2]
        if held.shape[2]:
            yield held
        base = 0  # the frame that `held` begins at
        while stop != num_frames:
            start, stop = self._window(stop, num_frames)
            held = held[:, :, start - base :]
            base, known = start, held.shape[2]
            part = semantic[pace.semantic_frame_of(start) : pace.semantic_frames(stop)]
            # conditions that are made up meanwhile are known once their codes are there
            condition, stop = self._condition(schedule, start + known, stop)
            part = part[:, :, : pace.semantic_frames(stop) - pace.semantic_frame_of(start)]
            codes = torch.cat([held, held.new_zeros(b, levels, stop - start - known)], 2)
            for filled in fill(
                self.model, codes, slice(known, None), part, condition, self.sampling, generators, self._drawer
            ):
                held = filled
                done += 1
                if on_progress is not None and total:
                    on_progress(done, total)
            yield held[:, :, known:]

    @property
    def passes(self) -> int:
        """Of the network, for a window."""
        levels = 1 if self.model.config.depth_width else self.levels
        return sum(self.sampling.rounds_of(level) for level in range(levels))

    @torch.inference_mode()
    def infill(
        self,
        codes: Int[Tensor, "b q f"],
        span: range,
        semantic: Int[Tensor, "b s t"],
        mulan: Int[Tensor, "b m 1"] | None,
        generators: Sequence[torch.Generator],
        on_progress: Progress | None = None,
    ) -> Int[Tensor, "b q n"]:
        """See `AcousticDecoder.infill`: with both sides known, in windows if the span is longer than one.

        The last window sees what follows the span, the others only what they go on from.
        """
        check_generators(generators, codes.shape[0])
        pace, done, codes = self.model.config.pace, 0, codes.clone()
        plan = self.plan_infill(codes.shape[2], span)
        for window, free in plan:
            around = codes[:, :, window.start : window.stop]
            inside = slice(free.start - window.start, free.stop - window.start)
            part = semantic[:, :, pace.semantic_frame_of(window.start) : pace.semantic_frames(window.stop)]
            filled = around
            for after in fill(self.model, around, inside, part, mulan, self.sampling, generators, self._drawer):
                filled = after
                done += 1
                if on_progress is not None:
                    on_progress(done, self.passes * len(plan))
            codes[:, :, free.start : free.stop] = filled[:, :, inside]
        return codes[:, :, span.start : span.stop]

    def plan_infill(self, num_frames: int, span: range) -> list[tuple[range, range]]:
        """Windows that begin with a semantic frame, and which frames of each are made: the span in even parts."""
        together = self.model.config.pace.together
        least = min(self.prompt, self.window // 3)  # on either side
        room = self.window - min(span.start, least) - min(num_frames - span.stop, least)
        parts = 1 if len(span) <= room else -(-len(span) // (self.window - 2 * least))
        edges = [span.start, *(together(span.start + i * len(span) // parts) for i in range(1, parts)), span.stop]
        plan = []
        for start, stop in itertools.pairwise(sorted(set(edges))):  # a part may be shorter than a unit
            side = max(least, (self.window - (stop - start)) // 2)  # what a window has left goes to its sides
            last = min(num_frames, stop + side) if stop == span.stop else stop
            plan.append((range(together(max(0, start - side)), last), range(start, stop)))
        return plan

    def plan(self, num_frames: int, known: int, schedule: Schedule | None = None) -> list[tuple[int, int]]:
        """Windows [start, stop) of frames, each beginning with a semantic frame, at most `prompt` frames before what is
        unknown, and ending where a condition does.
        """
        windows: list[tuple[int, int]] = []
        while known < num_frames:
            start, stop = self._window(known, num_frames)
            known = self._condition(Schedule.of(schedule), known, stop)[1]
            windows.append((start, known))
        return windows

    def _window(self, known: int, num_frames: int | None) -> tuple[int, int]:
        """The next window, if its condition lasts that long."""
        start = self.model.config.pace.together(max(0, known - self.prompt))
        stop = start + (self.window if known else self.first)
        if self.draw is not None:
            stop = min(stop, known + self.draw)
        return start, stop if num_frames is None else min(num_frames, stop)

    def _condition(self, schedule: Schedule, known: int, stop: int) -> tuple[Tensor | None, int]:
        """The condition of frames from `known` on, and where it ends, at `stop` if not before."""
        pace = self.model.config.pace
        frame = pace.semantic_frame_of(known)
        change = schedule.until(frame)
        return schedule.at(frame).mulan, stop if change is None else min(stop, pace.acoustic_frame_of(change))
