"""`musiclm render` and `musiclm continue`: sound of a take again, and music that goes on from a take or a sound."""

from pathlib import Path
from typing import Annotated

import typer

from musiclm.cli.music import (
    Acoustic,
    Beat,
    Duration,
    Place,
    Saving,
    Seed,
    Target,
    Tune,
    Wishes,
    check_melody,
    followed,
    free_paths,
    make,
    open_model,
    output_option,
    source_of,
)
from musiclm.cli.options import Device, Model, grouped

NewOnly = Annotated[bool, typer.Option("--new-only", help="Without the given part: the sound begins at the joint.")]


def render(
    file: Annotated[Path, typer.Argument(help="A take: what `generate --take` wrote.")],
    output: output_option(  # type: ignore[valid-type]
        "wav, flac, ogg, opus or mp3. By default FILE.wav, if none is there."
    ) = None,
    model: Model = "base",
    device: Device = "cpu",
    new_only: NewOnly = False,
) -> None:
    """Turn a take into its sound again: the same bytes, by the bundle that made it, on the same machine."""
    from musiclm.core.audio import check_writable, write_blocks
    from musiclm.core.bundle import open_bundle
    from musiclm.generate.checks import check_device
    from musiclm.generate.music import tags_of
    from musiclm.generate.take import begin_at_joint, check_codec, check_current, given_sound, load_take, sound_of
    from musiclm.models.encoders import load_codec

    target = output or file.with_suffix(".wav")
    take = load_take(file)
    check_current(take)
    check_writable(target, inputs=[file], new=output is None, option="another -o")
    found = check_device(device)
    codec = load_codec(open_bundle(model).part("soundstream")).to(found).eval()
    if new_only:
        take = begin_at_joint(take)
    check_codec(take, codec)
    given_sound(take, codec, file.parent)  # whether its parent is there
    rate = codec.sample_rate_hz
    write_blocks(target, (block[None] for block in sound_of(take, codec, file.parent)), rate, tags_of(take.about))
    print(f"{target}: {take.about.sound_samples / rate:.2f} s of the take {take.id[:12]}")


@grouped
def continue_(
    file: Annotated[Path, typer.Argument(help="Any audio file, or a take (FILE.take).")],
    prompt: Annotated[
        str | None, typer.Argument(help="What the music is to be like from there; by default as it was.")
    ] = None,
    duration: Duration = 10.0,
    new_only: NewOnly = False,
    seed: Seed = 0,
    melody: Tune = None,
    *,
    wishes: Wishes,
    beat: Beat = None,
    acoustic: Acoustic = None,
    output: output_option(  # type: ignore[valid-type]
        "wav, flac, ogg, opus or mp3. By default FILE-continued.wav, if none is there."
    ) = None,
    saving: Saving,
    place: Place,
) -> None:
    """Go on with music that is there: a recording, or a take.

    The given part stays as it is up to the last whole frame of the codes, where the new music begins after a cross-fade
    of 50 ms. A melody begins there, too; without one the rest of the take's own is followed.
    """
    from musiclm.generate.checks import check_prompt

    if prompt is not None:
        prompt = check_prompt(prompt)
    parent = source_of(file)
    inputs = [file, *check_melody(melody)]
    (path,) = free_paths(output, 1, saving.take, file.with_name(f"{file.stem}-continued.wav"), inputs)
    own = parent.prompt if parent else None
    loaded, config = open_model(place, prompt or own, wishes.settings(acoustic, beat))
    tune = followed(loaded, melody, duration)
    given = loaded.given(file)
    config = loaded.about(prompt, duration, seed, config, given, new_only).config
    print(f"understood: {loaded.understood(config.steer, prompt or given.prompt or '')}")
    rate = loaded.sample_rate_hz
    print(
        f"goes on after {given.parent.joint_samples / rate:.2f} s of {file}, the last whole frame; "
        f"the models read the last {given.parent.context_samples / rate:.2f} s"
    )
    if tune is None and given.melody is not None:
        print(f"follows the rest of {given.melody.file.name}")
    target = Target(path, saving)
    make(loaded, prompt, duration, seed, config, target, given=given, new_only=new_only, melody=tune)
