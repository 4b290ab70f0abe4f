"""The key that a weight of each pitch class speaks for: profiles of Krumhansl and Kessler (1982)."""

import numpy as np
from jaxtyping import Float

from musiclm.arrange.score import Mode

_PROFILES: tuple[tuple[Mode, tuple[float, ...]], ...] = (
    ("major", (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)),
    ("minor", (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)),
)


def best_key(weight: Float[np.ndarray, "12"]) -> tuple[int, Mode, float]:
    """Tonic (0 is C), mode, and by how much its correlation is above the next one's; a margin of 0 where all weights are equal."""
    if np.ptp(weight) <= 0:
        return 0, "major", 0.0
    found: list[tuple[float, int, Mode]] = [
        (float(np.corrcoef(weight, np.roll(profile, tonic))[0, 1]), tonic, mode)
        for mode, profile in _PROFILES
        for tonic in range(12)
    ]
    (best, tonic, mode), (second, *_) = sorted(found, reverse=True)[:2]
    return tonic, mode, best - second
