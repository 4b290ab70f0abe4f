"""Options that several commands have, and what they set."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Model = Annotated[str, typer.Option(help="A bundle: a shipped name, a folder, or a Hugging Face id.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores by default.", min=1)]
DataDir = Annotated[Path, typer.Option(help="A corpus (musiclm corpus build).")]
RunsDir = Annotated[Path, typer.Option(help="Where runs, tokens and the bundle lie.")]


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
