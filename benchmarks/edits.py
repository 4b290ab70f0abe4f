"""How well edits fit: repaint, vary and loop of generated pieces, beside what they are to be told from.

    python benchmarks/edits.py [BUNDLE] [--pieces 16] [--seconds 12] [--drafts 4] [--scores CORPUS]
        [--out benchmarks/edits.json]

Each piece is generated from a prompt with a tempo and a key; the next piece is the control "another".

- repaint, of the middle third: `seam`, the change of the spectrum at both edges over that at ordinary places
  (`musiclm.listen.signal`), beside the same places of the piece as it was; `chroma` and `tempo` of the inside against
  the outside, and against another piece's outside; `fit`, the mean log-probability of the codes that follow, beside
  that after the piece's own codes and after another's. With one draft and with several.
- vary, by strength: semantic codes kept, agreement of chroma and of onsets with the parent, beside another piece.
- loop: `seam`, the change of the spectrum at the joint of the loop played twice over that at ordinary places; `pulse`,
  the onsets' autocorrelation a bar apart in the two bars around the joint. Both beside plain cuts of the same music
  played twice, at the same bars (`cut_at_bars`) and within one (`cut_anywhere`), and beside places of the piece as it
  was: one, and for the seam all bar lines, where music changes more than elsewhere. `begins`: the seam where what is
  new begins, for a joint could be moved there. `less_than_cut`: by how much the seam is below that of the cut at bars
  of the same piece; a loop that is no better than a cut has 0 in its interval.
- tempo, with --scores: rendered pieces of a corpus whose tempo `musiclm.generate.pulse` measures within 0.2 %.

Each figure is a mean over pieces with the interval of 95 of 100 draws of them. The file is written after each piece,
and a run goes on where it was.
"""

import argparse
import itertools
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from musiclm import Music, MusicLM
from musiclm.core.artifact import git_revision
from musiclm.core.audio import read_blocks
from musiclm.core.output import write_atomic
from musiclm.evaluate.bootstrap import bootstrap, mean
from musiclm.generate.autoregressive import log_likelihood
from musiclm.generate.pulse import measured_tempo
from musiclm.listen.music import chroma_agreement, chroma_blocks, onset_agreement, same_tempo
from musiclm.listen.signal import seam_ratio

STYLES = ("house with a deep bass", "a calm piano piece", "rock with electric guitars and drums", "a celtic tune")
KEYS = ("A minor", "C major", "E minor", "G major")
TEMPI = (124, 92, 140, 108)
STRENGTHS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
JUDGED_FRAMES_S = 2.0
WITHIN = 0.002

Clip = Float[np.ndarray, " s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="base")
    parser.add_argument("--pieces", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--drafts", type=int, default=4)
    parser.add_argument("--scores", type=Path, help="a rendered corpus, whose scores tell the tempo")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/edits.json"))
    arguments = parser.parse_args()
    if arguments.pieces < 2:
        parser.error("--pieces must be 2 or more: each piece has another beside it")
    torch.set_num_threads(1)
    model = MusicLM.from_pretrained(arguments.bundle)
    asked = {"seconds": arguments.seconds, "drafts": arguments.drafts, "bundle": model.bundle.hash}
    document = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    done = document.get("pieces", []) if document.get("asked") == asked else []
    facts = {"date": time.strftime("%Y-%m-%d"), "git_revision": git_revision(), "asked": asked}
    if arguments.scores and "tempo" not in document:
        document["tempo"] = tempi(arguments.scores, 48)
    for index in range(len(done), arguments.pieces):
        piece, other = (generated(model, place % arguments.pieces, arguments.seconds) for place in (index, index + 1))
        done.append(
            {
                "prompt": piece.prompts[0],
                **repainted(model, piece, other, arguments.drafts, index),
                **varied(model, piece, other, index),
                **looped(model, piece, arguments.drafts, index),
            }
        )
        document = {
            **facts,
            "figures": means(done),
            **({"tempo": document["tempo"]} if "tempo" in document else {}),
            "pieces": done,
        }
        write_atomic(arguments.out, json.dumps(document, indent=1) + "\n")
        print(f"{index + 1} of {arguments.pieces}: {piece.prompts[0]}", flush=True)
    for name, figure in document["figures"].items():
        print(f"{name:44} {figure['value']:7.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")


def generated(model: MusicLM, index: int, seconds: float) -> Music:
    prompt = f"{STYLES[index % 4]} at {TEMPI[index % 4] + 3 * (index // 4)} BPM in {KEYS[(index + index // 4) % 4]}"
    return model.generate(prompt, seconds, seed=1000 + index)


def means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure over the pieces that have it."""
    found = {}
    for name in rows[0]:
        values = np.array(
            [row[name] for row in rows if not isinstance(row[name], str) and row[name] is not None], float
        )
        if values := values[np.isfinite(values)].tolist():
            found[name] = {**asdict(bootstrap(mean, np.array(values))), "num": len(values)}
    return found


def repainted(model: MusicLM, piece: Music, other: Music, drafts: int, seed: int) -> dict[str, Any]:
    """Of the middle third."""
    third = piece.duration_s / 3
    start, stop = (round(edge * piece.sample_rate_hz) for edge in (third, 2 * third))
    before = piece.audio[0]
    found: dict[str, Any] = {"repaint/seam/as_it_was": seam_ratio(before, (third, 2 * third))}
    for num in (1, drafts):
        after = model.repaint(piece, third, 2 * third, seed=seed, drafts=num)
        audio, span = after.audio[0], after.takes[0].about.repaint
        assert span is not None
        inside, outside = audio[start:stop], np.concatenate([audio[:start], audio[stop:]])
        name = f"repaint/drafts_{num}"
        found[f"{name}/seam"] = seam_ratio(audio, (third, 2 * third))
        found[f"{name}/fit"] = max(span.drafts.scores)
        found[f"{name}/fit_of_all_drafts"] = float(np.mean(span.drafts.scores))
        found |= against(f"{name}/outside", inside, outside)
        found |= against(f"{name}/another", inside, other.audio[0])
    found |= against("repaint/as_it_was/outside", before[start:stop], np.concatenate([before[:start], before[stop:]]))
    found["repaint/as_it_was/fit"] = fit(model, piece, piece, third)
    found["repaint/another/fit"] = fit(model, piece, other, third)
    return found


def against(name: str, clip: Clip, other: Clip) -> dict[str, float]:
    """Whether two clips use the same pitch classes (correlation of mean chroma) and keep the same tempo."""
    a, b = (chroma_blocks(x).mean(0) for x in (clip, other))
    tempi = [measured_tempo(x) for x in (clip, other)]
    known = [tempo for tempo in tempi if tempo is not None]
    return {
        f"{name}/chroma": float(np.corrcoef(a, b)[0, 1]),
        f"{name}/tempo": float(len(known) == 2 and same_tempo(known[1], known[0])),
    }


def fit(model: MusicLM, piece: Music, inside: Music, third: float) -> float:
    """Mean log-probability of the codes after the middle third, if that third were the one of `inside`."""
    take, rate = piece.takes[0], model.semantic.layout.target_spec.frame_rate_hz or 1.0
    # as `repaint` has it: frames within the span
    start, stop = -int(-third * rate // 1), int(2 * third * rate)
    own, others = (torch.from_numpy(one.takes[0].semantic.astype(np.int64))[None] for one in (piece, inside))
    codes = torch.cat(
        [own[:, :, :start], others[:, :, start:stop], own[:, :, stop : stop + round(JUDGED_FRAMES_S * rate)]], 2
    )
    assert take.mulan is not None
    return float(log_likelihood(model.semantic, torch.from_numpy(take.mulan.astype(np.int64))[None], codes, stop)[0])


def varied(model: MusicLM, piece: Music, other: Music, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "vary/another/chroma": chroma_agreement(piece.audio[0], other.audio[0]),
        "vary/another/onsets": onset_agreement(piece.audio[0], other.audio[0]),
        "vary/another/kept": float((piece.takes[0].semantic == other.takes[0].semantic).mean()),
    }
    for strength in STRENGTHS:
        after = model.vary(piece, strength, seed=seed)
        vary = after.takes[0].about.vary
        assert vary is not None
        name = f"vary/strength_{strength:g}"
        found[f"{name}/kept"] = vary.kept
        found[f"{name}/chroma"] = chroma_agreement(after.audio[0], piece.audio[0])
        found[f"{name}/onsets"] = onset_agreement(after.audio[0], piece.audio[0])
    return found


def looped(model: MusicLM, piece: Music, drafts: int, seed: int) -> dict[str, Any]:
    """Of as many bars as there are, and of one bar less, so that what follows is there to be cut off."""
    found: dict[str, Any] = {}
    bar_s = 240 / (piece.takes[0].about.config.steer.as_asked(piece.prompts[0] or "").tempo_bpm or 120.0)
    bars = int(piece.duration_s / bar_s)
    for num in (1, drafts):
        loop = model.loop(piece, bars * bar_s, seed=seed, drafts=num)
        about = loop.takes[0].about.loop
        assert about is not None
        found[f"loop/drafts_{num}/fit"] = max(about.drafts.scores)
        found |= joint(f"loop/drafts_{num}", np.tile(loop.audio[0], 2), loop.audio.shape[1], bar_s)
        redone_s = (loop.audio.shape[1] - about.redone_samples) / loop.sample_rate_hz
        found[f"loop/drafts_{num}/begins"] = seam_ratio(loop.audio[0], (redone_s,))
    length = loop.audio.shape[1]
    found |= joint("loop/cut_at_bars", np.tile(piece.audio[0, :length], 2), length, bar_s)
    for num in {1, drafts}:
        found[f"loop/drafts_{num}/less_than_cut"] = found["loop/cut_at_bars/seam"] - found[f"loop/drafts_{num}/seam"]
    lines_s = [bar * bar_s for bar in range(1, bars) if bar * bar_s < piece.duration_s - 0.1]
    found["loop/bar_lines/seam"] = seam_ratio(piece.audio[0], lines_s)
    ragged = length - round(0.37 * bar_s * piece.sample_rate_hz)
    found |= joint("loop/cut_anywhere", np.tile(piece.audio[0, :ragged], 2), ragged, bar_s)
    found |= joint("loop/inside_the_piece", piece.audio[0], length // 2, bar_s)
    return found


def joint(name: str, audio: Clip, at: int, bar_s: float) -> dict[str, float]:
    """Change of the spectrum at a place, over that elsewhere, and how alike the bars before and after it strike."""
    bar = round(bar_s * 24000)
    around = audio[max(0, at - bar) : at + bar]
    half = len(around) // 2
    return {
        f"{name}/seam": seam_ratio(audio, (at / 24000,)),
        f"{name}/pulse": onset_agreement(around[:half], around[half : 2 * half]),
    }


def tempi(corpus: Path, num: int) -> dict[str, float]:
    """How often the measured tempo is that of the score, or its half or double, of the first 20 s of pieces."""
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    scores = [(row, corpus / "scores" / f"{row['id']}.json") for row in rows]
    right = near = none = total = 0
    for row, path in itertools.islice(((row, path) for row, path in scores if path.is_file()), num):
        score = json.loads(path.read_text())
        if score["tempo_changes"]:
            continue
        blocks = itertools.islice(read_blocks(corpus / row["path"]), 3)
        measured = measured_tempo(np.concatenate([block[0] for block in blocks])[: 20 * 24000])
        total += 1
        none += measured is None
        if measured is not None:
            right += abs(measured / score["tempo_bpm"] - 1) < WITHIN
            near += min(abs(measured * factor / score["tempo_bpm"] - 1) for factor in (0.5, 1, 2)) < WITHIN
    return {"pieces": total, "right": right / total, "right_or_half_or_double": near / total, "none": none / total}


if __name__ == "__main__":
    main()
