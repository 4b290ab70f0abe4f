"""`musiclm corpus build`, `show`, `merge`, `render`, `melodies`, `captions`, `audit` and `page`."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from musiclm.cli.options import Address, EngineName, Jobs
from musiclm.cli.render import melodies, render
from musiclm.core.interrupt import Interrupted

app = typer.Typer(help="Make a corpus from recordings, and look at one.", no_args_is_help=True)


@app.command()
def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders of audio or of WebDataset shards (.tar), at any depth; URLs of such (s3://bucket/music); or "
            "the named source debian-games.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the corpus; an unfinished build in it goes on.")],
    jobs: Jobs = None,
    engine: EngineName = "local",
    address: Address = None,
    cache: Annotated[Path | None, typer.Option(help="Where downloaded packages are kept.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Decode, trim, deduplicate and split music into a corpus. May be stopped and started again at any time."""
    from rich.console import Console

    from musiclm.core.engines import open_engine
    from musiclm.data.corpus.build import build_corpus
    from musiclm.data.corpus.show import describe_corpus

    try:
        with open_engine(engine, jobs, address) or contextlib.nullcontext() as chosen:
            report = build_corpus(sources, out, cache=cache, progress=progress, engine=chosen)
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


app.command()(render)
app.command()(melodies)


@app.command()
def captions(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A rendered corpus.")]) -> None:
    """Write the captions of a rendered corpus again from its scores."""
    from musiclm.arrange.corpus.describe import write_captions
    from musiclm.data.corpus.build import locked
    from musiclm.data.corpus.manifest import load_manifest

    load_manifest(folder)  # refuses a folder that is no corpus before a lock is made in it
    with locked(folder, "corpus"):
        write_captions(folder)


def _files_of(folder: Path, *more: Path | None) -> list[Path]:
    """The files of a corpus that lie in its folder itself, and others that a command reads."""
    here = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return [*here, *(path for path in more if path is not None)]


@app.command()
def audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus with captions.")],
    out: Annotated[Path, typer.Option(help="Write the report there, JSON.")],
    clips: Annotated[int, typer.Option(min=10, help="So many clips are measured.")] = 500,
    reference: Annotated[
        Path | None, typer.Option(help="CSV with a column 'caption': captions that people wrote.")
    ] = None,
) -> None:
    """Measure tempo, key, tags and wording of a captioned corpus with tools that do not know its scores."""
    from musiclm.core.artifact import write_atomic
    from musiclm.core.output import check_output
    from musiclm.evaluate.audit import audit as measure

    check_output(out, inputs=_files_of(folder, reference), option="another --out")
    report = measure(folder, clips, reference, say=lambda text: print(text, file=sys.stderr))
    write_atomic(out, json.dumps(report, indent=1))
    agreement = report["agreement"]
    for name in ("tempo", "key", "mean_auc"):
        if agreement[name]:
            print(f"{name:9} {agreement[name]['value']:.3f}, shuffled {agreement[f'{name}_shuffled']:.3f}")
    print(out)


@app.command()
def page(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A rendered corpus.")],
    out: Annotated[Path, typer.Option(help="The HTML file.")],
    num: Annotated[int, typer.Option(min=1, help="Clips on it.")] = 40,
) -> None:
    """Make a page to listen to a rendered corpus: players, spectrograms, piano rolls, captions."""
    from musiclm.core.output import check_output
    from musiclm.evaluate.page import write_page

    check_output(out, inputs=_files_of(folder), option="another --out")
    print(write_page(folder, out, num))
