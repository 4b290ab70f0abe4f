"""The examples that ship: made by the bundle that ships, by commands that the program takes."""

import importlib.util
from pathlib import Path

import pytest

from musiclm.core.bundle import open_bundle
from musiclm.generate.music import read_tags
from tests.test_runs import parsed

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "examples"
spec = importlib.util.spec_from_file_location("examples", ROOT / "runs" / "examples.py")
assert spec and spec.loader
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


@pytest.mark.parametrize("example", [one for one in script.EXAMPLES if one.words], ids=lambda example: example.file)
def test_an_example_is_what_its_command_makes(example: "script.Example") -> None:  # type: ignore[name-defined]
    params = parsed([example.file if word == "FILE" else word for word in example.words])
    tags = read_tags(FOLDER / example.file)
    assert tags["model"] == open_bundle("base").hash[:12], "run runs/examples.py with the bundle that ships"
    assert int(tags["seed"]) == params["seed"]
    if example.words[0] == "generate" and "--at" not in example.words:
        assert tags.get("prompt", "") == (params["prompt"] or "")


def test_the_page_plays_every_example_and_shows_how_it_was_made() -> None:
    page = (FOLDER / "index.html").read_text()
    assert page == script.page(FOLDER)
    for example in script.EXAMPLES:
        assert page.count(f'src="{example.file}"') == 1
    assert "http" not in page, "it works offline"


def test_examples_are_small_and_none_is_left_over() -> None:
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert files.keys() == {example.file for example in script.EXAMPLES} | {script.ARCADE, "index.html"}
    assert sum(files.values()) <= 6e6
