"""Does music go on from a recording in its key, its tempo and its sound, without a seam?

    python benchmarks/continuations.py [BUNDLE] --data corpus [--pieces 40] [--keep out/continuations]
        [--out benchmarks/continuations.json]

Ten seconds of each of so many pieces of the test split are gone on from for ten more, without a prompt. The 8 s before
the joint are compared with the 8 s after it, by programs that had no part in training:

- chroma, tempo, key: see `musiclm.evaluate.joints`. sound: likeness (cosine) of musicnn's embeddings, which tell
  instruments and styles apart.
- seam_ratio: change of the spectrum at the joint over that elsewhere (`musiclm.listen.signal`).

Rows: `continued`; `recorded`, where the recording itself goes on; `codec`, the same through the codec, so with all that
tokens can keep; `another`, continuations of other pieces set behind the given part. What is made is kept, so a killed
run goes on.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from musiclm.core.artifact import git_revision
from musiclm.core.audio import load, write_audio
from musiclm.core.output import write_atomic
from musiclm.data.corpus.clips import eval_clips
from musiclm.data.corpus.manifest import RENDERED, load_manifest
from musiclm.evaluate.bootstrap import bootstrap, mean
from musiclm.evaluate.joints import goes_on
from musiclm.evaluate.sets import through_codec
from musiclm.generate.session import MusicLM
from musiclm.listen.judge import Judge
from musiclm.listen.signal import seam_ratio

GIVEN_S = NEW_S = 10.0
SIDE_S = 8.0
RATE = 24000

Clip = Float[np.ndarray, " s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="base")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--keep", type=Path, default=Path("out/continuations"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = MusicLM.from_pretrained(arguments.bundle)
    tracks = [track for track in load_manifest(arguments.data) if track.split == "test" and track.source != RENDERED]
    tracks = [track for track in tracks if track.seconds >= GIVEN_S + NEW_S]
    num = min(arguments.pieces, len(tracks))  # one of each
    whole = [clip[0] for clip in eval_clips(arguments.data, tracks, GIVEN_S + NEW_S, num)[0].numpy()]
    folder = arguments.keep / f"{model.bundle.hash} {num}"
    folder.mkdir(parents=True, exist_ok=True)
    continued = [going_on(model, clip, number, folder) for number, clip in enumerate(whole)]
    joint = round(GIVEN_S * RATE)
    others = np.roll(np.arange(num), 1)
    sets = {
        "continued": continued,
        "recorded": whole,
        "codec": [np.concatenate([clip[:joint], through_codec(model, clip)[joint:]]) for clip in whole],
        "another": [np.concatenate([clip[:joint], continued[other][joint:]])
                    for clip, other in zip(whole, others, strict=True)],
    }  # fmt: skip
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "bundle": model.bundle.hash,
        "pieces": num,
        "rows": {name: figures(clips) for name, clips in sets.items()},
    }
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.out:
        write_atomic(arguments.out, text + "\n")


def going_on(model: MusicLM, clip: Clip, number: int, folder: Path) -> Clip:
    """The given part and what was made after it, with the joint at `GIVEN_S`."""
    path = folder / f"{number}.flac"
    if not path.exists():
        given = folder / f"{number}-given.flac"
        write_audio(given, clip[: round(GIVEN_S * RATE)], RATE)
        music = model.extend(given, duration_s=NEW_S, seed=900 + number)
        parent = music.takes[0].about.parent
        assert parent is not None and parent.joint_samples == round(GIVEN_S * RATE), "the given part is whole frames"
        write_audio(path, music.audio[0], RATE)
    return load(path)


def figures(clips: list[Clip]) -> dict[str, Any]:
    """Means over pieces."""
    middle, side = round(GIVEN_S * RATE), round(SIDE_S * RATE)
    before = [clip[middle - side : middle] for clip in clips]
    after = [clip[middle : middle + side] for clip in clips]
    judge = Judge()
    one, other = (judge(some)[0] for some in (before, after))
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other))
    rows = [
        goes_on(a, b) | {"sound": sound, "seam_ratio": seam_ratio(clip, [GIVEN_S])}
        for a, b, sound, clip in zip(before, after, (one * other).sum(1), clips, strict=True)
    ]
    return {name: asdict(bootstrap(mean, np.array([row[name] for row in rows]))) for name in rows[0]}


if __name__ == "__main__":
    main()
