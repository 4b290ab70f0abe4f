"""`musiclm play`: music without an end on the speakers, or into a pipe; a line that is typed is the next prompt."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from musiclm.cli.music import (
    Beat,
    Blend,
    Place,
    Raw,
    Seed,
    Tune,
    Wishes,
    check_melody,
    check_pipe,
    followed,
    open_model,
    output_option,
    piped,
    tell_understood,
)
from musiclm.cli.options import checked_by, grouped

if TYPE_CHECKING:
    from musiclm.core.speakers import Pipe, Speakers
    from musiclm.generate.live import Live

LONGEST_LINE = 1 << 16


def _check_ahead(ahead_s: float) -> None:
    if not 0 <= ahead_s <= 5:
        raise ValueError(f"{ahead_s} s ahead; it must lie between 0 and 5")


def _check_length(duration_s: float) -> None:
    if not 0.5 <= duration_s < float("inf"):
        raise ValueError(f"the duration is {duration_s} s; it must be 0.5 s or more")


@grouped
def play(
    prompt: Annotated[
        str | None, typer.Argument(help="What the music is like at first; none: whatever the models make.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(help="Seconds; by default without an end.", callback=checked_by(_check_length))
    ] = None,
    blend: Blend = 0.0,
    ahead: Annotated[
        float,
        typer.Option(
            help="Seconds of sound kept ready: more for a busy machine, less for prompts that are heard sooner.",
            callback=checked_by(_check_ahead),
        ),
    ] = 0.4,
    seed: Seed = 0,
    melody: Tune = None,
    *,
    wishes: Wishes,
    beat: Beat = None,
    output: output_option("- sends WAV to standard output, as for `| ffplay -`.") = None,  # type: ignore[valid-type]
    raw: Raw = False,
    place: Place,
) -> None:
    """Play music without an end. A line typed meanwhile is the next prompt; Ctrl-D or Ctrl-C ends it."""
    from musiclm.core.audio import SAMPLE_RATE_HZ
    from musiclm.core.speakers import Pipe, Speakers
    from musiclm.generate.checks import check_prompt

    if prompt is not None:
        prompt = check_prompt(prompt)
    check_pipe(output, raw)
    if output is not None and str(output) != "-":
        raise typer.BadParameter(f"-o {output}: play writes to - only; `musiclm generate` makes files")
    check_melody(melody)
    with piped(output) as out:
        speakers = Speakers(SAMPLE_RATE_HZ, ahead) if out is None else None  # what is missing is said at once
        loaded, config = open_model(place, prompt, wishes.settings(beat=beat))
        tune = followed(loaded, melody, float("inf") if duration is None else duration)
        live = loaded.live(prompt, seed, config, melody=tune)
        tell_understood(loaded, config, prompt)
        print("type another prompt whenever you like; Ctrl-D or Ctrl-C ends")
        if speakers is not None:
            with speakers:
                line = _play(live, speakers, duration, blend)
            if speakers.underruns:
                line += f", {speakers.missing_samples / SAMPLE_RATE_HZ:.2f} s of silence; try a larger --ahead"
        else:
            assert out is not None
            line = _play(live, Pipe(out, loaded.sample_rate_hz, raw), duration, blend)
        print(line)


def _play(live: "Live", sink: "Speakers | Pipe", duration_s: float | None, blend_s: float) -> str:
    """Music into a sink until it is to end; a line about it."""
    ended = threading.Event()
    threading.Thread(target=_change, args=(live, blend_s, ended), daemon=True).start()
    rate, sent, working_s = live.model.sample_rate_hz, 0, 0.0
    stop = float("inf") if duration_s is None else round(duration_s * rate)
    try:
        while not ended.is_set() and sent < stop:
            started = time.perf_counter()
            block = next(live)
            working_s += time.perf_counter() - started
            block = block if sent + len(block) <= stop else block[: int(stop) - sent]
            sink.write(block)
            sent += len(block)
        if not ended.is_set() and hasattr(sink, "drain"):
            sink.drain()
    except KeyboardInterrupt:
        pass
    underruns = f", {sink.underruns} underruns" if hasattr(sink, "underruns") else ""
    made_s = max(live.made_s, 1e-9)
    return f"played {sent / rate:.1f} s of music (real-time factor {working_s / made_s:.2f}){underruns}"


def _change(live: "Live", blend_s: float, ended: threading.Event) -> None:
    """Makes prompts of the lines of standard input; its end, at a terminal, is the end of the music."""
    try:
        handle = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # there is none
        return
    for line in typed_lines(handle):
        try:
            live.change(line, blend_s)
            print(f"understood: {live.model.understood(live.config.steer, line)}")
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
    if os.isatty(handle):
        ended.set()


def typed_lines(handle: int) -> Iterator[str]:
    """Lines that come in, without those that are blank.

    They are read below Python's own files, whose locks a thread that still waits would hold at the end of the program.
    """
    pending = b""
    while data := os.read(handle, 1 << 12):
        *lines, pending = (pending + data).split(b"\n")
        lines += [pending] if len(pending) > LONGEST_LINE else []
        pending = b"" if len(pending) > LONGEST_LINE else pending
        for line in lines:
            if line.strip():
                yield line.decode("utf-8", "surrogateescape").strip()
    if pending.strip():
        yield pending.decode("utf-8", "surrogateescape").strip()
