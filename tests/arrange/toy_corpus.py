"""A rendered corpus without a renderer: sines for notes, noise for drums."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile

from musiclm.arrange.corpus.describe import write_captions
from musiclm.arrange.score import Origin, Score, to_json
from musiclm.arrange.timeline import timeline
from musiclm.data.corpus.manifest import Track
from tests.arrange.toy_scores import beat, piece, scale

RATE = 24000


def sound(score: Score, seed: int = 0) -> np.ndarray:
    """Mono audio in [-1, 1]."""
    rng = np.random.default_rng(seed)
    out = np.zeros(round(score.seconds * RATE) + 4 * RATE)
    for played in timeline(score):
        for start, end, pitch, velocity in zip(played.start, played.end, played.pitch, played.velocity, strict=True):
            t = np.arange(round(min(end - start, 4) * RATE)) / RATE
            if played.is_drums:
                t = np.arange(RATE // 12) / RATE
                wave = 1.5 * rng.normal(size=t.size) * np.exp(-60 * t)
            else:
                hz = 440 * 2 ** ((pitch - 69) / 12)
                wave = sum(np.sin(2 * np.pi * hz * k * t) / k**1.5 for k in (1, 2, 3)) * np.exp(-2 * t)
            begin = round(start * RATE)
            out[begin : begin + t.size] += wave * (velocity / 127) ** 2
    return (0.5 * out / np.abs(out).max())[: round(score.seconds * RATE)].astype(np.float32)


def make_corpus(folder: Path, count: int = 12) -> Path:
    """Twenty-second pieces of two styles, of many tempi and keys, some with drums."""
    (folder / "audio").mkdir(parents=True)
    (folder / "scores").mkdir()
    tracks = []
    for number in range(count):
        drums, bpm, tonic = number % 2 == 0, 80 + 97 * (number * 5 % count) / count, (number * 7) % 12
        quarters = bpm / 3
        chords = scale("piano", "chords", end=quarters, step=2.0, tonic=48 + tonic, length=1.0)
        parts = [scale("violin", end=quarters, step=0.5, tonic=60 + tonic), chords]
        if drums:
            parts.append(beat(end=quarters))
        origins = (Origin(what="melody", source="own", name=f"<tune {number}>", licence="CC0"),)
        score = piece(
            *parts,
            bpm=bpm,
            duration=quarters,
            tonic=tonic,
            style="surf rock" if drums else "folk ballad",
            origins=origins,
        )
        name = f"{number:016x}"
        (folder / "scores" / f"{name}.json").write_text(to_json(score))
        soundfile.write(folder / "audio" / f"{name}.flac", sound(score, number), RATE)
        tracks.append(
            Track(
                id=name, path=f"audio/{name}.flac", source="rendered", package=score.style, origin=f"{name}.mid",
                title=f"No. {number}", artist="",
                genre=score.style, licence="CC0", seconds=score.seconds, sha256=name,
                split="test" if number == 1 else "train", piece=name, held_out=False,
            )
        )  # fmt: skip
    (folder / "manifest.jsonl").write_text("".join(json.dumps(asdict(track)) + "\n" for track in tracks))
    write_captions(folder)
    return folder
