"""Sampling from the language models (MusicLM section 3.2): temperature, top-k, top-p, guidance; long audio by sliding
windows.

Each step reads one id per row into a static cache and computes one row of logits. Guided and unguided halves share a
batch. All randomness is one uniform number per id, drawn ahead from each item's own generator and turned into a code by
the inverse of the cumulative distribution: an item's draws depend neither on the batch around it nor on the device.

(Bits: a CPU picks other matrix kernels for other batch sizes, so logits of a batch and of a single run differ in their
last bits, and a draw that falls into such a gap, about one in a million, differs. `musiclm.generate.session` runs items
singly where that matters.)
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.core.streams import MULAN, Pace
from musiclm.core.threads import on_threads, threads_for
from musiclm.generate.acoustic import AcousticDecoder, Progress, SemanticSource
from musiclm.generate.schedule import Condition, Schedule
from musiclm.generate.steer import Guide
from musiclm.models.lm.frames import Frames, LeanLM
from musiclm.models.lm.melody import part_of
from musiclm.models.lm.model import TokenLM
from musiclm.nn.sampling import Sampling, check_generators, draw, probabilities, uniforms
from musiclm.nn.transformer import KvCache, StaticStep

STATIC_STEPS = 50  # from so many on, recording one saves time


def steps_are_static(device: torch.device) -> bool:
    """Whether steps are recorded (`StaticStep`): on CUDA, without autocast, which has copies of weights of its own."""
    return device.type == "cuda" and not torch.is_autocast_enabled(device.type)


@on_threads(lambda model, *_, **__: threads_for(model))
@torch.inference_mode()
def decode(
    model: TokenLM,
    streams: dict[str, Tensor],
    num_frames: int,
    sampling: Sampling,
    u: Float[Tensor, "b n"],
    given: Int[Tensor, "b q p"] | None = None,
    steering: Sequence[Guide] = (),
    lean: LeanLM | None = None,
) -> Iterator[Int[Tensor, " b"]]:
    """The codes of one sequence after `given`, one level of one frame at a time: level j mod levels at step j.

    `streams` holds the conditions; a missing "mulan" is the null condition. A "melody" is by frame of the target, with
    what is given (`musiclm.models.lm.melody`); guidance pulls towards it as towards the prompt. `u` decides the draws:
    (t - p) * q per row. `steering`, one a row, has observed before what is given. `lean`: the model's, if it `fits` and
    is at hand.
    """
    layout, batch = model.layout, u.shape[0]
    levels = layout.target_spec.levels
    conditioned = MULAN.name in streams
    streams = with_null(model, streams, batch)
    guided = conditioned and sampling.guidance != 1.0 and layout.parts[0].stream == MULAN.name
    condition = None if "melody" not in streams else model.told_of(streams["melody"][:, :, :num_frames])
    if condition is not None and guided:
        condition = torch.cat([condition, torch.zeros_like(condition)])
    null = torch.ones(batch, dtype=torch.bool, device=u.device)
    prefix, positions = layout.prefix(streams, None if conditioned else null)
    if guided:
        prefix = torch.cat([prefix, layout.prefix(streams, null)[0]])
    codes = u.new_zeros(batch, levels, 0, dtype=torch.long) if given is None else given.long()
    first, total = codes.shape[2] * levels, num_frames * levels
    assert u.shape[1] == total - first, (u.shape, total, first)
    codes = torch.cat([codes, codes]) if guided else codes
    steps = _begun(model, prefix, positions, codes, condition, num_frames, lean)
    for step in range(first, total):
        level = step % levels
        logits = steps.logits(level)
        if guided:
            logits = logits[batch:].lerp(logits[:batch], sampling.guidance)
        for row, each in enumerate(steering):
            bias = each.bias()
            logits[row] += bias.to(u.device) if isinstance(bias, Tensor) else bias
        if sampling.temperature == 0:
            code = logits.argmax(-1)
        else:
            code = draw(probabilities(logits, sampling), u[:, step - first])
        if steering:
            for each, drawn in zip(steering, code.tolist(), strict=True):
                each.observe(drawn)
        yield code
        if step + 1 < total:
            place = step // levels + 1 if layout.whole_frames else step + 1
            next_condition = (
                None if condition is None or place >= condition.shape[1] else condition[:, place : place + 1]
            )
            steps.observe(level, torch.cat([code, code]) if guided else code, next_condition)


def _begun(
    model: TokenLM,
    prefix: Int[Tensor, "b n"],
    positions: Float[Tensor, " n"],
    given: Int[Tensor, "b q p"],
    condition: Float[Tensor, "b t d"] | None,
    num_frames: int,
    lean: LeanLM | None,
) -> "Frames | Steps":
    """What draws the codes after a prefix and the codes `given`, which are read. condition: what is added, by place."""
    x = model.embed(prefix)
    if given.shape[2]:
        embedded = model.embed_codes(given)
        x = torch.cat([x, embedded], 1)
        positions = torch.cat([positions, model.layout.target_positions(0, embedded.shape[1], x.device)])
    before = prefix.shape[1] - 1  # the last place of the prefix is the first that tells of the target
    if condition is not None:
        x = torch.cat([x[:, :before], x[:, before:] + condition[:, : x.shape[1] - before]], 1)
    cache = model.transformer.new_cache(len(x), prefix.shape[1] + num_frames * model.layout.places_per_frame)
    hidden, moved = model.transformer(x, positions, cache)
    assert moved is not None
    if LeanLM.fits(model):
        return Frames(lean or LeanLM(model), moved, hidden[:, before:], given, num_frames)
    return Steps(model, moved, hidden[:, before:], given, num_frames)


class Steps:
    """`Frames` of any model, by its own layers. A place of the sequence is an id, or a frame."""

    def __init__(
        self,
        model: TokenLM,
        cache: KvCache,
        hidden: Float[Tensor, "b k d"],
        given: Int[Tensor, "b q p"],
        num_frames: int,
    ) -> None:
        """As of `Frames`."""
        layout, device = model.layout, hidden.device
        levels, known = layout.target_spec.levels, given.shape[2]
        self.model, self.state = model, hidden[:, -1]
        self.cache: KvCache | None = cache
        self.step = known * levels
        self.frame: list[Tensor] = []  # its codes so far, by level
        self.times = layout.target_positions(0, num_frames * levels, device)
        static = (num_frames - known) * layout.places_per_frame >= STATIC_STEPS and steps_are_static(device)
        self.one = StaticStep(model.transformer, cache) if static else None
        self.past = model.pointer.begin(hidden, given, num_frames) if model.config.pointer_heads else None

    def logits(self, level: int) -> Float[Tensor, "b v"]:
        """Of a level of the frame, those below it having been drawn."""
        return self.model.logits(self.state, level, self.past)

    def observe(self, level: int, codes: Int[Tensor, " b"], condition: Float[Tensor, "b 1 d"] | None = None) -> None:
        """A level was drawn. condition: what is added to the next place."""
        model, layout, step = self.model, self.model.layout, self.step
        self.step += 1
        ids = codes + (layout.target_offset + level * layout.target_spec.codebook_size)
        if not layout.whole_frames:
            hidden, self.cache = model.read(ids[:, None], self.times[step : step + 1], self.cache, condition, self.one)
            self.state = hidden[:, -1]
            return
        self.frame.append(codes)
        if self.past is not None:
            model.pointer.observe(self.past, level, codes)
        if len(self.frame) < layout.target_spec.levels:
            self.state = model.state_after(self.state, ids)
            return
        assert self.cache is not None
        place = step // layout.target_spec.levels
        read = torch.stack(self.frame, 1)[..., None]
        hidden, self.cache = model.read_codes(read, place, self.cache, condition, self.one)
        self.state, self.frame = hidden[:, -1], []
        if self.past is not None:
            model.pointer.next(self.past, self.state)


def with_null(model: TokenLM, streams: dict[str, Tensor], batch: int) -> dict[str, Tensor]:
    """`streams`, with codes of 0 for a missing MuLan condition (they become null ids)."""
    part, spec = model.layout.parts[0], model.layout.specs[0]
    if part.stream != MULAN.name or MULAN.name in streams:
        return streams
    zeros = torch.zeros(batch, spec.levels, 1, dtype=torch.long, device=model.embedding.weight.device)
    return {**streams, MULAN.name: zeros}


def collect(steps: Iterator[Int[Tensor, " b"]], levels: int, on_step: Callable[[], None]) -> Int[Tensor, "b q n"]:
    """Codes out of the steps of `decode`, of which there is at least one."""
    codes = []
    for code in steps:
        codes.append(code)
        on_step()
    return torch.stack(codes, 1).unflatten(1, (-1, levels)).transpose(1, 2)


def stream_semantic(
    model: TokenLM,
    mulan: Int[Tensor, "b m 1"] | Schedule | None,
    num_frames: int | None,
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    prompt: Int[Tensor, "b q p"] | None = None,
    on_progress: Progress | None = None,
    chunk_s: float = 1.0,
    steering: Sequence[Guide] = (),
    melody: Int[Tensor, "b r t"] | None = None,
    lean: LeanLM | None = None,
) -> Iterator[Int[Tensor, "b q n"]]:
    """Semantic codes of a clip of any length, `chunk_s` at a time (MusicLM, section 3.2); num_frames None: without end.

    Past the length of its training crops (30 s as published) the window moves on by half: its last half is the prefix
    of the next. The prompt's frames come first. Where the condition changes (`mulan` a schedule), the frames of the
    window so far follow the new one, and what is drawn next follows them. steering: one for each item, new ones; none:
    nothing is steered. melody: codes by frame from the first, the prompt's included
    (`musiclm.models.lm.melody.by_frame`); after their end there is none. Of a model that reads no melody it is pitches
    (`musiclm.models.melody.pitches`) that the steering follows. lean: the model's, if it `fits` and is
    at hand.

    Raises: ValueError if the generators, the prompt or the steering do not fit.
    """
    schedule, target = Schedule.of(mulan), model.layout.target_spec
    held = _checked_prompt(model, schedule, num_frames, generators, prompt, steering)
    if melody is not None and model.config.melody is None:
        for each, row in zip(steering, melody[:, 0].tolist(), strict=True):
            each.follow(row)
        melody = None
    for each, row in zip(steering, held.transpose(1, 2).flatten(1).tolist(), strict=False):
        for code in row:
            each.observe(code)
    if held.shape[2]:
        yield held
    chunk_frames = max(1, round(chunk_s * (target.frame_rate_hz or 0.0)))
    done = first = held.shape[2]
    fresh: list[Tensor] = []
    for frame in _semantic_frames(model, schedule, num_frames, sampling, generators, held, steering, melody, lean):
        fresh.append(frame)
        done += 1
        if on_progress is not None and num_frames is not None:
            on_progress(done - first, num_frames - first)
        if len(fresh) == chunk_frames or done == num_frames:
            yield torch.stack(fresh, 2)
            fresh = []


def _checked_prompt(
    model: TokenLM,
    schedule: Schedule,
    num_frames: int | None,
    generators: Sequence[torch.Generator],
    prompt: Int[Tensor, "b q p"] | None,
    steering: Sequence[Guide],
) -> Int[Tensor, "b q p"]:
    """The prompt, of no frames if there is none. Raises: as `stream_semantic`."""
    batch, levels = len(generators), model.layout.target_spec.levels
    for _, condition in schedule.changes:
        if condition.mulan is not None:
            check_generators(generators, condition.mulan.shape[0])
    device = model.embedding.weight.device
    held = torch.zeros(batch, levels, 0, dtype=torch.long, device=device) if prompt is None else prompt.long()
    if num_frames is not None and held.shape[2] > num_frames:
        raise ValueError(f"the prompt has {held.shape[2]} frames, more than the {num_frames} asked for")
    check_generators(generators, held.shape[0])
    if steering and len(steering) != batch:
        raise ValueError(f"{len(steering)} steerings for {batch} items; pass one per item, or none")
    return held


def _semantic_frames(
    model: TokenLM,
    schedule: Schedule,
    num_frames: int | None,
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    held: Int[Tensor, "b q p"],
    steering: Sequence[Guide],
    melody: Int[Tensor, "b r t"] | None,
    lean: LeanLM | None,
) -> Iterator[Int[Tensor, "b q"]]:
    """`stream_semantic` frame by frame, after those that are `held`."""
    window, levels, done = model.layout.crop_frames(), model.layout.target_spec.levels, held.shape[2]
    device = model.embedding.weight.device
    u = torch.zeros(len(held), 0, device=device)  # drawn and not used: what one condition leaves is the next one's
    condition: Condition | None = None
    if lean is None and LeanLM.fits(model):
        lean = LeanLM(model)
    while done != num_frames:
        before, condition = condition, schedule.begin(done)
        if before is not None and condition is not before:
            for each, steer in zip(steering, condition.steers, strict=False):
                each.retarget(steer)
        if held.shape[2] >= window:
            held = held[:, :, -(window - window // 2) :]
        length = window if num_frames is None else min(window, held.shape[2] + num_frames - done)
        u = torch.cat([u, uniforms(generators, (length - held.shape[2]) * levels - u.shape[1], device)], 1)
        streams = {} if condition.mulan is None else {MULAN.name: condition.mulan}
        if melody is not None:
            streams["melody"] = part_of(melody, done - held.shape[2], length)
        new: list[Tensor] = []
        for frame in _whole_frames(decode(model, streams, length, sampling, u, held, steering, lean), levels):
            new.append(frame)
            done += 1
            yield frame
            if done == num_frames or schedule.begin(done) is not condition:
                break
        u = u[:, len(new) * levels :]
        held = torch.cat([held, torch.stack(new, 2)], 2)


def _whole_frames(codes: Iterator[Int[Tensor, " b"]], levels: int) -> Iterator[Int[Tensor, "b q"]]:
    frame: list[Tensor] = []
    for code in codes:
        frame.append(code)
        if len(frame) == levels:
            yield torch.stack(frame, 1)
            frame = []


@torch.inference_mode()
def log_likelihood(
    model: TokenLM,
    mulan: Int[Tensor, "b m 1"] | None,
    codes: Int[Tensor, "b q t"],
    known: int,
    melody: Int[Tensor, "b n t"] | None = None,
) -> Float[Tensor, " b"]:
    """Mean log-probability, in nats, of the codes of frames from `known` on, each given all that is before it.

    Of long codes the model reads the last crop. melody: of what they follow, by frame, if the model reads any.

    Raises: ValueError if no frame is left.
    """
    if known >= codes.shape[2]:
        raise ValueError(f"{codes.shape[2]} frames, of which {known} are known: none is left to be judged")
    cut = max(0, codes.shape[2] - model.layout.crop_frames())
    codes, known = codes[:, :, cut:].long(), max(0, known - cut)
    melody = None if melody is None or model.config.melody is None else melody[:, :, cut:]
    streams = with_null(model, {} if mulan is None else {MULAN.name: mulan}, codes.shape[0])
    null = torch.ones(codes.shape[0], dtype=torch.bool, device=codes.device) if mulan is None else None
    prefix, positions = model.layout.prefix(streams, null)
    logits = model(prefix, positions, codes, melody=melody)[:, :, known:].log_softmax(-1)
    return logits.gather(-1, codes[:, :, known:, None])[..., 0].mean(dim=(1, 2))


def generate_semantic(
    model: TokenLM,
    mulan: Int[Tensor, "b m 1"] | Schedule | None,
    num_frames: int,
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    prompt: Int[Tensor, "b q p"] | None = None,
    on_progress: Progress | None = None,
) -> Int[Tensor, "b q t"]:
    """`stream_semantic`, whole."""
    pieces = stream_semantic(model, mulan, num_frames, sampling, generators, prompt, on_progress)
    return torch.cat(list(pieces), 2)


class ArAcoustic(AcousticDecoder):
    """The coarse and fine stages as an `AcousticDecoder` (AudioLM, sections 3.3 and 3.4).

    Coarse ids come in 10 s windows whose first half is the last half of the window before; fine ones in 3 s chunks on
    their own, those of a window side by side in one batch. Without a fine stage only the coarse levels come out.
    """

    def __init__(
        self,
        coarse: TokenLM,
        fine: TokenLM | None,
        coarse_sampling: Sampling | None = None,
        fine_sampling: Sampling | None = None,
    ) -> None:
        """Raises ValueError if the models are of other stages or of other streams."""
        for model, stage in ((coarse, "coarse"), (fine, "fine")):
            if model is not None and model.config.stage != stage:
                raise ValueError(f"the {stage} model is of stage {model.config.stage!r}")
        if fine is not None and coarse.config.specs != fine.config.specs:
            raise ValueError("the coarse and the fine model were trained on different streams")
        self.coarse, self.fine = coarse, fine
        self.coarse_sampling = coarse_sampling or Sampling(temperature=0.95)
        self.fine_sampling = fine_sampling or Sampling(temperature=0.4)
        self.pace = Pace.of(coarse.layout.specs[-1], coarse.layout.specs[-2])

    @property
    def levels(self) -> int:
        """See `AcousticDecoder.levels`."""
        fine = 0 if self.fine is None else self.fine.layout.target_spec.levels
        return self.coarse.layout.target_spec.levels + fine

    def seams_s(self, duration_s: float) -> tuple[float, ...]:
        """See `AcousticDecoder.seams_s`: of the coarse stage's windows and, if there is one, of the fine stage's
        chunks.
        """
        rate = self.coarse.layout.target_spec.frame_rate_hz or 0.0
        window, stop = self.coarse.layout.crop_frames(), round(duration_s * rate)
        seams = set(range(window, stop, window - self.pace.together(window // 2)))
        if self.fine is not None:
            seams |= set(range(self.fine.layout.crop_frames(), stop, self.fine.layout.crop_frames()))
        return tuple(frame / rate for frame in sorted(seams))

    def stream(
        self,
        semantic: Int[Tensor, "b s t"] | SemanticSource,
        mulan: Int[Tensor, "b m 1"] | Schedule | None,
        generators: Sequence[torch.Generator],
        prompt: Int[Tensor, "b q p"] | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Int[Tensor, "b q n"]]:
        """See `AcousticDecoder.stream`.

        Pieces are whole chunks of the fine stage, save for the last; without one, windows of the coarse stage. Of
        semantic codes without end it makes nothing: all coarse codes so far are kept.
        """
        semantic, schedule = SemanticSource.of(semantic), Schedule.of(mulan)
        assert semantic.num_frames is not None
        batch = semantic.batch
        check_generators(generators, batch)
        coarse_levels = self.coarse.layout.target_spec.levels
        levels, fine_levels = self.levels, self.levels - coarse_levels
        num_frames = self.pace.acoustic_frames(semantic.num_frames)
        if prompt is None:
            prompt = torch.zeros(batch, levels, 0, dtype=torch.long, device=self.coarse.embedding.weight.device)
        if prompt.shape[1] != levels or prompt.shape[2] > num_frames:
            raise ValueError(f"the prompt must be (b, {levels}, at most {num_frames}), got {tuple(prompt.shape)}")
        chunk = self.fine.layout.crop_frames() if self.fine is not None else 1
        new = num_frames - prompt.shape[2]
        # fine chunks side by side take one step; this only serves the progress bar
        count = _Counter(new * coarse_levels + new * fine_levels, on_progress)
        known = prompt[:, :coarse_levels].long()
        emitted = 0
        for coarse in self._coarse(semantic, num_frames, schedule, known, generators, count):
            stop = coarse.shape[2] if coarse.shape[2] == num_frames else coarse.shape[2] // chunk * chunk
            if stop > emitted and self.fine is None:
                yield coarse[:, :, emitted:stop]
                emitted = stop
            elif stop > emitted:
                fine = self._fine(coarse[:, :, emitted:stop], prompt[:, coarse_levels:, emitted:], generators, count)
                yield torch.cat([coarse[:, :, emitted:stop], fine], 1)
                emitted = stop

    def infill(
        self,
        codes: Int[Tensor, "b q f"],
        span: range,
        semantic: Int[Tensor, "b s t"],
        mulan: Int[Tensor, "b m 1"] | None,
        generators: Sequence[torch.Generator],
        on_progress: Progress | None = None,
    ) -> Int[Tensor, "b q n"]:
        """See `AcousticDecoder.infill`: it goes on from what is before, and does not see the codes that follow."""
        covered = semantic[:, :, : self.pace.semantic_frames(span.stop)]
        before = codes[:, :, : span.start]
        return self.generate(covered, mulan, generators, before, on_progress)[:, :, span.start : span.stop]

    def _coarse(
        self,
        semantic: SemanticSource,
        num_frames: int,
        schedule: Schedule,
        codes: Tensor,
        generators: Sequence[torch.Generator],
        count: "_Counter",
    ) -> Iterator[Int[Tensor, "b q t"]]:
        """All coarse codes so far, after each window."""
        layout = self.coarse.layout
        window = layout.crop_frames()
        keep = self.pace.together(window // 2)
        if codes.shape[2] == num_frames:
            yield codes
        while codes.shape[2] < num_frames:
            # windows begin at a semantic frame, also after a prompt of any length
            start = 0 if codes.shape[2] < window else self.pace.together(codes.shape[2] - keep)
            now = self.pace.semantic_frame_of(codes.shape[2])
            mulan, change = schedule.at(now).mulan, schedule.until(now)
            stop = num_frames if change is None else min(num_frames, self.pace.acoustic_frame_of(change))
            length = min(window, stop - start)
            part = semantic[self.pace.semantic_frame_of(start) : self.pace.semantic_frames(start + length)]
            streams = {"semantic": part} if mulan is None else {"semantic": part, MULAN.name: mulan}
            given = codes[:, :, start:]
            levels = layout.target_spec.levels
            u = uniforms(generators, (length - given.shape[2]) * levels, codes.device)
            steps = decode(self.coarse, streams, length, self.coarse_sampling, u, given)
            codes = torch.cat([codes, collect(steps, levels, lambda: count.add(1))], 2)
            yield codes

    def _fine(
        self, coarse: Tensor, given: Tensor, generators: Sequence[torch.Generator], count: "_Counter"
    ) -> Int[Tensor, "b q t"]:
        """Fine codes of whole chunks and perhaps a shorter last one; `given` are fine frames known from a prompt."""
        assert self.fine is not None
        layout = self.fine.layout
        chunk, batch, levels = layout.crop_frames(), coarse.shape[0], layout.target_spec.levels
        given = given[:, :, : coarse.shape[2]].long()
        known = given.shape[2] // chunk * chunk  # chunks that the prompt fills
        out = [given[:, :, :known]]
        position = known
        while position < coarse.shape[2]:
            prefix = given[:, :, position : position + chunk]
            length = min(chunk, coarse.shape[2] - position)
            if prefix.shape[2] == length:  # the prompt ends with the audio
                out.append(prefix)
                break
            # as many whole chunks side by side as there are; one that the prompt begins is alone
            num = 1 if prefix.shape[2] else max(1, (coarse.shape[2] - position) // chunk)
            part = coarse[:, :, position : position + num * length]
            rows = part.unflatten(2, (num, length)).transpose(1, 2).flatten(0, 1)  # (b num) q t
            u = uniforms(generators, num * (length - prefix.shape[2]) * levels, coarse.device)
            steps = decode(self.fine, {"acoustic": rows}, length, self.fine_sampling, u.view(batch * num, -1), prefix)
            new = collect(steps, levels, lambda num=num: count.add(num))  # type: ignore[misc]
            out += [prefix, new.unflatten(0, (batch, num)).transpose(1, 2).flatten(2)]
            position += num * length
        return torch.cat(out, 2)


class _Counter:
    """Adds steps up for a progress callback."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self.done, self.total, self.on_progress = 0, total, on_progress

    def add(self, steps: int) -> None:
        self.done += steps
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)
