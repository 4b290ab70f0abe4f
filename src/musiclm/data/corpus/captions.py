"""Captions that a corpus brings along: `captions.jsonl`, a line per window, written by whoever knows what is in the
music.

{"track": id, "start_s": 20.0, "captions": [...], "unseen": [...], "facts": {...}}: `unseen` is in wording that no
training caption has, there only for tracks that are not trained on; `facts` is what the captions were written from, for
people and audits to read.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from musiclm.data.corpus.manifest import CorpusError

CAPTIONS_FILE = "captions.jsonl"


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """A window of a track and texts that are true of it."""

    track: str  # id in the manifest
    start_s: float
    captions: tuple[str, ...]
    unseen: tuple[str, ...] = ()


def load_captions(folder: str | Path) -> list[Captioned]:
    """The captioned windows of a corpus, in the file's order; [] if it has none.

    Raises: CorpusError for a line that is no caption.
    """
    path = Path(folder) / CAPTIONS_FILE
    if not path.is_file():
        return []
    found = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                texts = tuple(str(text) for text in record["captions"])
                unseen = tuple(str(text) for text in record.get("unseen", ()))
                start_s = float(record["start_s"])
                if not texts or isinstance(record["captions"], str) or start_s < 0:
                    raise ValueError
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CorpusError(f"{path}: line {number} is no caption; write the captions again") from error
            found.append(Captioned(track=str(record["track"]), start_s=start_s, captions=texts, unseen=unseen))
    return found
