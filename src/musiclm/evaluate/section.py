"""What a section of the report is, and the figures that most of them are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musiclm.evaluate.bootstrap import Estimate, bootstrap, mean
from musiclm.evaluate.controls import Order

NAN = float("nan")
# "rows": name of a set -> name of a figure -> Estimate; anything else beside it is shown below the table
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReportSection:
    """One section: its measure and how it is shown."""

    title: str
    # of (ClipSets, Analyses); of an `embedder`'s name too, where `by_embedder`. Raises ValueError for what is missing
    measure: Callable[..., Figures]
    note: str = ""  # how to read it
    orders: tuple[Order, ...] = ()  # what its controls must show
    needs_corpus: bool = True
    by_embedder: bool = False  # measured with each embedder's embeddings


def point(value: float) -> Estimate:
    """A figure without an interval."""
    return Estimate(float(value), NAN, NAN)


def means(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Estimate]:
    """Mean of each of an analyser's figures over clips; clips where it is not a number are left out."""
    found = {}
    for name in names:
        values = np.array([row[name] for row in rows], np.float64)
        values = values[np.isfinite(values)]
        found[name] = bootstrap(mean, values, draws=300) if len(values) else point(NAN)
    return found
