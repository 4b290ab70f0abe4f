"""`musiclm corpus build`, `show` and `merge`."""

from pathlib import Path
from typing import Annotated

import typer

from musiclm.core.interrupt import Interrupted

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
    from rich.console import Console

    from musiclm.data.corpus.build import build_corpus
    from musiclm.data.corpus.show import describe_corpus

    try:
        report = build_corpus(sources, out, jobs=jobs, cache=cache, progress=progress)
    except KeyboardInterrupt:
        raise Interrupted(f"the same command goes on where this one was ({out})") from None
    Console().print(describe_corpus(out))
    typer.echo(f"{report.num_decoded} originals decoded in {report.elapsed_s:.0f} s; corpus in {out}")


@app.command()
def show(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus.")]) -> None:
    """Print hours, licences and splits of a corpus."""
    from rich.console import Console

    from musiclm.data.corpus.show import describe_corpus

    Console().print(describe_corpus(folder))


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Two corpora or more.")],
    out: Annotated[Path, typer.Option(help="Folder of the corpus that holds them all; audio is linked, not copied.")],
) -> None:
    """Put corpora together, with their labels, captions and licences, to train on all of them."""
    from musiclm.data.corpus.merge import merge_corpora

    tracks = merge_corpora(folders, out)
    typer.echo(f"{len(tracks)} tracks, {sum(track.seconds for track in tracks) / 3600:.2f} h; corpus in {out}")
