"""Takes: codes with all that made them, from which the same sound comes again, and which other music can go on from.

A file of a take is safetensors: `semantic` (q, t), `acoustic` (q, f) and, unless the music was made without a
condition, `mulan` (q, 1), or (q, n) of a story with n steps (`Story.steps`), each in the smallest integer type that
holds it; and of music that follows a melody the codes of that, `melody` (q, m). What made them is JSON in the metadata
(`About`). The id of a take is a hash of both.

A take that goes on from something (its parent: a take or a sound file) holds codes of the last part of it, the context,
and of what is new. The parent's sound itself is not in it: it is read again from the parent, which lies beside the
take. So it is with a take that repaints a part of its parent or makes a loop of it; one that varies it has all codes of
its own (`musiclm.generate.edit`).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt
from safetensors import SafetensorError
from torch import Tensor

from musiclm import __version__
from musiclm.core import tensors
from musiclm.core.artifact import ArtifactError, file_hash
from musiclm.core.audio import MAX_RATE_HZ, MIN_RATE_HZ, read_blocks
from musiclm.core.config import from_json, to_json
from musiclm.core.output import check_output
from musiclm.core.retired import retired_codes
from musiclm.core.streams import ACOUSTIC, TokenSpec
from musiclm.core.threads import num_threads, threads_for
from musiclm.generate.checks import check_duration, check_prompt, check_seed
from musiclm.generate.config import GenerateConfig
from musiclm.generate.splice import Blocks, circular, skipping, spliced
from musiclm.generate.story import Story
from musiclm.models.encoders import Codec

FORMAT, KIND, SUFFIX = 1, "musiclm take", ".take"
LARGEST_BYTES = 1 << 24  # of a file; ten minutes are less than a million
MAX_LEVELS, MAX_FRAMES = 256, 1 << 17
MAX_PARENTS = 100  # of a take, one before the other
FADE_S = 0.05  # from what is given to what is made, before the joint
MOST_DRAFTS = 64
Condition = Literal["text", "audio", "none"]
TempoSource = Literal["set", "prompt", "take", "measured"]
Verb = Literal["generate", "continue", "repaint", "vary", "loop"]


@dataclass(frozen=True, kw_only=True)
class Parent:
    """What a take goes on from, or was edited from."""

    kind: Literal["take", "audio"]
    hash: str  # the id of a take; sha256 of a sound file
    name: str  # of the file, without its folder; "" if there was none
    joint_samples: int = 0  # of its sound that come first; whole frames of every stream; 0 for edits
    context_samples: int = 0  # before the joint, whose codes are in the take; 0 for edits

    def __post_init__(self) -> None:
        if self.name != Path(self.name).name or "\0" in self.name:
            raise ValueError(f"the parent's name is {self.name!r}, which is no name of a file")
        for samples in (self.joint_samples, self.context_samples):
            if not 0 <= samples < 2**53:
                raise ValueError(f"the joint, or the context before it, has {samples} samples")


@dataclass(frozen=True, kw_only=True)
class Drafts:
    """Semantic codes were drawn several times, and those kept that what follows fits best."""

    num: int
    scores: tuple[float, ...] = ()  # mean log-probability, in nats, of the codes that follow; none if nothing follows
    best: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num <= MOST_DRAFTS:
            raise ValueError(f"{self.num} drafts; there may be 1 to {MOST_DRAFTS}")
        if len(self.scores) not in (0, self.num) or not 0 <= self.best < self.num:
            raise ValueError(f"draft {self.best} of {self.num} with {len(self.scores)} scores")


@dataclass(frozen=True, kw_only=True)
class Repaint:
    """A span of the parent's sound was made anew."""

    start_samples: int
    stop_samples: int
    total_samples: int  # of the sound, parent's and own
    codes_start_samples: int  # where in the sound the take's codes begin; below 0 where they tell of what came before
    drafts: Drafts

    def __post_init__(self) -> None:
        if not 0 <= self.start_samples < self.stop_samples <= self.total_samples < 2**53:
            raise ValueError(f"samples {self.start_samples} to {self.stop_samples} of {self.total_samples} are no span")
        if not -(2**53) < self.codes_start_samples <= self.start_samples:
            raise ValueError(f"the codes begin at sample {self.codes_start_samples}, after the span")


@dataclass(frozen=True, kw_only=True)
class Vary:
    """Semantic codes of the parent's sound were drawn anew in part, and all acoustic codes."""

    strength: float  # 0 keeps every semantic code, 1 draws every one anew
    kept: float = 0.0  # share of the semantic codes that are as they were

    def __post_init__(self) -> None:
        for name in ("strength", "kept"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Whole bars of the parent's sound, whose end was made anew to lead into their beginning."""

    start_samples: int  # in the parent's sound
    redone_samples: int  # at the end
    tempo_bpm: float
    tempo_from: TempoSource
    bars: int
    beats_per_bar: int
    drafts: Drafts

    def __post_init__(self) -> None:
        if not (0 <= self.start_samples < 2**53 and 0 < self.redone_samples < 2**53):
            raise ValueError(f"a loop from sample {self.start_samples} with {self.redone_samples} made anew")
        if not 0 < self.tempo_bpm <= 1000 or not 1 <= self.bars <= 10_000 or not 1 <= self.beats_per_bar <= 64:
            raise ValueError(f"{self.bars} bars of {self.beats_per_bar} beats at {self.tempo_bpm} BPM are no loop")


@dataclass(frozen=True, kw_only=True)
class MelodyFile:
    """What a take follows."""

    name: str  # of the file, without its folder
    hash: str  # its sha256
    start_samples: int = 0  # where in the sound it begins; below 0 in a loop that begins later than the melody

    def __post_init__(self) -> None:
        if self.name != Path(self.name).name or "\0" in self.name:
            raise ValueError(f"the melody's name is {self.name!r}, which is no name of a file")
        if not -(2**53) < self.start_samples < 2**53:
            raise ValueError(f"the melody begins at sample {self.start_samples}")

    def later(self, num_samples: int) -> "MelodyFile":
        """The same in a sound that has so much more before it."""
        return replace(self, start_samples=self.start_samples + num_samples)


@dataclass(frozen=True, kw_only=True)
class About:
    """What made a take."""

    prompt: str | None  # that it was made with, or that of the take that it goes on from; of a story the last one
    condition: Condition  # what the MuLan codes are of
    seed: int
    duration_s: float  # of what is new; of a loop, all
    sample_rate_hz: int
    config: GenerateConfig
    bundle: str  # its name
    bundle_hash: str
    encoders: dict[str, str]  # encoder -> hash of its codes (`musiclm.core.artifact.codes_hash`)
    parent: Parent | None = None
    repaint: Repaint | None = None  # how the parent was edited; at most one of the three
    vary: Vary | None = None
    loop: Loop | None = None
    melody: MelodyFile | None = None
    new_only: bool = False  # whether the sound begins at the joint
    story: Story | None = None  # prompts by the time of what is new; of an edit by that of the story it is a part of
    story_samples: int = 0  # of an edit: where in its sound the story begins; below 0 in a loop that begins later
    pieces: tuple[int, ...] = ()  # frames that the codec decoded at a time: the last bits of its sound depend on them
    version: str = __version__

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_duration(self.duration_s)
        if self.prompt is not None and check_prompt(self.prompt) != self.prompt:
            raise ValueError("the prompt has space around it or controls in it")
        if (self.prompt is not None) != (self.condition == "text"):
            raise ValueError(f"the condition is {self.condition!r}, the prompt {self.prompt!r}")
        if self.story is not None:
            if self.edit is None:
                self.story.check_duration(self.duration_s)
            last = self.story.sections[-1].prompt
            if self.prompt != last:
                raise ValueError(f"the prompt is {self.prompt!r}, the story ends with {last!r}")
        if not -(2**53) < self.story_samples < 2**53 or (self.story_samples and (self.story is None or not self.edit)):
            raise ValueError(f"the story begins at sample {self.story_samples}")
        if not MIN_RATE_HZ <= self.sample_rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"the sample rate is {self.sample_rate_hz} Hz")
        if self.pieces and not 0 < min(self.pieces) <= max(self.pieces) <= MAX_FRAMES:
            raise ValueError("the pieces have no length that pieces can have")
        edits = [edit for edit in (self.repaint, self.vary, self.loop) if edit is not None]
        if edits:
            joined = self.parent is None or self.parent.joint_samples or self.parent.context_samples
            if joined or len(edits) > 1 or self.new_only:
                raise ValueError("an edit has one verb and a parent that it does not go on from")
            if self.loop is not None and not self.loop.redone_samples <= self.num_samples - 2 * self.fade_samples:
                raise ValueError(f"a loop of {self.num_samples} samples, {self.loop.redone_samples} of them made anew")
        elif (
            self.parent is not None and min(self.parent.joint_samples, self.parent.context_samples) < self.fade_samples
        ):
            raise ValueError("what is given is shorter than the cross-fade")

    @property
    def title(self) -> str | None:
        """The prompt, or those of the story one after another."""
        return self.prompt if self.story is None else self.story.title

    @property
    def edit(self) -> Repaint | Vary | Loop | None:
        """How the parent was edited."""
        return self.repaint or self.vary or self.loop

    @property
    def drafts(self) -> Drafts | None:
        """Of what was made anew between known codes."""
        edit = self.repaint or self.loop
        return None if edit is None else edit.drafts

    def with_drafts(self, drafts: Drafts) -> "About":
        """The same with what became of the drafts."""
        if self.repaint is not None:
            return replace(self, repaint=replace(self.repaint, drafts=drafts))
        assert self.loop is not None
        return replace(self, loop=replace(self.loop, drafts=drafts))

    @property
    def verb(self) -> Verb:
        """What made the take."""
        if self.edit is None:
            return "generate" if self.parent is None else "continue"
        return "repaint" if self.repaint else "vary" if self.vary else "loop"

    @property
    def num_samples(self) -> int:
        """Of what is new; of a loop, all."""
        return round(self.duration_s * self.sample_rate_hz)

    @property
    def sound_samples(self) -> int:
        """Of all of the sound."""
        return self.given_samples + self.num_samples if self.repaint is None else self.repaint.total_samples

    @property
    def codes_start_samples(self) -> int:
        """Where in the sound the codes begin; below 0 where they tell of what comes before it."""
        own = self.given_samples - self.context_samples
        return own if self.repaint is None else self.repaint.codes_start_samples

    @property
    def story_start_samples(self) -> int:
        """Where in the sound the time of the story begins."""
        return self.given_samples if self.edit is None else self.story_samples

    @property
    def made_samples(self) -> tuple[int, int]:
        """From where to where the sound is all of these codes."""
        if self.repaint is not None:
            return self.repaint.start_samples, self.repaint.stop_samples
        if self.loop is not None:
            return self.num_samples - self.loop.redone_samples, self.num_samples
        return self.given_samples, self.sound_samples

    @property
    def context_samples(self) -> int:
        """That the codes begin with."""
        return 0 if self.parent is None else self.parent.context_samples

    @property
    def fade_samples(self) -> int:
        return round(FADE_S * self.sample_rate_hz)

    @property
    def given_samples(self) -> int:
        """That the sound begins with before what is new."""
        return 0 if self.parent is None or self.new_only else self.parent.joint_samples


@dataclass(frozen=True, eq=False)
class Take:
    """Codes and what made them."""

    about: About
    semantic: UInt[np.ndarray, "q t"]
    acoustic: UInt[np.ndarray, "p f"]  # all levels that were drawn, decoded or not
    mulan: UInt[np.ndarray, "m n"] | None  # of the condition, or of each step of the story that was reached
    document: dict[str, Any] = field(repr=False)  # `about` as JSON, as it was written
    melody: UInt[np.ndarray, "r s"] | None = None  # codes of what it follows, from its beginning

    @classmethod
    def of(
        cls,
        about: About,
        semantic: Int[Tensor, "1 q t"],
        acoustic: Int[Tensor, "1 p f"],
        mulan: Int[Tensor, "1 m n"] | None,
        melody: Int[Tensor, "1 r s"] | None = None,
    ) -> "Take":
        """A take of one item."""
        own, followed = (None if codes is None else _smallest(codes) for codes in (mulan, melody))
        return cls(about, _smallest(semantic), _smallest(acoustic), own, to_json(about), followed)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The codes by their names in a file."""
        found = {"semantic": self.semantic, "acoustic": self.acoustic, "mulan": self.mulan, "melody": self.melody}
        return {name: codes for name, codes in found.items() if codes is not None}

    def reaches(self, samples_per_frame: int) -> bool:
        """Whether the codes go on to the end of the sound."""
        stop = self.about.codes_start_samples + self.acoustic.shape[1] * samples_per_frame
        return self.about.repaint is None or stop >= self.about.sound_samples

    @cached_property
    def id(self) -> str:
        """sha256 of what made it and of the codes."""
        digest = hashlib.sha256(json.dumps(self.document, sort_keys=True).encode())
        for name, codes in self.arrays.items():
            digest.update(f"{name} {codes.dtype} {codes.shape};".encode())
            digest.update(np.ascontiguousarray(codes).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> Path:
        """Writes a file, whose bytes depend on the take alone.

        Raises: OutputError for a place that can't be written to or where something is already; OSError.
        """
        path = check_output(path, new=True)
        header = {"kind": KIND, "format": FORMAT, "id": self.id, "about": self.document}
        # under one name, since safetensors keeps several in no order
        tensors.save(self.arrays, path, {"take": json.dumps(header)})
        return path


def _smallest(codes: Int[Tensor, "1 q t"]) -> UInt[np.ndarray, "q t"]:
    array = codes[0].cpu().numpy()
    return np.ascontiguousarray(array.astype(np.min_scalar_type(int(array.max(initial=0)))))


def load_take(path: str | Path) -> Take:
    """Reads a take. Sizes are looked at before anything is loaded.

    Raises: ArtifactError for a file that is missing, too large, damaged, or no take of this version.
    """
    path = Path(path)
    header, shapes = _header(path)
    try:
        about = from_json(About, header["about"])
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} says of itself what can't be ({error}); is it of another version?") from None
    with tensors.reader(path, "np") as file:
        arrays = {name: file.get_tensor(name) for name in shapes}
    take = Take(
        about, arrays["semantic"], arrays["acoustic"], arrays.get("mulan"), header["about"], arrays.get("melody")
    )
    if take.id != header["id"]:
        raise ArtifactError(f"{path} is damaged: its codes or what it says of them were changed; copy it again")
    conditions = 0 if take.mulan is None else take.mulan.shape[1]
    most = 0 if about.condition == "none" else 1 if about.story is None else len(about.story.steps())
    whole = sum(about.pieces) == take.acoustic.shape[1] and (take.melody is None) == (about.melody is None)
    if not whole or not min(1, most) <= conditions <= most:
        raise ArtifactError(f"{path} is no whole take: its codes are not those that it tells of")
    return take


def _header(path: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """What a file says of itself, and the shapes of its codes. Raises: ArtifactError."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    if path.stat().st_size > LARGEST_BYTES:
        raise ArtifactError(f"{path} has {path.stat().st_size} bytes, more than any take; it is not read")
    try:
        with tensors.reader(path, "np") as file:
            header = json.loads((file.metadata() or {}).get("take", "{}"))
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: list(one.get_shape()) for name, one in slices.items()}
            types = {one.get_dtype() for one in slices.values()}
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: no take, or a damaged one ({error}); make one with --take") from None
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise ArtifactError(f"{path}: no take; make one with --take")
    if header.get("format") != FORMAT:
        raise ArtifactError(f"{path} has format {header.get('format')}, this version of musiclm reads {FORMAT}")
    right = {"semantic", "acoustic"} <= set(shapes) <= {"semantic", "acoustic", "mulan", "melody"}
    right &= types <= {"U8", "U16", "U32"}
    right &= all(len(s) == 2 and 1 <= s[0] <= MAX_LEVELS and 1 <= s[1] <= MAX_FRAMES for s in shapes.values())
    if not right or not isinstance(header.get("id"), str) or not isinstance(header.get("about"), dict):
        raise ArtifactError(f"{path}: no take of this version, or a damaged one; its codes have shapes {shapes}")
    return header, shapes


# -- families


def find_parent(take: Take, folder: Path) -> Path | None:
    """The file in a folder that a take goes on from; None if there is none, or none that is still the same."""
    parent = take.about.parent
    if parent is None:
        return None
    named = folder / parent.name
    if parent.kind == "audio":
        return named if parent.name and named.is_file() and file_hash(named) == parent.hash else None
    others = sorted(path for path in folder.glob(f"*{SUFFIX}") if path != named)
    for path in [named, *others] if parent.name else others:
        try:
            if _header(path)[0]["id"] == parent.hash and load_take(path).id == parent.hash:
                return path
        except (ArtifactError, OSError):
            continue
    return None


def describe_take(path: str | Path) -> dict[str, Any]:
    """What a take says of itself, and whom it comes from, the nearest first, as far as they lie beside it. Raises:
    ArtifactError."""
    path = Path(path)
    take = load_take(path)
    parents: list[dict[str, Any]] = []
    now: Take | None = take
    while now is not None and now.about.parent is not None and len(parents) < MAX_PARENTS:
        parent, found = now.about.parent, find_parent(now, path.parent)
        line: dict[str, Any] = {
            "kind": parent.kind,
            "name": parent.name if found is None else found.name,
            "hash": parent.hash,
        }
        line |= {"verb": now.about.verb, "found": found is not None} | _place(now.about, parent)
        now = load_take(found) if found is not None and parent.kind == "take" else None
        if now is not None:
            line |= {"prompt": now.about.title, "seed": now.about.seed, "duration_s": now.about.duration_s}
        parents.append(line)
    codes = {
        name: {"levels": a.shape[0], "frames": a.shape[1], "type": str(a.dtype)} for name, a in take.arrays.items()
    }
    return {"id": take.id, **take.document, "codes": codes, "parents": parents}


def _place(about: About, parent: Parent) -> dict[str, Any]:
    """Where in the parent's sound a take begins, in a few words for people."""
    rate = about.sample_rate_hz
    if about.repaint is not None:
        return {"from_s": about.repaint.start_samples / rate, "to_s": about.repaint.stop_samples / rate}
    if about.vary is not None:
        return {"strength": about.vary.strength, "kept": about.vary.kept}
    if about.loop is not None:
        return {"from_s": about.loop.start_samples / rate, "bars": about.loop.bars, "tempo_bpm": about.loop.tempo_bpm}
    return {"joint_s": parent.joint_samples / rate}


# -- sound


def sound_of(take: Take, codec: Codec, folder: Path | None = None) -> Iterator[Float[np.ndarray, " s"]]:
    """The sound that a take was saved with, in blocks: to the byte, by the codec that made it, on the same machine.

    folder: where parents lie, whose sound comes first.

    Raises: ArtifactError if the codec's codes are others, the codes fit no such codec, or a parent is needed and not
    there.
    """
    yield from _sound_of(take, codec, folder, MAX_PARENTS)


def begin_at_joint(take: Take) -> Take:
    """The same codes, with what is new as all of the sound; another take, for it says so.

    Raises: ArtifactError for a take that goes on from nothing.
    """
    if take.about.verb != "continue":
        raise ArtifactError(f"the take was made by {take.about.verb} and goes on from nothing; leave out --new-only")
    melody = take.about.melody
    if melody is not None:
        melody = melody.later(-take.about.given_samples)
    about = replace(take.about, new_only=True, melody=melody)
    return replace(take, about=about, document=to_json(about))


def _sound_of(take: Take, codec: Codec, folder: Path | None, depth: int) -> Iterator[Float[np.ndarray, " s"]]:
    check_codec(take, codec)
    yield from assembled(decoded(codec, _pieces_of(take, codec)), take.about, given_sound(take, codec, folder, depth))


def given_sound(
    take: Take, codec: Codec, folder: Path | None, depth: int = MAX_PARENTS
) -> Iterator[Float[np.ndarray, " s"]]:
    """The sound of what a take goes on from, or of what was edited from where its own begins; nothing if it needs none.

    Raises: ArtifactError if the parent is not there or has too many parents; as `sound_of`.
    """
    parent = take.about.parent
    if parent is None or take.about.new_only or take.about.vary is not None:
        return iter(())
    found = None if folder is None else find_parent(take, folder)
    what = f"{parent.kind} {parent.name or 'without a file'} ({parent.hash[:12]}…)"
    if found is None:
        raise ArtifactError(
            f"the take {made_from(take.about)} the {what}, which is not beside it or no longer the same; put it there"
            + (", or ask for what is new only" if take.about.edit is None else "")
        )
    skipped = 0 if take.about.loop is None else take.about.loop.start_samples
    if parent.kind == "audio":
        return skipping(skipped, (block[0] for block in read_blocks(found, sample_rate_hz=take.about.sample_rate_hz)))
    if depth == 0:
        raise ArtifactError(
            f"the take has more than {MAX_PARENTS} parents; save a later one as sound and go on from that"
        )
    return skipping(skipped, _sound_of(load_take(found), codec, folder, depth - 1))


def made_from(about: About) -> str:
    """What a take does with its parent, such as "goes on from"."""
    if about.edit is None:
        return "goes on from"
    return "repaints a part of" if about.repaint else "varies" if about.vary else "makes a loop of"


def check_current(take: Take) -> None:
    """Raises: ArtifactError for a take of encoders that this version no longer has."""
    if retired := retired_codes(take.about.encoders, "make it anew from its prompt and seed (musiclm inspect)"):
        raise ArtifactError(f"the take was {retired}")


def check_codec(take: Take, codec: Codec) -> None:
    """Raises: ArtifactError if the codes are of another codec."""
    check_current(take)
    about = take.about
    made_by = about.encoders.get("soundstream", "")
    if made_by != codec.codes_hash:
        raise ArtifactError(
            f"the take was made by the bundle {about.bundle!r} ({about.bundle_hash}) with the codec {made_by[:12]}…, "
            f"this one is {codec.codes_hash[:12]}…; name the right --model"
        )
    check_fit(take.acoustic, codec.spec)
    after = about.fade_samples if about.loop else min(about.fade_samples, about.sound_samples - about.made_samples[1])
    codes_stop = about.codes_start_samples + take.acoustic.shape[1] * codec.samples_per_frame
    long_enough = codes_stop >= about.made_samples[1] + after
    if about.sample_rate_hz != codec.sample_rate_hz or not long_enough:
        raise ArtifactError("the take's codes are not as long as its sound; it is damaged or not of this codec")


def check_fit(codes: UInt[np.ndarray, "q t"], spec: TokenSpec) -> None:
    """Raises: ArtifactError for codes that a stream can't hold."""
    some = spec.name == ACOUSTIC.name  # a decoder may draw fewer levels than the codec has
    right = codes.shape[0] <= spec.levels if some else codes.shape[0] == spec.levels
    if not right or int(codes.max(initial=0)) >= spec.codebook_size:
        raise ArtifactError(
            f"the take has {codes.shape[0]} levels of {spec.name} codes up to {int(codes.max(initial=0))}, "
            f"not {spec.levels} below {spec.codebook_size} as this bundle has; it is damaged"
        )


def _pieces_of(take: Take, codec: Codec) -> Iterator[Int[Tensor, "1 q n"]]:
    """The codes that become sound, as the codec decoded them first."""
    device = codec.device
    codes = torch.from_numpy(take.acoustic.astype(np.int64))[None, : take.about.config.levels]
    for piece in codes.split(list(take.about.pieces), 2):
        yield piece.to(device)


def decoded(codec: Codec, pieces: Iterable[Int[Tensor, "1 q n"]]) -> Iterator[Float[np.ndarray, " s"]]:
    """The sound of codes that come in pieces, each as soon as it is final."""
    stream, threads = codec.decoder_stream(), threads_for(codec)
    for codes in pieces:
        with num_threads(threads):
            audio = _samples(stream.push(codes))
        if len(audio):
            yield audio
    with num_threads(threads):
        rest = _samples(stream.flush())
    if len(rest):
        yield rest


def _samples(audio: Float[Tensor, "1 1 s"]) -> Float[np.ndarray, " s"]:
    """What a file holds of a codec's output."""
    return audio[0, 0].clamp(-1, 1).cpu().numpy()


def assembled(made: Blocks, about: About, given: Blocks) -> Blocks:
    """The sound of a take from that of its codes, and of what was given: outside of what is made it is as it was given,
    but for cross-fades (`musiclm.generate.splice`).

    Raises: ValueError if the given sound is shorter than it was.
    """
    fade, total = about.fade_samples, about.sound_samples
    if about.loop is not None:
        yield from circular(given, made, total - about.loop.redone_samples, total, fade)
        return
    start, stop = about.made_samples
    yield from spliced(given, made, about.codes_start_samples, start, stop, total, fade)
    if about.repaint is None:
        for _ in made:  # what is left of the last frame
            pass


__all__ = ["About", "Parent", "Take", "describe_take", "load_take", "sound_of"]
