"""Options that several commands have, how their values are checked, and what they set."""

import copy
import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
MOST_THREADS = max(256, os.cpu_count() or 1)  # with 100 000 torch ends the process


def checked(make: Callable[..., T], *values: Any) -> T:
    """What is made of values of options; a ValueError is wrong usage."""
    try:
        return make(*values)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def checked_by(check: Callable[[Any], object]) -> Callable[[Any], Any]:
    """A callback of an option, called before the command: a value that `check` refuses with ValueError is wrong
    usage."""

    def callback(value: Any) -> Any:
        if value is not None:
            checked(check, value)
        return value

    return callback


def check_threads(threads: int) -> None:
    """Raises: ValueError for more than MOST_THREADS."""
    if not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"{threads} threads; there may be 1 to {MOST_THREADS}")


Model = Annotated[
    str, typer.Option(help="A bundle: a shipped name, a folder, or a Hugging Face id, also owner/name@revision.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Threads = Annotated[
    int | None,
    typer.Option(
        help="CPU threads at most, for what is large enough to share; all cores by default.",
        min=1,
        callback=checked_by(check_threads),
    ),
]
EngineName = Annotated[
    str, typer.Option("--engine", help="Where the work is done: local, or ray, a cluster. The files are the same.")
]
Address = Annotated[
    str | None, typer.Option(help="Of the Ray cluster: HOST:PORT, auto or local; by default Ray's own choice.")
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Pieces of work at a time; all cores of the machine or the cluster by default."),
]
DataDir = Annotated[Path, typer.Option(help="A corpus (musiclm corpus build).")]
RunsDir = Annotated[Path, typer.Option(help="Where runs, tokens and the bundle lie.")]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer, made of one with groups of options: each parameter whose type is a dataclass becomes an
    option for each field, shown in the group's `panel`."""
    groups: dict[str, Any] = {}
    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if not is_dataclass(parameter.annotation):
            options.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        group: Any = parameter.annotation
        groups[name] = group
        for field in fields(group):
            kind, option = get_args(field.type)
            option = copy.copy(option)
            option.rich_help_panel = group.panel
            annotation: Any = Annotated[kind, option]
            options.append(
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation
                )
            )

    @functools.wraps(command)
    def flat(**given: Any) -> None:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**given, **made)

    flat.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    flat.__annotations__ = {option.name: option.annotation for option in options}
    return flat


def use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def progress_bar(console: Console, visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not visible or not console.is_terminal,
        transient=True,
    )
