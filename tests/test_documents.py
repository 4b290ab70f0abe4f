"""The documents say what is so: figures come from JSON files, words are those of the field, nothing is missing.

A table of figures follows a comment that says where each of them comes from, in reading order:

    <!-- figures
    evaluate.json sections/quality/rows/{generated,real}/fad/value .0f
    = 0.5
    -->

A line is a file of benchmarks/, a path in it (keys and places of lists; {a,b} stands for one path with a and one with
b) and a format; or, after "=", figures that are no measurement or have no file. Labels (the first column) and words
such as v7 or R@10 are no figures.
"""

import ast
import io
import itertools
import json
import re
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from musiclm.core.artifact import load_artifact, read_config
from musiclm.core.bundle import open_bundle
from musiclm.generate.music import read_tags
from musiclm.train.card import model_card

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "src" / "musiclm" / "bundles" / "base"
CARD = BUNDLE / "README.md"
NOTES = ROOT / "docs" / "base-notes.md"
WITH_FIGURES = [ROOT / "README.md", NOTES, CARD, ROOT / "docs" / "usage.md", ROOT / "docs" / "results.md"]
DOCUMENTS = sorted({*WITH_FIGURES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "dev").rglob("*.md")})
# words that mean something else to a reader than they would here
PRIVATE = r"chance|worth|heat|heard|listeners?|desk|stretch(?:es)?|turns? of|(?<!in )turns"
NUMBER = r"(?<![\w@.,/-])-?\d+(?:\.\d+)?(?![\w/])"
BLOCK = re.compile(r"<!-- figures\n(?P<sources>.*?)-->\n\n(?P<table>(?:\|[^\n]*\n)+)", re.S)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def figures(file: str) -> Any:
    return json.loads((ROOT / "benchmarks" / file).read_text())


def look_up(file: str, path: str) -> float:
    """The value at a path, whose keys stand between slashes."""
    value = figures(file)
    for key in path.split("/"):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return float(value)


def paths(pattern: str) -> list[str]:
    """a/{b,c} -> a/b, a/c; several braces give all combinations."""
    parts = re.split(r"\{(.*?)\}", pattern)
    choices = [part.split(",") if place % 2 else [part] for place, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def expected(sources: str) -> list[str]:
    """The figures that a comment asks for, as they are to be written."""
    found = []
    for line in sources.strip().splitlines():
        if line.startswith("="):
            found += line[1:].split()
        else:
            file, rest = line.split(" ", 1)
            pattern, style = rest.rsplit(" ", 1)
            found += [format(look_up(file, path), style) for path in paths(pattern)]
    return found


def written(table: str) -> list[str]:
    """The figures in a table, without its head and the first column."""
    rows = table.strip().splitlines()[2:]
    cells = [cell for row in rows for cell in re.sub(r"`[^`]*`", "", row).strip("| \n").split("|")[1:]]
    return [figure for cell in cells for figure in re.findall(NUMBER, cell)]


def prose(text: str) -> str:
    """Without code, comments, links' targets and tables."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"^(?: {4}| *\||\s*> ).*$", "", text, flags=re.M)
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)


@pytest.mark.parametrize("document", WITH_FIGURES, ids=name)
def test_figures_are_those_of_the_files(document: Path) -> None:
    blocks = list(BLOCK.finditer(document.read_text()))
    assert blocks, f"{name(document)} has no table with sources"
    for block in blocks:
        assert written(block["table"]) == expected(block["sources"]), f"{name(document)}: {block['table'][:90]}..."


@pytest.mark.parametrize("document", WITH_FIGURES, ids=name)
def test_no_table_of_figures_is_without_sources(document: Path) -> None:
    """But the tables that the card's generator writes, which the next test compares."""
    text = document.read_text().split("\n## Data\n")[0]
    rest = re.sub(r"`[^`]*`", "", BLOCK.sub("", text))
    assert len(re.findall("<!-- figures", text)) == len(BLOCK.findall(text)), "a comment without its table"
    loose = [row for row in re.findall(r"^\|.*$", rest, re.M) if re.search(r"\d\.\d", row)]
    assert not loose, f"{name(document)}: {loose}"


def test_the_comparison_sees_a_changed_figure() -> None:
    block = BLOCK.search((ROOT / "README.md").read_text())
    assert block
    table = block["table"]
    changed = 0
    for found in re.finditer(NUMBER, table):
        other = table[: found.start()] + found[0][:-1] + str((int(found[0][-1]) + 1) % 10) + table[found.end() :]
        changed += written(other) != expected(block["sources"])
    assert changed == len(expected(block["sources"])) > 20


def test_figures_are_of_the_bundle_that_ships() -> None:
    assert figures("evaluate.json")["settings"]["bundle"] == open_bundle("base").hash[:12]
    assert figures("compare_bundles.json")["bundles"]["v8"]["bundle"] == open_bundle("base").hash[:12]
    assert figures("bench.json")["bundle"] == figures("melody_follow.json")["bundle"] == open_bundle("base").hash[:12]


def test_the_card_is_its_notes_and_what_the_parts_say() -> None:
    """Written anew it is the same: docs/base-notes.md, data, licences and the figures of each stage."""
    bundle, card = open_bundle("base"), CARD.read_text()
    assert card == model_card(bundle.name, bundle.parts, NOTES.read_text().strip())
    for part in bundle.parts:
        info = json.loads((BUNDLE / part / "config.json").read_text())["info"]
        row = next(row for row in card.split("\n## Stages\n")[1].splitlines() if row.startswith(f"| {part} |"))
        for value in info["metrics"].values():
            assert f" {value:.4g}" in row, f"the card's row of {part} lacks {value:.4g}"
        for licence in info["data"]["train_hours_by_licence"]:
            for words in licence.split(": ")[-1].split("; "):
                assert f"| {words}" in card or f"; {words} |" in card


def hours_of(info: dict[str, Any]) -> float:
    """Of all runs behind a part's weights."""
    return info.get("seconds", 0) / 3600 + (hours_of(info["from"]) if "from" in info else 0.0)


def test_sizes_and_hours_in_sentences_are_those_of_the_parts() -> None:
    states = {part: read_config(folder) for part, folder in open_bundle("base").parts.items()}
    sizes = {
        part: {name: value.numel() for name, value in load_artifact(BUNDLE / part, document["kind"]).state.items()}
        for part, document in states.items()
    }
    total = sum(sum(of_part.values()) for of_part in sizes.values())
    encoder = sum(size for name, size in sizes["mulan"].items() if name.startswith("text_encoder."))
    hours = {part: hours_of(document["info"]) for part, document in states.items()}
    rest = max(value for part, value in hours.items() if part != "storm")
    recordings = sum(states["soundstream"]["info"]["data"]["hours"].values())
    form = figures("evaluate.json")["sections"]["form"]["rows"]
    half = form["long"]["repetition"]["value"] / form["real_long"]["repetition"]["value"]
    readme, notes = (" ".join(path.read_text().split()) for path in (ROOT / "README.md", NOTES))
    for text in (readme, notes):
        assert f"{total / 1e6:.0f} million parameters, a third of them" in text
    assert 0.3 < encoder / total < 0.36
    assert "more than seven hours" in readme and max(hours.values()) < 7
    assert (
        "SoundStorm for six hours, the others for less than five" in notes and round(hours["storm"]) == 6 and rest < 5
    )
    assert f"{recordings:.0f} hours of recordings" in notes
    assert "half as clearly as in recordings" in readme and 0.45 < half < 0.55


def test_the_example_is_what_its_command_makes() -> None:
    """By the tags that the program writes: prompt, seed and hash of the bundle; `make demo` has the same prompt."""
    readme = re.sub(r"\\\n {4}", "", (ROOT / "README.md").read_text())
    command = re.search(
        r'<!-- command of (\S+) -->\n\n    musiclm generate "(.*)" --duration (\d+) --seed (\d+)', readme
    )
    assert command
    path, prompt, duration, seed = command.groups()
    tags = read_tags(ROOT / path)
    assert (tags["prompt"], tags["seed"]) == (prompt, seed)
    assert tags["model"] == open_bundle("base").hash[:12], "make the example anew with the bundle that ships"
    assert (ROOT / path).stat().st_size <= 200_000
    assert f"PROMPT := {prompt}\n" in (ROOT / "Makefile").read_text()
    assert f'"$(PROMPT)" --duration {duration} ' in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_words_are_those_of_the_field(document: Path) -> None:
    found = re.findall(rf".{{0,30}}\b(?:{PRIVATE})\b.{{0,30}}", prose(document.read_text()), re.I)
    assert not found, f"{name(document)}: {found}"


PRIVATE_NAME = re.compile(
    r"(?:^|_)(?:chance|worth|heat|hear|heard|hears|listeners?|desk|stretch(?:es)?|turns?)(?:_|$)", re.I
)
ROOTS = re.compile("chance|worth|heat|hear|listener|desk|stretch|turn", re.I)
# names on disk: of a buffer in MuLan's weights, and of a setting in the configs of artifacts; words in their usual
# meaning
KEPT = {"text_heat", "stretch_s", "in_turn", "turn"}


def defined(tree: ast.AST) -> Iterator[str]:
    """Names that a file gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def remarks(source: str) -> Iterator[str]:
    """Docstrings and comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


CODE = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")])


def test_names_in_the_code_are_those_of_the_field() -> None:
    """In Python, and in the studio's scripts all words outside of strings."""
    found = set()
    for path in CODE:
        source = path.read_text()
        if re.search(ROOTS, source):  # parsing is slow
            found |= {(word, name(path)) for word in defined(ast.parse(source)) if PRIVATE_NAME.search(word)}
    scripts = list((ROOT / "src" / "musiclm" / "serve" / "studio").glob("*.js"))
    assert scripts
    for path in scripts:
        code = re.sub(r"""//[^\n]*|(?s:/\*.*?\*/)|"[^"\n]*"|`[^`]*`""", "", path.read_text())
        found |= {(word, name(path)) for word in re.findall(r"\w+", code) if PRIVATE_NAME.search(word)}
    assert {word for word, _ in found} <= KEPT, sorted(found)
    assert {"text_heat", "stretch_s"} <= {word for word, _ in found}, "KEPT lists what is gone"


# in docstrings and comments listeners are people, and "turns x into y" is plain English
PRIVATE_REMARK = r"chance|worth|heat|heard|desk|stretch(?:es)?|turns? of"


def test_docstrings_and_comments_are_in_the_words_of_the_field() -> None:
    for path in CODE:
        if path.match("models/lm/melody.py"):  # "stretch" and "heard of", until it is next changed
            continue
        source = path.read_text()
        for text in remarks(source) if re.search(ROOTS, source) else ():
            found = re.findall(rf".{{0,30}}\b(?:{PRIVATE_REMARK})\b.{{0,30}}", re.sub(r"`[^`]*`", "", text), re.I)
            assert not found, f"{name(path)}: {found}"


# digits that are no figures
NAMES = re.compile(
    r"\"[^\"]*\"|\d{4}-\d\d-\d\d|(?<![\w.,])(?<!\d )0\d\d\b|[A-Za-z_@/][\w-]*\d[\w.]*"
    r"|\b(?:version|section|Python|torch|code|Zen|Opus at|w2v-BERT) [\d.]+\b"
    r"|\b(?:of|over|first|last|than) \d+ m?s\b|\b\d+ (?:[kM]?Hz|bits?|kbit/s|kbps|[kMGT]B|BPM)\b"
)
FIGURE = r"(?<![\w.,])-?\d+(?:[ ,]\d{3}\b)*(?:\.\d+)?"


def figures_in(sentence: str) -> list[str]:
    return re.findall(FIGURE, NAMES.sub("", sentence))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_a_sentence_holds_two_figures_at_most(document: Path) -> None:
    """More go into a table. A sentence ends at a full stop, colon or semicolon, too.

    Whole numbers count. What does not: what is quoted, code, dates, decisions by number (009), words with a digit in
    them (v7, bf16, C4), numbers that belong to a name (version 8, section 3.4, Python 3.11), and sizes that say what a
    thing is (24 kHz, 8 bits, 3 kbit/s, 40 MB, 120 BPM, clips of 10 s).
    """
    text = document.read_text().split("\n## Data\n")[0]
    for sentence in re.split(r"(?<=[.:;?!*])\s+|\n\n|\n *- ", prose(text)):
        assert len(figures_in(sentence)) <= 2, f"{name(document)}: {sentence}"


@pytest.mark.parametrize(
    ("sentence", "figures"),
    [
        ("On 2026-11-30 version 8 (v8, 013) made clips of 10 s at 24 kHz in bf16.", []),
        ("After 4500 steps it is 0.5 at -3 dB, of 10 000 clips.", ["4500", "0.5", "-3", "10 000"]),
        ("20 pieces in 2.2 s, 7 of them at 95 %", ["20", "2.2", "7", "95"]),
    ],
)
def test_whole_numbers_are_figures_and_names_are_not(sentence: str, figures: list[str]) -> None:
    assert figures_in(sentence) == figures


def test_every_entry_of_the_log_asks_and_decides() -> None:
    """A question, a result, and a decision or what comes next; the trial where there was one."""
    entries = re.findall(r"^- \*\*(.+?)\*\*(.*?)(?=^- |^## |\Z)", (ROOT / "dev" / "LOG.md").read_text(), re.M | re.S)
    assert len(entries) > 100
    for question, rest in entries:
        assert question.endswith("?"), question
        marks = re.findall(r"\*(Trial|Result|Decision|Next):\*", rest)
        assert "Result" in marks and marks[-1] in ("Decision", "Next"), f"{question} {marks}"
        assert marks == sorted(marks, key=["Trial", "Result", "Decision", "Next"].index), f"{question} {marks}"


def test_licence_and_notice_are_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0" and project["license-files"] == ["LICENSE", "NOTICE"]
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence
    notice = (ROOT / "NOTICE").read_text()
    assert "all-MiniLM-L6-v2" in notice
    for path in re.findall(r"(?:src|docs|tests)/[\w./-]*\w", notice):
        assert (ROOT / path).exists(), f"NOTICE names {path}"


def test_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures, "the README shows the studio, in words as well"
    for path in pictures:
        assert (ROOT / path).stat().st_size < 150_000, path


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one != CARD], ids=name)  # its tables are made
def test_lines_fit_a_screen(document: Path) -> None:
    """But for tables, with where their figures come from, and addresses, which can't be broken."""
    whole = re.sub(r"(?s)<!--.*?-->|!?\[[^\]]*\]\([^)]*\)|https?://\S+", "", document.read_text())
    lines = [line for line in whole.splitlines() if not line.lstrip().startswith("|")]
    assert not [line for line in lines if len(line) > 120], name(document)
