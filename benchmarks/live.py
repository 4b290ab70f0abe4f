"""Does live music keep up, keep its size, its pulse and its key, for an hour?

    python benchmarks/live.py [BUNDLE] [--minutes 60] [--prompt "house at 124 BPM in A minor"] [--change-every 0]
        [--ahead 0.4] [--threads N] [--out benchmarks/live.json]

The music is made as `musiclm play` makes it, as fast as it can be, and nothing of the sound is kept. Once a minute of
music its last 30 s are listened to by librosa, which had no part in training.

- real_time_factor: seconds of work for a second of music.
- underruns: how often the sound would have broken off on a device that plays at real time, with the maker held back as
  `musiclm.core.speakers` does by `--ahead`; missing_s: for how long. By the time that the work took, on a clock that
  stands while we listen.
- memory_mb: of the process. growth_mb_an_hour: the median slope between any two minutes after the fifth.
- pulse: octaves_an_hour, the median slope of log2 of the pulse (0: it keeps its speed), and octaves_off, the mean
  distance of the last ten minutes from the first ten, whichever way. tempo_kept and key_kept: share of minutes with the
  tempo that the prompt names (octaves forgiven), and mean MIREX score of the key, in the first and in the last half.
- latency_s, with --change-every: from asking for another prompt of `musiclm evaluate` to where it holds, in seconds of
  music after what was handed out by then. Slopes are of one prompt, and left out.

The file is written every minute. Only an idle machine tells real-time factors and underruns.
"""

import argparse
import itertools
import json
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from musiclm.bench.measure import machine
from musiclm.core.artifact import git_revision
from musiclm.core.output import write_atomic
from musiclm.evaluate.adherence import load_prompts
from musiclm.generate.live import Live
from musiclm.generate.session import MusicLM
from musiclm.listen.music import describe, key_score, same_tempo

LISTENED_S = 30.0
ROW_S = 60.0
FIRST_ROWS = 10  # and the last ones, which are compared
WARM_ROWS = 5  # before memory is looked at
PROMPT = "house with a deep bass and drums at 124 BPM in A minor"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="base")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--change-every", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--ahead", type=float, default=0.4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/live.json"))
    arguments = parser.parse_args()
    if arguments.minutes < 1:
        parser.error("--minutes must be 1 or more")
    torch.set_num_threads(arguments.threads)
    model = MusicLM.from_pretrained(arguments.bundle)
    live = model.live(arguments.prompt, seed=1)
    asked = model.default_config().steer.as_asked(arguments.prompt)
    header = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "bundle": model.bundle.hash,
        "machine": machine("cpu"),
        "asked": {
            **{name: value for name, value in vars(arguments).items() if name != "out"},
            **{"tempo_bpm": asked.tempo_bpm, "key": asked.key_name},
        },
    }
    rows: list[dict[str, Any]] = []
    played = Played(arguments.ahead)
    changes = Changes(live, arguments.change_every)
    for clip in minutes(live, played, changes, arguments.minutes):
        described = describe(clip)
        rows.append(
            {
                "prompt": live.prompt,
                "memory_mb": memory_mb(),
                "pulse_bpm": described.pulse_bpm,
                "tempo_bpm": described.tempo_bpm,
                "beat_strength": described.beat_strength,
                "key": described.key,
            }
        )
        figures = summary(rows, asked.tempo_bpm, asked.key_name, steady=not arguments.change_every)
        document = {**header, **played.figures(), **figures, "latency_s": changes.latencies(), "rows": rows}
        write_atomic(arguments.out, json.dumps(document, indent=1) + "\n")
        print(f"{played.made_s / 60:.0f} min: {played.underruns} underruns, {rows[-1]['memory_mb']:.0f} MB", flush=True)


@dataclass
class Played:
    """A device that plays at real time what is made, on a clock of the time that the work takes."""

    ahead_s: float  # that the maker is held back by, as `musiclm.core.speakers.Speakers` does
    made_s: float = 0.0
    worked_s: float = 0.0
    underruns: int = 0
    missing_s: float = 0.0
    _clock_s: float = 0.0
    _began_s: float = 0.0  # when sample 0 would have been played, but for gaps so far

    def add(self, block_s: float, work_s: float) -> None:
        """A block that took so long to make."""
        self._clock_s += work_s
        if not self.made_s:
            self._began_s = self._clock_s  # with the first block
        late_s = self._clock_s - self._began_s - self.made_s
        if late_s > 0:  # all before it has been played
            self.underruns, self.missing_s = self.underruns + 1, self.missing_s + late_s
            self._began_s += late_s
        # it waits here until no more than so much is ready before it
        self._clock_s = max(self._clock_s, self._began_s + self.made_s - self.ahead_s)
        self.made_s += block_s
        self.worked_s += work_s

    def figures(self) -> dict[str, float]:
        factor = self.worked_s / self.made_s
        return {
            **{"made_s": self.made_s, "real_time_factor": factor},
            **{"underruns": self.underruns, "missing_s": self.missing_s},
        }


class Changes:
    """Asks for another prompt now and then."""

    def __init__(self, live: Live, every_s: float) -> None:
        self.live, self.every_s, self.asked_s = live, every_s, [0.0]
        prompts = [prompt.text.strip() for prompt in load_prompts()]
        random.Random("live").shuffle(prompts)
        self._prompts = itertools.cycle(prompts)

    def ask(self) -> None:
        if self.every_s and self.live.made_s >= self.asked_s[-1] + self.every_s:
            self.asked_s.append(self.live.made_s)
            self.live.change(next(self._prompts))

    def latencies(self) -> dict[str, float] | None:
        """Of those that were begun with, as far back as is remembered."""
        begun = [at_s for at_s, _ in self.live.played]
        pairs = list(zip(self.asked_s[1:], begun[1:], strict=False)) if len(begun) < 1000 else []
        found = [at_s - asked_s for asked_s, at_s in pairs]
        return {"median": float(np.median(found)), "most": max(found), "changes": len(found)} if found else None


def minutes(live: Live, played: Played, changes: Changes, num: float) -> Iterator[Float[np.ndarray, " s"]]:
    """The last part of each minute of music."""
    rate, window, held = live.model.sample_rate_hz, list[np.ndarray](), 0
    until = ROW_S
    while until <= num * 60:
        changes.ask()
        begun = time.perf_counter()
        block = next(live)
        played.add(len(block) / rate, time.perf_counter() - begun)
        window.append(block)
        held += len(block)
        while held - len(window[0]) >= LISTENED_S * rate:
            held -= len(window.pop(0))
        if live.made_s >= until:
            until += ROW_S
            yield np.concatenate(window)


def summary(rows: list[dict[str, Any]], tempo_bpm: float | None, key: str | None, steady: bool) -> dict[str, Any]:
    """Figures of the rows so far; those that need more are None."""
    memory = np.array([row["memory_mb"] for row in rows[WARM_ROWS:]])
    found: dict[str, Any] = {"growth_mb_an_hour": slope(memory)}
    if not steady:
        return found
    pulse = np.log2(np.array([row["pulse_bpm"] or np.nan for row in rows]))
    half = len(rows) // 2
    found["pulse"] = {
        "octaves_an_hour": slope(pulse),
        "octaves_off": apart(pulse),
    }
    for name, kept in (
        ("tempo_kept", [float(same_tempo(tempo_bpm, row["tempo_bpm"])) for row in rows] if tempo_bpm else []),
        ("key_kept", [key_score(key, row["key"]) for row in rows] if key else []),
    ):
        if kept and half:
            found[name] = {"first_half": float(np.mean(kept[:half])), "last_half": float(np.mean(kept[half:]))}
    return found


def slope(values: Float[np.ndarray, " n"]) -> float | None:
    """An hour, of values a minute apart: the median over all pairs, so that a few that are off do nothing."""
    values = np.asarray(values, float)
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in itertools.combinations(enumerate(values), 2)]
    slopes = [one for one in slopes if np.isfinite(one)]
    return 60 * float(np.median(slopes)) if slopes else None


def apart(values: Float[np.ndarray, " n"]) -> float | None:
    """Mean distance of the last values from the median of the first."""
    if len(values) < 2 * FIRST_ROWS:
        return None
    off = np.abs(values[-FIRST_ROWS:] - np.nanmedian(values[:FIRST_ROWS]))
    return float(np.nanmean(off)) if np.isfinite(off).any() else None


def memory_mb() -> float:
    """Of this process now, where the system says so; else at its most."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
