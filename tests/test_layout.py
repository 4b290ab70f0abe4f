"""Imports point one way, and the documents name what exists."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "musiclm"
MODELS = ("soundstream", "w2vbert", "mulan", "melody", "lm", "storm")

# What may import what: each row is a package, or one module that has a place of its own, with the rows above it that it
# may use. A row stands for its modules without those that have a row of their own. An entry that is no row allows that
# module alone.
TABLE: dict[str, tuple[str, ...]] = {
    "core": (),
    "nn": (),
    "listen": ("core",),
    "data": (),
    "data.corpus": ("core",),
    "data.labels": ("core", "listen", "data.corpus"),
    "data.captions.wording": (),
    "data.captions": ("core", "data.labels", "data.captions.wording"),
    "data.store": ("core", "nn", "data.corpus"),
    "arrange": (),  # what a score is, instruments, time, limits
    "arrange.styles": ("arrange",),
    "arrange.read": ("core", "arrange"),
    "arrange.compose": ("arrange", "arrange.styles", "arrange.read"),
    "arrange.render": ("core", "arrange", "arrange.styles", "arrange.compose"),
    "arrange.facts": (
        *("core", "data.captions.wording", "data.captions"),
        *("arrange", "arrange.styles", "arrange.render"),
    ),
    "arrange.corpus": (
        *("core", "data.corpus", "data.captions"),
        *("arrange", "arrange.styles", "arrange.read", "arrange.compose", "arrange.render", "arrange.facts"),
    ),
    "train.processes": ("nn.block", "nn.parts"),
    "train.loop": (
        "core.artifact",
        "core.config",
        "core.interrupt",
        "core.tensors",
        "nn.block",
        "nn.parts",
        "train.processes",
    ),  # it knows nothing of audio
    "train.tokens": ("core", "nn.parts", "data.store"),
    "models": (),
    "models.soundstream": ("core", "nn", "data.corpus", "train.loop"),
    "models.w2vbert": ("core", "nn", "train.loop"),
    "models.mulan": (
        *("core", "nn", "data.corpus", "data.labels", "train.loop"),
        *("data.captions.weak", "data.captions.wrong"),
    ),
    "models.melody": ("core", "nn", "data.corpus", "train.loop"),
    "models.lm": ("core", "nn", "data.store", "train.loop", "train.tokens"),
    "models.storm": ("core", "nn", "data.store", "train.loop", "train.tokens"),
    "models.foreign": ("core", "nn"),
    # what each kind of encoder can do, and whose is in a folder
    "models.encoders": ("core", "models.foreign", *(f"models.{model}" for model in MODELS[:3])),
    "data.codes": ("core", "models.encoders"),
    "data.tokenize": ("core", "data.corpus", "data.store", "models.encoders", "models.melody"),
    "generate": ("core", "nn", "models.encoders", *(f"models.{model}" for model in MODELS)),
    "": ("generate",),  # musiclm itself: `from musiclm import MusicLM`
    "train": (
        *("core", "nn", "listen", "data.corpus", "data.labels", "data.store", "data.tokenize"),
        *("train.processes", "train.loop"),
        *("models.foreign", "models.encoders", *(f"models.{model}" for model in MODELS)),
    ),
    "evaluate": (
        *("core", "nn", "listen", "data.corpus", "data.labels", "data.captions", "arrange", "arrange.corpus"),
        *("generate", "models.foreign", "models.encoders", *(f"models.{model}" for model in MODELS)),
    ),
    "evaluate.sections": (*("core", "listen", "data.corpus", "data.labels", "evaluate"),),
    "evaluate.report": ("core", "evaluate", "evaluate.sections"),
    "evaluate.run": ("core", "data.corpus", "evaluate", "evaluate.sections"),
    "bench": (
        *("core", "nn", "data.corpus", "data.labels", "data.store", "train.loop", "train", "generate"),
        *(f"models.{model}" for model in MODELS),
    ),
    "serve": ("core", "generate"),
    "cli.options": (),  # what several commands share; each command reaches only what it needs
    "cli.music": ("core", "generate", "cli.options"),  # what the commands that make music share
    "cli.generate": ("generate", "cli.options", "cli.music"),
    "cli.story": ("generate", "cli.options", "cli.music"),
    "cli.play": ("core", "generate", "cli.options", "cli.music"),
    "cli.take": ("core", "models.encoders", "generate", "cli.options", "cli.music"),
    "cli.edit": ("generate", "cli.options", "cli.music"),
    "cli.codec": ("core", "models.encoders", "data.codes"),
    "cli.encoder": ("core", "generate", "train", "cli.options"),
    "cli.train": ("core", "generate", "train", "train.processes", "train.loop", "cli.options"),
    "cli.plan": ("core.streams", "train"),
    "cli.evaluate": (
        *("core", "data.corpus", "models.encoders", "generate", "evaluate", "evaluate.report", "evaluate.run"),
        "cli.options",
    ),
    "cli.bench": ("core", "generate", "bench", "cli.options"),
    "cli.serve": ("serve", "cli.options"),
    "cli.inspect": ("core", "data.codes", "generate", "cli.codec"),
    "cli.render": ("core", "arrange.render", "arrange.corpus", "cli.options"),
    "cli.push": ("core", "train", "cli.options"),
    "cli.corpus": ("core", "data.corpus", "arrange.corpus", "evaluate", "cli.options", "cli.render"),
    "cli": (
        *("core", "cli.generate", "cli.story", "cli.play", "cli.take", "cli.edit", "cli.codec", "cli.train"),
        *("cli.evaluate", "cli.bench", "cli.inspect", "cli.corpus", "cli.serve", "cli.push", "cli.encoder", "cli.plan"),
    ),
    "__main__": ("cli",),
}


def module_name(path: Path, source: Path) -> str:
    """Dotted name below musiclm; "" for musiclm itself."""
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, source: Path = SOURCE) -> set[str]:
    """Modules of the package that a file imports, in any form and at any depth.

    "" is musiclm itself, which anyone may import for `__version__` alone.
    """
    found = set()

    def add(base: str, names: list[str]) -> None:
        for name in names:
            inside = f"{base}.{name}".lstrip(".")
            file = source / Path(*inside.split("."))
            if file.with_suffix(".py").is_file() or (file / "__init__.py").is_file():
                found.add(inside)
            elif base or name != "__version__":
                found.add(base)

    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "musiclm":
                    found.add(alias.name.removeprefix("musiclm").removeprefix("."))
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if node.level:
                package = path.relative_to(source).parent.parts
                above = package[: len(package) - node.level + 1]
                add(".".join([*above, *((node.module or "").split(".") if node.module else [])]), names)
            elif (node.module or "").split(".")[0] == "musiclm":
                add((node.module or "").removeprefix("musiclm").removeprefix("."), names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).split(".")[-1]
            name = str(node.args[0].value)
            if called in ("import_module", "__import__") and name.split(".")[0] == "musiclm":
                found.add(name.removeprefix("musiclm").removeprefix("."))
    return found


def row_of(module: str) -> str:
    """The row that a module belongs to: the longest that names it or a package around it."""
    rows = [row for row in TABLE if row == module or (row and module.startswith(f"{row}."))]
    assert rows, f"{module} is in no row of TABLE; give its package a place"
    return max(rows, key=len)


def allowed(row: str, module: str) -> bool:
    """Whether modules of a row may import a module."""
    single = [entry for entry in TABLE[row] if entry not in TABLE]
    return row_of(module) in (row, *TABLE[row]) or any(f"{module}.".startswith(f"{entry}.") for entry in single)


MODULES = {module_name(path, SOURCE): path for path in sorted(SOURCE.rglob("*.py"))}


def test_every_package_has_a_row_and_every_row_is_there() -> None:
    packages = {module_name(path, SOURCE) for path in SOURCE.rglob("__init__.py")}
    packages |= {".".join(path.parent.relative_to(SOURCE).parts) for path in SOURCE.rglob("*.py")}
    assert packages <= set(TABLE), f"packages without a row: {sorted(packages - set(TABLE))}"
    assert set(TABLE) <= set(MODULES), f"rows of nothing: {sorted(set(TABLE) - set(MODULES))}"


@pytest.mark.parametrize("row", TABLE)
def test_a_package_imports_what_its_row_allows(row: str) -> None:
    members = [module for module in MODULES if row_of(module) == row]
    assert members
    for module in members:
        for imported in imports(MODULES[module]):
            assert allowed(row, imported), f"musiclm.{module} imports musiclm.{imported}, which its row doesn't allow"


def test_rows_point_upwards() -> None:
    """So that the table has no cycle."""
    rows = list(TABLE)
    for place, row in enumerate(rows):
        for entry in TABLE[row]:
            assert rows.index(row_of(entry)) < place, f"{row} may import {entry}, which stands below it"


def test_the_table_keeps_the_rules_that_the_documents_state() -> None:
    for model in MODELS:
        assert not [entry for entry in TABLE[f"models.{model}"] if entry.startswith("models")]
    knows = {
        "core.artifact",
        "core.config",
        "core.interrupt",
        "core.tensors",
        "nn.block",
        "nn.parts",
        "train.processes",
    }
    assert set(TABLE["train.loop"]) == knows, "nothing of audio"
    assert [row for row, entries in TABLE.items() if "bench" in entries] == ["cli.bench"]


@pytest.mark.parametrize("model", MODELS)
def test_models_do_not_reach_the_arranger_by_detours(model: str) -> None:
    """Nor what comes after models. MuLan learns from captions, and knows nothing of how music is arranged."""
    todo, reached = [name for name in MODULES if row_of(name) == f"models.{model}"], set()
    while todo:
        name = todo.pop()
        parents = [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
        for found in {*imports(MODULES[name]), *parents} - reached:
            reached.add(found)
            todo.append(found)
    assert reached
    beyond = {"arrange", "generate", "evaluate", "bench", "cli", ""}
    assert not {name for name in reached if name.split(".")[0] in beyond}


def test_all_forms_of_import_are_seen(tmp_path: Path) -> None:
    for name in ("__init__", "a/__init__", "a/one", "a/two", "a/b/__init__", "a/b/deep", "c"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    (tmp_path / "a" / "b" / "deep.py").write_text(
        "import torch, musiclm.a.one\nimport musiclm.c as d\nfrom musiclm import a, __version__\n"
        "def f():\n    from ..two import x\n    from . import y\n"
    )
    assert imports(tmp_path / "a" / "b" / "deep.py", tmp_path) == {"a.one", "c", "a", "a.two", "a.b"}
    (tmp_path / "a" / "one.py").write_text(
        "from musiclm import MusicLM\nfrom musiclm.a import two, thing\nfrom .b.deep import z\n"
        "importlib.import_module('musiclm.c')\nfrom musiclmx import c\nfrom other.musiclm import c\n"
    )
    assert imports(tmp_path / "a" / "one.py", tmp_path) == {"", "a.two", "a", "a.b.deep", "c"}
    (tmp_path / "a" / "__init__.py").write_text("from .b import deep\nfrom .. import c\n")
    assert imports(tmp_path / "a" / "__init__.py", tmp_path) == {"a.b.deep", "c"}


def commands(path: Path) -> list[str]:
    text = re.sub(r"\\\n {4}", "", path.read_text())  # a line that a backslash carries on
    found = re.findall(r"^(?: {4}|\$ )(musiclm .+?)(?:\s{2,}#.*)?$", text, re.M)
    return [line.split("   #")[0].split(" | ")[0] for line in found]


@pytest.mark.parametrize(
    "document",
    [f"docs/{name}.md" for name in ("encoders", "scaling", "service", "training", "usage")] + ["README.md"],
)
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


DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "dev").rglob("*.md")]


def test_files_and_headings_that_documents_link_to_exist() -> None:
    seen = 0
    for document in DOCUMENTS:
        for target, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", document.read_text()):
            file = document.parent / target if target else document
            assert file.exists(), f"{document.name} links to {target}"
            if heading:
                titles = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
                anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
                assert heading in anchors, f"{document.name} links to {target}#{heading}"
                seen += 1
    assert seen


def test_paths_named_in_the_documents_exist() -> None:
    """Paths between backquotes, below src/musiclm or the root. Names without a folder are not looked at."""
    found = set()
    for document in DOCUMENTS:
        for path in re.findall(
            r"`([a-z0-9_-]+/[a-z0-9_/-]*(?:\.(?:py|md|json|txt|csv|tsv|sh))?)`", document.read_text()
        ):
            if path.endswith("/") or "." in path:
                found.add(path)
                assert (SOURCE / path).exists() or (ROOT / path).exists(), f"{document.name} names {path}"
    assert "train/loop.py" in found and "models/mulan/" in found


def test_the_changelog_ends_at_the_version() -> None:
    import musiclm

    versions = re.findall(r"^## (\d+\.\d+\.\d+)\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert versions and versions[0] == musiclm.__version__


def test_lines_of_the_studio_have_at_most_120_characters() -> None:
    """ruff sees to those of Python."""
    files = [path for path in (SOURCE / "serve" / "studio").iterdir() if path.suffix in (".js", ".css", ".html")]
    assert len(files) > 10
    for file in files:
        long = [number for number, line in enumerate(file.read_text().splitlines(), 1) if len(line) > 120]
        assert not long, f"{file.name}: {long}"
