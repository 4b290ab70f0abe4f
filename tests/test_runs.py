"""The recipe of `base` as a script: it gives commands that the program takes, in an order that works."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from musiclm.cli import app
from musiclm.core.config import from_json
from musiclm.generate.config import GenerateConfig
from musiclm.train.recipes import Preset, configure

ROOT = Path(__file__).parent.parent


def commands(folder: Path, **settings: str) -> list[list[str]]:
    """What `runs/base.sh` calls, word by word; nothing is done."""
    program = folder / "musiclm"
    program.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$(printf "%q " "$@")" >> "$0.log"\n')
    program.chmod(0o755)
    told = {**os.environ, "MUSICLM": str(program), "PYTHON": "true", "LC_ALL": "C", **settings}
    subprocess.run(["bash", ROOT / "runs" / "base.sh", "out/base"], env=told, check=True, timeout=60)
    return [shlex.split(line) for line in (folder / "musiclm.log").read_text().splitlines()]


def parsed(words: list[str]) -> dict[str, object]:
    """Options of a command. Raises: as click does, for what the program does not take."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    return command.make_context("musiclm", rest).params


@pytest.mark.parametrize("melody", ["", "1"])
def test_every_command_of_the_recipe_is_one(tmp_path: Path, melody: str) -> None:
    found = commands(tmp_path, MELODY=melody, SOURCES="scores", MMA="mma")
    presets: dict[str, Preset] = {}
    for words in found:
        params = parsed(words)
        if words[0] == "train":
            stage = str(params["stage"])
            presets[stage] = configure(str(params["preset"]), stage, params["settings"] or [])  # type: ignore[arg-type]
        if params.get("sampling"):
            drawn = from_json(GenerateConfig, json.loads(str(params["sampling"])))
    optional = {"melody"} if melody else set()
    assert presets.keys() == {
        *("soundstream", "w2vbert", "mulan", "semantic", "storm", "mulan-text", "soundstream-decoder"),
        *optional,
    }
    storm, semantic = presets["storm"].storm.task, presets["semantic"].semantic.task
    assert (storm.rendered_share, semantic.rendered_share) == (0.25, 0.25)
    assert semantic.model.melody_levels == (4 if melody else 0)
    assert (drawn.levels, drawn.storm.window_s) == (storm.model.acoustic.levels, storm.crop_s)


@pytest.mark.parametrize("melody", ["", "1"])
def test_nothing_comes_before_what_it_learns_from(tmp_path: Path, melody: str) -> None:
    found = commands(tmp_path, MELODY=melody)
    place = {" ".join(words[:2]): number for number, words in reversed(list(enumerate(found)))}
    filled = {}
    for number, words in enumerate(found):
        if words[0] == "tokenize":
            filled[words[words.index("--stream") + 1]] = number  # the last time
    needs = {
        "train storm": ("acoustic", "semantic", "mulan"),
        "train semantic": ("semantic", "mulan", *(("melody",) if melody else ())),
    }
    for stage, streams in needs.items():
        assert all(filled[stream] < place[stage] for stream in streams)
    encoders = {"acoustic": "soundstream", "semantic": "w2vbert", "mulan": "mulan", "melody": "melody"}
    assert all(place[f"train {encoders[stream]}"] < number for stream, number in filled.items())
    assert place["bundle --runs"] > max(place["train storm"], place["train semantic"])
    assert min(place["train mulan-text"], place["train soundstream-decoder"]) > place["bundle --runs"]
