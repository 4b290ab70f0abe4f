"""The key that the notes of a window show."""

import numpy as np

from musiclm.arrange.facts.excerpt import Excerpt
from musiclm.core.theory import estimate_key, key_name

KEY_MARGIN = 0.05  # of correlation, for the key of a finished work
SCALES = {
    "major": {0, 2, 4, 5, 7, 9, 11},
    "minor": {0, 2, 3, 5, 7, 8, 9, 10, 11},  # natural, and the raised sixth and seventh of the melodic one
    "dorian": {0, 2, 3, 5, 7, 9, 10},
    "phrygian": {0, 1, 3, 4, 5, 7, 8, 10},  # with the raised third of flamenco's dominant
    "lydian": {0, 2, 4, 6, 7, 9, 11},
    "mixolydian": {0, 2, 4, 5, 7, 9, 10},
}


def key_of(excerpt: Excerpt) -> str:
    """The score's key, if the window's notes show it: nearly all in its scale, tonic and third among them.

    The key of a finished work is itself measured from all its notes; the window's own must be the same by a margin.
    """
    score, weight = excerpt.score, np.zeros(12)
    for part in excerpt.pitched:
        np.add.at(weight, part.pitch % 12, np.minimum(part.end - part.start, 2.0))
    if weight.sum() <= 0:
        return ""
    if score.as_written:
        found = estimate_key(weight)
        if not found or (found.tonic, found.mode) != (score.tonic, score.mode) or found.margin < KEY_MARGIN:
            return ""
    weight = np.roll(weight / weight.sum(), -score.tonic)
    third = 4 if score.mode in ("major", "lydian", "mixolydian") else 3
    in_scale = float(sum(weight[degree] for degree in SCALES[score.mode]))
    enough = (weight > 0.02).sum() >= 4
    shown = weight[0] >= 0.08 and weight[third] >= 0.04 and weight[third] > weight[7 - third]
    return key_name(score.tonic, score.mode) if in_scale >= 0.9 and shown and enough else ""
