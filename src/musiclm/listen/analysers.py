"""Analysers: each says something of one clip, in figures that JSON holds.

Their figures are kept per set of clips, so a new one runs alone.

None of them had a part in training: labels for MuLan come from other weights and other measures
(docs/decisions/004-who-judges.md).
"""

from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from musiclm.listen.embedders import Aisfx, TransformersEmbedder
from musiclm.listen.judge import Judge
from musiclm.listen.music import chroma_blocks, describe
from musiclm.listen.notes import NoteAnalyser
from musiclm.listen.signal import sanity

Clip = Float[np.ndarray, " s"]
MUSICNN, CHROMA, METER, NOTES = "musicnn-msd", "chroma", "meter", NoteAnalyser.name
LIBROSA = "librosa-3"  # another number when its figures change: what was kept of the one before is not read


@runtime_checkable
class Analyser(Protocol):
    name: str

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Figures of one clip at 24 kHz. Raises: ValueError for a clip too short for it."""


class TagAnalyser:
    """The judge: `embedding` (200) and `tags` (50)."""

    name = MUSICNN

    def __init__(self) -> None:
        self.judge = Judge()

    def __call__(self, clip: Clip) -> dict[str, Any]:
        embeddings, tags = self.judge([clip])
        return {"embedding": embeddings[0].round(5).tolist(), "tags": tags[0].round(5).tolist()}


class MusicAnalyser:
    """librosa: the fields of `musiclm.listen.music.Description`."""

    name = LIBROSA

    def __call__(self, clip: Clip) -> dict[str, Any]:
        return asdict(describe(clip))


class ChromaAnalyser:
    """`chroma`: twelve numbers for each half second."""

    name = CHROMA

    def __call__(self, clip: Clip) -> dict[str, Any]:
        return {"chroma": chroma_blocks(clip).round(4).tolist()}


class Meter:
    """The fields of `musiclm.listen.signal.Sanity`; seams at the given places, in seconds."""

    name = METER

    def __init__(self, seams_s: tuple[float, ...] = ()) -> None:
        self.seams_s = seams_s

    def __call__(self, clip: Clip) -> dict[str, Any]:
        return asdict(sanity(clip, self.seams_s))


def make_analyser(name: str, *, seams_s: tuple[float, ...] = (), device: str = "cpu") -> Analyser:
    """An analyser by name; any other name is an audio model of transformers.

    Raises: ValueError if it can't be had, saying what to install.
    """
    if name == MUSICNN:
        return TagAnalyser()
    if name == LIBROSA:
        return MusicAnalyser()
    if name == CHROMA:
        return ChromaAnalyser()
    if name == METER:
        return Meter(seams_s)
    if name == NOTES:
        return NoteAnalyser()
    if name == Aisfx.name:
        return Aisfx(device)
    return TransformersEmbedder(name, device)
