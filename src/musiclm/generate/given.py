"""What music goes on from (AudioLM, section 4.3): a sound file or a take, as codes of its last part and the sound up to
the joint.

The joint is where the last frame that all streams share ends, so up to a frame of the given sound is cut off. The
models read the last window before it alone, however long the sound is.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from musiclm.core.artifact import ArtifactError, file_hash
from musiclm.core.audio import SAMPLE_RATE_HZ, AudioError, probe, read_blocks, resample
from musiclm.core.streams import TokenSpec
from musiclm.generate.checks import MIN_DURATION_S
from musiclm.generate.melody import Melody
from musiclm.generate.splice import Blocks
from musiclm.generate.steer import Steer
from musiclm.generate.take import Condition, Parent, Take, check_codec, check_current, check_fit
from musiclm.models.encoders import Codec, JointEmbedding, SemanticEncoder

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
