"""Do texts ask for recordings or for rendered music?

    python benchmarks/text_domain.py v5=base new=runs/bundle --data both --texts musiccaps.csv [--out
    benchmarks/text_domain.json]

`both` is a corpus with recordings and rendered music. A linear probe of MuLan's vectors, fitted to training clips,
tells the two apart; `rendered` is the share of vectors on its rendered side: of validation clips of either kind, and of
what language models get for captions people wrote.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from musiclm.core.artifact import git_revision
from musiclm.core.bundle import open_bundle
from musiclm.data.corpus.clips import eval_clips
from musiclm.data.corpus.manifest import RENDERED, load_manifest
from musiclm.evaluate.match import CLIP_S, read_texts
from musiclm.models.mulan.model import MuLan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="NAME=BUNDLE")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    clips = {
        (split, kind): clips_of(arguments.data, split, kind == "rendered", num)
        for split, num in (("train", 600), ("validation", 120))
        for kind in ("real", "rendered")
    }
    prompts = read_texts(arguments.texts)
    catchy = np.array(["catchy" in prompt.concepts for prompt in prompts])
    rows: dict[str, dict] = {}
    for entry in arguments.bundles:
        name, _, bundle = entry.partition("=")
        opened = open_bundle(bundle)
        mulan = MuLan.from_artifact(opened.part("mulan"))
        side = probe(mulan, clips["train", "real"], clips["train", "rendered"])
        texts = decoded(mulan, [prompt.text for prompt in prompts])
        rows[name] = {
            "bundle": opened.hash,
            "rendered": {
                "recordings": share(side(embed(mulan, clips["validation", "real"]))),
                "rendered_music": share(side(embed(mulan, clips["validation", "rendered"]))),
                "captions": share(side(texts)),
                "captions_that_say_catchy": share(side(texts[catchy])),
            },
        }
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "captions": len(prompts),
        "bundles": rows,
    }
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def clips_of(corpus: Path, split: str, rendered: bool, num: int) -> torch.Tensor:
    tracks = [t for t in load_manifest(corpus) if t.split == split and (t.source == RENDERED) == rendered]
    return eval_clips(corpus, [track for track in tracks if track.seconds >= CLIP_S], CLIP_S, num)[0]


@torch.no_grad()
def embed(mulan: MuLan, clips: torch.Tensor) -> np.ndarray:
    return F.normalize(torch.cat([mulan.embed_audio(clip[None]) for clip in clips]), dim=-1).numpy()


@torch.no_grad()
def decoded(mulan: MuLan, texts: list[str]) -> np.ndarray:
    """What the codes of texts say, as vectors."""
    codes = torch.cat([mulan.text_codes(texts[i : i + 64]) for i in range(0, len(texts), 64)])[..., 0]
    return F.normalize(mulan.rvq.decode(codes), dim=-1).numpy()


def probe(mulan: MuLan, real: torch.Tensor, rendered: torch.Tensor):
    """Above 0 for rendered music: ridge regression, the threshold between the medians of both kinds."""
    kinds = [embed(mulan, real), embed(mulan, rendered)]
    x, y = np.concatenate(kinds), np.repeat([-1.0, 1.0], [len(kind) for kind in kinds])
    centre = x.mean(0)
    weights = np.linalg.solve((x - centre).T @ (x - centre) + 0.3 * np.eye(x.shape[1]), (x - centre).T @ y)
    between = np.mean([np.median((kind - centre) @ weights) for kind in kinds])
    return lambda vectors: (vectors - centre) @ weights - between


def share(values: np.ndarray) -> float:
    return round(float((values > 0).mean()), 3)


if __name__ == "__main__":
    main()
