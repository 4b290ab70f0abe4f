"""Does the music keep a tempo in numbers and a key, and where are they lost on the way: text, MuLan's codes, language
models?

    python benchmarks/tempo_and_key.py v4=base new=runs/bundle --data rendered [--num 48] [--keep FOLDER] [--out
    benchmarks/tempo_and_key.json]

`rendered` is a corpus of `musiclm corpus render`; of its pieces outside the training split one clip each, chosen evenly
over their tempi, is the truth. Each bundle plays the same tempi three times: told by the clip's own MuLan codes, which
is all a language model ever learns from, told by a sentence, both without steering, and by the sentence and the key
with it (`musiclm.generate.steer`), if its codes tell onsets and pitch.
pulse: correlation of the logarithms of the pulse (`musiclm.listen.music`) and of the true tempo. met: share of clips
whose tracked tempo is within 8 % of it, its half or its double; key: MIREX score of the key that is found; beside both
the same for clips mixed up. Also what linear probes, fitted to training pieces, find of tempo and key in MuLan's
vectors.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from musiclm.core.artifact import git_revision
from musiclm.core.bundle import open_bundle
from musiclm.core.theory import PITCHES
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import Track, load_manifest
from musiclm.evaluate.bootstrap import bootstrap
from musiclm.generate.session import MusicLM
from musiclm.generate.steer import Steer
from musiclm.listen.music import Description, describe, key_score, same_tempo
from musiclm.models.mulan.model import MuLan

CLIP_S = 10.0
STYLES = (
    "rock",
    "piano music",
    "techno",
    "folk",
    "an orchestra",
    "hip hop",
    "jazz",
    "a synthesizer tune",
    "funk",
    "an acoustic guitar",
    "metal",
    "a marching band",
)
SENTENCES = (
    "{style}, {bpm} BPM",
    "{style} with a tempo of {bpm} beats per minute",
    "{style} played at {bpm} bpm",
    "instrumental, {style}, about {bpm} BPM",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="NAME=BUNDLE")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--num", type=int, default=48)
    parser.add_argument("--keep", type=Path, default=Path("out/tempo_and_key"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    tempi, keys = tempi_and_keys(arguments.data)
    pieces = [track for track in load_manifest(arguments.data) if track.id in tempi]
    held = sorted((track for track in pieces if track.split != "train"), key=lambda track: tempi[track.id])
    chosen = [held[i] for i in np.linspace(0, len(held) - 1, arguments.num).astype(int)]
    bpm, key = np.array([tempi[track.id] for track in chosen]), [keys[track.id] for track in chosen]
    document: dict = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "clips": len(chosen),
        "tempi_bpm": bpm.tolist(),
        "pieces": figures([describe(middle(arguments.data, track)) for track in chosen], bpm, key),
        "bundles": {},
    }
    for entry in arguments.bundles:
        name, _, bundle = entry.partition("=")
        opened = open_bundle(bundle)
        model = MusicLM.from_pretrained(bundle, "cpu")
        found = {
            told: figures(play(model, told, arguments.data, chosen, bpm, key,
                arguments.keep / f"{opened.hash} {told} {len(chosen)}.jsonl"), bpm, key if told != "text" else None)
            for told in ("audio", "text", *(["steer"] if model.steering(Steer(), "") else []))
        }  # fmt: skip
        probes = probe(MuLan.from_artifact(opened.part("mulan")), arguments.data, pieces, tempi, keys)
        document["bundles"][name] = {
            "bundle": opened.hash,
            **{f"told_by_{k}" if k != "steer" else "steered": v for k, v in found.items()},
            "mulan": probes,
        }
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def tempi_and_keys(corpus: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Beats a minute and key of each piece long enough that has one tempo throughout, by track.

    Of a mode, major or minor by its third.
    """
    tempi, keys = {}, {}
    for track in load_manifest(corpus):
        score = json.loads((corpus / "scores" / f"{track.id}.json").read_text())
        if not score["tempo_changes"] and track.seconds >= 30 and score.get("mode"):
            tempi[track.id] = float(score["tempo_bpm"])
            third = "major" if score["mode"] in ("major", "mixolydian", "lydian") else "minor"
            keys[track.id] = f"{PITCHES[score['tonic']]} {third}"
    return tempi, keys


def middle(corpus: Path, track: Track) -> np.ndarray:
    return read_clip(corpus, track, 15.0, CLIP_S)


@torch.no_grad()
def play(
    model: MusicLM, told: str, corpus: Path, tracks: list[Track], bpm: np.ndarray, key: list[str], path: Path
) -> list[Description]:
    """Descriptions of what the model plays, told by each track's codes or by a sentence with its tempo, steered or not;
    kept, so that a killed run goes on.
    """
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    text_codes = model.text_codes
    for place in range(len(rows), len(tracks)):
        if told == "audio":
            codes = model.mulan.audio_codes(torch.from_numpy(middle(corpus, tracks[place]))[None, None])
            model.text_codes = partial(_constant, codes)  # type: ignore[method-assign]
        steer = Steer(key_name=key[place]) if told == "steer" else Steer(tempo=0, key=0)
        config = replace(model.default_config(), steer=steer)
        audio = model.generate(sentence(place, bpm[place]), CLIP_S, seed=500 + place, config=config).audio[0]
        model.text_codes = text_codes  # type: ignore[method-assign]
        rows.append(asdict(describe(audio)))
        with open(path, "a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    return [Description(**row) for row in rows]


def _constant(codes: torch.Tensor, prompt: str) -> torch.Tensor:
    return codes


def sentence(place: int, bpm: float) -> str:
    """The same for each place, in wording and style that do not hang on the tempo."""
    rng = random.Random(f"tempo {place}")
    return rng.choice(SENTENCES).format(style=rng.choice(STYLES), bpm=round(bpm)).capitalize()


def figures(described: list[Description], bpm: np.ndarray, key: list[str] | None = None) -> dict:
    pulse = np.array([one.pulse_bpm for one in described])
    tracked = np.array([one.tempo_bpm for one in described])
    found = {
        "pulse": asdict(bootstrap(correlation, np.log(np.maximum(pulse, 1)), np.log(bpm))),
        **against_mixed_up("met", lambda asked, got: float(same_tempo(asked, got)), list(bpm), list(tracked)),
        "beat_strength": float(np.mean([one.beat_strength for one in described])),
    }
    if key is not None:
        found |= against_mixed_up("key", key_score, key, [one.key for one in described])
    return found


def against_mixed_up(name: str, score: Callable[..., float], asked: list, got: list) -> dict:
    """The mean score of pairs, and that of the same clips in any other order."""
    rng = np.random.default_rng(0)
    own = np.array([score(*pair) for pair in zip(asked, got, strict=True)])
    orders = [rng.permutation(len(got)) for _ in range(100)]
    mixed = [np.mean([score(want, got[i]) for want, i in zip(asked, order, strict=True)]) for order in orders]
    return {name: asdict(bootstrap(lambda x: float(np.mean(x)), own)), f"{name}_mixed_up": float(np.mean(mixed))}


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


@torch.no_grad()
def probe(
    mulan: MuLan, corpus: Path, pieces: list[Track], tempi: dict[str, float], keys: dict[str, str]
) -> dict[str, float]:
    """Correlations of the tempo's logarithm with what a linear probe reads from vectors, and how often another finds
    tonic and mode.

    The probes learn from audio of training pieces; the figures are of others.
    """
    audio = torch.cat([mulan.embed_audio(torch.from_numpy(middle(corpus, track))[None, None]) for track in pieces])
    codes = F.normalize(mulan.rvq.decode(mulan.quantize(audio)[..., 0]), dim=-1)
    truth = np.log([tempi[track.id] for track in pieces])
    train = np.array([track.split == "train" for track in pieces])
    read = ridge(audio.numpy()[train], truth[train])
    tonic = np.array([PITCHES.index(keys[track.id].split()[0]) for track in pieces])
    minor = np.array([keys[track.id].endswith("minor") for track in pieces], int)
    numbers = np.arange(60, 190, 5)
    texts = [form.format(style=style, bpm=bpm) for bpm in numbers for style in STYLES for form in SENTENCES]
    text = torch.cat([mulan.embed_text(texts[i : i + 64]) for i in range(0, len(texts), 64)])
    from_text = F.normalize(mulan.rvq.decode(mulan.quantize(text)[..., 0]), dim=-1).numpy()
    asked = np.repeat(np.log(numbers), len(STYLES) * len(SENTENCES))
    return {
        "audio": correlation(read(audio.numpy()[~train]), truth[~train]),
        "codes_of_audio": correlation(read(codes.numpy()[~train]), truth[~train]),
        "codes_of_sentences": correlation(read(from_text), asked),
        **{f"{name}_of_audio": value for name, value in guesses("tonic", audio.numpy(), tonic, train).items()},
        **{f"{name}_of_audio": value for name, value in guesses("mode", audio.numpy(), minor, train).items()},
        # how far apart: 1 where a sentence of twice the tempo is read as twice the tempo
        "slope_of_audio": float(np.polyfit(truth[~train], read(audio.numpy()[~train]), 1)[0]),
        "slope_of_sentences": float(np.polyfit(asked, read(from_text), 1)[0]),
    }


def guesses(name: str, x: np.ndarray, truth: np.ndarray, train: np.ndarray) -> dict[str, float]:
    """Share of right guesses outside the training pieces, and that of the commonest answer."""
    read = ridge(x[train], np.eye(truth.max() + 1)[truth[train]])
    held = truth[~train]
    right = float((read(x[~train]).argmax(1) == held).mean())
    return {name: right, f"{name}_baseline": float(np.bincount(held).max() / len(held))}


def ridge(x: np.ndarray, y: np.ndarray, strength: float = 0.3):
    """Linear regression with a penalty, as a function."""
    centre, mean = x.mean(0), y.mean(0)
    weights = np.linalg.solve(
        (x - centre).T @ (x - centre) + strength * np.eye(x.shape[1]), (x - centre).T @ (y - mean)
    )
    return lambda z: (z - centre) @ weights + mean


if __name__ == "__main__":
    main()
