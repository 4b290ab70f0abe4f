"""Does a MuLan rank real music as analysers without a part in training do?

On any split, with any texts, before a language model is trained on it.

For each text that names a concept ("slow", "piano", "80s"; `CONCEPTS` of `musiclm.evaluate.adherence`) the clips of a
split are ranked by MuLan, and by how much of the concept an analyser finds in them.
`agreement` is the rank correlation of the two, mean over the texts that name the concept: 1 for the same order, 0 for
one that has nothing to do with the text. What a clip gets from every text alike is taken off before.
"""

import csv
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata

from musiclm.core.artifact import write_atomic
from musiclm.data.corpus.clips import eval_clips
from musiclm.data.corpus.manifest import RENDERED, Split, load_manifest
from musiclm.evaluate.adherence import MIN_POSITIVES, Prompt, concept_scores, load_prompts
from musiclm.evaluate.bootstrap import Estimate, bootstrap, mean
from musiclm.listen.analysers import LIBROSA, METER, MUSICNN, make_analyser
from musiclm.listen.music import Description
from musiclm.models.encoders import JointEmbedding

CLIP_S = 10.0
# how people say it; whole words, ends of words where they matter, and never after "no", "not" or "without"
WORDS: dict[str, str] = {
    "rock": r"rock|rock'?n'?roll", "hard rock": r"hard rock|hard-rock", "metal": r"metal|heavy metal|metalcore",
    "punk": r"punk", "progressive rock": r"prog(ressive)? rock", "indie": r"indie",
    "pop": r"pop", "electronic": r"electronic|electronica|techno|edm|synthwave|trance",
    "dance": r"dance|dance music|edm|danceable", "house": r"house", "hip-hop": r"hip[- ]?hop|trap|rap|boom bap",
    "soul": r"soul|r ?& ?b|rnb", "funk": r"funky?", "jazz": r"jazzy?|swing|bebop", "blues": r"blues|bluesy",
    "country": r"country|bluegrass", "folk": r"folk|folky|celtic",
    "acoustic": r"acoustic|unplugged", "guitar": r"guitars?", "ambient": r"ambient|atmospheric|drone",
    "chill": r"chill|chillout|mellow|relaxing|relaxed|laid[- ]back|easy listening|soothing",
    "experimental": r"experimental|avant[- ]?garde", "party": r"party|club|nightclub", "catchy": r"catchy",
    "sad": r"sad|melancholic|melancholy|sorrowful", "happy": r"happy|cheerful|joyful|joyous|upbeat",
    "beautiful": r"beautiful|gorgeous", "80s": r"80s|80's|1980s|eighties",
    "oldies": r"oldies|60s|60's|1960s|50s|vintage|retro",
    "instrumental": r"instrumental|no voices?|no singer|no vocals?|no singing",
    "fast": r"fast|fast[- ]paced|fast tempo|uptempo|up-tempo|rapid", "slow": r"slow|slow[- ]paced|slow tempo|downtempo",
    "loud": r"loud|aggressive|intense|powerful|energetic",
    "calm": r"calm|calming|peaceful|quiet|gentle|soft|tranquil|serene|soothing",
    "drums": r"drums?|drumming|drum kit|percussions?|beats?",
    "no drums": r"no (drums?|percussion)|without (drums?|percussion)",
    "bright": r"bright|shimmering|sparkling|tinkling", "dark": r"dark|deep|ominous|muffled",
    "bass": r"bass|bassline|sub-?bass|808", "busy": r"busy|dense|frantic|hectic|fast[- ]paced",
    "sparse": r"sparse|minimal|minimalistic?|simple",
    "steady beat": r"steady (drum(ming)?|beat|rhythm|pulse|kick).*|four[- ]on[- ]the[- ]floor|groovy",
    "repetitive": r"repetitive|repeating|loop(ed|ing)?|hypnotic",
}  # fmt: skip
NEGATED = re.compile(r"\b(no|not|without|never|isn't|lacks?|absence of)\b[^,.;]*$")


def concepts_of(text: str) -> frozenset[str]:
    """The concepts that words of a text name."""
    text = text.lower()
    found = set()
    for name, words in WORDS.items():
        for match in re.finditer(rf"\b({words})\b", text):
            if words.startswith("no ") or "|no " in words or not NEGATED.search(text[: match.start()]):
                found.add(name)
                break
    return frozenset(found)


def read_texts(path: Path) -> list[Prompt]:
    """The texts of a CSV with a column `prompt` (`musiclm.evaluate.adherence.load_prompts`) or `caption`, whose
    concepts its words name.

    Raises: ValueError for a file without either column.
    """
    try:
        rows = csv.DictReader(Path(path).read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read ({error})") from None
    if "caption" not in (rows.fieldnames or ()):
        return load_prompts(path)
    return [Prompt(text=row["caption"], concepts=concepts_of(row["caption"])) for row in rows if row["caption"]]


@dataclass(frozen=True, kw_only=True)
class Match:
    """Of a MuLan with the analysers, over a set of clips."""

    mean_agreement: Estimate  # over the concepts; the interval is over the clips
    concepts: dict[str, float]  # agreement of each that enough texts name
    texts: dict[str, int]  # how many name it
    other_texts: float  # control: of the texts that do not name the concept, mean over the concepts


def match(
    similarity: Float[np.ndarray, "p n"],
    prompts: Sequence[Prompt],
    scores: dict[str, Float[np.ndarray, " n"]],
    draws: int = 200,
    seed: int = 0,
) -> Match:
    """`similarity` of p texts and n clips; `scores` of the clips by concept.

    Raises: ValueError if no concept is named often enough.
    """
    named = {name: np.array([name in prompt.concepts for prompt in prompts]) for name in scores}
    used = [name for name in scores if MIN_POSITIVES <= named[name].sum() <= len(prompts) - MIN_POSITIVES]
    if not used:
        raise ValueError(f"no concept is named by {MIN_POSITIVES} of {len(prompts)} texts; give more texts")
    centred = similarity - similarity.mean(0)

    def agreements(clips: np.ndarray) -> Float[np.ndarray, "2 k"]:
        texts = _ranks(centred[:, clips])
        scored = _ranks(np.stack([scores[name][clips] for name in used]))
        every = texts @ scored.T / len(clips)  # (p k)
        own = [every[named[name], k].mean() for k, name in enumerate(used)]
        return np.array([own, [every[~named[name], k].mean() for k, name in enumerate(used)]])

    own, other = agreements(np.arange(similarity.shape[1]))
    interval = bootstrap(
        lambda clips: float(agreements(clips)[0].mean()), np.arange(similarity.shape[1]), draws=draws, seed=seed
    )
    return Match(
        mean_agreement=interval,
        concepts={name: float(value) for name, value in zip(used, own, strict=True)},
        texts={name: int(named[name].sum()) for name in used},
        other_texts=mean(other),
    )


def _ranks(rows: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r n"]:
    """Ranks within each row, ties shared, of mean 0 and variance 1; a constant row is 0."""
    ranks = rankdata(rows, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    return ranks / np.maximum(ranks.std(1, keepdims=True), 1e-9)


@dataclass(frozen=True)
class ScoredClips:
    """Clips of a split and their scores by concept."""

    audio: Float[np.ndarray, "n s"]
    scores: dict[str, Float[np.ndarray, " n"]]


def analyse(corpus_dir: Path, split: Split, per_track: int, cache: Path | None = None) -> ScoredClips:
    """`per_track` clips of each real track of a split, analysed; the figures are kept in `cache`, a JSON file.

    Raises: ValueError if the split has no real tracks of ten seconds, or an analyser is not installed.
    """
    tracks = [t for t in load_manifest(corpus_dir) if t.split == split and t.source != RENDERED and t.seconds >= CLIP_S]
    if len(tracks) < 4:
        raise ValueError(f"{corpus_dir} has {len(tracks)} real tracks of split {split!r}; ranking them takes 4")
    clips = eval_clips(corpus_dir, tracks, CLIP_S, per_track * len(tracks), 0)[0][:, 0].numpy()
    key = f"{split} {per_track} {sorted(track.id for track in tracks)}"
    known = _known(cache) if cache else {}
    if known.get("key") != key:
        known = {"key": key}
        for name in (MUSICNN, LIBROSA, METER):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                known[name] = list(pool.map(make_analyser(name), clips))
        if cache:
            write_atomic(cache, json.dumps(known))
    tags = np.array([row["tags"] for row in known[MUSICNN]])
    described = [Description(**row) for row in known[LIBROSA]]
    loudness = [row["loudness_lufs"] for row in known[METER]]
    return ScoredClips(clips, concept_scores(tags, described, loudness))


def _known(cache: Path) -> dict[str, Any]:
    """What `analyse` wrote. Raises: ValueError for a file of something else, which would be written over."""
    if not cache.exists():
        return {}
    try:
        known = json.loads(cache.read_text())
    except ValueError:
        known = None
    if not isinstance(known, dict) or not {"key", MUSICNN} <= set(known):
        raise ValueError(f"{cache} is there already and holds no analyses of clips; name another file")
    return known


@torch.no_grad()
def match_model(model: JointEmbedding, clips: ScoredClips, prompts: Sequence[Prompt]) -> Match:
    """`match` of a model, with its embeddings of clips and texts."""
    texts = [prompt.text for prompt in prompts]
    text = torch.cat([model.embed_text(texts[i : i + 32]) for i in range(0, len(texts), 32)])
    audio = torch.cat([model.embed_audio(torch.from_numpy(clip)[None, None]) for clip in clips.audio])
    return match((text @ audio.T).numpy(), prompts, clips.scores)


def table(rows: dict[str, Match]) -> dict[str, dict[str, Any]]:
    """For JSON and for people: a row per model."""
    return {
        name: {
            "mean_agreement": [row.mean_agreement.value, row.mean_agreement.low, row.mean_agreement.high],
            "other_texts": row.other_texts,
            "concepts": row.concepts,
            "texts": row.texts,
        }
        for name, row in rows.items()
    }
