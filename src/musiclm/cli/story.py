"""`musiclm story`: music that follows prompts by time, from a file."""

from pathlib import Path
from typing import Annotated

import typer

from musiclm.cli.music import (
    Acoustic,
    Beat,
    Blend,
    Place,
    Raw,
    Saving,
    Seed,
    Target,
    Tune,
    Wishes,
    check_length,
    check_melody,
    check_pipe,
    followed,
    free_paths,
    make,
    open_model,
    output_option,
    piped,
    tell_understood,
)
from musiclm.cli.options import checked_by, grouped

LAST_S = 30.0  # of the last section, where no duration is given


@grouped
def story(
    file: Annotated[
        Path,
        typer.Argument(help="A section a line: 0:30 heavy metal with drums. There may be tempo=150 and key=Am in it."),
    ],
    duration: Annotated[
        float | None,
        typer.Option(
            help="Seconds, 0.5 to 600; by default 30 from the beginning of the last section.",
            callback=checked_by(check_length),
        ),
    ] = None,
    blend: Blend = 0.0,
    seed: Seed = 0,
    melody: Tune = None,
    *,
    wishes: Wishes,
    beat: Beat = None,
    acoustic: Acoustic = None,
    output: output_option(  # type: ignore[valid-type]
        "wav, flac, ogg, opus or mp3, or - for a pipe. By default FILE.wav, if none is there."
    ) = None,
    raw: Raw = False,
    saving: Saving,
    place: Place,
) -> None:
    """Make music that follows prompts by time."""
    from musiclm.generate.checks import MAX_DURATION_S
    from musiclm.generate.story import load_story

    story = load_story(file, blend)
    duration = duration or min(story.sections[-1].at_s + LAST_S, MAX_DURATION_S)
    story.check_duration(duration)
    check_pipe(output, raw, take=saving.take)
    (path,) = free_paths(output, 1, saving.take, file.with_suffix(".wav"), [file, *check_melody(melody)])
    with piped(output) as out:
        loaded, config = open_model(place, story, wishes.settings(acoustic, beat))
        tell_understood(loaded, config, story)
        tune = followed(loaded, melody, duration)
        make(loaded, story, duration, seed, config, Target(path, saving, out, raw), melody=tune)
