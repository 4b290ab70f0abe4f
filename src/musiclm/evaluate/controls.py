"""Which controls a figure must put in which order before it may speak of generated music.

Every table has sets whose order is known: other real music is nearer to real music than noise is, what was
resynthesised from a clip agrees with it more than another clip does. A measure that does not put them so on this corpus
is reported as unreliable, beside the rows that show it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Order:
    """A figure and two rows, the first of which must be better (or larger, where neither way is better)."""

    figure: str
    better: str
    worse: str
    higher: bool = True


def orders(figures: str, pairs: str, higher: bool = True) -> tuple[Order, ...]:
    """Of each figure each pair: `orders("chroma onset", "codec>noise real>noise")` are four."""
    found = []
    for figure in figures.split():
        for pair in pairs.split():
            better, _, worse = pair.partition(">")
            found.append(Order(figure, better, worse, higher))
    return tuple(found)


def reliable(wanted: Sequence[Order], rows: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """For each figure that has an order and the rows for it: whether all its controls stand in it."""
    found: dict[str, bool] = {}
    for order in wanted:
        pair = [_value(rows.get(row, {}).get(order.figure)) for row in (order.better, order.worse)]
        if any(math.isnan(value) for value in pair):
            continue
        in_order = pair[0] > pair[1] if order.higher else pair[0] < pair[1]
        found[order.figure] = found.get(order.figure, True) and in_order
    return found


def _value(figure: Any) -> float:
    """The number of a figure, an `Estimate` or its JSON; nan for none."""
    figure = figure.get("value") if isinstance(figure, dict) else getattr(figure, "value", figure)
    return float("nan") if figure is None else float(figure)
