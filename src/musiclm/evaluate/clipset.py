"""A set of clips: read from a corpus, made by a model and kept, or picked from other sets."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from musiclm.core.audio import AudioError, load, write_audio
from musiclm.core.features import SAMPLE_RATE_HZ

Clip = Float[np.ndarray, " s"]
Say = Callable[[str], None]


class DamagedError(ValueError):
    """A file of a report is no longer whole: nothing is measured from it, and nothing is left out because of it."""


class ClipSet(ABC):
    """Clips of one kind and length, read or made one at a time whenever they are asked for."""

    name: str

    @abstractmethod
    def __iter__(self) -> Iterator[Clip]: ...


@dataclass(frozen=True)
class CutSet(ClipSet):
    """Clips that take little to make, from the corpus for the most part."""

    name: str
    clips: Callable[[], Iterable[Clip]]

    def __iter__(self) -> Iterator[Clip]:
        yield from self.clips()


@dataclass(frozen=True)
class PickedSet(ClipSet):
    """Clips of other sets, by their places in all of those together."""

    name: str
    sources: tuple[ClipSet, ...]
    places: Sequence[int]

    def __iter__(self) -> Iterator[Clip]:
        clips = [clip for source in self.sources for clip in source]
        yield from (clips[place] for place in self.places)


@dataclass(frozen=True)
class KeptSet(ClipSet):
    """Clips that a model makes, kept as files; those that are not there are made when they are asked for."""

    name: str
    folder: Path
    size: int
    make: Callable[[int], tuple[Clip, dict[str, str]]]  # clip number -> audio, tags of the file

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Clip]:
        yield from map(self.read, range(self.size))

    def path(self, index: int) -> Path:
        return self.folder / self.name / f"{index:04d}.flac"

    def read(self, index: int) -> Clip:
        """A clip, made now if it is not there. Raises: DamagedError."""
        path = self.path(index)
        if not path.exists():
            self.write(index)
        try:
            return load(path)
        except AudioError as error:
            raise DamagedError(f"{path} can't be read ({error}); delete it and run again: it is made anew") from None

    def write(self, index: int) -> None:
        """Makes a clip and its file."""
        audio, tags = self.make(index)
        self.path(index).parent.mkdir(parents=True, exist_ok=True)
        write_audio(self.path(index), audio, SAMPLE_RATE_HZ, tags)

    def fill(self, say: Say) -> None:
        """Makes all clips that are not there yet."""
        missing = [index for index in range(self.size) if not self.path(index).exists()]
        started = last = time.monotonic()
        for done, index in enumerate(missing, 1):
            self.write(index)
            if time.monotonic() - last > 20 or done == len(missing):
                last = time.monotonic()
                say(f"{self.name}: made {done} of {len(missing)} clips in {last - started:.0f} s")
