r"""Does the melody encoder hear melodies, and does music follow the one that it was given?

    python benchmarks/melody.py encoder ENCODER --data melodies [--split test] [--out benchmarks/melody_encoder.json]
    python benchmarks/melody.py follow BUNDLE --data melodies [--num 8] [--auc 60] [--keep FOLDER] \
        [--out benchmarks/melody_follow.json]

`melodies` is a folder of `musiclm corpus melodies`, of which the split was not trained on.

encoder: retrieval. A window of one rendition asks for the same moment of the same melody among windows of other
renditions, one of each melody, six a melody; windows that play the same notes are no rivals. recall: how often it comes
first, with the baseline that guessing gives and with what pitch classes in time give that nothing learned from.

follow: each melody, hummed, sung or whistled, and each of five prompts of different style. chroma: likeness of the
music's pitch classes, each 200 ms, to the notes of the melody; contour: correlation of its highest strong line with
theirs. Beside each the same for another melody, and for music of the same prompt and seed that was given none.
auc: adherence to prompts of `musiclm evaluate`, with a melody and without.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from musiclm.core.artifact import git_revision
from musiclm.core.bundle import open_bundle
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.data.corpus.melodies import Rendition, load_renditions, read_rendition
from musiclm.evaluate.adherence import Prompt, load_prompts, mean_auc
from musiclm.evaluate.bootstrap import bootstrap, mean
from musiclm.evaluate.compare import analyse, concept_table, read_rows
from musiclm.generate.session import MusicLM
from musiclm.listen.music import chroma_blocks
from musiclm.models.melody.features import BELOW, HOP, NUM_BINS, OCTAVES, PER_SEMITONE, levelled
from musiclm.models.melody.model import MelodyEncoder
from musiclm.models.melody.task import roll

VOICES = ("hum", "sing", "whistle")
HOP_S, PLACES = 1.6, 6  # windows of a melody as written
SAME_NOTES = 0.9  # likeness of rolls from which two windows are one
BLOCK_S = 0.2
STYLES = (
    "a calm piano piece",
    "heavy metal with electric guitars and drums",
    "a jazz trio with saxophone",
    "house with a deep bass",
    "a string quartet",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("encoder", "follow"))
    parser.add_argument("model", help="the artifact of an encoder; a bundle")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test", help="train, validation, test, or all")
    parser.add_argument(
        "--backing-db",
        type=float,
        nargs="*",
        default=[-6.0, 0.0, 6.0],
        help="levels of accompaniment beside the melody",
    )
    parser.add_argument("--num", type=int, default=8, help="melodies that are followed")
    parser.add_argument("--duration", type=float, default=10.0)
    parser.add_argument("--auc", type=int, default=0, help="prompts for the AUC with and without a melody; 0: none")
    parser.add_argument("--keep", type=Path, default=Path("out/melody"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    renditions = [one for one in load_renditions(arguments.data) if arguments.split in (one.split, "all")]
    if len({one.melody for one in renditions}) < 2:
        parser.error(f"{arguments.data} has fewer than two melodies of the split {arguments.split}")
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "melodies": len({one.melody for one in renditions}),
        "renditions": len(renditions),
    }
    if arguments.what == "encoder":
        encoder = MelodyEncoder.from_artifact(Path(arguments.model))
        document |= {
            "encoder": encoder.codes_hash,
            **retrieval(encoder, arguments.data, renditions, arguments.backing_db),
        }
    else:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        document |= follow(arguments, renditions)
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


# -- the encoder


@dataclass(frozen=True)
class EncodedRendition:
    """Windows of a rendition, one a place of the melody."""

    one: Rendition
    vectors: np.ndarray  # (places, c)
    codes: np.ndarray  # (places, q)
    chroma: np.ndarray  # (places, d): nothing learned
    rolls: np.ndarray  # (places, n): the notes


@torch.inference_mode()
def encode_rendition(
    encoder: MelodyEncoder, folder: Path, one: Rendition, backing_db: float | None
) -> EncodedRendition:
    sides = read_rendition(folder, one, 0.0, one.seconds)
    audio, level = sides[0].copy(), float(np.sqrt(np.mean(sides[0] ** 2)))
    beside = float(np.sqrt(np.mean(sides[1] ** 2)))
    if backing_db is not None and beside > 1e-5:
        audio += sides[1] * np.float32(level / beside * 10 ** (backing_db / 20))
    spectra = encoder.spectra(torch.from_numpy(0.1 / max(level, 1e-6) * audio)[None])[0]
    window = encoder.config.window
    starts = [one.at(HOP_S * place) for place in range(PLACES)]
    firsts = [round(start * SAMPLE_RATE_HZ / HOP) for start in starts]
    windows = torch.stack([spectra[:, first : first + window] for first in firsts])
    vectors = encoder(windows)
    folded = levelled(windows)[:, BELOW : BELOW + NUM_BINS].unflatten(1, (OCTAVES, 12 * PER_SEMITONE)).sum(1)
    folded = folded - folded.mean(1, keepdim=True)
    return EncodedRendition(
        one,
        vectors.numpy(),
        encoder.rvq.encode(vectors).numpy(),
        torch.nn.functional.normalize(folded.flatten(1), dim=-1).numpy(),
        np.stack([roll(one, start, window * HOP / SAMPLE_RATE_HZ) for start in starts]),
    )


def retrieval(
    encoder: MelodyEncoder, folder: Path, renditions: Sequence[Rendition], backing_db: Sequence[float]
) -> dict[str, Any]:
    encoded = {db: [encode_rendition(encoder, folder, one, db) for one in renditions] for db in (None, *backing_db)}
    codebooks = encoder.rvq

    def decoded(levels: int) -> Callable[[EncodedRendition], np.ndarray]:
        return lambda x: codebooks.decode(torch.from_numpy(x.codes[:, :levels])).numpy()

    def vectors(x: EncodedRendition) -> np.ndarray:
        return x.vectors

    def is_voice(one: Rendition) -> bool:
        return one.sound in VOICES

    def any_two(a: Rendition, b: Rendition) -> bool:
        return a.sound != b.sound

    rows: dict[str, Any] = {}

    def add(
        name: str,
        fits: Callable[[Rendition, Rendition], bool],
        asked_db: float | None = None,
        found_db: float | None = None,
        see: Callable[[EncodedRendition], np.ndarray] = vectors,
    ) -> None:
        rows[name] = recall(encoded[asked_db], encoded[found_db], fits, see)

    add("other sound", any_two)
    add("other sound, pitch classes alone", any_two, see=lambda x: x.chroma)
    for db in backing_db:
        add(f"accompaniment at {db:+g} dB", lambda a, b: any_two(a, b) and b.backing != "none", None, db)
        add(
            f"accompaniment at {db:+g} dB, pitch classes alone",
            lambda a, b: any_two(a, b) and b.backing != "none",
            None,
            db,
            lambda x: x.chroma,
        )
    for voice in VOICES:
        add(f"{voice} -> instrument", lambda a, b, v=voice: a.sound == v and not is_voice(b))  # type: ignore[misc]
        for db in backing_db:
            add(
                f"{voice} -> instrument, accompaniment at {db:+g} dB",
                lambda a, b, v=voice: a.sound == v and not is_voice(b) and b.backing != "none",  # type: ignore[misc]
                None,
                db,
            )
    add("same octave", lambda a, b: any_two(a, b) and a.octave == b.octave)
    add("one octave apart", lambda a, b: any_two(a, b) and abs(a.octave - b.octave) == 1)
    add("two octaves apart or more", lambda a, b: any_two(a, b) and abs(a.octave - b.octave) >= 2)
    add("tempo within 2 %", lambda a, b: any_two(a, b) and abs(a.tempo - b.tempo) < 0.02)
    add("tempo 5 % apart or more", lambda a, b: any_two(a, b) and abs(a.tempo - b.tempo) >= 0.05)
    for levels in range(1, encoder.config.rvq_levels + 1):
        add(f"codes, {levels} levels", any_two, see=decoded(levels))
    return {"recall_at_1": rows}


def recall(
    asking: Sequence[EncodedRendition],
    answering: Sequence[EncodedRendition],
    fits: Callable[[Rendition, Rendition], bool],
    see: Callable[[EncodedRendition], np.ndarray],
) -> dict[str, Any] | None:
    """Recall at 1, its interval over melodies, and the baseline of guessing; None where no two renditions fit."""
    hits: dict[int, list[float]] = {}
    guesses = []
    by_melody: dict[int, list[EncodedRendition]] = {}
    for one in answering:
        by_melody.setdefault(one.one.melody, []).append(one)
    for query in asking:
        for right in by_melody[query.one.melody]:
            if right.one.path == query.one.path or not fits(query.one, right.one):
                continue
            rng = random.Random(f"{query.one.path} {right.one.path}")
            others = [rng.choice(some) for melody, some in by_melody.items() if melody != query.one.melody]
            gallery = np.concatenate([see(x) for x in (right, *others)])
            rolls = np.concatenate([x.rolls for x in (right, *others)])
            likeness = see(query) @ gallery.T / np.maximum(np.linalg.norm(gallery, axis=1), 1e-9)
            same = query.rolls @ rolls.T > SAME_NOTES
            for place in range(PLACES):
                rivals = ~same[place]
                rivals[place] = True
                best = int(np.where(rivals, likeness[place], -np.inf).argmax())
                hits.setdefault(query.one.melody, []).append(float(best == place))
                guesses.append(1 / int(rivals.sum()))
    if not hits:
        return None
    means = np.array([np.mean(each) for each in hits.values()])
    return {
        "recall": asdict(bootstrap(mean, means)),
        "baseline": float(np.mean(guesses)),
        "queries": len(guesses),
        "melodies": len(hits),
    }


# -- music


def follow(arguments: argparse.Namespace, renditions: Sequence[Rendition]) -> dict[str, Any]:
    bundle = open_bundle(arguments.model)
    model = MusicLM.from_pretrained(arguments.model)
    model.check_follows()
    first: dict[int, Rendition] = {}
    for one in sorted(renditions, key=lambda one: (one.sound not in VOICES, one.path)):
        first.setdefault(one.melody, one)
    chosen = list(first.values())[: arguments.num]
    kept = arguments.keep / f"{bundle.hash} {len(chosen)} {arguments.duration:g}.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for number in range(len(rows), len(chosen) * len(STYLES)):
        place, style = divmod(number, len(STYLES))
        file = save_melody(arguments.data, chosen[place], arguments.keep)
        told = model.generate(STYLES[style], arguments.duration, number, melody=file).audio[0]
        untold = model.generate(STYLES[style], arguments.duration, number).audio[0]
        other = chosen[(place + 1) % len(chosen)]
        row = {"melody": chosen[place].melody, "sound": chosen[place].sound, "style": STYLES[style]}
        for name, audio, notes in (
            ("own", told, chosen[place]),
            ("other", told, other),
            ("untold", untold, chosen[place]),
        ):
            row |= {f"chroma_{name}": chroma_likeness(audio, notes), f"contour_{name}": contour_likeness(audio, notes)}
        rows.append(row)
        with open(kept, "a") as out:
            out.write(json.dumps(row) + "\n")
    found: dict[str, Any] = {"bundle": bundle.hash, "duration_s": arguments.duration, "all": table(rows)}
    found["styles"] = {style: table([row for row in rows if row["style"] == style]) for style in STYLES}
    if arguments.auc:
        found["auc"] = adherence(model, bundle.hash, arguments, chosen)
    return found


def save_melody(folder: Path, one: Rendition, keep: Path) -> Path:
    """The melody without its accompaniment, as a file."""
    path = keep / f"{one.melody}-{one.sound.replace(' ', '_')}.wav"
    soundfile.write(path, read_rendition(folder, one, 0.0, one.seconds)[0], SAMPLE_RATE_HZ)
    return path


def table(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means, and how much nearer music is to its own melody, with intervals over pieces."""
    found: dict[str, Any] = {}
    for measure in ("chroma", "contour"):
        own, other, untold = (np.array([row[f"{measure}_{n}"] for row in rows]) for n in ("own", "other", "untold"))
        found[measure] = {name: float(x.mean()) for name, x in (("own", own), ("other", other), ("untold", untold))}
        found[measure] |= {
            "own_minus_other": asdict(bootstrap(mean, own - other)),
            "own_minus_untold": asdict(bootstrap(mean, own - untold)),
        }
    return found


def sung_blocks(one: Rendition, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Per block: pitch classes of the melody, centred and of unit length; its pitch, nan where it rests."""
    classes, pitch = np.zeros((num, 12)), np.full(num, np.nan)
    for begin, end, note in one.notes:
        first, last = int(begin / BLOCK_S), min(num, int(np.ceil(end / BLOCK_S)))
        classes[first:last, note % 12] += 1
        pitch[first:last] = note
    classes = classes - classes.mean(1, keepdims=True)
    return classes / np.maximum(np.linalg.norm(classes, axis=1, keepdims=True), 1e-9), pitch


def chroma_likeness(audio: np.ndarray, one: Rendition) -> float:
    """-1 to 1, over the blocks in which the melody sounds."""
    sound = chroma_blocks(audio, BLOCK_S)
    classes, pitch = sung_blocks(one, len(sound))
    sounding = ~np.isnan(pitch)
    return float((sound * classes).sum(1)[sounding].mean()) if sounding.any() else 0.0


def contour_likeness(audio: np.ndarray, one: Rendition) -> float:
    """Correlation of the strongest line above A3, by medians of blocks, with the melody's pitch, -1 to 1."""
    import librosa

    spectrum = np.abs(
        librosa.cqt(np.asarray(audio, np.float32), sr=SAMPLE_RATE_HZ, hop_length=480, fmin=220.0, n_bins=48)
    )
    line = spectrum.argmax(0) + 57
    step = round(SAMPLE_RATE_HZ * BLOCK_S / 480)
    blocks = np.array([np.median(line[i : i + step]) for i in range(0, len(line) - step + 1, step)])
    _, pitch = sung_blocks(one, len(blocks))
    both = ~np.isnan(pitch)
    if both.sum() < 5 or blocks[both].std() == 0 or np.nanstd(pitch) == 0:
        return 0.0
    return float(np.corrcoef(blocks[both], pitch[both])[0, 1])


def adherence(model: MusicLM, hash: str, arguments: argparse.Namespace, chosen: Sequence[Rendition]) -> dict[str, Any]:
    """Mean AUC over concepts with and without a melody, of the same prompts and seeds, and the difference."""
    prompts: list[Prompt] = [prompt for prompt in load_prompts() if prompt.concepts]
    prompts = random.Random(0).sample(prompts, min(arguments.auc, len(prompts)))
    files = [save_melody(arguments.data, one, arguments.keep) for one in chosen]
    tables = {}
    for name in ("with", "without"):
        path = arguments.keep / f"{hash} {name} {len(prompts)}.jsonl"
        rows = read_rows(path)

        def clips(first: int, told: bool = name == "with") -> Iterator[np.ndarray]:
            for place in range(first, len(prompts)):
                melody = files[place % len(files)] if told else None
                yield model.generate(prompts[place].text, 10.0, 1000 + place, melody=melody).audio[0]

        tables[name] = concept_table(analyse(clips(len(rows)), rows, path), prompts)
    (_, told, named), (_, untold, _) = tables["with"], tables["without"]
    difference = bootstrap(lambda a, b, y: mean_auc(a, y) - mean_auc(b, y), told, untold, named, draws=300)
    return {
        "prompts": len(prompts),
        "with": asdict(bootstrap(mean_auc, told, named, draws=300)),
        "without": asdict(bootstrap(mean_auc, untold, named, draws=300)),
        "with_minus_without": asdict(difference),
    }


if __name__ == "__main__":
    main()
