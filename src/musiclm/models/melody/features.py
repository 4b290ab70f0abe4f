"""What the melody encoder looks at: spectra in half semitones, 12.5 times a second, each seen at its harmonics.

Of a tone, the bins of its octave, twelfth and so on are loud too. So every pitch is shown beside its own harmonics, as
harmonic constant-Q transforms do (Bittner et al. 2017): a small filter then tells a tone from an overtone, which a
spectrum shows as two bins far apart.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.features import SAMPLE_RATE_HZ, stft

HOP = 1920  # samples of a frame
LOWEST_MIDI = 36  # C2, the lowest tone that may be a melody's
OCTAVES = 6  # to B7, where whistles end
PER_SEMITONE = 2
NUM_BINS = OCTAVES * 12 * PER_SEMITONE
HARMONICS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)  # half: a tone an octave below, whose overtone this may be
# long windows tell low semitones apart, short ones quick notes
WINDOWS = ((8192, 0.0), (4096, 240.0))  # samples, from which frequency on
HIGHEST_HZ = 11_000.0
FLOOR = 1e-3  # of magnitudes, below which a window counts as silent


def _shifts() -> list[int]:
    """Bins from a tone to each of its harmonics."""
    return [round(12 * PER_SEMITONE * math.log2(harmonic)) for harmonic in HARMONICS]


BELOW, ABOVE = -min(_shifts()), max(_shifts())
TOTAL_BINS = BELOW + NUM_BINS + ABOVE


def pitch_filters(n_fft: int, low_hz: float, high_hz: float) -> Float[Tensor, "f n"]:
    """How much each bin of a spectrum, up to the last that counts, counts for each half semitone whose tone lies in
    [low_hz, high_hz); columns add up to 1."""
    width_hz = SAMPLE_RATE_HZ / n_fft
    hz = torch.arange(n_fft // 2 + 1, dtype=torch.float64, device="cpu") * width_hz
    centre = _tones_hz()
    centre = centre[(centre >= low_hz) & (centre < high_hz)]
    spread = (centre * (2 ** (1 / (24 * PER_SEMITONE)) - 1)).clamp(min=0.6 * width_hz)
    filters = torch.exp(-0.5 * ((hz[:, None] - centre) / spread) ** 2)
    filters = (filters / filters.sum(0)).float()
    return filters[: int((filters > 1e-6).any(1).nonzero().max()) + 1]


def _tones_hz() -> Float[Tensor, " n"]:
    place = torch.arange(TOTAL_BINS, dtype=torch.float64, device="cpu") - BELOW
    return 440 * 2 ** ((LOWEST_MIDI - 69 + place / PER_SEMITONE) / 12)


class PitchSpectra(nn.Module):
    """Magnitudes by half semitone: `b s` -> `b n t` with t = ceil(s / 1920), n from an octave below C2 up; 0 above
    HIGHEST_HZ."""

    def __init__(self) -> None:
        super().__init__()
        for index, (n_fft, low_hz) in enumerate(WINDOWS):
            high_hz = WINDOWS[index + 1][1] if index + 1 < len(WINDOWS) else HIGHEST_HZ
            window = torch.hann_window(n_fft, device="cpu")  # also where all else has no memory yet
            # derived, so never stored with the weights
            self.register_buffer(f"window_{index}", window, persistent=False)
            filters = pitch_filters(n_fft, low_hz, high_hz) * (2 / float(window.sum()))
            self.register_buffer(f"filters_{index}", filters, persistent=False)

    def forward(self, audio: Float[Tensor, "b s"]) -> Float[Tensor, "b n t"]:
        parts = []
        for index, (n_fft, _) in enumerate(WINDOWS):
            window, filters = getattr(self, f"window_{index}"), getattr(self, f"filters_{index}")
            parts.append(stft(audio, n_fft, HOP, window)[..., : len(filters)].abs() @ filters)
        known = torch.cat(parts, 2).transpose(1, 2)
        return F.pad(known, (0, 0, 0, TOTAL_BINS - known.shape[1]))


MARGIN = max(n_fft for n_fft, _ in WINDOWS) // HOP  # frames on either side whose audio a frame's windows reach


def levelled(spectra: Float[Tensor, "b n t"]) -> Float[Tensor, "b n t"]:
    """Square roots of magnitudes, each window at one level; near silence less."""
    rms = spectra.square().mean((1, 2), keepdim=True).sqrt()
    return (spectra / (rms + FLOOR)).clamp(min=0).sqrt()


def with_harmonics(spectra: Float[Tensor, "b n t"]) -> Float[Tensor, "b h p t"]:
    """The spectrum at each harmonic of the tones from C2 to B7."""
    starts = [BELOW + shift for shift in _shifts()]
    return torch.stack([spectra[:, start : start + NUM_BINS] for start in starts], 1)
