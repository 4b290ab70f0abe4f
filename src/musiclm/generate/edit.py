"""Music that is there, made anew in part: repaint a span, vary it, make a loop of it. Not in MusicLM.

All three start from codes (`musiclm.generate.source`) and end as takes with a parent. What a gap is filled with must
fit what comes before and after it. SoundStorm sees both sides, as it was trained to. The semantic stage reads forwards
only, so it drafts the span several times, and the draft is kept under which it finds the codes that follow likeliest.
A loop is such a gap at the end of its bars, before their own beginning. Why so: docs/decisions/017-edits.md. A part of
a story is made anew by the prompts that hold there, unless another prompt is given (028-stories-edited.md).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.core.audio import SAMPLE_RATE_HZ, resample
from musiclm.generate.acoustic import AcousticDecoder, SemanticSource
from musiclm.generate.autoregressive import log_likelihood, stream_semantic
from musiclm.generate.checks import MAX_DURATION_S, MIN_DURATION_S
from musiclm.generate.config import GenerateConfig, item_generator
from musiclm.generate.melody import Melody
from musiclm.generate.music import Music
from musiclm.generate.pulse import measured_tempo
from musiclm.generate.schedule import Condition, Schedule
from musiclm.generate.source import Codes, Source
from musiclm.generate.splice import Blocks, skipping
from musiclm.generate.steer import Guide, Steer, Steering
from musiclm.generate.story import Story
from musiclm.generate.take import (
    MOST_DRAFTS,
    About,
    Drafts,
    Loop,
    Repaint,
    Take,
    TempoSource,
    Vary,
    assembled,
    decoded,
)

if TYPE_CHECKING:
    from musiclm.generate.session import MusicLM, Progress

OnTake = Callable[[Take], None]

NUM_DRAFTS = 4
DRAFTS_AT_ONCE = 4  # drawn side by side; more would only take memory
AFTER_S = 4.0  # of codes after a gap that SoundStorm and the codec are given
JUDGED_S = 2.0  # of them, by which drafts are judged
PIECE_S = 5.0  # that the codec decodes at a time
MEASURED_S = 60.0  # of sound, by which a tempo is measured
MOST_REDONE_S = 4.0  # of a loop's end; at most a bar and half of the loop
SHORTEST_LOOP_S = 1.0
BEATS_PER_BAR = 4
FORCED = 1e4  # added to a logit, it leaves no other code a share at any temperature


@dataclass(frozen=True)
class Edit:
    """An edit that is ready to be made."""

    about: About  # as the take will say, but for what only making it tells: drafts' scores, what was kept
    # the whole sound, block by block as it becomes final; then the second argument gets the take
    blocks: "Callable[[Progress | None, OnTake | None], Blocks]"

    def music(self, on_progress: "Progress | None" = None) -> Music:
        """The whole sound with its take."""
        started, takes = time.perf_counter(), list[Take]()
        audio = np.concatenate(list(self.blocks(on_progress, takes.append)))[None]
        return Music(audio, self.about.sample_rate_hz, tuple(takes), time.perf_counter() - started)


# -- what may be asked for


def check_span(start_s: float, stop_s: float | None) -> None:
    """Raises: ValueError for a span that begins before the sound or is shorter than `MIN_DURATION_S`."""
    if not start_s >= 0:
        raise ValueError(f"the span begins at {start_s:g} s; it must begin at 0 s or later")
    if stop_s is not None and not stop_s - start_s >= MIN_DURATION_S:
        raise ValueError(
            f"the span from {start_s:g} s to {stop_s:g} s is shorter than {MIN_DURATION_S} s; choose a longer one"
        )


def check_drafts(drafts: int) -> None:
    """Raises: ValueError unless there is a draft, and no more than `MOST_DRAFTS`."""
    if not 1 <= drafts <= MOST_DRAFTS:
        raise ValueError(f"{drafts} drafts; there may be 1 to {MOST_DRAFTS}")


def check_strength(strength: float) -> None:
    """Raises: ValueError outside 0..1."""
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength is {strength}; it must lie between 0 (the same codes) and 1 (all drawn anew)")


def _check_long(source: Source, duration_s: float) -> None:
    if duration_s > MAX_DURATION_S:
        raise ValueError(
            f"{duration_s:.1f} s of {source.name} would be made anew; {MAX_DURATION_S:.0f} s are the most at once"
        )


# -- repaint


def repaint(
    model: "MusicLM",
    given: str | Path | Music,
    start_s: float = 0.0,
    stop_s: float | None = None,
    prompt: str | None = None,
    seed: int = 0,
    config: GenerateConfig | None = None,
    drafts: int = NUM_DRAFTS,
) -> Edit:
    """The same sound with the span from `start_s` to `stop_s` (None: its end) made anew.

    Outside of the span every sample stays, but for 50 ms that fade into it and out of it.

    Raises: as `MusicLM.repaint`.
    """
    check_span(start_s, stop_s)
    check_drafts(drafts)
    source, rate = model.source(given), model.sample_rate_hz
    total = source.num_samples
    start, stop = round(start_s * rate), total if stop_s is None else round(stop_s * rate)
    if stop > total:
        raise ValueError(f"the span ends at {stop_s:g} s, after the end of {source.name}, which has {total / rate:g} s")
    check_span(start_s, stop / rate)
    _check_long(source, (stop - start) / rate)
    settings = config or _settings(model, source)
    decoder = model.acoustic_decoder(settings)
    # frames that lie in the span as a whole; the last one of the sound may reach beyond it
    unit = source.unit
    first, last = -(-start // unit), -(-total // unit) if stop == total else stop // unit
    window = _window_units(model, source)
    low = max(0, first - window)
    high = min(-(-total // unit), last + math.ceil(AFTER_S * rate / unit))
    codes = source.codes(low * unit, high * unit, decoder.levels)
    span = Repaint(
        start_samples=start,
        stop_samples=stop,
        total_samples=total,
        codes_start_samples=codes.start_samples,
        drafts=Drafts(num=drafts),
    )
    melody = _melody(model, source)
    about = _about(model, source, prompt, (stop - start) / rate, seed, settings, span, melody)
    before = codes.start_samples // unit
    gap = range(first - before, last - before)
    followed = None if melody is None else model.followed(melody, codes.start_samples, codes.semantic.shape[2])
    schedule = _schedule(model, source, about, codes.mulan, prompt, codes.start_samples)
    return _filling(model, source, about, codes, gap, schedule, source.sound, melody, followed)


# -- loop


def loop(
    model: "MusicLM",
    given: str | Path | Music,
    duration_s: float | None = None,
    start_s: float = 0.0,
    tempo_bpm: float | None = None,
    prompt: str | None = None,
    seed: int = 0,
    config: GenerateConfig | None = None,
    drafts: int = NUM_DRAFTS,
    beats_per_bar: int = BEATS_PER_BAR,
) -> Edit:
    """Whole bars of a sound from `start_s` on, whose end is made anew so that they run into their own beginning.

    Raises: as `MusicLM.loop`.
    """
    check_drafts(drafts)
    if not start_s >= 0:
        raise ValueError(f"the loop begins at {start_s:g} s; it must begin at 0 s or later")
    if not 1 <= beats_per_bar <= 16:
        raise ValueError(f"{beats_per_bar} beats a bar; there may be 1 to 16")
    source, rate = model.source(given), model.sample_rate_hz
    unit = source.unit
    start = round(start_s * rate / unit) * unit
    if start >= source.num_samples:
        raise ValueError(f"the loop begins at {start_s:g} s, after the end of {source.name}")
    bpm, tempo_from = _tempo(model, source, tempo_bpm, prompt, config, start)
    length, bars = _whole_bars(source, start, bpm, beats_per_bar, duration_s)
    redone = round(min(60 * beats_per_bar / bpm, length / rate / 2, MOST_REDONE_S) * rate)
    if start + length - redone > source.num_samples:
        raise ValueError(
            f"{bars} bars of {length / rate / bars:.2f} s from {start / rate:g} s on are longer than {source.name}, "
            f"which has {source.duration_s:.2f} s; ask for a shorter --duration"
        )
    _check_long(source, length / rate)
    settings = config or _settings(model, source)
    if model.steering(replace(settings.steer, tempo_bpm=None, key_name=None), ""):  # else nothing keeps time
        settings = replace(settings, steer=replace(settings.steer, tempo_bpm=bpm))
    codes, gap, again = _around_joint(model, source, settings, start, length, redone)
    bars_of = Loop(
        start_samples=start,
        redone_samples=redone,
        tempo_bpm=bpm,
        tempo_from=tempo_from,
        bars=bars,
        beats_per_bar=beats_per_bar,
        drafts=Drafts(num=drafts),
    )
    melody, followed = _melody(model, source, start), None
    about = _about(model, source, prompt, length / rate, seed, settings, bars_of, melody)
    until = source.frames(gap.stop)[0]
    if melody is not None:
        after = model.followed(melody, again, codes.semantic.shape[2] - until)
        followed = torch.cat([model.followed(melody, 0, until), after], 2)
    schedule = _schedule(model, source, about, codes.mulan, prompt, start).again(until)
    return _filling(
        model, source, about, codes, gap, schedule, lambda: skipping(start, source.sound()), melody, followed
    )


def _tempo(
    model: "MusicLM",
    source: Source,
    tempo_bpm: float | None,
    prompt: str | None,
    config: GenerateConfig | None,
    start: int,
) -> tuple[float, TempoSource]:
    """The tempo of a loop, and who tells it; of a story the tempo where the loop begins. Raises: ValueError if nobody
    does.
    """
    about = None if source.take is None else source.take.about
    steer = (config or (GenerateConfig() if about is None else about.config)).steer
    if tempo_bpm is not None:
        return replace(steer, tempo_bpm=float(tempo_bpm)).tempo_bpm or 0.0, "set"  # or it is out of range
    said = replace(steer, tempo_bpm=None).as_asked(prompt or "").tempo_bpm
    if said is not None:
        return said, "prompt"
    if steer.tempo_bpm is not None and (about is None or steer.tempo_bpm != about.config.steer.tempo_bpm):
        return steer.tempo_bpm, "set"
    if source.take is not None and source.take.about.story is not None:
        tempo = _kept_schedule(model, source.take, start).at(0).steers[0].tempo_bpm
        if tempo is not None:
            return tempo, "take"
    elif about is not None and steer.tempo_bpm is not None:
        return steer.tempo_bpm, "take"
    elif about is not None:
        kept = about.loop.tempo_bpm if about.loop else steer.as_asked(about.prompt or "").tempo_bpm
        if kept is not None:
            return kept, "take"
    rate = source.codec.sample_rate_hz
    sound = source.read(start, start + round(MEASURED_S * rate))
    bpm = measured_tempo(resample(sound[None], rate, SAMPLE_RATE_HZ)[0])
    if bpm is None:
        raise ValueError(f"no steady beat can be measured in {source.name}; name its tempo (--tempo)")
    return bpm, "measured"


def _whole_bars(
    source: Source, start: int, bpm: float, beats_per_bar: int, duration_s: float | None
) -> tuple[int, int]:
    """Samples and bars of a loop: near a duration, or as many as there are; at least a second."""
    rate = source.codec.sample_rate_hz
    bar_s = 60 * beats_per_bar / bpm
    if duration_s is None:
        bars = math.floor((source.num_samples - start) / rate / bar_s + 1e-6)
    else:
        bars = round(duration_s / bar_s)
    bars = max(bars, math.ceil(SHORTEST_LOOP_S / bar_s), 1)
    return round(bars * bar_s * rate), bars


def _around_joint(
    model: "MusicLM", source: Source, config: GenerateConfig, start: int, length: int, redone: int
) -> tuple[Codes, range, int]:
    """Codes of a loop and, after them, of its beginning again; the gap, in units; the sample of the loop from which its
    beginning comes again.

    The loop is no whole number of frames. So its beginning comes again from within a frame on, in codes that the
    encoders make of the sound from there.
    """
    unit, rate = source.unit, source.codec.sample_rate_hz
    levels = model.acoustic_decoder(config).levels
    first, last = -(-(length - redone) // unit), -(-length // unit)
    shift = last * unit - length
    after = min(math.ceil(AFTER_S * rate / unit), (length - redone - shift) // unit)
    known = source.codes(start, start + first * unit, levels)
    read = source.encoded if shift else lambda begin, end: source.codes(begin, end, levels)
    again = read(start + shift, start + shift + after * unit)

    def part(codes: Codes, begin: int, units: int) -> tuple[Tensor, Tensor]:
        skipped, frames = source.frames((begin - codes.start_samples) // unit), source.frames(units)
        semantic = codes.semantic[:, :, skipped[0] : skipped[0] + frames[0]]
        return semantic, codes.acoustic[:, :levels, skipped[1] : skipped[1] + frames[1]]

    left, right, gap = part(known, start, first), part(again, start + shift, after), source.frames(last - first)
    semantic, acoustic = (
        torch.cat([a, a.new_zeros(1, a.shape[1], num), b], 2) for a, b, num in zip(left, right, gap, strict=True)
    )
    return Codes(semantic, acoustic, 0, known.mulan), range(first, last), shift


# -- what repaint and loop share


def _filling(
    model: "MusicLM",
    source: Source,
    about: About,
    codes: Codes,
    gap: range,
    schedule: Schedule,
    sound: Callable[[], Blocks],
    melody: Melody | None,
    followed: Int[Tensor, "1 n t"] | None,
) -> Edit:
    """The edit that fills a gap, in units, of known codes. schedule, followed: conditions and codes of the
    melody by semantic frame.
    """
    config = about.config
    decoder = model.acoustic_decoder(config)
    semantic_gap, acoustic_gap = (
        range(start, stop) for start, stop in zip(source.frames(gap.start), source.frames(gap.stop), strict=True)
    )

    def blocks(on_progress: "Progress | None", on_take: OnTake | None) -> Blocks:
        made: list[Take] = []

        def fresh() -> Blocks:
            semantic, found = _drafted(
                model, about, codes.semantic, semantic_gap, schedule, followed, _stage(on_progress, "semantic")
            )
            filled = _infilled(
                decoder,
                codes.acoustic[:, : decoder.levels],
                acoustic_gap,
                semantic,
                [(_times(part, acoustic_gap, semantic_gap), each.mulan) for part, each in schedule.parts(semantic_gap)],
                _generator(about, config.acoustic),
                _stage(on_progress, "acoustic"),
            )
            pieces = filled.split(round(PIECE_S * (source.codec.spec.frame_rate_hz or 1.0)), 2)
            own = replace(about.with_drafts(found), pieces=tuple(piece.shape[2] for piece in pieces))
            mulan = _kept(model, source, about, schedule)
            made.append(Take.of(own, semantic, filled, mulan, None if melody is None else melody.codes))
            yield from decoded(source.codec, (piece[:, : config.levels] for piece in pieces))

        yield from assembled(fresh(), about, sound())
        if on_take is not None:
            on_take(made[0])

    return Edit(about, blocks)


def _times(part: range, whole: range, of: range) -> range:
    """A part of a span of semantic frames as one of the acoustic frames `whole` of the same span `of`."""
    rate = Fraction(len(whole), len(of))
    return range(*(whole.start + int((edge - of.start) * rate) for edge in (part.start, part.stop)))


def _infilled(
    decoder: AcousticDecoder,
    codes: Int[Tensor, "1 q f"],
    gap: range,
    semantic: Int[Tensor, "1 s t"],
    parts: list[tuple[range, Int[Tensor, "1 m 1"] | None]],
    generator: torch.Generator,
    on_progress: Callable[[int, int], None] | None,
) -> Int[Tensor, "1 q f"]:
    """Acoustic codes with the gap filled, condition by condition; the last part sees what follows the gap."""
    filled = codes.clone()
    for place, (part, mulan) in enumerate(parts):
        stop = part.stop if part.stop < gap.stop else filled.shape[2]
        progress = _part_of(on_progress, place, len(parts))
        filled[:, :, part.start : part.stop] = decoder.infill(
            filled[:, :, :stop], part, semantic, mulan, [generator], progress
        )
    return filled


def _drafted(
    model: "MusicLM",
    about: About,
    semantic: Int[Tensor, "1 q t"],
    gap: range,
    schedule: Schedule,
    followed: Int[Tensor, "1 n t"] | None,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[Int[Tensor, "1 q t"], Drafts]:
    """Semantic codes with the gap filled by the draft that what follows fits best, and how the drafts did.

    followed: codes of the melody by frame.

    Where nothing follows there is nothing to judge by: one draft is made.
    """
    layout = model.semantic.layout
    window, rate = layout.crop_frames(), layout.target_spec.frame_rate_hz or 1.0
    after = semantic[:, :, gap.stop : gap.stop + round(JUDGED_S * rate)]
    first_read = max(0, gap.start - (window - min(len(gap), window // 2)))
    before = semantic[:, :, first_read : gap.start]
    followed = None if followed is None else followed[:, :, first_read : gap.stop + after.shape[2]]
    schedule = schedule.since(first_read)
    wanted = about.drafts
    num = wanted.num if wanted is not None and after.shape[2] else 1
    found: list[Tensor] = []
    for first in range(0, num, DRAFTS_AT_ONCE):
        group = range(first, min(num, first + DRAFTS_AT_ONCE))
        guides = []
        for _ in group:
            steering = _steering(model, about, schedule.at(before.shape[2]))
            for each in steering:
                _align(each, before, after, len(gap))
            guides += steering
        pieces = stream_semantic(
            model.semantic,
            schedule.expand(len(group)),
            before.shape[2] + len(gap),
            about.config.semantic,
            [_generator(about, f"draft {place}") for place in group],
            before.expand(len(group), -1, -1),
            _part_of(on_progress, first // DRAFTS_AT_ONCE, math.ceil(num / DRAFTS_AT_ONCE)),
            steering=guides,
            melody=None
            if followed is None
            else followed[:, :, : before.shape[2] + len(gap)].expand(len(group), -1, -1),
            lean=model.lean,
        )
        found += torch.cat(list(pieces), 2).split(1)
    scores: list[float] = []
    if after.shape[2]:
        for row in found:
            scores.append(_fit(model, schedule, torch.cat([row, after], 2), row.shape[2], followed))
    best = int(np.argmax(scores)) if scores else 0
    filled = semantic.clone()
    filled[:, :, gap.start : gap.stop] = found[best][:, :, before.shape[2] :]
    return filled, Drafts(num=num, scores=tuple(round(score, 4) for score in scores), best=best)


def _fit(
    model: "MusicLM",
    schedule: Schedule,
    codes: Int[Tensor, "1 q t"],
    known: int,
    followed: Int[Tensor, "1 n t"] | None,
) -> float:
    """Mean log-probability of the codes of frames from `known` on, each under the condition of its frame."""
    total = 0.0
    for part, condition in schedule.parts(range(known, codes.shape[2])):
        melody = None if followed is None else followed[:, :, : part.stop]
        mean = log_likelihood(model.semantic, condition.mulan, codes[:, :, : part.stop], part.start, melody)
        total += len(part) * float(mean[0])
    return total / (codes.shape[2] - known)


def _steering(model: "MusicLM", about: About, now: Condition) -> list[Steering]:
    """Of one item that begins under a condition."""
    found = model.steering(about.config.steer, about.story or about.prompt or "")
    for each, steer in zip(found, now.steers, strict=False):
        each.retarget(steer)
    return found


def _part_of(
    on_progress: Callable[[int, int], None] | None, part: int, parts: int
) -> Callable[[int, int], None] | None:
    """Progress of one of several parts of equal length."""
    return None if on_progress is None else lambda done, total: on_progress(part * total + done, parts * total)


def _align(guide: Steering, before: Int[Tensor, "1 q t"], after: Int[Tensor, "1 q u"], gap: int) -> None:
    """Puts a given tempo's beat where what is known strikes, before the gap if there is anything, or after it."""
    if before.shape[2]:
        guide.align(before[0].T.flatten().tolist())
    elif after.shape[2]:
        guide.align(after[0].T.flatten().tolist(), gap * after.shape[1])


# -- vary


def vary(
    model: "MusicLM",
    given: str | Path | Music,
    strength: float = 0.3,
    prompt: str | None = None,
    seed: int = 0,
    config: GenerateConfig | None = None,
) -> Edit:
    """The same music again, more or less.

    Every semantic code is drawn anew with the probability `strength`, given those before it as they have become; the
    acoustic codes are all new.

    Raises: as `MusicLM.vary`.
    """
    check_strength(strength)
    source, rate = model.source(given), model.sample_rate_hz
    _check_long(source, source.duration_s)
    settings = config or _settings(model, source)
    decoder = model.acoustic_decoder(settings)
    units = -(-source.num_samples // source.unit)
    codes = source.codes(0, units * source.unit, 1)
    melody = _melody(model, source)
    about = _about(model, source, prompt, source.num_samples / rate, seed, settings, Vary(strength=strength), melody)
    schedule = _schedule(model, source, about, codes.mulan, prompt, 0)
    skipped, num_frames = source.frames(-codes.start_samples // source.unit)[0], source.frames(units)[0]
    old = codes.semantic[:, :, skipped : skipped + num_frames]

    def blocks(on_progress: "Progress | None", on_take: OnTake | None) -> Blocks:
        progress = _stage(on_progress, "semantic")
        semantic = SemanticSource(_redrawn(model, about, schedule, old, strength, melody, progress), 1, num_frames)
        acoustic: list[Tensor] = []
        generators = [_generator(about, settings.acoustic)]

        def fresh() -> Iterator[Tensor]:
            progress = _stage(on_progress, "acoustic")
            for piece in decoder.stream(semantic, schedule, generators, None, progress):
                acoustic.append(piece)
                yield piece[:, : settings.levels]

        yield from assembled(decoded(source.codec, fresh()), about, iter(()))
        if on_take is not None:
            new = semantic[0:num_frames]
            kept = Vary(strength=strength, kept=round(float((new == old).float().mean()), 4))
            about_made = replace(about, vary=kept, pieces=tuple(piece.shape[2] for piece in acoustic))
            mulan = _kept(model, source, about, schedule)
            on_take(Take.of(about_made, new, torch.cat(acoustic, 2), mulan, None if melody is None else melody.codes))

    return Edit(about, blocks)


def _redrawn(
    model: "MusicLM",
    about: About,
    schedule: Schedule,
    old: Int[Tensor, "1 q t"],
    strength: float,
    melody: Melody | None,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[Int[Tensor, "1 q n"]]:
    """Semantic codes, in pieces, some of them as they were: see `vary`."""
    if strength == 0:
        yield old
        return
    steering = _steering(model, about, schedule.at(0))
    in_order = old[0].T.flatten().tolist()
    for each in steering:
        each.align(in_order[: model.semantic.layout.crop_frames() * old.shape[1]])
    coins = torch.rand(len(in_order), generator=_generator(about, "keep"))
    kept = [code if coin >= strength else None for code, coin in zip(in_order, coins.tolist(), strict=True)]
    guide = Keeping(kept, model.semantic.layout.target_spec.codebook_size, steering[0] if steering else None)
    yield from stream_semantic(
        model.semantic,
        schedule,
        old.shape[2],
        about.config.semantic,
        [_generator(about, "semantic")],
        None,
        on_progress,
        steering=[guide],
        melody=None if melody is None else model.followed(melody, 0, old.shape[2]),
        lean=model.lean,
    )


class Keeping:
    """Steering that leaves the model no choice where an old code is to be kept.

    With coins that keep a code with probability 1 - s, the next code comes from (1 - s) times the old code plus s times
    the model's distribution, which reads what was drawn before.
    """

    def __init__(self, kept: list[int | None], codebook_size: int, inner: Guide | None = None) -> None:
        """kept: in the order of `observe`; None is drawn. inner: steers what is drawn, and observes all."""
        self.kept, self.inner = kept, inner
        self.forced = torch.zeros(codebook_size)
        self.place = 0

    def observe(self, code: int) -> None:
        self.place += 1
        if self.inner is not None:
            self.inner.observe(code)

    def follow(self, pitches: Sequence[int]) -> None:
        """See `Guide.follow`."""
        if self.inner is not None:
            self.inner.follow(pitches)

    def bias(self) -> Float[Tensor, " v"] | float:
        """See `Guide.bias`."""
        code = self.kept[self.place]
        if code is None:
            return 0.0 if self.inner is None else self.inner.bias()
        forced = self.forced.clone()
        forced[code] = FORCED
        return forced

    def retarget(self, steer: Steer) -> None:
        """See `Guide.retarget`."""
        if self.inner is not None:
            self.inner.retarget(steer)


# -- what all share


def _settings(model: "MusicLM", source: Source) -> GenerateConfig:
    """Those of a take; else the bundle's choice."""
    return model.default_config() if source.take is None else source.take.about.config


def _about(
    model: "MusicLM",
    source: Source,
    prompt: str | None,
    duration_s: float,
    seed: int,
    config: GenerateConfig,
    edit: Repaint | Vary | Loop,
    melody: Melody | None,
) -> About:
    """What a take says of an edit, as far as it is known before it is made."""
    about = model.about(prompt or source.prompt, duration_s, seed, config, melody=melody)
    story, begins = None if prompt else _story(source, config), 0
    if story is not None and source.take is not None:
        begins = source.take.about.story_start_samples
    if isinstance(edit, Loop):
        story, begins = story and story.steered(config.steer.tempo_bpm, None), begins - edit.start_samples
    return replace(
        about,
        story=story,
        story_samples=0 if story is None else begins,
        parent=source.parent,
        condition=source.condition if about.prompt is None else "text",
        repaint=edit if isinstance(edit, Repaint) else None,
        vary=edit if isinstance(edit, Vary) else None,
        loop=edit if isinstance(edit, Loop) else None,
    )


def _story(source: Source, config: GenerateConfig) -> Story | None:
    """The conditions of the take by time, but for a tempo and a key that are set now, which hold throughout."""
    if source.take is None or source.take.about.story is None:
        return None
    before, now = source.take.about.config.steer, config.steer
    tempo_bpm = None if now.tempo_bpm == before.tempo_bpm else now.tempo_bpm
    key_name = None if now.key_name == before.key_name else now.key_name
    return source.take.about.story.steered(tempo_bpm, key_name)


def _melody(model: "MusicLM", source: Source, skipped_samples: int = 0) -> Melody | None:
    """What the take follows, so that what is new follows it too, in a sound without the first samples.

    Raises: as `MusicLM.melody_of_take`.
    """
    found = None if source.take is None else model.melody_of_take(source.take)
    return found and replace(found, file=found.file.later(-skipped_samples))


def _schedule(
    model: "MusicLM",
    source: Source,
    about: About,
    mulan: Int[Tensor, "1 m 1"] | None,
    prompt: str | None,
    start_samples: int,
) -> Schedule:
    """The conditions of the models, by semantic frames, the first of which is at a sample of the source: the prompt; of
    none those of the take there, or the MuLan codes of the sound around.
    """
    if prompt is not None:
        return Schedule.of(model.text_codes(prompt))
    if source.take is None:
        return Schedule.of(mulan)
    return _kept_schedule(model, source.take, start_samples, about)


def _kept_schedule(model: "MusicLM", take: Take, start_samples: int, about: About | None = None) -> Schedule:
    """The conditions of a take from a sample of its sound on. about: of an edit, whose tempo and key hold now."""
    now = take.about if about is None else about
    schedule = model.schedule_of(take, now.story, now.config.steer)
    return schedule.since(model.clock.frame((start_samples - take.about.codes_start_samples) / model.sample_rate_hz))


def _kept(model: "MusicLM", source: Source, about: About, schedule: Schedule) -> Int[Tensor, "1 m n"] | None:
    """MuLan codes for the take of an edit: of a story those of all its steps."""
    if about.story is None or source.take is None or source.take.mulan is None:
        return schedule.at(0).mulan
    return torch.from_numpy(source.take.mulan.astype(np.int64))[None].to(model.device)


def _generator(about: About, stage: str) -> torch.Generator:
    """The random source of a stage. The parent is part of it: an edit of an edit by one seed draws other numbers."""
    assert about.parent is not None
    return item_generator(about.seed, f"{about.verb} {about.parent.hash} {stage}")


def _stage(on_progress: "Progress | None", stage: str) -> Callable[[int, int], None] | None:
    return None if on_progress is None else lambda done, total: on_progress(stage, done, total)


def _window_units(model: "MusicLM", source: Source) -> int:
    """Units that the semantic stage reads at once."""
    layout = model.semantic.layout
    seconds = layout.crop_frames() / (layout.target_spec.frame_rate_hz or 1.0)
    return math.floor(seconds * model.sample_rate_hz / source.unit)


__all__ = ["Edit", "check_drafts", "check_span", "check_strength", "loop", "repaint", "vary"]
