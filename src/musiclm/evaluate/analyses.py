"""What the analysers say of sets of clips; each analyses a set once, and its rows are kept as JSON."""

import itertools
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from musiclm.core.artifact import write_atomic
from musiclm.evaluate.clipset import ClipSet, DamagedError, PickedSet, Say
from musiclm.listen.analysers import LIBROSA, METER, MUSICNN, Analyser, make_analyser
from musiclm.listen.music import Description


class Analyses:
    """Rows of figures, one of each clip: FOLDER/<analyser>/<set>.json."""

    def __init__(
        self,
        folder: Path,
        seams_s: Callable[[], Sequence[float]] = tuple,
        device: str = "cpu",
        say: Say = print,
    ) -> None:
        """seams_s: where windows meet in a short clip that a model made, for the meter; asked for when it is needed."""
        self.folder, self._seams_s, self._device, self._say = folder, seams_s, device, say
        self._analysers: dict[str, Analyser] = {}

    def of(self, analyser: str, clips: ClipSet) -> list[dict[str, Any]]:
        """An analyser's row for each clip of a set. Raises: ValueError if the analyser is not installed."""
        if isinstance(clips, PickedSet):  # of other sets, which are analysed anyway
            rows = [row for source in clips.sources for row in self.of(analyser, source)]
            return [rows[place] for place in clips.places]
        path = self.folder / folder_name(analyser) / f"{clips.name}.json"
        if not path.exists():
            if analyser not in self._analysers:
                seams_s = tuple(self._seams_s()) if analyser == METER else ()
                self._analysers[analyser] = make_analyser(analyser, seams_s=seams_s, device=self._device)
            self._say(f"{analyser} analyses {clips.name}")
            every, rows = iter(clips), []
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                while some := list(itertools.islice(every, 16)):  # the pool would ask for all clips at once
                    rows += pool.map(self._analysers[analyser], some)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(rows))
        rows = read_kept(path)
        return rows

    def embeddings(self, analyser: str, clips: ClipSet) -> Float[np.ndarray, "n d"]:
        return np.array([row["embedding"] for row in self.of(analyser, clips)])

    def tags(self, clips: ClipSet) -> Float[np.ndarray, "n 50"]:
        """The judge's scores in [0, 1]."""
        return np.array([row["tags"] for row in self.of(MUSICNN, clips)])

    def descriptions(self, clips: ClipSet) -> list[Description]:
        return [Description(**row) for row in self.of(LIBROSA, clips)]

    def loudness_lufs(self, clips: ClipSet) -> list[float]:
        return [row["loudness_lufs"] for row in self.of(METER, clips)]

    def analysers(self) -> list[str]:
        """Folder names of those that have analysed a set."""
        return sorted(path.name for path in self.folder.iterdir())


def read_kept(path: Path) -> Any:
    """What a report keeps as JSON. Raises: DamagedError."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise DamagedError(f"{path} can't be read ({error}); delete {path} and run again: it is made anew") from None


def folder_name(analyser: str) -> str:
    """An analyser's name as a folder's: a path or a hub id loses what no folder may have."""
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in analyser).strip("-.")
