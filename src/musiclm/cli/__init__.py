"""`musiclm`: a thin command line over the package. Heavy modules are imported by the command that needs them."""

import contextlib
import errno
import io
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from musiclm import __version__
from musiclm.cli import (
    bench,
    codec,
    corpus,
    edit,
    encoder,
    evaluate,
    generate,
    inspect,
    plan,
    play,
    push,
    serve,
    story,
    take,
    train,
)
from musiclm.core.interrupt import Interrupted
from musiclm.core.threads import wait_briefly

app = typer.Typer(
    help="Music from text, and the training of every part of it.", no_args_is_help=True, pretty_exceptions_enable=False
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, a quota, a file system's largest file
COMMANDS: tuple[Callable[..., None], ...] = (
    *(story.story, play.play, take.render, edit.repaint, edit.vary, edit.loop),
    *(train.train, plan.plan, train.label, train.tokenize, train.bundle, push.push),
    *(evaluate.evaluate, evaluate.match, bench.bench, inspect.inspect, serve.serve),
)
app.command(cls=generate.GenerateCommand)(generate.generate)
for command in COMMANDS:
    app.command()(command)
app.command("continue")(take.continue_)
app.add_typer(corpus.app, name="corpus")
app.add_typer(codec.app, name="codec")
app.add_typer(encoder.app, name="encoder")


def main() -> None:
    """Runs the command line.

    It ends with 0, with 1 for an error, 2 for wrong usage, 130 for Ctrl-C, 143 for SIGTERM; all but 0 say why in a
    line.
    """
    wait_briefly()
    warnings.showwarning = lambda message, *_: None if _one_of_many() else _say(f"note: {message}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names of files go out as the bytes they are
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    code = _run()
    if code:
        sys.exit(code)


def _terminated(number: int, _: Any) -> None:
    raise Interrupted("terminated", number)


def _one_of_many() -> bool:
    """Whether this is one of several processes that train together, and not the first."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK", "0") != "0"


def _say_once(text: str) -> None:
    """`_say` why the command ends; of several processes that train together, one does."""
    processes = sys.modules.get("musiclm.train.processes")
    if processes.has_the_word() if processes else not _one_of_many():
        _say(text)


def _run() -> int:
    """The exit code of the command that `sys.argv` names."""
    try:
        # typer returns the code of an Exit, and from 0.16 on 130 for Ctrl-C; before that it raises Abort
        code = app(prog_name="musiclm", standalone_mode=False)
        sys.stdout.flush()
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Interrupted as stop:
        _say_once(f"stopped: {stop}")
        return stop.exit_code
    except BrokenPipeError:  # who reads our output has left: `musiclm inspect base | head`
        _close_stdout()
        return 1
    except Exception as error:
        return _complain(error)
    if code == 130:
        _say("stopped")
    return code if isinstance(code, int) else 0


def _complain(error: Exception) -> int:
    """Says in one line what was wrong; the exit code. What no user can cause is raised on: its traceback is wanted."""
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # wrong usage; typer brings a click of its own
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
            print(context.get_help() or "")  # typer prints it itself where it has rich
        else:
            where = "" if context is None else f" (see {context.command_path} --help)"
            _say_once(f"error: {error.format_message()}{where}")
        return int(error.exit_code)
    # a failed training exists only where the loop was imported, which takes a second
    training_error = getattr(sys.modules.get("musiclm.train.loop"), "TrainingError", ImportError)
    if isinstance(error, MemoryError):
        _say_once("error: there is not enough memory; ask for less at once, or choose smaller models")
    elif isinstance(error, ValueError | OSError | training_error | ImportError):
        line, full = _line_of(error)
        _say_once(f"error: {line}{'; make room, and the same command goes on' if full else ''}")
        if isinstance(error, OSError):
            _close_stdout()
    else:
        raise error
    return 1


def _line_of(error: Exception) -> tuple[str, bool]:
    """What an error says, and whether a disk is full."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # of a folder: (from, to, why) by file
        _, _, why = error.args[0][0]
        return str(why), any(f"[Errno {number}]" in str(why) for number in FULL)
    return str(error), isinstance(error, OSError) and error.errno in FULL


def _say(text: str) -> None:
    """One line on standard error, which may be closed, full or unable to write all letters."""
    text, encoding = " ".join(text.split()), sys.stderr.encoding or "utf-8"
    try:
        line = text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        line = text.encode(encoding, "backslashreplace")
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        sys.stderr.buffer.write(line + b"\n")
        sys.stderr.flush()


def _close_stdout() -> None:
    """Lets go of an output that takes nothing any more: Python would complain of it once more at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(show: bool) -> bool:
    if show:
        print(__version__)
        raise typer.Exit()
    return show


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass
