"""How many of a clip's notes are still there in a copy of it, by basic-pitch's transcription of both.

- keys_below_c4, keys_above_c4: F1 of sounding keys. Each key in each frame of 11.6 ms, below middle C and from it
  upwards, either sounds or not; a key that sounds in both clips counts as kept.
- onsets: F1 of the notes' beginnings. Two agree if they are of one key and at most 50 ms apart; each counts once.

1 is the same, 0 has nothing in common; nan if nothing is played in either. Counts are summed over clips before an F1 is
taken, so that a clip weighs by its notes. Intervals draw clips. Another clip of real music is the lower control.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from musiclm.evaluate.bootstrap import Estimate, bootstrap
from musiclm.listen.notes import C4, FRAME_RATE_HZ, Transcription

TOLERANCE_S = 0.05
MEASURES = ("keys_below_c4", "keys_above_c4", "onsets")

Counts = Float[np.ndarray, "3 3"]  # by measure: kept, in the copy, in the original


def notes_kept(
    copies: Sequence[Transcription], originals: Sequence[Transcription], draws: int = 300
) -> dict[str, Estimate]:
    """`MEASURES` of copies and the originals at the same places. Raises: ValueError for unequal numbers or lengths."""
    counts = np.stack([count(*pair) for pair in zip(copies, originals, strict=True)])
    return {name: bootstrap(pooled_f1, counts[:, row], draws=draws) for row, name in enumerate(MEASURES)}


def pooled_f1(counts: Float[np.ndarray, "n 3"]) -> float:
    """F1 of the sums over clips of (kept, in the copy, in the original); nan without any note."""
    kept, copy, original = counts.sum(0)
    return float(2 * kept / (copy + original)) if copy + original else float("nan")


def count(copy: Transcription, original: Transcription) -> Counts:
    """Of one clip. Raises: ValueError for clips of different lengths."""
    if copy.sounding.shape != original.sounding.shape:
        raise ValueError(f"clips of {len(copy.sounding)} and {len(original.sounding)} frames can't be compared")
    rows = []
    for keys in (slice(0, C4), slice(C4, None)):
        ours, theirs = copy.sounding[:, keys], original.sounding[:, keys]
        rows.append([(ours & theirs).sum(), ours.sum(), theirs.sum()])
    rows.append([num_matched(copy.onsets, original.onsets), copy.onsets.sum(), original.onsets.sum()])
    return np.array(rows, np.float64)


def num_matched(
    a: Bool[np.ndarray, "t k"], b: Bool[np.ndarray, "t k"], tolerance: int = int(TOLERANCE_S * FRAME_RATE_HZ)
) -> int:
    """The most pairs of onsets of one key at most `tolerance` frames apart, no onset in two pairs.

    Pairing each onset with the first that is left in reach finds the most, since all reach equally far.
    """
    pairs = 0
    for key in range(a.shape[1]):
        theirs, place = np.flatnonzero(b[:, key]), 0
        for frame in np.flatnonzero(a[:, key]):
            while place < len(theirs) and theirs[place] < frame - tolerance:
                place += 1
            if place < len(theirs) and theirs[place] <= frame + tolerance:
                pairs, place = pairs + 1, place + 1
    return pairs
