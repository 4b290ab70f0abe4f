"""What music goes on from (AudioLM, section 4.3): a sound file or a take, as codes of its last part and the sound up to
the joint.

The joint is where the last frame that all streams share ends, so up to a frame of the given sound is cut off. The
models are told of the last window before it alone, however long the sound is.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.core.artifact import ArtifactError, file_hash
from musiclm.core.audio import SAMPLE_RATE_HZ, AudioError, read_blocks, resample
from musiclm.core.streams import TokenSpec
from musiclm.generate.checks import MIN_DURATION_S
from musiclm.generate.take import Condition, Parent, Take, check_codec, check_fit
from musiclm.models.encoders import Codec, JointEmbedding, SemanticEncoder

MIRROR_S = 0.25  # of sound mirrored at the joint, so that the last codes do not tell of an end


@dataclass(frozen=True)
class Given:
    """Codes of the context, which ends at the joint, and what they are of."""

    parent: Parent
    semantic: Int[Tensor, "1 s t"]
    acoustic: Int[Tensor, "1 q f"]  # as many levels as the codec, or the decoder that drew them, has
    mulan: Int[Tensor, "1 m 1"] | None
    prompt: str | None
    condition: Condition  # what the MuLan codes are of
    sound: Callable[[], Iterator[Float[np.ndarray, " s"]]]  # at least up to the joint, in blocks


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
    path, rate = Path(path), codec.sample_rate_hz

    def sound() -> Iterator[Float[np.ndarray, " s"]]:
        return (block[0] for block in read_blocks(path, sample_rate_hz=rate))

    kept: deque[np.ndarray] = deque()
    total = held = 0
    for block in sound():
        kept.append(block)
        total, held = total + len(block), held + len(block)
        while held - len(kept[0]) >= windows.longest + windows.unit:
            held -= len(kept.popleft())
    if total < MIN_DURATION_S * rate:
        raise AudioError(f"{path}: has {total / rate:.2f} s, too short to go on from; give {MIN_DURATION_S} s or more")
    joint, length = windows.of(total)
    last = np.concatenate(kept)
    last = last[: len(last) - (total - joint)][-length:]
    mirror = round(MIRROR_S * rate) // windows.unit * windows.unit
    padded = np.pad(last, (0, mirror), mode="reflect")[None]
    audio = torch.from_numpy(padded)[None].to(codec.device)
    # as the other encoders hear it
    at_24_khz = torch.from_numpy(resample(padded, rate, SAMPLE_RATE_HZ))[None].to(codec.device)
    parent = Parent(kind="audio", hash=file_hash(path), name=path.name, joint_samples=joint, context_samples=length)
    return Given(
        parent,
        tokenizer.encode(at_24_khz)[:, :, : frames_of(length, tokenizer.spec, rate)],
        codec.encode(audio)[:, :, : frames_of(length, codec.spec, rate)],
        mulan.audio_codes(at_24_khz[:, :, : round(length * SAMPLE_RATE_HZ / rate)]),
        None,
        "audio",
        sound,
    )


def of_take(
    take: Take,
    name: str,
    sound: Callable[[], Iterator[Float[np.ndarray, " s"]]],
    windows: Windows,
    codec: Codec,
    semantic: TokenSpec,
    mulan: TokenSpec,
    encoders: dict[str, str],
) -> Given:
    """Of a take by the same encoders. name: of its file, or "".

    Raises: ArtifactError if its codes are of others, or do not fit.
    """
    about = take.about
    others = sorted(part for part in encoders if about.encoders.get(part) != encoders[part])
    if others:
        raise ArtifactError(
            f"the take was made by the bundle {about.bundle!r} ({about.bundle_hash}), "
            f"with another {', '.join(others)}; "
            "name the right --model, or go on from its sound"
        )
    check_codec(take, codec)
    check_fit(take.semantic, semantic)
    if take.mulan is not None:
        check_fit(take.mulan, mulan)
    joint, _ = windows.of(about.given_samples + about.num_samples)
    end, length = windows.of(about.context_samples + about.num_samples)
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
        None if take.mulan is None else torch.from_numpy(take.mulan.astype(np.int64))[None].to(device),
        about.prompt,
        about.condition,
        sound,
    )


def frames_of(num_samples: int, spec: TokenSpec, rate_hz: int) -> int:
    """Frames of a stream in so many samples, of which they are a whole number."""
    return round(num_samples * (spec.frame_rate_hz or 0.0) / rate_hz)
