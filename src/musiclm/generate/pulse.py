"""The tempo of a sound, measured: precise enough to count its bars by.

Onsets are how far the log-mel spectrum rises, a hundred times a second. A beat of period p shows in their
autocorrelation at p, 2p, 3p and so on. So it does at 2p, 4p, 6p: of periods that are equally clear the one near two
beats a second is taken, which listeners prefer. Then, near it, the one that holds over the longest lags.
"""

import numpy as np
import torch
from jaxtyping import Float

from musiclm.core.features import SAMPLE_RATE_HZ, LogMel

HOP = 240
SLOWEST_BPM, FASTEST_BPM = 45.0, 220.0
PREFERRED_BPM, SPREAD_OCTAVES = 120.0, 0.8
SHORT_S = 6.0  # lags by which a tempo is found; the longest ones refine it
LEAST = 0.1  # of the mean autocorrelation at whole beats over that at any lag: noise has 0.05
LEAST_S = 3.0
SHORTEST_LAG = 20  # below it any sound is like itself


def measured_tempo(sound: Float[np.ndarray, " s"]) -> float | None:
    """Beats a minute of a sound at 24 kHz; None where no beat is clear. Half and double tempi can be mistaken."""
    if len(sound) < LEAST_S * SAMPLE_RATE_HZ:
        return None
    mel = LogMel(n_fft=1024, hop=HOP, num_mels=40, floor=1e-3)(torch.from_numpy(np.asarray(sound, np.float32))[None])
    onsets = np.maximum(np.diff(mel[0].numpy(), axis=1), 0).mean(0).astype(np.float64)
    onsets -= onsets.mean()
    n = len(onsets)
    spectrum = np.fft.rfft(onsets, 2 * n)
    products = np.fft.irfft(np.abs(spectrum) ** 2)[: n // 2]
    if products[0] < 1e-9:
        return None
    likeness = products / products[0] * n / (n - np.arange(n // 2))
    per_minute = 60 * SAMPLE_RATE_HZ / HOP

    def clearness(period: float, longest: float) -> float:
        """Mean likeness at whole periods over that at any lag."""
        whole = np.arange(1, max(2, int(longest / period) + 1)) * period
        at = np.interp(whole, np.arange(len(likeness)), likeness)
        return float(at.mean() - likeness[SHORTEST_LAG : int(longest)].mean())

    tempi = np.exp(np.arange(np.log(SLOWEST_BPM), np.log(FASTEST_BPM), 0.005))
    short = min(SHORT_S * SAMPLE_RATE_HZ / HOP, len(likeness) - 1)
    clear = np.array([clearness(per_minute / bpm, short) for bpm in tempi])
    preferred = np.exp(-0.5 * (np.log2(tempi / PREFERRED_BPM) / SPREAD_OCTAVES) ** 2)
    best = int(np.argmax(clear * preferred))
    if clear[best] < LEAST:
        return None
    near = tempi[best] * np.exp(np.arange(-0.015, 0.015, 0.0002))
    return float(near[np.argmax([clearness(per_minute / bpm, len(likeness) - 1) for bpm in near])])
