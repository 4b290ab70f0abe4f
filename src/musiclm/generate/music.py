"""What generation makes: audio that plays in a notebook, and files that say how they were made."""

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from musiclm.core.audio import check_writable, probe, write_audio
from musiclm.core.output import check_output
from musiclm.core.unicode import name_text
from musiclm.generate.take import SUFFIX, About, Take

UNPROMPTED = "music without a prompt"


@dataclass(frozen=True)
class Music:
    """Generated music: `len` items of equal length. Plays in a notebook, saves to a file."""

    audio: Float[np.ndarray, "b s"]  # in [-1, 1]
    sample_rate_hz: int
    takes: tuple[Take, ...]  # of each item, its codes and what made them
    seconds_taken: float = 0.0

    def __len__(self) -> int:
        return len(self.takes)

    def __getitem__(self, index: int) -> "Music":
        """One item alone."""
        i = range(len(self))[index]
        return Music(self.audio[i : i + 1], self.sample_rate_hz, self.takes[i : i + 1], self.seconds_taken / len(self))

    @property
    def prompts(self) -> tuple[str | None, ...]:
        """Of a story its last one."""
        return tuple(take.about.prompt for take in self.takes)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(take.about.seed for take in self.takes)

    @property
    def model_hash(self) -> str:
        return self.takes[0].about.bundle_hash

    @property
    def duration_s(self) -> float:
        return self.audio.shape[1] / self.sample_rate_hz

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of music: below 1 is faster than real time."""
        return self.seconds_taken / (self.duration_s * len(self))

    def tags(self, index: int = 0) -> dict[str, str]:
        """What a saved file says of itself."""
        return tags_of(self.takes[index].about)

    def save(self, path: str | Path, take: bool = False) -> list[Path]:
        """Writes wav, flac, ogg, opus or mp3 by the suffix; several items become name-1.wav, name-2.wav, …

        take: beside each the take (`musiclm.generate.take`), name.take, which must not be there yet.

        Raises: AudioError when the file can't be written, OutputError when its take can't.
        """
        targets = output_paths(path, len(self))
        for target in targets if take else ():
            check_writable(target)
            check_output(target.with_suffix(SUFFIX), new=True)
        for i, target in enumerate(targets):
            write_audio(target, self.audio[i], self.sample_rate_hz, self.tags(i))
            if take:
                self.takes[i].save(target.with_suffix(SUFFIX))
        return targets

    def _repr_html_(self) -> str:
        players = []
        for i, take in enumerate(self.takes):
            file = io.BytesIO()
            soundfile.write(file, self.audio[i], self.sample_rate_hz, format="WAV", subtype="PCM_16")
            data = base64.b64encode(file.getvalue()).decode()
            text = (take.about.title or UNPROMPTED).replace("&", "&amp;").replace("<", "&lt;")
            players.append(f'<p>{text}<br><audio controls src="data:audio/wav;base64,{data}"></audio></p>')
        return "".join(players)


def tags_of(about: About) -> dict[str, str]:
    """Tags of a file of generated music; a prompt only if there was one, and then no word on the condition."""
    tags = {"title": (about.title or UNPROMPTED)[:200], "artist": f"musiclm {about.version} (generated)"}
    tags |= {"software": f"musiclm {about.version}"}
    tags |= {"condition": about.condition} if about.prompt is None else {"prompt": about.prompt}
    tags |= {} if about.story is None else {"story": str(about.story), "blend_s": f"{about.story.blend_s:g}"}
    tags |= {"seed": str(about.seed), "model": about.bundle_hash, "generated": "true"}
    if about.melody is not None:
        tags |= {"melody": name_text(about.melody.name)}
    if about.parent is not None:
        verb = {"continue": "continues", "repaint": "repaints", "vary": "varies", "loop": "loops"}[about.verb]
        tags |= {verb: name_text(about.parent.name) or about.parent.hash}
    return tags


def output_paths(path: str | Path, num: int) -> list[Path]:
    """The files that `num` items go to."""
    path = Path(path)
    return [path] if num == 1 else [path.with_stem(f"{path.stem}-{i + 1}") for i in range(num)]


def read_tags(path: str | Path) -> dict[str, str]:
    """What a file written by `Music.save` says of itself: prompt, seed, model and more; {} for any other file."""
    tags = dict(probe(path).tags)
    try:
        comment = json.loads(tags.pop("comment", "{}"))
    except (json.JSONDecodeError, RecursionError):
        return {}
    if not isinstance(comment, dict):
        return {}
    tags |= comment
    return tags if tags.get("generated") == "true" else {}
