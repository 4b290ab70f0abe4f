"""How people write about music: plain text that anyone can read and add to.

rules/*.txt   a grammar. Below a rule's name stand the ways to expand it, indented. `{name}` is another rule, or a slot
              that `writer` fills from the facts; a way with a slot that nothing fills is passed over. `{v:is|are}`
              agrees with the noun before it, `a(n)` becomes the article that fits. What a way states beyond its slots
              is in its rule's name: rules named `fact:...` are reached through slots that check the fact first.
tables/*.txt  a line per thing: its name, a colon, and ways to say it between commas. Whatever stands there is true of
              every note of that instrument, of every piece of that style.
"""

from importlib import resources


def _files(folder: str) -> dict[str, str]:
    paths = (resources.files(__name__) / folder).iterdir()
    return {path.name.removesuffix(".txt"): path.read_text(encoding="utf-8") for path in sorted(paths, key=str)}


def _rules() -> dict[str, tuple[str, ...]]:
    rules: dict[str, tuple[str, ...]] = {}
    for name, text in _files("rules").items():
        for block in text.strip().split("\n\n"):
            rule, *ways = block.splitlines()
            if rule in rules:
                raise ValueError(f"wording/rules/{name}.txt: {rule!r} stands in another file too; join the two")
            rules[rule] = tuple(way.strip() for way in ways)
    return rules


def _table(text: str) -> dict[str, tuple[str, ...]]:
    rows = (line.split(":", 1) for line in text.splitlines() if line)
    return {name: tuple(way.strip() for way in ways.split(",")) for name, ways in rows}


RULES = _rules()
TABLES = {name: _table(text) for name, text in _files("tables").items()}
