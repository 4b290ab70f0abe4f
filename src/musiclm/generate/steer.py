"""Keeping time and staying in key: the semantic stage's next code is drawn to what the music so far, or the user,
expects.

Not in MusicLM. A small model's music has a pulse for two seconds and drifts over eight, though each code says well how
hard something is struck in its frame (`musiclm.models.w2vbert.cues`). So what codes say of onsets is summed up as the
clip goes on; its autocorrelation tells how strong a stroke is due next, and by that much codes with strokes become
likelier: `logits += strength * due * onset of the code`. A tempo in numbers puts a metronome in place of the
autocorrelation's lags; a key makes codes likelier by how well their pitches fit it (docs/decisions/010-steering.md).

Nor does it come back to anything: so phrases return to earlier ones, whose codes are made likelier
(docs/decisions/031-phrases.md).

A melody that the music is to follow makes codes likelier in which its tone sounds, frame by frame
(docs/decisions/033-steered-melodies.md).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from musiclm.core.asked import key_of, tempo_of
from musiclm.core.theory import MAJOR_PROFILE, MINOR_PROFILE, parse_key
from musiclm.models.w2vbert.tokenizer import CodeCues

SLOWEST_BPM, FASTEST_BPM = 30.0, 300.0
SHORTEST_LAG_S, LONGEST_LAG_S = 0.3, 4.0  # after which strokes may return: from a fast beat to a slow bar
NUM_LAGS = 6  # of them, those where the music is most like itself
NOISE_ERRORS = 2.0  # standard errors of an autocorrelation that noise may have
WARM_UP_S = 2.0  # without a tempo in numbers nothing is expected before
MEMORY_S = 10.0  # of past strokes
STROKE_FRAMES = 0.6  # deviation of a metronome's stroke
HALF_BEATS = 0.3  # share of a metronome's strokes that fall between beats
SHORTEST_PHRASE_S, LONGEST_PHRASE_S = 1.0, 60.0
BEATS_PER_BAR = 4  # of a tempo in numbers: a phrase is whole bars of it


@dataclass(frozen=True, kw_only=True)
class Steer:
    """How hard the semantic stage is steered; strengths are of deviations in logits, 0 leaves it alone. That of `again`
    is of a logit."""

    beat: float = 1.2  # to the pulse that the music has so far
    tempo: float = 1.8  # to a tempo in numbers
    key: float = 1.4  # to a key
    again: float = 0.0  # to an earlier phrase, where one returns
    melody: float = 1.5  # to the tones of a melody, by a model that has learned nothing of melodies
    phrase_s: float = 16.0  # how long a phrase is, about: it is whole beats
    tempo_bpm: float | None = None  # None: what the prompt says in numbers, if it does
    key_name: str | None = None  # such as "D minor"; None: what the prompt says

    def __post_init__(self) -> None:
        for name in ("beat", "tempo", "key", "again", "melody"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"the strength of {name} is {getattr(self, name)}; it must be 0 or more")
        if not SHORTEST_PHRASE_S <= self.phrase_s <= LONGEST_PHRASE_S:
            raise ValueError(
                f"a phrase is {self.phrase_s} seconds long; it must lie between {SHORTEST_PHRASE_S:g} and "
                f"{LONGEST_PHRASE_S:g}"
            )
        if self.tempo_bpm is not None and not SLOWEST_BPM <= self.tempo_bpm <= FASTEST_BPM:
            raise ValueError(
                f"the tempo is {self.tempo_bpm} BPM; it must lie between {SLOWEST_BPM:.0f} and {FASTEST_BPM:.0f}"
            )
        if self.key_name is not None:
            parse_key(self.key_name)

    def as_asked(self, prompt: str) -> "Steer":
        """With the tempo (between 30 and 300 BPM) and the key that a prompt names (`musiclm.core.asked`), where none is
        set.
        """
        bpm = tempo_of(prompt)
        said = bpm if bpm is not None and SLOWEST_BPM <= bpm <= FASTEST_BPM else None
        return replace(self, tempo_bpm=self.tempo_bpm or said, key_name=self.key_name or key_of(prompt))

    def understood(self, prompt: str) -> str:
        """Which tempo and which key the music of a prompt is to have, and who says so, in one line."""
        asked, bpm = self.as_asked(prompt), tempo_of(prompt)
        tempo = "no tempo in numbers"
        if asked.tempo_bpm is not None:
            tempo = f"tempo {asked.tempo_bpm:g} BPM ({'prompt' if self.tempo_bpm is None else 'set'})"
        elif bpm is not None:
            tempo = f"no tempo, for {bpm:g} BPM is not between {SLOWEST_BPM:.0f} and {FASTEST_BPM:.0f}"
        key = "no key" if asked.key_name is None else f"key {asked.key_name} ({'set' if self.key_name else 'prompt'})"
        return f"{tempo}, {key}"


def between(before: Steer, after: Steer, share: float) -> Steer:
    """A blend of two, `share` of it of the later: their tempi meet by ratio, the key changes half-way."""
    tempo_bpm = after.tempo_bpm
    if before.tempo_bpm is not None and tempo_bpm is not None:
        tempo_bpm = before.tempo_bpm * (tempo_bpm / before.tempo_bpm) ** share
    return replace(after, tempo_bpm=tempo_bpm, key_name=after.key_name if share >= 0.5 else before.key_name)


@dataclass(frozen=True)
class CodeTraits:
    """What semantic codes say of their frame, by level: strength of an onset, how much of each pitch class, and how
    well they fit a melody's tone of each MIDI pitch; standardised over the codes."""

    onset: tuple[Float[Tensor, " v"] | None, ...]
    chroma: tuple[Float[Tensor, "v 12"] | None, ...]
    frame_rate_hz: float  # of the codes that tell onsets
    tones: tuple[Float[Tensor, "128 v"] | None, ...] = ()  # (): no level is steered to a melody

    @property
    def codebook_size(self) -> int:
        return next(len(values) for values in (*self.onset, *self.chroma) if values is not None)

    @property
    def can_follow(self) -> bool:
        """Whether music can be steered to a melody."""
        return any(tones is not None for tones in self.tones)

    @property
    def times(self) -> int:
        """Codes of a frame that tell onsets, each of its share of it."""
        return sum(onset is not None for onset in self.onset)

    @classmethod
    def of(cls, levels: Sequence[CodeCues], frame_rate_hz: float) -> "CodeTraits":
        """frame_rate_hz: of the stream. Raises: ValueError if no level tells onsets."""
        times = sum(level.onset is not None for level in levels)
        if not times:
            raise ValueError("no level of these codes tells onsets")
        return cls(
            tuple(None if level.onset is None else standardised(level.onset) for level in levels),
            tuple(None if level.chroma is None else standardised(level.chroma) for level in levels),
            frame_rate_hz * times,
            tuple(None if level.tones is None else standardised(level.tones).T.contiguous() for level in levels),
        )


def standardised(values: Float[Tensor, "v *n"]) -> Float[Tensor, "v *n"]:
    """With mean 0 and deviation 1 over the codes."""
    return (values - values.mean(0)) / values.std(0).clamp(min=1e-6)


@runtime_checkable
class Guide(Protocol):
    """What the sampler asks before each code of an item, and tells of each, drawn or given, in order: level by level,
    frame by frame."""

    def observe(self, code: int) -> None: ...

    def bias(self) -> Float[Tensor, " v"] | float:
        """To be added to the logits of the next code."""

    def retarget(self, steer: Steer) -> None:
        """Another tempo or key from the next code on."""

    def follow(self, pitches: Sequence[int]) -> None:
        """MIDI pitches of a melody from the first frame on; others than 0 to 127 are none."""


class Steering:
    """The bias of one item's next code. `observe` gets every code, drawn or given, in order: level by level, frame by
    frame."""

    def __init__(self, traits: CodeTraits, steer: Steer) -> None:
        self.traits = traits
        self.onsets = [None if onset is None else onset.double().numpy() for onset in traits.onset]
        self.past: deque[float] = deque(maxlen=round(MEMORY_S * traits.frame_rate_hz))
        self.frame = self.level = 0
        self.first_beat = 0.0  # the frame of a given tempo's first one
        self.melody: Sequence[int] = ()  # pitches, by frame of all levels
        self.observed = 0  # codes
        self._begin_phrases()
        self._aim(steer)

    def _aim(self, steer: Steer) -> None:
        self.steer = steer
        self.period = None  # of a beat, in frames
        if steer.tempo_bpm is not None and steer.tempo > 0:
            self.period = 60 * self.traits.frame_rate_hz / steer.tempo_bpm
        self.in_key: list[Tensor | None] = [None] * len(self.traits.chroma)
        if steer.key_name is not None:
            self.in_key = [
                None if chroma is None else steer.key * fit_of_key(chroma, steer.key_name)
                for chroma in self.traits.chroma
            ]

    def retarget(self, steer: Steer) -> None:
        """Another tempo or key from the next code on, while the music goes on.

        A new tempo begins where the last beat was, or where the music struck if it had no given tempo, and forgets the
        strokes of the old one. Without a tempo the pulse so far goes on. Phrases begin anew.
        """
        before = self.period
        self._aim(steer)
        self._begin_phrases()
        if self.period is None or self.period == before:
            return
        if before is not None:
            beats = (self.frame - self.first_beat) / before
            self.first_beat = self.frame - beats % 1 * self.period
        else:
            shift = _shift_onto_beats(np.array(self.past), self.period)
            self.first_beat = self.frame - len(self.past) - shift
        self.past.clear()

    def follow(self, pitches: Sequence[int]) -> None:
        """MIDI pitches of a melody from the first frame on; others than 0 to 127 are none."""
        self.melody = pitches

    def _pitch(self) -> int | None:
        """What the melody has at the frame of the next code."""
        frame = self.observed // len(self.onsets)
        pitch = self.melody[frame] if frame < len(self.melody) else None
        return pitch if pitch is not None and 0 <= pitch < 128 else None

    def observe(self, code: int) -> None:
        self.observed += 1
        onsets = self.onsets[self.level]
        if onsets is not None:
            self.past.append(float(onsets[code]))
            self.frame += 1
        self.level = (self.level + 1) % len(self.onsets)
        if self.steer.again:
            self._remember(code)

    def _begin_phrases(self) -> None:
        self.phrase: int | None = None  # codes in one, once that is known
        self.num_codes = 0  # codes since phrases began
        self.opening: list[int] = []  # the first phrase; more, as long as it is not known how long that is
        self.lately: deque[int] = deque()  # as many codes as a phrase has, at most

    def _remember(self, code: int) -> None:
        self.num_codes += 1
        if self.phrase is None or len(self.opening) < self.phrase:
            self.opening.append(code)
        if self.phrase is None and len(self.opening) >= self._codes_in(self.steer.phrase_s):
            self.phrase = self._codes_in(self._whole_beats_s(self.steer.phrase_s))
            self.lately = deque(self.opening[:-1], maxlen=self.phrase)
            del self.opening[self.phrase :]
        if self.phrase is not None:
            self.lately.append(code)

    def _earlier(self) -> int | None:
        """The code at this place of an earlier phrase, where this one returns to it: every second to the one before,
        every fourth to the first, as a rondo does. Others are new, so that music without an end is no loop.
        """
        if self.phrase is None or self.num_codes < self.phrase:
            return None
        number, place = divmod(self.num_codes, self.phrase)
        if number % 2:
            return self.lately[0]
        return self.opening[place] if number % 4 == 0 else None

    def _codes_in(self, seconds: float) -> int:
        """Of whole frames."""
        return max(1, round(seconds * self.traits.frame_rate_hz / self.traits.times)) * len(self.onsets)

    def _whole_beats_s(self, seconds: float) -> float:
        """The nearest time of whole bars of a given tempo, or of whole beats, as long as the music has them."""
        rate = self.traits.frame_rate_hz
        if self.period is not None:
            bar_s = BEATS_PER_BAR * self.period / rate
            return max(1, round(seconds / bar_s)) * bar_s
        lags, peaks, _ = self._pulse()
        if not peaks.any():
            return seconds
        beat_s = float(lags[np.argmax(peaks)]) / rate
        return max(1, round(seconds / beat_s)) * beat_s

    def align(self, codes: Sequence[int], codes_before: int = 0) -> None:
        """Puts a given tempo's beat where the codes that come first strike: music that is gone on with need not
        begin on a beat.

        codes: in the order of `observe`. codes_before: how many others, in whole frames, come before them.
        """
        if self.period is None:
            return
        levels = len(self.onsets)
        by_level = [(self.onsets[place % levels], code) for place, code in enumerate(codes)]
        strokes = np.array([onsets[code] for onsets, code in by_level if onsets is not None])
        before = codes_before // levels * sum(onsets is not None for onsets in self.onsets)
        self.frame = _shift_onto_beats(strokes, self.period) - before

    def bias(self) -> Float[Tensor, " v"] | float:
        """To be added to the logits of the next code."""
        onset, in_key = self.traits.onset[self.level], self.in_key[self.level]
        bias: Tensor | float = 0.0 if in_key is None else in_key
        pitch, earlier = self._pitch(), self._earlier()
        if pitch is not None:
            tones = self.traits.tones[self.level] if self.traits.tones else None
            if tones is not None:
                bias = bias + self.steer.melody * tones[pitch]
        elif earlier is not None:  # while there is a melody nothing else returns
            bias = bias + self._once_more(earlier)
        if onset is None:
            return bias
        due = self.steer.beat * self.due_by_itself() if self.period is None else self.steer.tempo * self.due_at_tempo()
        return bias + due * onset

    def _once_more(self, code: int) -> Float[Tensor, " v"]:
        bias = torch.zeros(self.traits.codebook_size)
        bias[code] = self.steer.again
        return bias

    def due_by_itself(self) -> float:
        """How strong a stroke is due now, in deviations, times how like itself the music has been; 0 before
        `WARM_UP_S`.
        """
        if self.frame < round(WARM_UP_S * self.traits.frame_rate_hz) or self.steer.beat == 0:
            return 0.0
        lags, peaks, past = self._pulse()
        best = np.argsort(-peaks, kind="stable")[:NUM_LAGS]
        if peaks[best].sum() < 1e-6:
            return 0.0
        due = float(peaks[best] @ past[len(past) - lags[best]] / peaks[best].sum())
        return float(peaks.max() * np.clip(due / past.std(), -2, 2))

    def _pulse(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Lags in frames, how much more the past is like itself at each than noise is, where that is most; the past
        without its mean."""
        rate = self.traits.frame_rate_hz
        first, last = round(SHORTEST_LAG_S * rate), min(round(LONGEST_LAG_S * rate), len(self.past) // 2)
        past, likeness = autocorrelation(np.array(self.past), last + 1)
        lags, inner = np.arange(first + 1, last), likeness[first + 1 : last]
        highest = (inner >= likeness[first : last - 1]) & (inner >= likeness[first + 2 : last + 1])
        of_noise = NOISE_ERRORS / np.sqrt(len(past) - lags)
        return lags, np.where(highest, np.maximum(inner - of_noise, 0.0), 0.0), past

    def due_at_tempo(self) -> float:
        """The same with a beat that is given: what a metronome strikes, and what came whole beats before."""
        assert self.period is not None
        due = metronome(self.frame - self.first_beat, self.period)
        if len(self.past) > 2 * self.period:
            past, likeness = autocorrelation(np.array(self.past), len(self.past) // 2 + 2)
            lags = self.period * np.arange(1, int(len(past) / 2 / self.period) + 1)
            weights = np.maximum(np.interp(lags, np.arange(len(likeness)), likeness), 0.0)
            if weights.sum() > 1e-6:
                before = np.interp(len(past) - lags, np.arange(len(past)), past)
                due += float(weights @ before / weights.sum() / past.std())
        return float(np.clip(due, -2, 2))


def _shift_onto_beats(strokes: NDArray[np.float64], period: float) -> int:
    """By how many frames strokes come after beats that begin `period` frames apart, as fits them best; 0 of none."""
    fits = [
        strokes @ np.array([metronome(frame + shift, period) for frame in range(len(strokes))])
        for shift in range(int(np.ceil(period)))
    ]
    return int(np.argmax(fits))


def metronome(frame: float, period: float) -> float:
    """Strokes on beats `period` frames apart, weaker ones between them; three on a beat, and 0 in the mean."""

    def stroke(spacing: float) -> float:
        away = abs(frame / spacing - round(frame / spacing)) * spacing
        share_of_time = STROKE_FRAMES * np.sqrt(2 * np.pi) / spacing
        return float(np.exp(-0.5 * (away / STROKE_FRAMES) ** 2) - share_of_time)

    return 3.0 * ((1 - HALF_BEATS) * stroke(period) + HALF_BEATS * stroke(period / 2))


def autocorrelation(
    x: NDArray[np.float64], num_lags: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`x` without its mean, and its autocorrelation at lags from 0 on, 1 at 0, as if every lag had n products; zeros
    without variance. num_lags: n at most, and by default.
    """
    x = x - x.mean()
    n, lags, energy = len(x), min(len(x), num_lags or len(x)), float(x @ x)
    if energy < 1e-9:
        return x, np.zeros(lags)
    products = np.correlate(np.concatenate([x, np.zeros(lags - 1)]), x, "valid")
    return x, products / energy * n / np.arange(n, n - lags, -1)


def fit_of_key(chroma: Float[Tensor, "v 12"], name: str) -> Float[Tensor, " v"]:
    """How well each code's pitches fit a key (profiles of Krumhansl and Kessler), standardised.

    Raises: ValueError for a name that is no key.
    """
    tonic, mode = parse_key(name)
    profile = torch.tensor(np.roll(MAJOR_PROFILE if mode == "major" else MINOR_PROFILE, tonic), dtype=torch.float32)
    return standardised(chroma @ (profile - profile.mean()))


__all__ = ["CodeTraits", "Guide", "Steer", "Steering"]
