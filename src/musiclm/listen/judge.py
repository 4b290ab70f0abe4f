"""The judge of `musiclm evaluate`: musicnn trained on the Million Song Dataset (Pons and Serra 2019).

It had no part in training: labels for MuLan come from the MTT weights, these are others, of other music. Its 50 tags
are what users of last.fm wrote: genres, moods, decades, few instruments.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from musiclm.listen.tagger import Tagger

MSD_TAGS = (
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock",
    "jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "mellow",
    "electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient",
    "acoustic", "experimental", "female vocalist", "guitar", "hip-hop", "70s", "party", "country", "easy listening",
    "sexy", "catchy", "funk", "electro", "heavy metal", "progressive rock", "60s", "rnb", "indie pop", "sad", "house",
    "happy",
)  # fmt: skip


class Judge:
    """Judges clips. Raises: ValueError with the command that installs the weights."""

    name = "musicnn-msd"

    def __init__(self) -> None:
        self.tagger = Tagger.load("MSD", MSD_TAGS)

    def __call__(
        self, clips: Iterable[Float[np.ndarray, " _"]]
    ) -> tuple[Float[np.ndarray, "n 200"], Float[np.ndarray, "n 50"]]:
        """Embeddings and tag scores of clips at 24 kHz, three seconds or longer.

        Raises: ValueError for a shorter one.
        """
        rows = [self.tagger.embed_clip(clip) for clip in clips]
        embeddings, scores = (np.stack([row[i].numpy() for row in rows]).astype(np.float64) for i in (0, 1))
        return embeddings, scores
