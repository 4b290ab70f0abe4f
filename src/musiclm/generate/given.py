"""What music goes on from (AudioLM, section 4.3): a sound file or a take, as codes of its last part and the sound up to
the joint.

The joint is where the last frame that all streams share ends, so up to a frame of the given sound is cut off. The
models read the last window before it alone, however long the sound is.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from musiclm.core.artifact import ArtifactError, file_hash
from musiclm.core.audio import SAMPLE_RATE_HZ, AudioError, probe, read_blocks, resample
from musiclm.core.streams import MULAN, TokenSpec
from musiclm.generate.checks import MIN_DURATION_S
from musiclm.generate.melody import Melody
from musiclm.generate.music import Music
from musiclm.generate.splice import Blocks
from musiclm.generate.steer import Steer
from musiclm.generate.take import (
    SUFFIX,
    Condition,
    Parent,
    Take,
    check_codec,
    check_current,
    check_fit,
    load_take,
    sound_of,
)
from musiclm.models.encoders import Codec, JointEmbedding, SemanticEncoder

if TYPE_CHECKING:
    from musiclm.generate.session import MusicLM

MIRROR_S = 0.25  # of sound mirrored at the joint, so that the last codes do not tell of an end


@dataclass(frozen=True)
class Given:
    """Codes of the context, which ends at the joint, and what they are of."""

    parent: Parent
    semantic: Int[Tensor, "1 s t"]
    acoustic: Int[Tensor, "1 q f"]  # as many levels as the codec, or the decoder that drew them, has
    mulan: Int[Tensor, "1 m 1"] | None  # that hold at the joint
    prompt: str | None
    condition: Condition  # what the MuLan codes are of
    steer: Steer  # with the tempo and the key that were set; for music that goes on without a prompt
    sound: Callable[[], Blocks]  # at least up to the joint, in blocks
    melody: Melody | None = None  # what is left after the joint of what it follows


@dataclass(frozen=True)
class Windows:
    """How sound is cut: in samples of the codec."""

    unit: int  # after which frames of all streams begin together
    longest: int  # that the semantic stage reads at once, in whole units

    def of(self, num_samples: int) -> tuple[int, int]:
        """The joint, and the length of the context before it."""
        joint = num_samples // self.unit * self.unit
        return joint, min(joint, self.longest)


def given_of(model: "MusicLM", source: str | Path | Music) -> Given:
    """What music goes on from; see `MusicLM.given`."""
    windows = _windows(model)
    if isinstance(source, Music):
        if len(source) != 1:
            raise ValueError(f"music of {len(source)} items can't be gone on from; take one of them, as in music[0]")
        audio = source.audio[0]
        return _of_any_take(model, source.takes[0], "", lambda: iter([audio]), windows)
    path = Path(source)
    if path.suffix != SUFFIX:
        return of_audio(path, windows, model.soundstream, model.tokenizer, model.mulan)
    take = load_take(path)
    return _of_any_take(model, take, path.name, lambda: sound_of(take, model.soundstream, path.parent), windows)


def _windows(model: "MusicLM") -> Windows:
    unit = model.pace.unit * model.soundstream.samples_per_frame
    layout = model.semantic.layout
    window_s = layout.crop_frames() / (layout.target_spec.frame_rate_hz or 1.0)
    return Windows(unit, round(window_s * model.sample_rate_hz) // unit * unit)


def _of_any_take(model: "MusicLM", take: Take, name: str, sound: Callable[[], Blocks], windows: Windows) -> Given:
    """Of a take with what it follows: its prompt, conditions and melody at its end. name: of its file, or ""."""
    about, end, rvq = take.about, take.about.sound_samples, model.mulan.rvq
    if take.reaches(model.soundstream.samples_per_frame):
        mulan_spec = TokenSpec(name=MULAN.name, codebook_size=rvq.codebook_size, levels=rvq.levels, frame_rate_hz=None)
        semantic_spec = model.semantic.layout.target_spec
        own = of_take(take, name, sound, windows, model.soundstream, semantic_spec, mulan_spec, model.encoders)
    else:  # an edited recording: its take has codes around the edit only
        check_encoders(take, model.encoders)
        parent = Parent(kind="take", hash=take.id, name=name)
        own = of_sound(sound, parent, windows, model.soundstream, model.tokenizer, model.mulan)
    last_frame = model.semantic_frames(end - about.codes_start_samples) - 1
    mulan, melody = model.schedule_of(take).at(last_frame).mulan, model.melody_of_take(take)
    if melody is not None:
        melody = melody.after(own.parent.joint_samples, model.sample_rate_hz)
    own = replace(own, mulan=mulan, melody=melody)
    if about.story is None:
        return replace(own, prompt=about.prompt, condition=about.condition, steer=about.config.steer)
    last = about.story.at((end - 1 - about.story_start_samples) / about.sample_rate_hz)
    return replace(own, prompt=last.prompt, condition="text", steer=last.set_in(about.config.steer))


@torch.inference_mode()
def of_audio(
    path: str | Path, windows: Windows, codec: Codec, tokenizer: SemanticEncoder, mulan: JointEmbedding
) -> Given:
    """Of a sound file, mixed to mono at the codec's rate, in constant memory.

    The MuLan codes are of the context. Raises: AudioError for a file that is no sound or shorter than 0.5 s.
    """
    path = Path(path)
    probe(path)

    def sound() -> Blocks:
        return (block[0] for block in read_blocks(path, sample_rate_hz=codec.sample_rate_hz))

    return of_sound(sound, Parent(kind="audio", hash=file_hash(path), name=path.name), windows, codec, tokenizer, mulan)


@torch.inference_mode()
def of_sound(
    sound: Callable[[], Blocks],
    parent: Parent,
    windows: Windows,
    codec: Codec,
    tokenizer: SemanticEncoder,
    mulan: JointEmbedding,
) -> Given:
    """Of any sound, as `of_audio`; `parent` gets the joint."""
    rate = codec.sample_rate_hz
    kept: deque[np.ndarray] = deque()
    total = held = 0
    for block in sound():
        kept.append(block)
        total, held = total + len(block), held + len(block)
        while held - len(kept[0]) >= windows.longest + windows.unit:
            held -= len(kept.popleft())
    if total < MIN_DURATION_S * rate:
        raise AudioError(
            f"{parent.name}: has {total / rate:.2f} s, too short to go on from; give {MIN_DURATION_S} s or more"
        )
    joint, length = windows.of(total)
    last = np.concatenate(kept)
    last = last[: len(last) - (total - joint)][-length:]
    mirror = round(MIRROR_S * rate) // windows.unit * windows.unit
    padded = np.pad(last, (0, mirror), mode="reflect")[None]
    audio = torch.from_numpy(padded)[None].to(codec.device)
    # as the other encoders take it
    at_24_khz = torch.from_numpy(resample(padded, rate, SAMPLE_RATE_HZ))[None].to(codec.device)
    return Given(
        replace(parent, joint_samples=joint, context_samples=length),
        tokenizer.encode(at_24_khz)[:, :, : frames_of(length, tokenizer.spec, rate)],
        codec.encode(audio)[:, :, : frames_of(length, codec.spec, rate)],
        mulan.audio_codes(at_24_khz[:, :, : round(length * SAMPLE_RATE_HZ / rate)]),
        None,
        "audio",
        Steer(),
        sound,
    )


def of_take(
    take: Take,
    name: str,
    sound: Callable[[], Blocks],
    windows: Windows,
    codec: Codec,
    semantic: TokenSpec,
    mulan: TokenSpec,
    encoders: dict[str, str],
) -> Given:
    """Of a take by the same encoders, but for its MuLan codes, which may go by time. name: of its file, or "".

    Raises: ArtifactError if its codes are of others, or do not fit.
    """
    about = take.about
    check_encoders(take, encoders)
    check_codec(take, codec)
    check_fit(take.semantic, semantic)
    if take.mulan is not None:
        check_fit(take.mulan, mulan)
    joint, _ = windows.of(about.sound_samples)
    end, length = windows.of(about.sound_samples - about.codes_start_samples)
    device = codec.device

    def part(codes: np.ndarray, spec: TokenSpec) -> Tensor:
        first, last = (frames_of(samples, spec, about.sample_rate_hz) for samples in (end - length, end))
        if codes.shape[1] < last:
            raise ArtifactError(
                f"the take has {codes.shape[1]} {spec.name} frames, fewer than its sound; it is damaged"
            )
        return torch.from_numpy(codes[:, first:last].astype(np.int64))[None].to(device)

    return Given(
        Parent(kind="take", hash=take.id, name=name, joint_samples=joint, context_samples=length),
        part(take.semantic, semantic),
        part(take.acoustic, codec.spec),
        None,
        about.prompt,
        about.condition,
        about.config.steer,
        sound,
    )


def check_encoders(take: Take, encoders: dict[str, str]) -> None:
    """Raises: ArtifactError if a take's codes are of other encoders."""
    check_current(take)
    others = sorted(part for part in encoders if take.about.encoders.get(part) != encoders[part])
    if others:
        raise ArtifactError(
            f"the take was made by the bundle {take.about.bundle!r} ({take.about.bundle_hash}), "
            f"with another {', '.join(others)}; "
            "name the right --model, or use its sound"
        )


def frames_of(num_samples: int, spec: TokenSpec, rate_hz: int) -> int:
    """Frames of a stream in so many samples, of which they are a whole number."""
    return round(num_samples * (spec.frame_rate_hz or 0.0) / rate_hz)
