"""`musiclm corpus build` and `musiclm corpus show`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from musiclm.corpus.build import build_corpus
from musiclm.corpus.manifest import CorpusError
from musiclm.corpus.show import describe_corpus

app = typer.Typer(help="Make a corpus from recordings, and look at one.", no_args_is_help=True)


@app.command()
def build(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Folders of audio (any depth), or the named source debian-games."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the corpus; an unfinished build in it goes on.")],
    jobs: Annotated[int, typer.Option(help="Processes that decode.", min=1)] = 2,
    cache: Annotated[Path | None, typer.Option(help="Where downloaded packages are kept.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Decode, trim, deduplicate and split music into a corpus. May be stopped and started again at any time."""
    try:
        report = build_corpus(sources, out, jobs=jobs, cache=cache, progress=progress)
        Console().print(describe_corpus(out))
    except CorpusError as error:
        raise _fail(error) from error
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command goes on where this one was ({out})", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{report.num_decoded} originals decoded in {report.elapsed_s:.0f} s; corpus in {out}")


@app.command()
def show(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus.")]) -> None:
    """Print hours, licences and splits of a corpus."""
    try:
        Console().print(describe_corpus(folder))
    except CorpusError as error:
        raise _fail(error) from error


def _fail(error: Exception) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(1)
