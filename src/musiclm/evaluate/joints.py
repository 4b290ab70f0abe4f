"""Whether the same piece goes on after a place, by programs that had no part in training."""

from musiclm.evaluate.clipset import Clip
from musiclm.listen.music import chroma_blocks, describe, key_score, passage_likeness, same_tempo


def goes_on(before: Clip, after: Clip) -> dict[str, float]:
    """Of the music on either side of a place, 4 s or more of each: the higher, the more alike.

    chroma: likeness of the notes at the best lag, -1 to 1. tempo: 1 for the same one, its half or double, else 0.
    key: MIREX score of the later key to the earlier one, 0 to 1; 0 where there is none.
    """
    one, other = describe(before), describe(after)
    return {
        "chroma": passage_likeness(chroma_blocks(before), chroma_blocks(after)),
        "tempo": float(one.tempo_bpm > 0 and same_tempo(one.tempo_bpm, other.tempo_bpm)),
        "key": key_score(one.key, other.key) if one.key else 0.0,
    }
