"""Plain sanity of audio: is anything wrong that a meter would show?

- clipped_share: samples at or above 0.999 of full scale; 0 is right.
- silent_share: tenths of a second below -60 dB of full scale; high is wrong for music.
- dc_offset: mean sample; 0 is right.
- loudness_lufs: integrated loudness (ITU-R BS.1770-4, by pyloudnorm), LUFS; neither way better.
- bandwidth_hz: the frequency below which 99 % of the energy of the flattened (6 dB an octave) spectrum lies; low is
  muffled.
- seam_ratio: mean change of the spectrum across seams over that elsewhere; 1 is right, above that windows were glued
  audibly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from musiclm.core.features import SAMPLE_RATE_HZ

Clip = Float[np.ndarray, " s"]


@dataclass(frozen=True, kw_only=True)
class Sanity:
    clipped_share: float
    silent_share: float
    dc_offset: float
    loudness_lufs: float  # -70 for silence, the gate of BS.1770
    bandwidth_hz: float
    seam_ratio: float  # nan without seams


def sanity(clip: Clip, seams_s: Sequence[float] = ()) -> Sanity:
    """Of a clip at 24 kHz, half a second or longer, with seams at the given places.

    Raises: ValueError for a shorter one.
    """
    import pyloudnorm

    if len(clip) < SAMPLE_RATE_HZ // 2:
        raise ValueError(f"a clip of {len(clip) / SAMPLE_RATE_HZ:.2f} s; wanted half a second or more")
    clip = np.asarray(clip, np.float64)
    blocks = clip[: len(clip) // 2400 * 2400].reshape(-1, 2400)
    silent = np.square(blocks).mean(1) < 1e-6
    loudness = -70.0
    if not silent.all():
        loudness = max(loudness, float(pyloudnorm.Meter(SAMPLE_RATE_HZ).integrated_loudness(clip)))
    return Sanity(
        clipped_share=float((np.abs(clip) >= 0.999).mean()),
        silent_share=float(silent.mean()),
        dc_offset=float(clip.mean()),
        loudness_lufs=loudness,
        bandwidth_hz=bandwidth_hz(clip),
        seam_ratio=seam_ratio(clip, seams_s),
    )


def bandwidth_hz(clip: Clip) -> float:
    """See the module. 0 for silence."""
    power = np.abs(np.fft.rfft(clip - np.mean(clip))) ** 2
    hz = np.fft.rfftfreq(len(clip), 1 / SAMPLE_RATE_HZ)
    flat = np.cumsum(power * hz**2)  # music falls with frequency: without this the bass alone would decide
    if flat[-1] <= 0:
        return 0.0
    return float(hz[np.searchsorted(flat, 0.99 * flat[-1])])


def seam_ratio(clip: Clip, seams_s: Sequence[float]) -> float:
    """Change of the log spectrum (L2, 21 ms frames) across each seam over the mean change at other places.

    nan without seams inside the clip.
    """
    size = 512
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(clip, np.float64), size)[:: size // 2]
    spectra = np.log(np.abs(np.fft.rfft(frames * np.hanning(size))) + 1e-4)
    change = np.linalg.norm(spectra[2:] - spectra[:-2], axis=1)  # frames that do not overlap
    at = np.zeros(len(change), bool)
    for seam_s in seams_s:
        middle = round(seam_s * SAMPLE_RATE_HZ / (size // 2)) - 1
        if 1 <= middle < len(change) - 1:
            at[middle - 1 : middle + 2] = True
    if not at.any() or at.all():
        return float("nan")
    return float(change[at].mean() / max(change[~at].mean(), 1e-9))
