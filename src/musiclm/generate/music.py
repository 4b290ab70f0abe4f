"""What generation makes: audio that plays in a notebook, and files that say how they were made."""

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from musiclm import __version__
from musiclm.core.audio import probe, write_audio


@dataclass(frozen=True)
class Music:
    """Generated music: `len` items of equal length. Plays in a notebook, saves to a file."""

    audio: Float[np.ndarray, "b s"]  # in [-1, 1]
    sample_rate_hz: int
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    model_hash: str
    seconds_taken: float = 0.0

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> "Music":
        """One item alone."""
        i = range(len(self))[index]
        return Music(
            self.audio[i : i + 1],
            self.sample_rate_hz,
            self.prompts[i : i + 1],
            self.seeds[i : i + 1],
            self.model_hash,
            self.seconds_taken / len(self),
        )

    @property
    def duration_s(self) -> float:
        return self.audio.shape[1] / self.sample_rate_hz

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of music: below 1 is faster than real time."""
        return self.seconds_taken / (self.duration_s * len(self))

    def tags(self, index: int = 0) -> dict[str, str]:
        """What a saved file says of itself."""
        return tags_of(self.prompts[index], self.seeds[index], self.model_hash)

    def save(self, path: str | Path) -> list[Path]:
        """Writes wav, flac, ogg, opus or mp3 by the suffix; several items become name-1.wav, name-2.wav, …

        Raises: AudioError when the file can't be written.
        """
        return [
            write_audio(target, self.audio[i], self.sample_rate_hz, self.tags(i))
            for i, target in enumerate(output_paths(path, len(self)))
        ]

    def _repr_html_(self) -> str:
        players = []
        for i, prompt in enumerate(self.prompts):
            file = io.BytesIO()
            soundfile.write(file, self.audio[i], self.sample_rate_hz, format="WAV", subtype="PCM_16")
            data = base64.b64encode(file.getvalue()).decode()
            text = prompt.replace("&", "&amp;").replace("<", "&lt;")
            players.append(f'<p>{text}<br><audio controls src="data:audio/wav;base64,{data}"></audio></p>')
        return "".join(players)


def tags_of(prompt: str, seed: int, model_hash: str) -> dict[str, str]:
    """Tags of a file of generated music."""
    return {
        "title": prompt[:200],
        "artist": f"musiclm {__version__} (generated)",
        "software": f"musiclm {__version__}",
        "prompt": prompt,
        "seed": str(seed),
        "model": model_hash,
        "generated": "true",
    }


def output_paths(path: str | Path, num: int) -> list[Path]:
    """The files that `num` items go to."""
    path = Path(path)
    return [path] if num == 1 else [path.with_stem(f"{path.stem}-{i + 1}") for i in range(num)]


def read_tags(path: str | Path) -> dict[str, str]:
    """What a file written by `Music.save` says of itself: prompt, seed, model and more; {} for any other file."""
    tags = dict(probe(path).tags)
    try:
        told = json.loads(tags.pop("comment", "{}"))
    except (json.JSONDecodeError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    tags |= told
    return tags if tags.get("generated") == "true" else {}
