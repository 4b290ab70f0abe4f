"""Token streams, what is trained to make and to read them, and the only map between per-level codes and flat ids.

MusicLM (section 3) joins three streams: acoustic codes of SoundStream, semantic codes of w2v-BERT and MuLan codes. Each
is an array of codes `b q t` (level q, frame t); language models read them as one flat sequence, frame by frame, every
level in an id range of its own (AudioLM, section 3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """One stream of codes."""

    name: str
    codebook_size: int  # codes lie in [0, codebook_size)
    levels: int  # residual levels per frame
    frame_rate_hz: float | None  # None: one set of codes per clip

    def __post_init__(self) -> None:
        if self.codebook_size < 2 or self.levels < 1:
            raise ValueError(
                f"TokenSpec {self.name!r} needs codebook_size >= 2 and levels >= 1, got {self.codebook_size} and "
                f"{self.levels}"
            )

    @property
    def per_clip(self) -> bool:
        """Whether there is one set of codes for a clip rather than one for each frame."""
        return self.frame_rate_hz is None

    @property
    def num_ids(self) -> int:
        """How many flat ids the stream takes."""
        return self.codebook_size * self.levels

    def slice(self, start: int, stop: int) -> "TokenSpec":
        """The stream made of levels [start, stop)."""
        if not 0 <= start < stop <= self.levels:
            raise ValueError(f"levels {start}:{stop} of stream {self.name!r}, which has {self.levels}")
        return TokenSpec(
            name=self.name,
            codebook_size=self.codebook_size,
            levels=stop - start,
            frame_rate_hz=self.frame_rate_hz,
        )


def common_rate_hz(specs: Sequence[TokenSpec]) -> Fraction:
    """How often in a second a frame of every stream begins together: the greatest common divisor of their rates.

    Raises: ValueError if one has no rate.
    """
    if any(not spec.frame_rate_hz for spec in specs):
        raise ValueError(f"streams without a frame rate among {[spec.name for spec in specs]}")
    rates = [Fraction(spec.frame_rate_hz or 0).limit_denominator(1000) for spec in specs]
    common = rates[0]
    for rate in rates[1:]:
        common = Fraction(
            math.gcd(common.numerator * rate.denominator, rate.numerator * common.denominator),
            common.denominator * rate.denominator,
        )
    return common


@dataclass(frozen=True)
class Pace:
    """How the frames of two streams lie beside each other: so many of each take the same time.

    Example: acoustic frames at 50 Hz and semantic ones at 25 Hz go 2 to 1; at 12.5 Hz and 25 Hz, 1 to 2; at 75 Hz and
    50 Hz, 3 to 2. Where frames begin together more than once a second, windows begin there (`shared`). Of other rates,
    such as 86.13 Hz and 50 Hz (441 to 256), a window begins at any acoustic frame, and with the semantic frame that is
    sounding then: off by less than one.
    """

    acoustic: int
    semantic: int
    shared: bool = True

    @classmethod
    def of(cls, acoustic: TokenSpec, semantic: TokenSpec) -> "Pace":
        """Raises: ValueError if one has no rate."""
        common = common_rate_hz([acoustic, semantic])
        rates = [Fraction(spec.frame_rate_hz or 0).limit_denominator(1000) for spec in (acoustic, semantic)]
        return cls(int(rates[0] / common), int(rates[1] / common), common > 1)

    @property
    def unit(self) -> int:
        """Acoustic frames after which a window may begin."""
        return self.acoustic if self.shared else 1

    @property
    def semantic_at_once(self) -> int:
        """Semantic frames that an acoustic frame lies over, at most."""
        return -(-self.semantic // self.acoustic)

    def acoustic_frames(self, semantic: int) -> int:
        """Acoustic frames of so many semantic ones. Raises: ValueError if they should be a whole number and are not."""
        if self.shared and semantic % self.semantic:
            raise ValueError(f"semantic frames must be a multiple of {self.semantic}, got {semantic}")
        return semantic * self.acoustic // self.semantic

    def semantic_frames(self, acoustic: int) -> int:
        """The fewest semantic frames, in whole units, that cover so many acoustic ones."""
        if self.shared:
            return -(-acoustic // self.acoustic) * self.semantic
        return -(-acoustic * self.semantic // self.acoustic)

    def semantic_frame_of(self, acoustic: int) -> int:
        """The first semantic frame of those that begin together before this acoustic frame, or with it; if frames
        hardly ever do, the one that sounds when it begins."""
        if self.shared:
            return acoustic // self.acoustic * self.semantic
        return acoustic * self.semantic // self.acoustic

    def acoustic_frame_of(self, semantic: int) -> int:
        """The first acoustic frame that does not begin before this semantic one."""
        return self.acoustic_frames(semantic) if self.shared else -(-semantic * self.acoustic // self.semantic)

    def together(self, acoustic: int) -> int:
        """The last acoustic frame up to this one with which a window may begin."""
        return acoustic // self.unit * self.unit


SEMANTIC = TokenSpec(name="semantic", codebook_size=1024, levels=1, frame_rate_hz=25.0)
ACOUSTIC = TokenSpec(name="acoustic", codebook_size=1024, levels=12, frame_rate_hz=50.0)
MULAN = TokenSpec(name="mulan", codebook_size=1024, levels=12, frame_rate_hz=None)
MELODY = TokenSpec(name="melody", codebook_size=256, levels=4, frame_rate_hz=2.5)  # paper: 24 of 512, every 3 s
STREAMS = {spec.name: spec for spec in (MULAN, SEMANTIC, ACOUSTIC)}  # as published, and in every bundle
ALL_STREAMS = {**STREAMS, MELODY.name: MELODY}


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """Something that `musiclm train NAME` trains."""

    name: str  # and that of its folder in RUNS; its recipe in a preset has "_" for "-"
    part: str  # of a bundle that it makes
    fills: str | None = None  # the stream that it makes of recordings, if it is an encoder
    optional: bool = False  # a part that a bundle may lack and `train all` leaves out

    @property
    def recipe(self) -> str:
        """Its name in a preset and in `--set`."""
        return self.name.replace("-", "_")

    @property
    def one_side(self) -> bool:
        """Whether it goes on with one side of a bundle's model and leaves every code as it was."""
        return self.name != self.part


TRAINABLES = {
    one.name: one
    for one in (
        Trainable(name="soundstream", part="soundstream", fills=ACOUSTIC.name),
        Trainable(name="w2vbert", part="w2vbert", fills=SEMANTIC.name),
        Trainable(name="mulan", part="mulan", fills=MULAN.name),
        Trainable(name="melody", part="melody", fills=MELODY.name, optional=True),
        Trainable(name="semantic", part="semantic"),
        Trainable(name="storm", part="storm"),
        Trainable(name="coarse", part="coarse"),
        Trainable(name="fine", part="fine"),
        Trainable(name="soundstream-decoder", part="soundstream"),
        Trainable(name="mulan-text", part="mulan"),
    )
}
# the parts of a bundle, in the order in which they are trained from nothing; what they learn from stands before them
PARTS = tuple(name for name, one in TRAINABLES.items() if not one.one_side)
STAGES = tuple(name for name in PARTS if not TRAINABLES[name].optional)  # of `train all`
ENCODER_OF = {one.fills: one.name for one in TRAINABLES.values() if one.fills}  # which model makes a stream
ENCODERS = tuple(name for name in ENCODER_OF.values() if name in STAGES)
MODELS = tuple(name for name in STAGES if name not in ENCODERS)  # they learn from streams


def to_ids(codes: Int[Tensor, "b q t"], spec: TokenSpec, offset: int = 0) -> Int[Tensor, "b l"]:
    """Interleaves levels frame by frame, each in its own id range (AudioLM, section 3).

    Example: two levels of size 10, frames (3, 7) (4, 1) -> ids 3 17 4 11, plus `offset`.

    Raises: ValueError if the number of levels differs from the spec or a code of the CPU is outside [0, codebook_size);
    other devices would have to be waited for.
    """
    if codes.shape[1] != spec.levels:
        raise ValueError(f"stream {spec.name!r} has {spec.levels} levels, got codes of shape {tuple(codes.shape)}")
    looked_at = codes.numel() and codes.device.type == "cpu"
    if looked_at and not (0 <= int(codes.min()) and int(codes.max()) < spec.codebook_size):
        raise ValueError(
            f"codes of stream {spec.name!r} must lie in [0, {spec.codebook_size}), got "
            f"{int(codes.min())}..{int(codes.max())}"
        )
    base = torch.arange(spec.levels, device=codes.device).mul_(spec.codebook_size).add_(offset)
    return (codes.long() + base[:, None]).transpose(1, 2).flatten(1)
