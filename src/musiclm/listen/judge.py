"""The listener of `musiclm evaluate`: musicnn trained on the Million Song Dataset (Pons and Serra 2019), tags and embeddings.

It had no part in training: labels for MuLan come from the MTT weights, these are others, of other music. Its 50 tags are what users of
last.fm wrote: genres, moods, decades, few instruments.
"""

from collections.abc import Iterable

import numpy as np
import soxr
import torch
from jaxtyping import Float

from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.listen.tagger import SAMPLE_RATE_HZ as TAGGER_RATE_HZ
from musiclm.listen.tagger import Tagger

PIECE_S = 3  # what the tagger was trained on; scores and embeddings of a clip are means over its pieces
MSD_TAGS = tuple(
    [
        "rock",
        "pop",
        "alternative",
        "indie",
        "electronic",
        "female vocalists",
        "dance",
        "00s",
        "alternative rock",
        "jazz",
        "beautiful",
        "metal",
        "chillout",
        "male vocalists",
        "classic rock",
        "soul",
        "indie rock",
        "mellow",
        "electronica",
        "80s",
        "folk",
        "90s",
        "chill",
        "instrumental",
        "punk",
        "oldies",
        "blues",
        "hard rock",
        "ambient",
        "acoustic",
        "experimental",
        "female vocalist",
        "guitar",
        "hip-hop",
        "70s",
        "party",
        "country",
        "easy listening",
        "sexy",
        "catchy",
        "funk",
        "electro",
        "heavy metal",
        "progressive rock",
        "60s",
        "rnb",
        "indie pop",
        "sad",
        "house",
        "happy",
    ]
)


class Judge:
    """Listens to clips. Raises: ValueError with the command that installs the weights."""

    name = "musicnn-msd"

    def __init__(self) -> None:
        self.tagger = Tagger.load("MSD", MSD_TAGS)

    def __call__(
        self, clips: Iterable[Float[np.ndarray, " _"]]
    ) -> tuple[Float[np.ndarray, "n 200"], Float[np.ndarray, "n 50"]]:
        """Embeddings and tag scores of clips at 24 kHz, three seconds or longer. Raises: ValueError for a shorter one."""
        embeddings, scores = [], []
        for clip in clips:
            if len(clip) < PIECE_S * SAMPLE_RATE_HZ:
                raise ValueError(f"a clip of {len(clip) / SAMPLE_RATE_HZ:.2f} s; the judge needs {PIECE_S} s or more")
            low = soxr.resample(np.asarray(clip, np.float32), SAMPLE_RATE_HZ, TAGGER_RATE_HZ)
            pieces = torch.from_numpy(low).unfold(0, PIECE_S * TAGGER_RATE_HZ, PIECE_S * TAGGER_RATE_HZ)
            embedding, score = self.tagger.embed_and_score(pieces)
            embeddings.append(embedding.mean(0).numpy())
            scores.append(score.mean(0).numpy())
        return np.stack(embeddings).astype(np.float64), np.stack(scores).astype(np.float64)
