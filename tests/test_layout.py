"""Imports point one way, and the documents name what exists."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "musiclm"
MODELS = ("soundstream", "w2vbert", "mulan", "lm", "storm")
# what a layer may import from inside the package
SMALL = ("config", "tags", "containers", "interrupt", "output", "tensors", "unicode", "workers")
LAYERS = {
    "base": (*SMALL, "artifact", "tokens", "audio", "features"),
    "nn": ("nn", "features", "tokens"),
    "corpus": (*SMALL, "corpus", "audio", "artifact", "features", "tokens"),
    "arrange": (*SMALL, "arrange", "corpus", "audio", "features"),
}


def imports(path: Path) -> set[str]:
    """Dotted names inside the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("musiclm."):
            found.add(node.module.removeprefix("musiclm."))
    return found


@pytest.mark.parametrize("model", MODELS)
def test_models_do_not_import_one_another(model: str) -> None:
    for path in (SOURCE / model).glob("*.py"):
        for name in imports(path):
            other = name.split(".")[0]
            assert other == model or other not in MODELS, f"{path.name} imports {name}"


def test_lower_layers_do_not_import_higher_ones() -> None:
    for name in LAYERS["base"]:
        for imported in imports(SOURCE / f"{name}.py"):
            assert imported.split(".")[0] in LAYERS["base"], f"{name}.py imports {imported}"
    for layer in ("nn", "corpus", "arrange"):
        for path in (SOURCE / layer).rglob("*.py"):
            for imported in imports(path):
                assert imported.split(".")[0] in LAYERS[layer], f"{layer}/{path.name} imports {imported}"


def test_the_loop_knows_nothing_of_audio() -> None:
    assert imports(SOURCE / "train.py") <= {"artifact", "config", "interrupt", "tensors"}


def test_nothing_but_the_command_line_needs_the_bench() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.parent.name != "bench" and path.name != "cli.py":
            assert "musiclm.bench" not in path.read_text(), f"{path.name} names the bench"


def commands(path: Path) -> list[str]:
    text = path.read_text()
    found = re.findall(r"^(?: {4}|\$ )(musiclm .+?)(?:\s{2,}#.*)?$", text, re.M)
    return [line.split("   #")[0] for line in found]


@pytest.mark.parametrize("document", ["README.md", "docs/training.md"])
def test_commands_in_the_documents_parse(document: str) -> None:
    import typer.main

    from musiclm.cli import app

    found = commands(ROOT / document)
    assert found, f"{document} shows no command"
    for line in found:
        words = shlex.split(line, comments=True)[1:]
        command = typer.main.get_command(app)
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context("musiclm", words)  # raises for an unknown option or a missing argument


def test_files_named_in_the_documents_exist() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_no_figure_of_the_version_is_out_of_step() -> None:
    import musiclm

    assert musiclm.__version__ in (ROOT / "CHANGELOG.md").read_text()
