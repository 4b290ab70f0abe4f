"""Disturbs every command again and again, and says how it went: `python -m tests.faults --count 100 --seed 0`.

A table goes to standard output, all of it as JSON to `--out`; the exit code is 1 if anything was lost.
"""

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from musiclm.core.artifact import git_revision
from musiclm.core.output import write_atomic
from tests.faults.harness import COMMANDS, PRELOAD, READERS, TRAININGS, Harness, Outcome, kind_of, table
from tests.forked import Server

NAMES = ("command", "fault", "trials", "kills", "same", "one line", "untouched", "bad")


def kills(harness: Harness, command: str, count: int) -> None:
    """At least so many, by turns before a file event and at a random time."""
    done = trials = 0
    while done < count and trials < 4 * count:
        moments = harness.draw_moments(command, aimed=trials % 2 == 0)[: count - done]
        done += harness.kill(command, moments).kills
        trials += 1


def shares(seconds: dict[str, float], count: int) -> dict[str, int]:
    """`count` kills shared out: what takes four times as long gets half as many, but a third of an even share."""
    weights = {command: one**-0.5 for command, one in seconds.items()}
    least = -(-count // (3 * len(seconds)))
    return {name: max(least, -int(-count * one // sum(weights.values()))) for name, one in weights.items()}


def others(harness: Harness, command: str, torn: int, chosen: list[str]) -> list[str]:
    """Every other fault; why some were left out."""
    skipped = []
    harness.full_disk_by_limit(command)
    if harness.full_disk(command) is None:
        skipped.append("no file system could be mounted (that takes root): full disks are limits of file sizes alone")
    harness.jumping_clock(command)
    if command in TRAININGS:
        harness.not_a_number(command, harness.random.choice(("loss", "gradient")))
    made = harness.reference(command)
    before = {path.relative_to(made.before).as_posix() for path in made.before.rglob("*")}
    new = [name for name in made.files if name not in before and (made.after / name).stat().st_size]
    # an evaluation takes longer than all the rest
    readers = [reader for reader in (*READERS.get(command, ()), command) if reader != "evaluate" or reader in chosen]
    by_kind: dict[str, list[str]] = {}
    for name in new:
        by_kind.setdefault(kind_of(name), []).append(name)
    kinds = sorted(by_kind)
    for kind in harness.random.sample(kinds, min(torn, len(kinds))):
        reader = harness.random.choice(readers)
        harness.reference(reader)
        harness.torn(command, reader, harness.random.choice(by_kind[kind]))
    return skipped


def record(path: Path, command: str, outcomes: list[Outcome], seed: int) -> None:
    """Puts a command's outcomes into the JSON file, in place of earlier ones of it."""
    report = json.loads(path.read_text()) if path.exists() else {"commands": {}}
    report["commands"][command] = {
        "git_revision": git_revision(),
        "seed": seed,
        "rows": table(outcomes),
        "bad": [vars(one) for one in outcomes if not one.good],
        # wherever the folder of a trial was made
        "lines": sorted(
            {re.sub(r"/\S*/trial/", "FOLDER/trial/", one.told) for one in outcomes if one.result == "one line"}
        ),
    }
    rows = [row for one in report["commands"].values() for row in one["rows"]]
    report["total"] = {name: sum(row[name] for row in rows) for name in NAMES[2:]}
    write_atomic(path, json.dumps(report, indent=1) + "\n")


def show(outcomes: list[Outcome]) -> str:
    rows = [NAMES, *(tuple(str(row[name]) for name in NAMES) for row in table(outcomes))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(NAMES))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="kills in all, shared out over the commands")
    parser.add_argument("--torn", type=int, default=2, help="torn files of each command's results")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=COMMANDS, help="this command alone (repeatable)")
    parser.add_argument("--out", type=Path, help="JSON file; commands that are not tried keep what it says of them")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    chosen, started = options.only or list(COMMANDS), time.monotonic()
    skipped: set[str] = set()
    with tempfile.TemporaryDirectory() as folder, Server(*PRELOAD) as server:
        say = lambda text: print(f"{time.monotonic() - started:7.0f} s  {text}", file=sys.stderr, flush=True)  # noqa: E731
        harness = Harness(server, Path(folder), random.Random(options.seed), say=say)
        share = shares({command: harness.reference(command).seconds for command in chosen}, options.count)
        for command in chosen:
            before = len(harness.outcomes)
            harness.undisturbed(command)
            kills(harness, command, share[command])
            skipped.update(others(harness, command, options.torn, chosen))
            own = harness.outcomes[before:]
            say(f"{command}: done; {sum(one.kills for one in own)} kills, {sum(not one.good for one in own)} bad")
            if options.out:
                record(options.out, command, own, options.seed)
    print(show(harness.outcomes))
    for reason in sorted(skipped):
        print(f"left out: {reason}")
    return int(any(not one.good for one in harness.outcomes))


if __name__ == "__main__":
    sys.exit(main())
