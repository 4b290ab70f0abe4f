"""Is it true, is it various?

Clips of a captioned corpus measured by tools that know nothing of the scores, beside what the captions say.

- agreement: tempo and key by librosa, concepts by the judge's tags and librosa's measures
  (`musiclm.evaluate.adherence`), instruments by musicnn's MagnaTagATune tags, swells by level; each beside the same
  with clips and captions shuffled.
- duplicates: the same samples; the same harmony at the same times in any key; melodies that share most of their
  intervals.
- wording: vocabulary, lengths, and how close the texts lie to reference captions, whose own distance to one another is
  the control.
"""

import csv
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Tokenizer

from musiclm import __version__
from musiclm.arrange.corpus.describe import SCORES, load_score
from musiclm.core.artifact import git_revision
from musiclm.data.corpus.captions import CAPTIONS_FILE, load_captions
from musiclm.data.corpus.clips import read_clip, rms_db
from musiclm.data.corpus.manifest import CorpusError, Track, load_manifest
from musiclm.evaluate.adherence import Prompt, adherence, concept_scores
from musiclm.evaluate.bootstrap import area_under_curve
from musiclm.listen.judge import Judge
from musiclm.listen.music import Description, chroma_blocks, describe
from musiclm.listen.signal import sanity
from musiclm.listen.tagger import MTT_TAGS, Tagger
from musiclm.models.mulan.text import TextEncoder, load_bert, tokenize

WINDOW_S = 10.0
# concept of `evaluate.adherence` -> words of which one stands in a window's style, genres, moods or era
SAYS: dict[str, tuple[str, ...]] = {
    "rock": ("rock",), "hard rock": ("hard rock",), "metal": ("metal",), "punk": ("punk",), "indie": ("indie",),
    "pop": ("pop",), "electronic": ("electronic", "techno", "synthwave"),
    "dance": ("dance", "danceable"), "house": ("house",), "hip-hop": ("hip hop",), "soul": ("soul",), "funk": ("funk",),
    "jazz": ("jazz",), "blues": ("blues",), "country": ("country",),
    "folk": ("folk",), "ambient": ("ambient",), "chill": ("relaxed", "laid-back", "calm", "mellow", "chillout"),
    "party": ("festive", "euphoric"), "sad": ("sad", "melancholic"),
    "happy": ("happy", "cheerful", "joyful"), "80s": ("1980s",), "oldies": ("1950s", "1960s"), "catchy": ("catchy",),
}  # fmt: skip
# MagnaTagATune tag -> words in the names of instruments that it stands for
NAMED_BY_TAG: dict[str, tuple[str, ...]] = {
    "guitar": ("guitar",), "piano": ("piano",), "strings": ("strings", "string section"),
    "violin": ("violin", "fiddle"), "cello": ("cello",), "flute": ("flute", "recorder", "whistle"),
    "harpsichord": ("harpsichord",), "harp": ("harp",), "sitar": ("sitar",), "choir": ("choir",),
    "synth": ("lead", "pad", "synth"), "drums": ("drum kit", "drums", "drum machine"),
}  # fmt: skip
Say = Callable[[str], None]


def audit(
    corpus_dir: Path, clips: int = 500, reference: Path | None = None, seed: int = 0, say: Say = print
) -> dict[str, Any]:
    """The report, of JSON types.

    Raises: CorpusError for a corpus without captions or a reference without a column "caption".
    """
    corpus_dir = Path(corpus_dir)
    tracks = {track.id: track for track in load_manifest(corpus_dir)}
    records = [record for record in _records(corpus_dir) if record["track"] in tracks]
    known = read_reference(reference) if reference else []
    chosen = spread(records, clips, seed)
    say(f"measuring {len(chosen)} clips of {len(tracks)} tracks")
    audio = [read_clip(corpus_dir, tracks[r["track"]], r["start_s"], WINDOW_S) for r in chosen]
    return {
        "musiclm": __version__,
        "git_revision": git_revision(),
        "corpus": {"tracks": len(tracks), "windows": len(records), "clips": len(chosen), "seed": seed},
        "hours_by_style": hours_by_style(records, tracks),
        "agreement": agreement([r.get("facts", {}) for r in chosen], analyse(audio), seed),
        "duplicates": duplicates(corpus_dir, list(tracks.values()), chosen, audio),
        "wording": wording([text for r in records for text in r["captions"]], known, seed),
    }


def _records(corpus_dir: Path) -> list[dict[str, Any]]:
    if not load_captions(corpus_dir):  # also checks every line
        raise CorpusError(
            f"{corpus_dir} has no captions; only a rendered corpus can be audited (musiclm corpus render)"
        )
    with open(corpus_dir / CAPTIONS_FILE, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def spread(records: Sequence[dict[str, Any]], num: int, seed: int) -> list[dict[str, Any]]:
    """At most `num` windows, one of each track in turn, tracks and windows in random order."""
    rng = random.Random(seed)
    by_track: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in rng.sample(records, len(records)):
        by_track[record["track"]].append(record)
    rounds = max(len(windows) for windows in by_track.values())
    ordered = [windows[k] for k in range(rounds) for windows in by_track.values() if k < len(windows)]
    return ordered[:num]


def hours_by_style(records: Sequence[dict[str, Any]], tracks: dict[str, Track]) -> dict[str, float]:
    style = {record["track"]: record.get("facts", {}).get("style", "unknown") for record in records}
    hours: dict[str, float] = defaultdict(float)
    for track, name in style.items():
        hours[name] += tracks[track].seconds / 3600
    return {name: round(value, 3) for name, value in sorted(hours.items(), key=lambda item: -item[1])}


def prompt_of(facts: dict[str, Any]) -> Prompt:
    """What the captions of a window say, as `evaluate.adherence` reads it.

    Church modes count as major or minor by their third.
    """
    said = " | ".join([facts.get("style", ""), *facts.get("genres", ()), *facts.get("moods", ()), facts.get("era", "")])
    concepts = {name for name, ways in SAYS.items() if any(re.search(rf"\b{way}\b", said) for way in ways)}
    names = [player["instrument"] for player in facts.get("players", ())]
    concepts |= {"guitar"} if any("guitar" in name for name in names) else set()
    concepts |= {"acoustic"} if facts.get("electric") is False else set()
    if facts.get("drums") is not None:
        concepts.add("drums" if facts["drums"] else "no drums")
    concepts |= {name for name in ("fast", "slow") if facts.get("speed", "").endswith(name)}
    concepts |= {facts["density"]} if facts.get("density") else set()
    concepts |= {"repetitive"} if any(player.get("repeats") for player in facts.get("players", ())) else set()
    tonic, _, mode = facts.get("key", "").partition(" ")
    mode = "major" if mode in ("major", "lydian", "mixolydian") else "minor"
    bpm = facts.get("tempo_bpm")
    return Prompt(
        text="", concepts=frozenset(concepts), tempo_bpm=bpm and float(bpm), key=f"{tonic} {mode}" if tonic else None
    )


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What the tools find in a set of clips."""

    descriptions: list[Description]
    tags: Float[np.ndarray, "n 50"]  # of the judge
    instruments: Float[np.ndarray, "n 50"]  # of the tagger of instruments
    loudness_lufs: list[float]
    rise_db: list[float]  # last third against the first


def analyse(audio: Sequence[Float[np.ndarray, " _"]]) -> Analysis:
    """Raises: ValueError with the command that installs what is missing."""
    tagger = Tagger.load("MTT", MTT_TAGS)
    return Analysis(
        descriptions=[describe(clip) for clip in audio],
        tags=Judge()(audio)[1],
        instruments=np.stack([tagger.embed_clip(clip)[1].numpy() for clip in audio]),
        loudness_lufs=[sanity(clip).loudness_lufs for clip in audio],
        rise_db=[rms_db(clip[-(len(clip) // 3) :]) - rms_db(clip[: len(clip) // 3]) for clip in audio],
    )


def agreement(facts: Sequence[dict[str, Any]], found: Analysis, seed: int = 0) -> dict[str, Any]:
    """What is said against what was found; `*_shuffled` are the controls."""
    scores = concept_scores(found.tags, found.descriptions, found.loudness_lufs)
    kept = adherence([prompt_of(one) for one in facts], scores, found.descriptions, seed=seed)
    swells = {
        word: _auc(sign * np.array(found.rise_db), np.array([one.get("dynamics") == word for one in facts]), seed)
        for word, sign in (("louder", 1), ("softer", -1))
    }
    names = [" | ".join(player["instrument"] for player in one.get("players", ())) for one in facts]
    instruments = {
        tag: _auc(
            found.instruments[:, MTT_TAGS.index(tag)],
            np.array([any(way in name for way in ways) for name in names]),
            seed,
        )
        for tag, ways in NAMED_BY_TAG.items()
    }
    return {**asdict(kept), "dynamics": swells, "instruments": instruments}


def _auc(scores: Float[np.ndarray, " n"], truth: np.ndarray, seed: int) -> dict[str, float | int | None]:
    """Area under the curve, its shuffled control and the number of positives; none with fewer than three on a side."""
    count = int(truth.sum())
    if not 3 <= count <= len(truth) - 3:
        return {"auc": None, "shuffled": None, "positives": count}
    rng = np.random.default_rng(seed)
    control = float(np.mean([area_under_curve(scores, rng.permutation(truth)) for _ in range(20)]))
    return {"auc": round(area_under_curve(scores, truth), 4), "shuffled": round(control, 4), "positives": count}


def duplicates(
    corpus_dir: Path,
    tracks: Sequence[Track],
    chosen: Sequence[dict[str, Any]],
    audio: Sequence[Float[np.ndarray, " _"]],
) -> dict[str, Any]:
    """Pairs of tracks that are too much alike."""
    same = Counter(track.sha256 for track in tracks)
    prints = np.stack([harmony_print(clip) for clip in audio])
    pairs = []
    for i in range(len(prints) - 1):
        # every key: pitch classes shifted by 0 to 11
        later = prints[i + 1 :].reshape(len(prints) - i - 1, -1)
        alike = np.max([later @ np.roll(prints[i], shift, axis=0).ravel() for shift in range(12)], axis=0)
        pairs += [(float(alike[k]), i, i + 1 + int(k)) for k in np.flatnonzero(alike > 0.95)]
    others = [(score, i, j) for score, i, j in sorted(pairs, reverse=True) if chosen[i]["track"] != chosen[j]["track"]]
    return {
        "same_samples": sum(count - 1 for count in same.values()),
        "near_same_clips": [[chosen[i]["track"], chosen[j]["track"], round(score, 3)] for score, i, j in others[:50]],
        "same_melodies": shared_melodies(corpus_dir, tracks)[:50],
    }


def harmony_print(clip: Float[np.ndarray, " s"]) -> Float[np.ndarray, "12 t"]:
    """Chroma of half seconds, of norm 1: the product of two clips' is the mean correlation of their blocks."""
    chroma = chroma_blocks(clip).T
    return chroma / max(float(np.linalg.norm(chroma)), 1e-9)


def shared_melodies(corpus_dir: Path, tracks: Sequence[Track], length: int = 10, least: float = 0.5) -> list[list[Any]]:
    """Pairs of tracks with a score that share half of their melody's runs of ten intervals, or more."""
    runs: dict[str, set[tuple[int, ...]]] = {}
    for track in tracks:
        if (corpus_dir / SCORES / f"{track.id}.json").is_file():
            found: set[tuple[int, ...]] = set()
            for part in load_score(corpus_dir, track.id).parts:
                if part.role == "melody":
                    steps = np.diff([note.pitch for note in sorted(part.notes, key=lambda note: note.start)]).tolist()
                    found |= {tuple(steps[k : k + length]) for k in range(len(steps) - length + 1)}
            runs[track.id] = {run for run in found if len(set(run)) > 2}
    owners: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, mine in runs.items():
        for run in mine:
            owners[run].append(name)
    common = Counter((a, b) for names in owners.values() for i, a in enumerate(names[:20]) for b in names[i + 1 : 20])
    shares = [(round(n / min(len(runs[a]), len(runs[b])), 3), a, b) for (a, b), n in common.items()]
    return [[a, b, share] for share, a, b in sorted(shares, reverse=True) if share >= least]


def read_reference(path: Path) -> list[str]:
    """The column "caption" of a CSV. Raises: CorpusError if it can't be read or has none."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row["caption"] for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise CorpusError(
            f"{path}: no captions to compare with ({error}); wanted a CSV with a column 'caption'"
        ) from error
    if not rows:
        raise CorpusError(f"{path}: no captions to compare with; the file has no rows")
    return rows


def wording(texts: Sequence[str], reference: Sequence[str], seed: int = 0, sample: int = 400) -> dict[str, Any]:
    """Statistics of captions, beside those of a reference as large; novelty is the share of n-grams that the reference
    does not have.
    """
    rng = random.Random(seed)
    report: dict[str, Any] = {"all": statistics(texts)}
    long = [text for text in texts if len(text.split()) >= 15]
    if not reference or len(long) < 2:
        return report
    num = min(len(long), len(reference))
    report["descriptions"] = statistics(rng.sample(long, num))
    report["reference"] = statistics(rng.sample(list(reference), num))
    report["novelty"] = {
        f"{n}-grams": round(
            float(np.mean([gram not in known for text in rng.sample(long, num) for gram in grams(text, n)])), 4
        )
        for n in (2, 3, 4, 6)
        for known in [{gram for text in reference for gram in grams(text, n)}]
    }
    ours, theirs = (
        rng.sample(long, min(sample, len(long))),
        rng.sample(list(reference), min(2 * sample, len(reference))),
    )
    vectors = embed([*ours, *theirs])
    a, b = vectors[: len(ours)], vectors[len(ours) :]
    itself = b @ b.T
    np.fill_diagonal(itself, -1)
    own = a @ a.T
    np.fill_diagonal(own, -1)
    report["embedding"] = {
        "nearest_reference_of_ours": round(float((a @ b.T).max(1).mean()), 4),
        "nearest_of_ours_to_reference": round(float((b @ a.T).max(1).mean()), 4),
        "nearest_within_reference": round(float(itself.max(1).mean()), 4),
        "nearest_within_ours": round(float(own.max(1).mean()), 4),
        "cosine_of_means": round(
            float(a.mean(0) @ b.mean(0) / np.linalg.norm(a.mean(0)) / np.linalg.norm(b.mean(0))), 4
        ),
    }
    return report


def statistics(texts: Sequence[str]) -> dict[str, Any]:
    lengths = [len(text.split()) for text in texts]
    counts = Counter(word for text in texts for word in re.findall(r"[a-z0-9'-]+", text.lower()))
    return {
        "captions": len(texts),
        "distinct": round(len(set(texts)) / len(texts), 4),
        "vocabulary": len(counts),
        "words": {f"p{q}": float(np.percentile(lengths, q)) for q in (5, 25, 50, 75, 95)},
    }


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    found = re.findall(r"[a-z0-9'-]+", text.lower())
    return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]


def embed(texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """Unit vectors of the pretrained sentence encoder. Raises: ValueError if it is not installed."""
    start = load_bert()
    encoder = TextEncoder(start.config).eval()
    encoder.load_state_dict(start.state)
    tokenizer = Tokenizer.from_str(start.tokenizer_json)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    rows = np.zeros((len(texts), start.config.width))
    with torch.no_grad():
        for begin in range(0, len(order), 64):
            some = order[begin : begin + 64]
            rows[some] = encoder(*tokenize(tokenizer, [texts[i] for i in some], start.config.max_tokens)).numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
