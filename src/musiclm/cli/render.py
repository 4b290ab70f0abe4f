"""`musiclm corpus render` and `melodies`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from musiclm.cli.options import grouped
from musiclm.core.interrupt import Interrupted


@dataclass(frozen=True, kw_only=True)
class PieceOptions:
    """Which pieces are made."""

    panel: ClassVar[str] = "Which pieces"

    sources: Annotated[
        Path | None,
        typer.Option(
            help="Folder with tunes, songs and drum grooves (Nottingham, POP909, Groove MIDI) as files or .tar.xz."
        ),
    ] = None
    works: Annotated[
        float,
        typer.Option(
            help="Share of the pieces that are finished ones from --sources (MIDI, MusicXML, Doom WADs), played as "
            "written, each in one soundfont after another; 1: nothing else.",
            min=0.0,
            max=1.0,
        ),
    ] = 0.0
    bands: Annotated[
        float,
        typer.Option(
            help="Share of the pieces played in grooves of Musical MIDI Accompaniment (Debian's mma): bossa nova, "
            "swing, salsa, country, rhythm and blues ...",
            min=0.0,
            max=1.0,
        ),
    ] = 0.0
    mma: Annotated[
        Path | None, typer.Option(help="Folder with the program mma, if it is not installed: the package, unpacked.")
    ] = None
    style: Annotated[list[str] | None, typer.Option(help="Only this style; may be given again.")] = None


@dataclass(frozen=True, kw_only=True)
class SoundOptions:
    """What pieces are rendered with."""

    panel: ClassVar[str] = "Sounds"

    soundfonts: Annotated[Path | None, typer.Option(help="Folder of soundfonts, searched before the system's own.")] = (
        None
    )
    drum_kits: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of drum kits (Hydrogen's, or soundfonts like avldrums.lv2), searched before the system's; "
            "may be given again."
        ),
    ] = None


@grouped
def render(
    hours: Annotated[float, typer.Option(help="How much music; the last piece may pass it.")],
    out: Annotated[Path, typer.Option(help="Folder of the corpus; an unfinished run in it goes on.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same pieces.", min=0)] = 0,
    jobs: Annotated[int | None, typer.Option(help="Processes that render; all cores by default.", min=1)] = None,
    *,
    music: PieceOptions,
    sounds: SoundOptions,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Arrange and render music of many styles, with its scores and captions.

    May be stopped and started again at any time.
    """
    import os

    from musiclm.arrange.corpus.build import render_corpus
    from musiclm.arrange.render.drumkits import KIT_FOLDERS
    from musiclm.arrange.render.soundfonts import FOLDERS

    try:
        report = render_corpus(
            hours,
            seed,
            out,
            jobs=jobs or os.cpu_count() or 1,
            sources=music.sources,
            styles=music.style or (),
            soundfont_folders=(sounds.soundfonts, *FOLDERS) if sounds.soundfonts else FOLDERS,
            progress=progress,
            works=music.works,
            bands=music.bands,
            mma=music.mma,
            drum_kit_folders=(*(sounds.drum_kits or ()), *KIT_FOLDERS),
        )
    except KeyboardInterrupt:
        raise Interrupted(f"the same command goes on where this one was ({out})") from None
    skipped = f", {report.skipped_sources} files of --sources skipped" if report.skipped_sources else ""
    typer.echo(
        f"{report.hours:.2f} h in {report.num_tracks} pieces, {report.num_rendered} rendered now"
        f" at {report.times_real_time:.0f} x real time{skipped}; corpus in {out}"
    )


def melodies(
    out: Annotated[Path, typer.Option(help="Folder of the melodies; an unfinished run in it goes on.")],
    num: Annotated[int, typer.Option(help="How many melodies; more add to those that are there.", min=1)] = 300,
    renditions: Annotated[
        int, typer.Option(help="Of each melody; every third is hummed, sung or whistled.", min=2)
    ] = 6,
    seed: Annotated[int, typer.Option(help="The same seed gives the same melodies.", min=0)] = 0,
    jobs: Annotated[int | None, typer.Option(help="Processes that render; all cores by default.", min=1)] = None,
    soundfonts: Annotated[
        Path | None, typer.Option(help="Folder of soundfonts, searched before the system's own.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Render melodies, each in several sounds, octaves, tempi and accompaniments: what `train melody` learns from."""
    import os

    from musiclm.arrange.corpus.melodies import render_melodies
    from musiclm.arrange.render.soundfonts import FOLDERS

    folders = (soundfonts, *FOLDERS) if soundfonts else FOLDERS
    try:
        made = render_melodies(num, seed, out, renditions, jobs or os.cpu_count() or 1, folders, progress)
    except KeyboardInterrupt:
        raise Interrupted(f"the same command goes on where this one was ({out})") from None
    hours = sum(one.seconds for one in made) / 3600
    typer.echo(f"{len({one.melody for one in made})} melodies in {len(made)} renditions, {hours:.2f} h; in {out}")
