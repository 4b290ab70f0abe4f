"""SoundStorm's decoding (SoundStorm, section 3.3): level by level, the first in a few rounds that keep what is most
certain.

Round i of N leaves cos(pi/2 * (i + 1) / N) of a level's frames masked. Levels after the first take one greedy pass.
Long audio goes in windows of the length of training, each begun by frames of the one before, so memory and time per
second stay constant.

A model with `depth_width` fixes frames whole: each round draws every level of the masked frames and keeps the frames
whose first level is most certain, so the rounds of the first level are all there are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from musiclm.generate.acoustic import AcousticDecoder, Progress, SemanticSource
from musiclm.models.storm.model import SoundStorm
from musiclm.nn.sampling import Sampling as Drawing
from musiclm.nn.sampling import check_generators, check_temperature, draw, probabilities, uniforms

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

    def rounds_of(self, level: int) -> int:
        return self.rounds[level] if level < len(self.rounds) else 1


def num_masked(frames: int, round_index: int, rounds: int) -> int:
    """How many of `frames` stay masked after a round (counted from 0): the cosine schedule, 0 after the last."""
    if round_index + 1 == rounds:
        return 0
    return min(frames - 1, math.floor(frames * math.cos(math.pi / 2 * (round_index + 1) / rounds)))


@torch.inference_mode()
def fill(
    model: SoundStorm,
    codes: Int[Tensor, "b q f"],
    known: int,
    semantic: Int[Tensor, "b s t"],
    mulan: Int[Tensor, "b m 1"] | None,
    sampling: StormSampling,
    generators: Sequence[torch.Generator],
) -> Iterator[Int[Tensor, "b q f"]]:
    """Codes after each pass, those of frames from `known` on drawn anew; the last ones are complete."""
    if model.config.depth_width:
        yield from _fill_frames(model, codes, known, semantic, mulan, sampling, generators)
        return
    b, levels, frames = codes.shape
    codes = codes.clone()
    codes[:, :, known:] = model.mask_code
    free = frames - known
    for level in range(levels):
        rounds = sampling.rounds_of(level)
        drawing = Drawing(
            temperature=sampling.temperature if rounds > 1 else sampling.rest_temperature, top_p=sampling.top_p
        )
        masked = torch.ones(b, free, dtype=torch.bool, device=codes.device)
        for index in range(rounds):
            hidden = model(codes, semantic, mulan)[:, known:]
            p = probabilities(model.logits(hidden, level), drawing)
            if drawing.temperature == 0:
                drawn = p.argmax(-1)
            else:
                drawn = draw(p, uniforms(generators, free, codes.device))
            now = torch.where(masked, drawn, codes[:, level, known:])
            masked = _still_masked(p, drawn, masked, index, rounds, sampling.choice_noise, generators)
            codes[:, level, known:] = now.masked_fill(masked, model.mask_code)
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
    known: int,
    semantic: Int[Tensor, "b s t"],
    mulan: Int[Tensor, "b m 1"] | None,
    sampling: StormSampling,
    generators: Sequence[torch.Generator],
) -> Iterator[Int[Tensor, "b q f"]]:
    """`fill` for a model with `depth_width`."""
    b, levels, frames = codes.shape
    codes = codes.clone()
    codes[:, :, known:] = model.mask_code
    free, rounds = frames - known, sampling.rounds_of(0)
    masked = torch.ones(b, free, dtype=torch.bool, device=codes.device)

    def drawn(state: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Probabilities and codes of a level, `b f v` and `b f`, from states `b f d`."""
        temperature = sampling.temperature if level == 0 else sampling.rest_temperature
        logits = model.depth_logits(state.flatten(0, 1), level).unflatten(0, state.shape[:2])
        p = probabilities(logits, Drawing(temperature=temperature, top_p=sampling.top_p))
        return p, p.argmax(-1) if temperature == 0 else draw(p, uniforms(generators, state.shape[1], codes.device))

    for index in range(rounds):
        state = model(codes, semantic, mulan)[:, known:]
        p, first = drawn(state, 0)
        after = _still_masked(p, first, masked, index, rounds, sampling.choice_noise, generators)
        # as many frames in every item; only they need the levels above
        where = (masked & ~after).nonzero()[:, 1].view(b, -1)
        state = state.gather(1, where[..., None].expand(-1, -1, state.shape[2]))
        new = [first.gather(1, where)]
        for level in range(1, levels):
            state = model.depth_state(state.flatten(0, 1), level - 1, new[-1].flatten()).view_as(state)
            new.append(drawn(state, level)[1])
        codes[:, :, known:].scatter_(2, where[:, None].expand(-1, levels, -1), torch.stack(new, 1))
        masked = after
        yield codes


class StormAcoustic(AcousticDecoder):
    """SoundStorm as an `AcousticDecoder`."""

    def __init__(self, model: SoundStorm, sampling: StormSampling | None = None) -> None:
        self.model = model
        self.sampling = sampling or StormSampling()
        config = model.config
        units_hz = (config.acoustic.frame_rate_hz or 0.0) / config.pace.acoustic
        self.window = max(1, round(self.sampling.window_s * units_hz)) * config.pace.acoustic
        first_s = self.sampling.first_window_s
        self.first = self.window if first_s is None else max(1, round(first_s * units_hz)) * config.pace.acoustic
        self.prompt = round(self.sampling.prompt_s * units_hz) * config.pace.acoustic

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
        mulan: Int[Tensor, "b m 1"] | None,
        generators: Sequence[torch.Generator],
        prompt: Int[Tensor, "b q p"] | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Int[Tensor, "b q n"]]:
        """See `AcousticDecoder.stream`. A piece is what a window adds.

        Raises: ValueError if the generators or the prompt do not fit.
        """
        semantic = SemanticSource.of(semantic)
        b, pace = semantic.batch, self.model.config.pace
        levels = self.levels
        check_generators(generators, b)
        num_frames = pace.acoustic_frames(semantic.num_frames)
        device = self.model.head.device
        held = torch.zeros(b, levels, 0, dtype=torch.long, device=device) if prompt is None else prompt.long()
        if held.shape[:2] != (b, levels) or held.shape[2] > num_frames:
            raise ValueError(f"the prompt must be ({b}, {levels}, at most {num_frames}), got {tuple(held.shape)}")
        depth = self.model.config.depth_width > 0
        passes = sum(self.sampling.rounds_of(level) for level in range(1 if depth else levels))
        plan = self.plan(num_frames, held.shape[2])
        done = 0
        if held.shape[2]:
            yield held
        base = 0  # the frame that `held` begins at
        for start, stop in plan:
            held = held[:, :, start - base :]
            base, known = start, held.shape[2]
            codes = torch.cat([held, held.new_zeros(b, levels, stop - start - known)], 2)
            part = semantic[pace.semantic_frames(start) : pace.semantic_frames(stop)]
            for filled in fill(self.model, codes, known, part, mulan, self.sampling, generators):
                held = filled
                done += 1
                if on_progress is not None:
                    on_progress(done, passes * len(plan))
            yield held[:, :, known:]

    def plan(self, num_frames: int, known: int) -> list[tuple[int, int]]:
        """Windows [start, stop) of frames, each beginning with a semantic frame, at most `prompt` frames before what is
        unknown.
        """
        windows: list[tuple[int, int]] = []
        while known < num_frames:
            start = self.model.config.pace.together(max(0, known - self.prompt))
            known = min(num_frames, start + (self.window if windows or known else self.first))
            windows.append((start, known))
        return windows
