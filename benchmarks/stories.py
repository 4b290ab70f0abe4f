"""Do stories tell what they are told to, as one piece? And does live music keep up, keep its size and its pulse?

    python benchmarks/stories.py base [--stories 60] [--live 3600] [--keep out/stories] [--out benchmarks/stories.json]

A story has three sections of 15 s, of prompts of `musiclm evaluate` drawn without return, neighbours naming different
concepts. Of each section the last 10 s are judged, by programs that had no part in training. Beside stories stand
`plain`, the same with the first prompt throughout, and `glued`, sections of different stories set side by side.

- auc: of each concept among the sections of one story (`within_groups`), and the mean.
- seam_ratio: change of the spectrum where the prompt changes over that elsewhere (`musiclm.listen.signal`).
- chroma: likeness of the notes in 8 s before and after a change, at the best lag; tempo: share of changes with the same
  tempo, its half or double, on both sides; key: MIREX score of the key after to the key before.

Live music is made as fast as it can be, and a new prompt asked for every 30 s after what was handed out by then.
latency_s: from there to where it holds, in seconds of music. underruns: how often the sound would have broken off, had
it been played from the second block on with `--ahead` seconds ready. memory_mb: of the process, each minute.
pulse_bpm and key: of 20 s from the middle of each prompt. Nothing is kept of the sound.

What is made is kept in --keep, so a killed run goes on. Only an idle machine tells real-time factors and underruns.
"""

import argparse
import json
import random
import resource
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
from musiclm.generate.session import MusicLM
from musiclm.generate.story import Section, Story
from musiclm.listen.judge import Judge
from musiclm.listen.music import chroma_blocks, describe, key_score, passage_likeness, same_tempo
from musiclm.listen.signal import sanity, seam_ratio

SECTION_S, SECTIONS, JUDGED_S, SIDE_S = 15.0, 3, 10.0, 8.0
ASK_EVERY_S = 30.0
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
    parser.add_argument("--live", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--ahead", type=float, default=0.4)
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
    if arguments.stories:
        document["stories"] = stories(model, arguments.stories, arguments.blend, folder)
    if arguments.live:
        document["live"] = live(model, arguments.live, arguments.ahead, folder / "live.jsonl")
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


# -- stories


def told(num: int) -> list[list[Prompt]]:
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
    chosen = told(num)
    clips: dict[str, list[np.ndarray]] = {"stories": [], "plain": []}
    for number, prompts in enumerate(chosen):
        sections = [Section(at_s=SECTION_S * i, prompt=prompt.text.strip()) for i, prompt in enumerate(prompts)]
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
        heard = [clip[end - round(JUDGED_S * RATE) : end] for clip, end in ends]
        described = [describe(clip) for clip in heard]
        scores = concept_scores(judge(heard)[1], described, [sanity(clip).loudness_lufs for clip in heard])
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
    seams, chroma, tempo, key = [], [], [], []
    for clip in clips:
        times_s = [SECTION_S * place for place in range(1, SECTIONS)]
        seams.append(seam_ratio(clip, times_s))
        for time_s in times_s:
            middle, side = round(time_s * RATE), round(SIDE_S * RATE)
            before, after = clip[middle - side : middle], clip[middle : middle + side]
            chroma.append(passage_likeness(chroma_blocks(before), chroma_blocks(after)))
            one, other = describe(before), describe(after)
            tempo.append(float(one.tempo_bpm > 0 and same_tempo(one.tempo_bpm, other.tempo_bpm)))
            key.append(key_score(one.key, other.key) if one.key else 0.0)
    figures = {"seam_ratio": seams, "chroma": chroma, "tempo": tempo, "key": key}
    return {name: asdict(bootstrap(mean, np.array(values))) for name, values in figures.items()}


# -- live


def live(model: MusicLM, length_s: float, ahead_s: float, path: Path) -> dict[str, Any]:
    """A row a prompt, each written as soon as it is there."""
    rows: list[dict[str, Any]] = []
    prompts = [prompt.text.strip() for prompt in load_prompts()]
    random.Random("live").shuffle(prompts)
    music = model.live(prompts[0], seed=1)
    asked_s, asked = 0.0, 0
    window: list[np.ndarray] = []
    missing, dry, clock_s, played_from = 0, 0.0, 0.0, 0.0
    worked_s = 0.0
    with open(path, "w") as file:
        while music.made_s < length_s:
            begun = time.perf_counter()
            before_s = music.made_s
            block = next(music)
            work_s = time.perf_counter() - begun
            worked_s += work_s
            # a clock that stands while enough is ready: when this block is there, is the one before still being played?
            clock_s = max(clock_s, played_from + before_s - ahead_s) + work_s
            if before_s == 0:
                played_from = clock_s
            elif clock_s > played_from + before_s:
                missing, dry = missing + 1, dry + clock_s - played_from - before_s
                played_from = clock_s - before_s
            if asked_s + 7 <= music.made_s <= asked_s + 27:
                window.append(block)
            if music.made_s >= asked_s + ASK_EVERY_S:
                heard = describe(np.concatenate(window))
                at_s, prompt = music.played[-1]
                rows.append(
                    {
                        "prompt": prompt,
                        "asked_s": asked_s,
                        "latency_s": at_s - asked_s,
                        "memory_mb": memory_mb(),
                        "pulse_bpm": heard.pulse_bpm,
                        "beat_strength": heard.beat_strength,
                        "periodicity_8s": heard.periodicity_8s,
                        "key": heard.key,
                    }
                )
                file.write(json.dumps(rows[-1]) + "\n")
                file.flush()
                asked, asked_s, window = asked + 1, music.made_s, []
                # every other prompt stays, so that drift without a change is seen
                if asked % 2 == 0:
                    music.change(prompts[asked // 2 % len(prompts)])
    pairs = [(a, b) for a, b in zip(rows, rows[1:], strict=False) if a["prompt"] == b["prompt"]]
    drift = [abs(np.log2(b["pulse_bpm"] / a["pulse_bpm"])) for a, b in pairs if a["pulse_bpm"] and b["pulse_bpm"]]
    keys = [key_score(a["key"], b["key"]) for a, b in pairs if a["key"]]
    latencies = [row["latency_s"] for row in rows if row["asked_s"] and row["latency_s"] >= 0]
    return {
        "length_s": music.made_s,
        "changes": len(latencies),
        "latency_s": {"median": float(np.median(latencies)), "most": max(latencies)} if latencies else None,
        "real_time_factor": worked_s / music.made_s,
        "ahead_s": ahead_s,
        "underruns": missing,
        "missing_s": dry,
        "memory_mb": [row["memory_mb"] for row in rows][:: max(1, len(rows) // 20)],
        "beat_strength": float(np.mean([row["beat_strength"] for row in rows])) if rows else None,
        "pulse_drift_octaves": float(np.mean(drift)) if drift else None,
        "key_kept": float(np.mean(keys)) if keys else None,
        "rows": rows,
    }


def memory_mb() -> float:
    """Of this process now, where the system says so; else at its most."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
