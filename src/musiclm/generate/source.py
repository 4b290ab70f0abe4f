"""Music that is edited: any sound file, a take, or music just made; its sound and codes, of the parts that are needed.

Codes are those of the take where it has them, so that an edit of an edit starts from the very codes that were drawn;
elsewhere the encoders make them of the sound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.core.artifact import file_hash
from musiclm.core.audio import SAMPLE_RATE_HZ, probe, read_blocks, resample
from musiclm.core.streams import TokenSpec
from musiclm.generate.given import MIRROR_S, check_encoders, frames_of
from musiclm.generate.music import Music
from musiclm.generate.splice import Blocks, Tape, skipping
from musiclm.generate.take import SUFFIX, Condition, Parent, Take, check_codec, load_take, sound_of
from musiclm.models.encoders import Codec, JointEmbedding, SemanticEncoder

if TYPE_CHECKING:
    from musiclm.generate.session import MusicLM

PIECE_S = 10.0  # that the codec encodes at a time


@dataclass(frozen=True)
class Codes:
    """Of both streams, whole units (`Source.unit`) long."""

    semantic: Int[Tensor, "1 s t"]
    acoustic: Int[Tensor, "1 q f"]
    start_samples: int  # where in the sound they begin
    mulan: Int[Tensor, "1 m 1"] | None = None  # of the same sound, where the encoders made them


@dataclass(frozen=True)
class Source:
    """What is edited."""

    parent: Parent
    num_samples: int
    sound: Callable[[], Blocks]
    take: Take | None
    unit: int  # samples after which frames of all streams begin together
    codec: Codec
    semantic: TokenSpec
    encoders: Callable[[], tuple[SemanticEncoder, JointEmbedding]]  # loaded when they are needed

    @property
    def name(self) -> str:
        return self.parent.name or "the music"

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.codec.sample_rate_hz

    @property
    def prompt(self) -> str | None:
        return None if self.take is None else self.take.about.prompt

    @property
    def condition(self) -> Condition:
        return "audio" if self.take is None else self.take.about.condition

    def read(self, start: int, stop: int) -> Float[np.ndarray, " s"]:
        """Samples of the sound, as many as there are before `stop`."""
        return Tape(skipping(start, self.sound())).whole(min(stop, self.num_samples) - start)

    def codes(self, start: int, stop: int, levels: int) -> Codes:
        """At least from one sample to another, both whole units; `stop` may lie up to a unit behind the end.

        levels: how many acoustic ones there must be at least.
        """
        found = self._of_take()
        if found is None or found.acoustic.shape[1] < levels:
            return self.encoded(start, stop)
        end = found.start_samples + found.acoustic.shape[2] * self.codec.samples_per_frame
        return found if found.start_samples <= start and stop <= end else self.encoded(start, stop)

    def _of_take(self) -> Codes | None:
        if self.take is None:
            return None
        device = self.codec.device
        arrays = (self.take.semantic, self.take.acoustic)
        semantic, acoustic = (torch.from_numpy(a.astype(np.int64))[None].to(device) for a in arrays)
        return Codes(semantic, acoustic, self.take.about.codes_start_samples)

    @torch.inference_mode()
    def encoded(self, start: int, stop: int) -> Codes:
        """What the encoders make of the sound from one sample to another, a whole number of units.

        They are given a quarter of a second more, mirrored where the sound ends: silence would tell of an end.
        """
        tokenizer, mulan = self.encoders()
        rate = self.codec.sample_rate_hz
        ahead = round(MIRROR_S * rate) // self.unit * self.unit
        samples = self.read(start, stop + ahead)
        missing = stop + ahead - start - len(samples)
        device = self.codec.device
        padded = np.pad(samples, (0, missing), mode="reflect")[None]
        audio = torch.from_numpy(padded)[None].to(device)
        at_24_khz = torch.from_numpy(resample(padded, rate, SAMPLE_RATE_HZ))[None].to(device)
        stream = self.codec.encoder_stream()
        pieces = [stream.push(piece) for piece in audio.split(round(PIECE_S * rate), 2)]
        acoustic = torch.cat([*(piece.to(device) for piece in pieces), stream.flush().to(device)], 2)
        length = stop - start
        return Codes(
            tokenizer.encode(at_24_khz)[:, :, : frames_of(length, tokenizer.spec, rate)],
            acoustic[:, :, : frames_of(length, self.codec.spec, rate)],
            start,
            mulan.audio_codes(at_24_khz[:, :, : round(min(length, len(samples)) * SAMPLE_RATE_HZ / rate)]),
        )

    def frames(self, units: int) -> tuple[int, int]:
        """Semantic and acoustic frames of so many units."""
        rate = self.codec.sample_rate_hz
        return frames_of(units * self.unit, self.semantic, rate), frames_of(units * self.unit, self.codec.spec, rate)


def source_of(model: "MusicLM", source: str | Path | Music) -> Source:
    """Music to be edited; see `MusicLM.source`."""
    if not model.pace.shared:
        raise ValueError(f"the bundle {model.bundle.name} can't edit: frames of its streams hardly ever begin together")

    def made(parent: Parent, num_samples: int, sound: Callable[[], Blocks], take: Take | None) -> Source:
        unit, semantic = model.pace.unit * model.soundstream.samples_per_frame, model.semantic.layout.target_spec
        return Source(
            parent,
            num_samples,
            sound,
            take,
            unit,
            model.soundstream,
            semantic,
            lambda: (model.tokenizer, model.mulan),
        )

    if isinstance(source, Music):
        if len(source) != 1:
            raise ValueError(f"music of {len(source)} items can't be edited; take one of them, as in music[0]")
        take, audio = source.takes[0], source.audio[0]
        return made(Parent(kind="take", hash=take.id, name=""), len(audio), lambda: iter([audio]), take)
    path = Path(source)
    if path.suffix == SUFFIX:
        take = load_take(path)
        check_encoders(take, model.encoders)
        check_codec(take, model.soundstream)
        parent = Parent(kind="take", hash=take.id, name=path.name)
        return made(parent, take.about.sound_samples, lambda: sound_of(take, model.soundstream, path.parent), take)
    probe(path)

    def recorded() -> Blocks:
        return (block[0] for block in read_blocks(path, sample_rate_hz=model.sample_rate_hz))

    parent = Parent(kind="audio", hash=file_hash(path), name=path.name)
    return made(parent, sum(len(block) for block in recorded()), recorded, None)
