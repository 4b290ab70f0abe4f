"""Takes: codes with all that made them, from which the same sound comes again, and which other music can go on from.

A file of a take is safetensors: `semantic` (q, t), `acoustic` (q, f), unless the music was made without a condition
`mulan` (q, 1), and of music that follows a melody the codes of that, `melody` (q, m), each in the smallest integer type
that holds it. What made them is JSON in the metadata (`About`). The id of a take is a hash of both.

A take that goes on from something (its parent: a take or a sound file) holds codes of the last part of it, the context,
and of what is new. The parent's sound itself is not in it: it is read again from the parent, which lies beside the
take.
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
from musiclm.core.streams import ACOUSTIC, TokenSpec
from musiclm.generate.checks import check_duration, check_prompt, check_seed
from musiclm.generate.config import GenerateConfig
from musiclm.models.soundstream.model import DecoderStream, SoundStream

FORMAT, KIND, SUFFIX = 1, "musiclm take", ".take"
LARGEST_BYTES = 1 << 24  # of a file; ten minutes are less than a million
MAX_LEVELS, MAX_FRAMES = 256, 1 << 17
MAX_PARENTS = 100  # of a take, one before the other
FADE_S = 0.05  # from what is given to what is made, before the joint
Condition = Literal["text", "audio", "none"]


@dataclass(frozen=True, kw_only=True)
class Parent:
    """What a take goes on from."""

    kind: Literal["take", "audio"]
    hash: str  # the id of a take; sha256 of a sound file
    name: str  # of the file, without its folder; "" if there was none
    joint_samples: int  # of its sound that come first; whole frames of every stream
    context_samples: int  # before the joint, whose codes are in the take

    def __post_init__(self) -> None:
        if self.name != Path(self.name).name or "\0" in self.name:
            raise ValueError(f"the parent's name is {self.name!r}, which is no name of a file")
        for samples in (self.joint_samples, self.context_samples):
            if not 0 < samples < 2**53:
                raise ValueError(f"the joint, or the context before it, has {samples} samples")


@dataclass(frozen=True, kw_only=True)
class MelodyFile:
    """What a take was told to follow."""

    name: str  # of the file, without its folder
    hash: str  # its sha256

    def __post_init__(self) -> None:
        if self.name != Path(self.name).name or "\0" in self.name:
            raise ValueError(f"the melody's name is {self.name!r}, which is no name of a file")


@dataclass(frozen=True, kw_only=True)
class About:
    """What made a take."""

    prompt: str | None  # that it was made with, or that of the take that it goes on from
    condition: Condition  # what the MuLan codes are of
    seed: int
    duration_s: float  # of what is new
    sample_rate_hz: int
    config: GenerateConfig
    bundle: str  # its name
    bundle_hash: str
    encoders: dict[str, str]  # encoder -> hash of its codes (`musiclm.core.artifact.codes_hash`)
    parent: Parent | None = None
    melody: MelodyFile | None = None
    new_only: bool = False  # whether the sound begins at the joint
    pieces: tuple[int, ...] = ()  # frames that the codec decoded at a time: the last bits of its sound depend on them
    version: str = __version__

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_duration(self.duration_s)
        if self.prompt is not None and check_prompt(self.prompt) != self.prompt:
            raise ValueError("the prompt has space around it or controls in it")
        if (self.prompt is not None) != (self.condition == "text"):
            raise ValueError(f"the condition is {self.condition!r}, the prompt {self.prompt!r}")
        if not MIN_RATE_HZ <= self.sample_rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"the sample rate is {self.sample_rate_hz} Hz")
        if self.pieces and not 0 < min(self.pieces) <= max(self.pieces) <= MAX_FRAMES:
            raise ValueError("the pieces have no length that pieces can have")
        if self.parent is not None and min(self.parent.joint_samples, self.parent.context_samples) < self.fade_samples:
            raise ValueError("what is given is shorter than the cross-fade")

    @property
    def num_samples(self) -> int:
        """Of what is new."""
        return round(self.duration_s * self.sample_rate_hz)

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
    acoustic: UInt[np.ndarray, "p f"]  # all levels that were drawn, heard or not
    mulan: UInt[np.ndarray, "m 1"] | None
    document: dict[str, Any] = field(repr=False)  # `about` as JSON, as it was written
    melody: UInt[np.ndarray, "n m"] | None = None  # codes of what it was told to follow

    @classmethod
    def of(
        cls,
        about: About,
        semantic: Int[Tensor, "1 q t"],
        acoustic: Int[Tensor, "1 p f"],
        mulan: Int[Tensor, "1 m 1"] | None,
        melody: Int[Tensor, "1 n m"] | None = None,
    ) -> "Take":
        """A take of one item."""
        own, told = (None if codes is None else _smallest(codes) for codes in (mulan, melody))
        return cls(about, _smallest(semantic), _smallest(acoustic), own, to_json(about), told)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The codes by their names in a file."""
        found = {"semantic": self.semantic, "acoustic": self.acoustic, "mulan": self.mulan, "melody": self.melody}
        return {name: codes for name, codes in found.items() if codes is not None}

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
        told = {"kind": KIND, "format": FORMAT, "id": self.id, "about": self.document}
        # under one name, since safetensors keeps several in no order
        tensors.save(self.arrays, path, {"take": json.dumps(told)})
        return path


def _smallest(codes: Int[Tensor, "1 q t"]) -> UInt[np.ndarray, "q t"]:
    array = codes[0].cpu().numpy()
    return np.ascontiguousarray(array.astype(np.min_scalar_type(int(array.max(initial=0)))))


def load_take(path: str | Path) -> Take:
    """Reads a take. Sizes are looked at before anything is loaded.

    Raises: ArtifactError for a file that is missing, too large, damaged, or no take of this version.
    """
    path = Path(path)
    told, shapes = _header(path)
    try:
        about = from_json(About, told["about"])
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} says of itself what can't be ({error}); is it of another version?") from None
    with tensors.reader(path, "np") as file:
        arrays = {name: file.get_tensor(name) for name in shapes}
    take = Take(about, arrays["semantic"], arrays["acoustic"], arrays.get("mulan"), told["about"], arrays.get("melody"))
    if take.id != told["id"]:
        raise ArtifactError(f"{path} is damaged: its codes or what it says of them were changed; copy it again")
    told_of = (take.mulan is not None, take.melody is not None)
    if sum(about.pieces) != take.acoustic.shape[1] or told_of != (about.condition != "none", about.melody is not None):
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
            told = json.loads((file.metadata() or {}).get("take", "{}"))
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: list(one.get_shape()) for name, one in slices.items()}
            types = {one.get_dtype() for one in slices.values()}
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: no take, or a damaged one ({error}); make one with --take") from None
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise ArtifactError(f"{path}: no take; make one with --take")
    if told.get("format") != FORMAT:
        raise ArtifactError(f"{path} has format {told.get('format')}, this version of musiclm reads {FORMAT}")
    right = {"semantic", "acoustic"} <= set(shapes) <= {"semantic", "acoustic", "mulan", "melody"}
    right &= types <= {"U8", "U16", "U32"} and shapes.get("mulan", [1, 1])[1:] == [1]
    right &= all(len(s) == 2 and 1 <= s[0] <= MAX_LEVELS and 1 <= s[1] <= MAX_FRAMES for s in shapes.values())
    if not right or not isinstance(told.get("id"), str) or not isinstance(told.get("about"), dict):
        raise ArtifactError(f"{path}: no take of this version, or a damaged one; its codes have shapes {shapes}")
    return told, shapes


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
        line |= {"found": found is not None, "joint_s": parent.joint_samples / now.about.sample_rate_hz}
        now = load_take(found) if found is not None and parent.kind == "take" else None
        if now is not None:
            line |= {"prompt": now.about.prompt, "seed": now.about.seed, "duration_s": now.about.duration_s}
        parents.append(line)
    codes = {
        name: {"levels": a.shape[0], "frames": a.shape[1], "type": str(a.dtype)} for name, a in take.arrays.items()
    }
    return {"id": take.id, **take.document, "codes": codes, "parents": parents}


# -- sound


def sound_of(take: Take, codec: SoundStream, folder: Path | None = None) -> Iterator[Float[np.ndarray, " s"]]:
    """The sound that a take was saved with, in blocks: to the byte, by the codec that made it, on the same machine.

    folder: where parents lie, whose sound comes first.

    Raises: ArtifactError if the codec's codes are others, the codes fit no such codec, or a parent is needed and not
    there.
    """
    yield from _sound_of(take, codec, folder, MAX_PARENTS)


def begin_at_joint(take: Take) -> Take:
    """The same codes, with what is new as all of the sound; another take, for it says so."""
    about = replace(take.about, new_only=True)
    return replace(take, about=about, document=to_json(about))


def _sound_of(take: Take, codec: SoundStream, folder: Path | None, depth: int) -> Iterator[Float[np.ndarray, " s"]]:
    check_codec(take, codec)
    yield from as_heard(decoded(codec, _pieces_of(take, codec)), take.about, given_sound(take, codec, folder, depth))


def given_sound(
    take: Take, codec: SoundStream, folder: Path | None, depth: int = MAX_PARENTS
) -> Iterator[Float[np.ndarray, " s"]]:
    """The sound of what a take goes on from; nothing if its sound begins with what is new.

    Raises: ArtifactError if the parent is not there or has too many parents; as `sound_of`.
    """
    parent = take.about.parent
    if parent is None or take.about.new_only:
        return iter(())
    found = None if folder is None else find_parent(take, folder)
    what = f"{parent.kind} {parent.name or 'without a file'} ({parent.hash[:12]}…)"
    if found is None:
        raise ArtifactError(
            f"the take goes on from the {what}, which is not beside it or no longer the same; put it there, "
            "or ask for what is new only"
        )
    if parent.kind == "audio":
        return (block[0] for block in read_blocks(found, sample_rate_hz=take.about.sample_rate_hz))
    if depth == 0:
        raise ArtifactError(
            f"the take has more than {MAX_PARENTS} parents; save a later one as sound and go on from that"
        )
    return _sound_of(load_take(found), codec, folder, depth - 1)


def check_codec(take: Take, codec: SoundStream) -> None:
    """Raises: ArtifactError if the codes are of another codec."""
    about, config = take.about, codec.config
    made_by = about.encoders.get("soundstream", "")
    if made_by != codec.codes_hash:
        raise ArtifactError(
            f"the take was made by the bundle {about.bundle!r} ({about.bundle_hash}) with the codec {made_by[:12]}…, "
            f"this one is {codec.codes_hash[:12]}…; name the right --model"
        )
    check_fit(take.acoustic, codec.spec)
    long_enough = take.acoustic.shape[1] * config.samples_per_frame >= about.context_samples + about.num_samples
    if about.sample_rate_hz != config.sample_rate_hz or not long_enough:
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


def _pieces_of(take: Take, codec: SoundStream) -> Iterator[Int[Tensor, "1 q n"]]:
    """The codes that become sound, as the codec decoded them first."""
    device = next(codec.parameters()).device
    codes = torch.from_numpy(take.acoustic.astype(np.int64))[None, : take.about.config.levels]
    for piece in codes.split(list(take.about.pieces), 2):
        yield piece.to(device)


def decoded(codec: SoundStream, pieces: Iterable[Int[Tensor, "1 q n"]]) -> Iterator[Float[np.ndarray, " s"]]:
    """The sound of codes that come in pieces, each as soon as it is final."""
    stream = DecoderStream(codec)
    for codes in pieces:
        audio = _samples(stream.push(codes))
        if len(audio):
            yield audio
    rest = _samples(stream.flush())
    if len(rest):
        yield rest


def _samples(audio: Float[Tensor, "1 1 s"]) -> Float[np.ndarray, " s"]:
    """What a file holds of a codec's output."""
    return audio[0, 0].clamp(-1, 1).cpu().numpy()


def as_heard(
    made: Iterator[Float[np.ndarray, " s"]], about: About, given: Iterator[Float[np.ndarray, " s"]]
) -> Iterator[Float[np.ndarray, " s"]]:
    """The sound of a take from that of its codes, and of what was given before: up to the joint, but for a cross-fade,
    as it was given.

    `made` is read to its end. Raises: ValueError if the given sound is shorter than it was.
    """
    new, old = _Tape(made), _Tape(given)
    if about.given_samples:
        fade = about.fade_samples
        yield from old.read(about.given_samples - fade)
        for _ in new.read(about.context_samples - fade):
            pass
        yield cross_fade(np.concatenate([*old.read(fade)]), np.concatenate([*new.read(fade)]))
    else:
        for _ in new.read(about.context_samples):
            pass
    yield from new.read(about.num_samples)
    for _ in new.blocks:  # what is left of the last frame
        pass


class _Tape:
    """Blocks of sound, read by numbers of samples."""

    def __init__(self, blocks: Iterator[Float[np.ndarray, " s"]]) -> None:
        self.blocks = blocks
        self.rest = np.zeros(0, np.float32)

    def read(self, num: int) -> Iterator[Float[np.ndarray, " s"]]:
        """The next `num` samples. Raises: ValueError if there are fewer."""
        while num:
            if not len(self.rest):
                block = next(self.blocks, None)
                if block is None:
                    raise ValueError(f"the sound ends {num} samples early")
                self.rest = block
            block, self.rest = self.rest[:num], self.rest[num:]
            num -= len(block)
            if len(block):
                yield block


def cross_fade(old: Float[np.ndarray, " s"], new: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """From one sound to another, as loud throughout as they are, whether or not they are alike."""
    rise = (np.arange(len(old), dtype=np.float64) + 0.5) / max(1, len(old))
    energy = float(np.sqrt((old.astype(np.float64) ** 2).sum() * (new.astype(np.float64) ** 2).sum()))
    likeness = 0.0 if energy < 1e-9 else float(np.clip(old.astype(np.float64) @ new / energy, 0, 1))
    scale = np.sqrt(rise**2 + (1 - rise) ** 2 + 2 * rise * (1 - rise) * likeness)
    return np.clip(((1 - rise) * old + rise * new) / scale, -1, 1).astype(np.float32)


__all__ = ["About", "Parent", "Take", "describe_take", "load_take", "sound_of"]
