"""Two results of `musiclm bench` side by side: each figure of both, their ratio, and which way is better."""

from dataclasses import dataclass
from typing import Any

SAME = 0.05  # a ratio within this of 1 is called the same; a busy machine moves figures by more
HIGHER_IS_BETTER = ("_per_s", "flop_utilisation", "times_faster")
LOWER_IS_BETTER = ("real_time_factor", "_s", "memory_mb")


@dataclass(frozen=True)
class Row:
    """One figure in both results."""

    name: str
    a: float
    b: float

    @property
    def ratio(self) -> float:
        """b / a."""
        return self.b / self.a

    @property
    def verdict(self) -> str:
        """What the ratio means for B: "1.50 x faster", "1.20 x more memory", "same", or "" where neither is better."""
        kind = self.name.rsplit(".", 1)[-1]
        higher = any(f".{part}." in f".{self.name}." or kind.endswith(part) for part in HIGHER_IS_BETTER)
        if not higher and not kind.endswith(LOWER_IS_BETTER):
            return ""
        if abs(self.ratio - 1) <= SAME:
            return "same"
        gain = self.ratio if higher else 1 / self.ratio
        words = ("less memory", "more memory") if kind.endswith("memory_mb") else ("faster", "slower")
        return f"{max(gain, 1 / gain):.2f} x {words[gain < 1]}"


def ratios(a: dict[str, Any], b: dict[str, Any]) -> list[Row]:
    """Every figure that both files have. Raises: ValueError for files that are no results of `bench`."""
    one, other = _flat(a.get("figures")), _flat(b.get("figures"))
    if not one or not other:
        raise ValueError("no figures in the file; give two that `musiclm bench --out` wrote")
    return [Row(name, one[name], other[name]) for name in one if one[name] > 0 and other.get(name, 0) > 0]


def table(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """The lines of `musiclm bench --compare`: what differs between the runs themselves first, then a line a figure."""
    found = ratios(a, b)
    width = max([len(row.name) for row in found], default=0)
    lines = [f"note: {note}" for note in differences(a, b)]
    lines.append(f"{'figure':{width}} {'A':>10} {'B':>10} {'B / A':>7}  B is")
    for row in found:
        lines.append(f"{row.name:{width}} {row.a:10.4g} {row.b:10.4g} {row.ratio:7.2f}  {row.verdict}".rstrip())
    return lines


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What keeps the two from being compared: other bundle, device, machine or versions; figures that one lacks."""
    notes = [
        f"{name} differs: A {a.get(name)}, B {b.get(name)}"
        for name in ("bundle", "device", "musiclm", "git_revision", "threads")
        if a.get(name) != b.get(name)
    ]
    one, other = a.get("machine", {}), b.get("machine", {})
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            notes.append(
                f"{name} differs: A {one.get(name)}, B {other.get(name)}; ratios then compare machines as much as code"
            )
    flat_a, flat_b = _flat(a.get("figures")), _flat(b.get("figures"))
    for letter, own, others in (("A", flat_a, flat_b), ("B", flat_b, flat_a)):
        alone = sorted({name.split(".")[0] for name in own} - {name.split(".")[0] for name in others})
        if alone:
            notes.append(f"only {letter} has {', '.join(alone)}")
    return notes


def _flat(node: Any, path: str = "") -> dict[str, float]:
    if isinstance(node, dict):
        found: dict[str, float] = {}
        for key, value in node.items():
            found |= _flat(value, f"{path}.{key}" if path else key)
        return found
    return {path: float(node)} if isinstance(node, int | float) else {}
