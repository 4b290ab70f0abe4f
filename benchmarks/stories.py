"""Do stories follow their prompts, as one piece?

    python benchmarks/stories.py base [--stories 60] [--keep out/stories] [--out benchmarks/stories.json]

A story has three sections of 15 s, of prompts of `musiclm evaluate` drawn without return, neighbours naming different
concepts. Of each section the last 10 s are judged, by programs that had no part in training. Beside stories stand
`plain`, the same with the first prompt throughout, and `glued`, sections of different stories set side by side.

- auc: of each concept among the sections of one story (`within_groups`), and the mean.
- seam_ratio: change of the spectrum where the prompt changes over that elsewhere (`musiclm.listen.signal`).
- chroma: likeness of the notes in 8 s before and after a change, at the best lag; tempo: share of changes with the same
  tempo, its half or double, on both sides; key: MIREX score of the key after to the key before.

What is made is kept in --keep, so a killed run goes on. Of live music: `benchmarks/live.py`.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from musiclm.core.artifact import git_revision
from musiclm.core.audio import load, write_audio
from musiclm.evaluate.adherence import CONCEPTS, Prompt, concept_scores, load_prompts
from musiclm.evaluate.bootstrap import bootstrap, mean
from musiclm.evaluate.joints import goes_on
from musiclm.generate.session import MusicLM
from musiclm.generate.story import Story, StorySection
from musiclm.listen.judge import Judge
from musiclm.listen.music import describe
from musiclm.listen.signal import sanity, seam_ratio

SECTION_S, SECTIONS, JUDGED_S, SIDE_S = 15.0, 3, 10.0, 8.0
RATE = 24000


def within_groups(
    prompts: Sequence[Prompt], scores: dict[str, Float[np.ndarray, " n"]], groups: Sequence[int]
) -> dict[str, tuple[float, int]]:
    """AUC of each concept among clips of the same group alone, such as sections of a story, and of how many pairs.

    A pair is a clip whose prompt names the concept and one of its group whose prompt does not; the AUC is the share of
    pairs in which the first scores higher, ties half: 0.5 is the baseline. Concepts without a pair are left out.
    """
    found = {}
    for name in CONCEPTS:
        named, pairs = np.array([name in prompt.concepts for prompt in prompts]), []
        for group in dict.fromkeys(groups):
            inside = np.array([other == group for other in groups])
            for yes in scores[name][inside & named]:
                pairs += [1.0 if yes > no else 0.5 if yes == no else 0.0 for no in scores[name][inside & ~named]]
        if pairs:
            found[name] = float(np.mean(pairs)), len(pairs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--stories", type=int, default=60)
    parser.add_argument("--blend", type=float, default=0.0)
    parser.add_argument("--keep", type=Path, default=Path("out/stories"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = MusicLM.from_pretrained(arguments.bundle)
    folder = arguments.keep / f"{model.bundle.hash} {arguments.blend:g}"
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "bundle": model.bundle.hash,
    }
    document["stories"] = stories(model, arguments.stories, arguments.blend, folder)
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


# -- stories


def prompts_of(num: int) -> list[list[Prompt]]:
    """Prompts of stories; neighbours have a concept each that the other has not."""
    left = [prompt for prompt in load_prompts() if prompt.concepts]
    random.Random("stories").shuffle(left)
    found: list[list[Prompt]] = []
    while len(found) < num and left:
        story = [left.pop()]
        while len(story) < SECTIONS:
            before = story[-1].concepts
            fits = (place for place, other in enumerate(left) if other.concepts - before and before - other.concepts)
            place = next(fits, None)
            if place is None:
                return found
            story.append(left.pop(place))
        found.append(story)
    return found


def stories(model: MusicLM, num: int, blend_s: float, folder: Path) -> dict[str, Any]:
    chosen = prompts_of(num)
    clips: dict[str, list[np.ndarray]] = {"stories": [], "plain": []}
    for number, prompts in enumerate(chosen):
        sections = [StorySection(at_s=SECTION_S * i, prompt=prompt.text.strip()) for i, prompt in enumerate(prompts)]
        story = Story(sections=tuple(sections), blend_s=blend_s)
        for name, prompt in (("stories", story), ("plain", sections[0].prompt)):
            path = folder / f"{name} {number}.flac"
            if not path.exists():
                music = model.generate(prompt, SECTION_S * SECTIONS, seed=700 + number)
                write_audio(path, music.audio[0], RATE)
            clips[name].append(load(path))
    length = round(SECTION_S * RATE)
    order = np.roll(np.arange(len(chosen)), 1)
    clips["glued"] = [
        np.concatenate([clips["stories"][(i if place == 0 else order[i])][place * length : (place + 1) * length]
                        for place in range(SECTIONS)])
        for i in range(len(chosen))
    ]  # fmt: skip
    found: dict[str, Any] = {"num": len(chosen), "blend_s": blend_s, "first_prompts": [c[0].text for c in chosen[:3]]}
    judge = Judge()
    prompts = [prompt for story in chosen for prompt in story]
    groups = [number for number, story in enumerate(chosen) for _ in story]
    for name in ("stories", "plain"):
        ends = [(clip, (place + 1) * length) for clip in clips[name] for place in range(SECTIONS)]
        endings = [clip[end - round(JUDGED_S * RATE) : end] for clip, end in ends]
        described = [describe(clip) for clip in endings]
        scores = concept_scores(judge(endings)[1], described, [sanity(clip).loudness_lufs for clip in endings])
        areas = within_groups(prompts, scores, groups)
        found[name] = {
            "auc": areas,
            "mean_auc": asdict(bootstrap(mean, np.array([area for area, _ in areas.values()]))),
        }
    for name, own in clips.items():
        found[name] = found.get(name, {}) | across(own)
    return found


def across(clips: list[np.ndarray]) -> dict[str, Any]:
    """Whether the same piece goes on where the prompt changes, by means over changes."""
    rows = []
    for clip in clips:
        times_s = [SECTION_S * place for place in range(1, SECTIONS)]
        seam = seam_ratio(clip, times_s)
        for time_s in times_s:
            middle, side = round(time_s * RATE), round(SIDE_S * RATE)
            rows.append({"seam_ratio": seam} | goes_on(clip[middle - side : middle], clip[middle : middle + side]))
    return {name: asdict(bootstrap(mean, np.array([row[name] for row in rows]))) for name in rows[0]}


if __name__ == "__main__":
    main()
