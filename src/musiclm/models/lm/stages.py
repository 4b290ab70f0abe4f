"""The stages of MusicLM as data, and the one place that lays out their ids (MusicLM section 3.2, AudioLM section 3).

    semantic   MuLan codes                        -> semantic codes            30 s
    coarse     MuLan codes, semantic codes        -> acoustic levels 0-3       10 s
    fine       acoustic levels 0-3                -> acoustic levels 4-11       3 s

A sequence is the conditions in order, then the target, each opened by an id of its own:

    <mulan> m0 m1 ... <semantic> s0 s1 ... <target> a0 a1 ...

and the ids are numbered: padding, null condition, one opening id per part, then each part's codes, level k in its own
range.

Positions are times, not places: the target's place j stands at j, a condition's frame where the target's frame of the
same moment begins, and the MuLan ids, which have no time, before 0. So "what sounds now" is at distance 0 for every
head of a rotary transformer from the first step of training, and a clip of any length looks alike. (T5 bias, preset
`paper`, counts places.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from musiclm.core.streams import ACOUSTIC, MULAN, SEMANTIC, TokenSpec, to_ids

PAD_ID = 0  # where a clip of a batch has ended; never read at generation
NULL_ID = 1  # stands for each MuLan id of a dropped condition
NUM_SPECIAL = 2


@dataclass(frozen=True)
class StreamLevels:
    """Levels [start, stop) of a stream."""

    stream: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one language model reads and writes."""

    name: str
    conditions: tuple[StreamLevels, ...]
    target: StreamLevels
    crop_s: float  # length of a training crop, and of the longest sequence at generation


SEMANTIC_STAGE = Stage(
    name=SEMANTIC.name,
    conditions=(StreamLevels(MULAN.name, 0, 12),),
    target=StreamLevels(SEMANTIC.name, 0, 1),
    crop_s=30.0,
)
COARSE_STAGE = Stage(
    name="coarse",
    conditions=(StreamLevels(MULAN.name, 0, 12), StreamLevels(SEMANTIC.name, 0, 1)),
    target=StreamLevels(ACOUSTIC.name, 0, 4),
    crop_s=10.0,
)
FINE_STAGE = Stage(
    name="fine",
    conditions=(StreamLevels(ACOUSTIC.name, 0, 4),),
    target=StreamLevels(ACOUSTIC.name, 4, 12),
    crop_s=3.0,
)
STAGES = {stage.name: stage for stage in (SEMANTIC_STAGE, COARSE_STAGE, FINE_STAGE)}
SPECS = (MULAN, SEMANTIC, ACOUSTIC)


def split_levels(stage: Stage, coarse: int, specs: Sequence[TokenSpec]) -> Stage:
    """The stage with the acoustic levels up to `coarse` as coarse ones and the rest as fine ones (AudioLM: 4 of 12),
    and every level of the other streams.

    Raises: ValueError if a fine stage would have none. A coarse stage may have all: then there is no fine one.
    """
    num = {**{spec.name: spec.levels for spec in SPECS}, **{spec.name: spec.levels for spec in specs}}
    levels = num[ACOUSTIC.name]
    most = levels - 1 if stage.name == FINE_STAGE.name else levels
    if stage.target.stream == ACOUSTIC.name and not 0 < coarse <= most:
        raise ValueError(
            f"coarse_levels must lie in 1..{most}, of {levels} acoustic levels, got {coarse}"
            + ("" if most else "; the coarse stage has the only one, and there is nothing for a fine stage to do")
        )

    def cut(part: StreamLevels) -> StreamLevels:
        if part.stream != ACOUSTIC.name:
            return StreamLevels(part.stream, 0, num[part.stream])
        return StreamLevels(part.stream, 0, coarse) if part.start == 0 else StreamLevels(part.stream, coarse, levels)

    return replace(stage, conditions=tuple(cut(part) for part in stage.conditions), target=cut(stage.target))


class Layout:
    """Where every id of a stage lies, and how codes become its sequences."""

    def __init__(
        self,
        stage: Stage,
        specs: tuple[TokenSpec, ...] = SPECS,
        mulan_levels: int = 12,
        whole_frames: bool = False,
    ) -> None:
        """`mulan_levels` keeps only the first levels of the MuLan condition. `whole_frames`: a target frame is one
        place of the sequence.

        Raises: ValueError if a stream is not among `specs` or lacks the levels.
        """
        self.stage, self.whole_frames = stage, whole_frames
        by_name = {spec.name: spec for spec in specs}
        self.parts: list[StreamLevels] = []
        for part in (*stage.conditions, stage.target):
            if part.stream not in by_name:
                raise ValueError(f"stage {stage.name!r} needs stream {part.stream!r}, got {', '.join(sorted(by_name))}")
            stop = min(part.stop, mulan_levels) if by_name[part.stream].per_clip else part.stop
            self.parts.append(StreamLevels(part.stream, part.start, stop))
        self.specs = [by_name[part.stream].slice(part.start, part.stop) for part in self.parts]
        if self.target_spec.frame_rate_hz is None:
            raise ValueError(f"stage {stage.name!r} has the target {self.target_spec.name!r}, which has no frames")
        self.offsets: list[int] = []
        free = NUM_SPECIAL + len(self.parts)
        for spec in self.specs:
            self.offsets.append(free)
            free += spec.num_ids
        self.num_ids = free

    @property
    def streams(self) -> tuple[str, ...]:
        """What the stage reads and writes."""
        return tuple(dict.fromkeys(part.stream for part in self.parts))

    @property
    def target_spec(self) -> TokenSpec:
        return self.specs[-1]

    @property
    def target_offset(self) -> int:
        """The first id of the target's first level."""
        return self.offsets[-1]

    @cached_property
    def places_per_second(self) -> float:
        """Places that a second of the target takes in the sequence, the unit of positions: its ids, or its frames."""
        assert self.target_spec.frame_rate_hz is not None
        return self.target_spec.frame_rate_hz * self.places_per_frame

    @property
    def places_per_frame(self) -> int:
        """Places of a target frame: one a level, or one."""
        return 1 if self.whole_frames else self.target_spec.levels

    def num_frames(self, part: int, seconds: float) -> int:
        """Frames of a part in `seconds`; 1 for a part without time."""
        rate = self.specs[part].frame_rate_hz
        return 1 if rate is None else round(seconds * rate)

    def crop_frames(self) -> int:
        """Target frames in a training crop."""
        return self.num_frames(-1, self.stage.crop_s)

    def opening_id(self, part: int) -> int:
        """The id before the codes of a part (-1: the target)."""
        return NUM_SPECIAL + part % len(self.parts)

    def prefix(
        self,
        streams: Mapping[str, Int[Tensor, "b _q _t"]],
        drop: Bool[Tensor, " b"] | None = None,
        num_frames: Mapping[str, Int[Tensor, " b"]] | None = None,
    ) -> tuple[Int[Tensor, "b l"], Float[Tensor, " l"]]:
        """Everything before the first target id, and its positions.

        streams: whole streams `b q t` by name (all levels), as the store and the encoders give them; the stage takes
        its levels.
        drop: items whose MuLan ids become NULL_ID (training without a condition; the unconditional half of guidance).
        num_frames: frames of each item that are real, by stream; ids past them become PAD_ID.

        Raises: ValueError for a stream that is missing, has too few levels or codes outside the codebook.
        """
        ids, positions = [], []
        for index, (part, spec) in enumerate(zip(self.parts[:-1], self.specs[:-1], strict=True)):
            codes = self._take(streams, part)
            flat = to_ids(codes, spec, self.offsets[index])
            where = self._positions(index, codes.shape[2], codes.device)
            if spec.frame_rate_hz is None:
                if drop is not None:
                    flat = torch.where(drop[:, None], NULL_ID, flat)
            elif num_frames is not None and part.stream in num_frames:
                frame = torch.arange(flat.shape[1], device=flat.device) // spec.levels
                flat = torch.where(frame < num_frames[part.stream][:, None], flat, PAD_ID)
            opening = torch.full_like(flat[:, :1], self.opening_id(index))
            ids += [opening, flat]
            positions += [where[:1] - 1, where]
        reference = self._take(streams, self.parts[0])
        ids.append(torch.full((reference.shape[0], 1), self.opening_id(-1), dtype=torch.long, device=reference.device))
        positions.append(torch.full((1,), -1.0, device=reference.device))
        return torch.cat(ids, 1), torch.cat(positions)

    def prefix_length(self, num_frames: Mapping[str, int]) -> int:
        """How many ids `prefix` gives for streams of so many frames."""
        frames = [1 if s.frame_rate_hz is None else num_frames[s.name] for s in self.specs[:-1]]
        return sum(1 + n * s.levels for n, s in zip(frames, self.specs[:-1], strict=True)) + 1

    def target_codes(self, streams: Mapping[str, Int[Tensor, "b _q _t"]]) -> Int[Tensor, "b q t"]:
        """The levels of the target out of its whole stream."""
        return self._take(streams, self.parts[-1])

    def target_ids(self, codes: Int[Tensor, "b q t"]) -> Int[Tensor, "b l"]:
        """Codes of the target's levels as ids of this stage."""
        return to_ids(codes, self.target_spec, self.target_offset)

    def target_positions(self, start: int, stop: int, device: torch.device) -> Float[Tensor, " l"]:
        """Positions of the target's places [start, stop)."""
        return torch.arange(start, stop, device=device, dtype=torch.float32)

    def _positions(self, index: int, frames: int, device: torch.device) -> Float[Tensor, " l"]:
        spec = self.specs[index]
        if spec.frame_rate_hz is None:
            return torch.arange(-1.0 - spec.levels, -1.0, device=device)  # the opening of the target is at -1
        step = self.places_per_second / spec.frame_rate_hz  # places of the target per frame of this part
        return torch.arange(frames * spec.levels, device=device, dtype=torch.float32) * (step / spec.levels)

    def _take(self, streams: Mapping[str, Tensor], part: StreamLevels) -> Tensor:
        if part.stream not in streams:
            raise ValueError(
                f"stage {self.stage.name!r} needs codes of {part.stream!r}, got {', '.join(sorted(streams)) or 'none'}"
            )
        codes = streams[part.stream]
        if codes.shape[1] < part.stop:
            raise ValueError(
                f"stage {self.stage.name!r} needs levels {part.start}:{part.stop} of {part.stream!r}, "
                f"got codes of shape {tuple(codes.shape)}"
            )
        return codes[:, part.start : part.stop]
