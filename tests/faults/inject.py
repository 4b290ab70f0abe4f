"""Faults inside a command, put into its process before it begins (`tests.forked`)."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from musiclm.core.output import PART_SUFFIX

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate")


def file_events(*, log: str = "", kill_at: int = 0) -> None:
    """Counts what the process does to files below its folder: opening one to write, renaming, removing and the like.

    kill_at: SIGKILL comes just before that event, from 1. log: a file that gets a line an event.
    """
    root, count = os.path.join(os.getcwd(), ""), 0
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else -1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, str | bytes | os.PathLike):
                return
            name = os.fsdecode(path)
            # a file in the making is opened once more to be flushed to the disk
            if not (set(mode or "") & set("wax+") or flags & WRITES or name.endswith(PART_SUFFIX)):
                return
        elif event in CHANGES:
            name = os.fsdecode(arguments[0])
        else:
            return
        if not os.path.abspath(name).startswith(root):
            return
        count += 1
        if out >= 0:
            os.write(out, f"{event} {name}\n".encode())
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    import sys

    sys.addaudithook(hook)


def not_a_number(*, step: int, of: str) -> None:
    """At one step of a training the loss is NaN, or its gradient while it is finite itself."""
    import musiclm.train.loop as loop

    plain = loop.check_loss

    def check(run: Any, update: Any) -> None:
        if run.step == step:
            # the square root of 0: its slope is infinite, and infinity times 0 is no number
            update.loss = update.loss * float("nan") if of == "loss" else update.loss + (0 * update.loss).sqrt()
        plain(run, update)

    loop.check_loss = check


def killed_after(*, units: int, children: str) -> None:
    """SIGKILL when the driver of `label` or `tokenize` has done so many units; `children` then lists those below it."""
    import musiclm.data.labels as labels
    import musiclm.data.tokenize as tokenize
    from tests import forked

    plain = labels.run_in_order

    def run_in_order(*arguments: Any) -> Iterator[Any]:
        for number, result in enumerate(plain(*arguments)):
            if number == units:  # what came before is written: it was asked for the next
                Path(children).write_text("\n".join(map(str, forked.children(os.getpid()))))
                os.kill(os.getpid(), signal.SIGKILL)
            yield result

    labels.run_in_order = tokenize.run_in_order = run_in_order  # type: ignore[attr-defined]


def jumping_clock(*, seed: int) -> None:
    """Every look at the clock on the wall finds it decades before or after."""
    draw, plain = random.Random(seed), time.time

    def jumped() -> float:
        return plain() + draw.uniform(-1e9, 1e9)

    time.time = jumped
    time.time_ns = lambda: int(jumped() * 1e9)


def small_evaluation() -> None:
    """No fault: `evaluate --quick` measures a handful of clips, with a judge that needs no weights, in those sections
    that take no minutes."""
    import musiclm.evaluate.analyses as analyses
    import musiclm.evaluate.sections.probes as probes
    from musiclm.evaluate.config import EvaluateConfig
    from musiclm.evaluate.sections import SECTIONS
    from tests.evaluate.test_run import make

    config = EvaluateConfig(
        num_prompts=3, num_real=4, num_seed_prompts=1, seeds_per_prompt=1, num_long=1, num_codec=1,
        num_memorisation=1, num_training=3, num_probe=3, clip_s=3.0, long_s=4.0, probe_s=2.0,
    )  # fmt: skip
    for name in SECTIONS.keys() - {"quality", "health", "diversity", "adherence", "semantic"}:
        del SECTIONS[name]
    EvaluateConfig.quick = classmethod(lambda cls: config)  # type: ignore[method-assign,assignment]
    analyses.make_analyser = probes.make_analyser = make  # type: ignore[attr-defined]


def no_tagger() -> None:
    """No fault: labels without tags, whose tagger takes longer than all the rest."""
    from musiclm.listen.tagger import Tagger

    def load(*_: Any) -> None:
        raise ValueError("left out here")

    Tagger.load = load  # type: ignore[method-assign,assignment]


FAULTS: dict[str, Callable[..., None]] = {
    one.__name__: one for one in (file_events, not_a_number, killed_after, jumping_clock, small_evaluation, no_tagger)
}


def inject(faults: list[dict[str, Any]]) -> None:
    for fault in faults:
        FAULTS[fault["kind"]](**{name: value for name, value in fault.items() if name != "kind"})


def set_times(folder: Path, seed: int) -> None:
    """What a clock that jumped leaves: files from the past and from the future, in no order."""
    draw = random.Random(seed)
    for path in sorted(folder.rglob("*")):
        moment = draw.uniform(0, 4e9)
        os.utime(path, (moment, moment))
