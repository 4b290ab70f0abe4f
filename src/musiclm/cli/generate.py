"""`musiclm generate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from musiclm.cli.music import (
    Acoustic,
    Beat,
    Blend,
    Duration,
    Place,
    Raw,
    Saving,
    Seed,
    Target,
    Tune,
    Wishes,
    check_first_seed,
    check_melody,
    check_pipe,
    followed,
    free_paths,
    make,
    make_several,
    open_model,
    output_option,
    piped,
    setting,
    tell_understood,
)
from musiclm.cli.options import checked, checked_by, grouped

if TYPE_CHECKING:
    from musiclm.generate.story import Story

MOST_PIECES = 10_000  # of one command


@dataclass(frozen=True, kw_only=True)
class AllWishes(Wishes):
    """How codes are drawn, stage by stage."""

    coarse_temperature: Annotated[
        float | None,
        typer.Option(
            help="Of the coarse stage (--acoustic ar); 0.95 by default.", callback=setting("coarse.temperature")
        ),
    ] = None
    fine_temperature: Annotated[
        float | None,
        typer.Option(help="Of the fine stage (--acoustic ar); 0.4 by default.", callback=setting("fine.temperature")),
    ] = None
    storm_temperature: Annotated[
        float | None, typer.Option(help="Of SoundStorm (--acoustic storm).", callback=setting("storm.temperature"))
    ] = None
    top_k: Annotated[
        int | None,
        typer.Option(help="Of the semantic stage: draw from the k likeliest.", callback=setting("semantic.top_k")),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(help="Of the semantic stage: draw from this probability.", callback=setting("semantic.top_p")),
    ] = None

    def settings(self, acoustic: str | None = None, beat: float | None = None) -> dict[str, Any]:
        return super().settings(acoustic, beat) | {"semantic.top_k": self.top_k, "semantic.top_p": self.top_p}


class GenerateCommand(TyperCommand):
    """Takes `--at TIME PROMPT`: an option of two words that may be given again, which typer has no type for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, joined(args))


def joined(words: Sequence[str]) -> list[str]:
    """Command line words with the two words after each `--at` made one, such as "0:30 heavy metal"."""
    left, found = list(words), []
    while left:
        word = left.pop(0)
        found.append(word)
        if word == "--":
            return found + left
        if word == "--at" and len(left) > 1 and " " not in left[0] and not left[1].startswith("-"):
            found.append(f"{left.pop(0)} {left.pop(0)}")
    return found


def _check_changes(lines: list[str]) -> None:
    from musiclm.generate.story import StorySection

    for line in lines:
        StorySection.parse(line)


def _check_num(num: int) -> None:
    if num > MOST_PIECES:
        raise ValueError(f"{num} pieces; there may be 1 to {MOST_PIECES}")


@grouped
def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What the music is like, in English; none: whatever the models make.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TIME PROMPT",
            help="Another prompt from a time on, such as --at 0:30 'heavy metal with drums'; may be given again.",
            callback=checked_by(_check_changes),
        ),
    ] = None,
    blend: Blend = 0.0,
    duration: Duration = 10.0,
    seed: Seed = 0,
    num: Annotated[
        int, typer.Option(help="How many; item i has the seed SEED + i.", min=1, callback=checked_by(_check_num))
    ] = 1,
    melody: Tune = None,
    *,
    wishes: AllWishes,
    beat: Beat = None,
    acoustic: Acoustic = None,
    output: output_option(  # type: ignore[valid-type]
        "wav, flac, ogg, opus or mp3; several are numbered. - sends WAV to standard output. "
        "By default music.wav, if none is there."
    ) = None,
    raw: Raw = False,
    saving: Saving,
    place: Place,
) -> None:
    """Make music from a sentence, or from none."""
    from musiclm.generate.makers import New

    wanted = _prompt_or_story(prompt, at or [], blend, duration, wishes.guidance)
    checked_by(check_first_seed)(seed + num - 1)
    check_pipe(output, raw, num, saving.take)
    paths = free_paths(output, num, saving.take, inputs=check_melody(melody))
    with piped(output) as out:
        temperatures = (wishes.coarse_temperature, wishes.fine_temperature, wishes.storm_temperature)
        loaded, config = open_model(place, wanted, wishes.settings(acoustic, beat), *temperatures)
        tell_understood(loaded, config, wanted)
        tune = followed(loaded, melody, duration)
        if len(paths) == 1:
            make(loaded, wanted, duration, seed, config, Target(paths[0], saving, out, raw), melody=tune)
        else:
            pieces = [New(wanted, duration, seed + index, config, tune) for index in range(num)]
            make_several(loaded, pieces, paths, saving)


def _prompt_or_story(
    prompt: str | None, changes: list[str], blend_s: float, duration_s: float, guidance: float | None
) -> "str | Story | None":
    """The prompt, or with `--at` the story. Raises: BadParameter for what does not fit the others."""
    from musiclm.generate.checks import check_prompt
    from musiclm.generate.story import of_prompts

    if prompt is not None:
        prompt = check_prompt(prompt)
    elif guidance is not None:
        raise typer.BadParameter("--guidance does nothing without a prompt")
    if not changes:
        if blend_s:
            raise typer.BadParameter("--blend does nothing without --at")
        return prompt
    if prompt is None:
        raise typer.BadParameter("--at needs a prompt to begin with")
    story = checked(of_prompts, prompt, changes, blend_s)
    checked(story.check_duration, duration_s)
    return story
