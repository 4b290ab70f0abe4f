"""The melody of a sound as MIDI pitches, 12.5 a second. Nothing is learned: of each tone the harmonics are summed up,
and the tone whose sum is the highest is the melody's.

For music by a semantic stage that has learned nothing of melodies: its codes tell which tones sound, so what is drawn
can be steered to those of a melody (`musiclm.generate.steer`, docs/decisions/033-steered-melodies.md).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from musiclm.core.streams import MELODY, TokenSpec
from musiclm.models.melody.features import (
    FLOOR,
    HOP,
    LOWEST_MIDI,
    MARGIN,
    OCTAVES,
    PER_SEMITONE,
    PitchSpectra,
    with_harmonics,
)
from musiclm.nn.precision import full_precision

NO_PITCH = 128  # in place of a pitch where nothing sounds
PITCHES = TokenSpec(name=MELODY.name, codebook_size=NO_PITCH + 1, levels=1, frame_rate_hz=12.5)
MIDDLE = 76  # E5; whole octaves bring a melody near it, wherever it is hummed
WEIGHTS = (
    -0.3,
    1.0,
    0.6,
    0.4,
    0.3,
    0.2,
)  # of `features.HARMONICS`; half is an octave below, whose overtone this may be
BESIDE = 0.9  # of a tone's neighbours a half semitone away, for whoever sings out of tune
SILENT = 0.2  # of the loudest tone of most frames, below which nothing sounds
PIECE = 640  # frames that are looked at a time: memory does not grow with the length


class PitchTracker(nn.Module):
    """24 kHz audio -> the MIDI pitch of its melody in each 80 ms, or `NO_PITCH`, in the octave where most of it is
    nearest to `MIDDLE`."""

    spec = PITCHES
    codes_hash = "pitches"  # in place of an artifact's

    def __init__(self) -> None:
        super().__init__()
        self.spectra = PitchSpectra()

    @torch.no_grad()
    def encode(self, audio: Float[Tensor, "b 1 s"]) -> Int[Tensor, "b 1 t"]:
        """t = ceil(s / 1920). Codes as those of a melody encoder, of one level."""
        with full_precision(audio.device):
            sums = torch.cat([self._sums(audio[:, 0], first) for first in range(0, audio.shape[-1], PIECE * HOP)], 2)
        loudest, tones = sums.max(1)
        sounds = loudest > SILENT * loudest.quantile(0.8, dim=1, keepdim=True)
        pitches = tones + LOWEST_MIDI
        middle = pitches.float().masked_fill(~sounds, torch.nan).nanmedian(1, keepdim=True).values.nan_to_num(MIDDLE)
        pitches = pitches + 12 * ((MIDDLE - middle) / 12).round().long()
        return torch.where(sounds, pitches.clamp(0, NO_PITCH - 1), NO_PITCH)[:, None]

    def _sums(self, audio: Float[Tensor, "b s"], first: int) -> Float[Tensor, "b p t"]:
        """Of the harmonics of the tones from C2 to B7 in the frames of a piece."""
        start, stop = max(0, first - MARGIN * HOP), min(audio.shape[1], first + (PIECE + MARGIN) * HOP)
        skipped = (first - start) // HOP
        spectra = self.spectra(audio[:, start:stop])[..., skipped : skipped + PIECE]
        weights = torch.tensor(WEIGHTS, device=audio.device)[:, None, None]
        bins = (with_harmonics((spectra.clamp(min=0) + FLOOR).sqrt()) * weights).sum(1)
        beside = torch.maximum(bins.roll(1, 1), bins.roll(-1, 1))  # lowest and highest tones are no melody's
        tones = torch.maximum(bins, BESIDE * beside).unflatten(1, (OCTAVES * 12, PER_SEMITONE))[:, :, 0]
        return tones - FLOOR**0.5 * weights.sum()
