"""Figures derived from sums of measures, and their changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tidemark.catalog.cube import MEASURES
from tidemark.serving.documents import FiguresDocument


def figures(sums: Iterable[int]) -> FiguresDocument:
    """The figures of a sum. Averages are in dollars and stars; None if nothing is counted."""
    of = dict(zip(MEASURES, sums, strict=True))
    return {
        "products": of["products"],
        "average_price": of["price_cents"] / of["priced"] / 100 if of["priced"] else None,
        "unpriced": of["products"] - of["priced"],
        "average_stars": of["stars_tenths"] / of["rated"] / 10 if of["rated"] else None,
        "unrated": of["products"] - of["rated"],
        "discounted": of["discounted"],
    }


def summed(cells: Collection[Sequence[int]]) -> list[int]:
    """The total over all cells."""
    return [sum(column) for column in zip(*cells, strict=True)] if cells else [0] * len(MEASURES)


def moved(before: float | None, after: float | None) -> float | None:
    """The relative change of a figure; None if there was nothing before."""
    return abs((after or 0) - before) / before if before else None


def exceeded_thresholds(shifts: Mapping[str, Any], limits: Mapping[str, tuple[float | None, str]]) -> list[str]:
    """The thresholds that shifts exceed, as texts. `limits` gives, by a shift's name, its limit (None: no limit) and its description."""
    return [
        f"{shifts[name]:.1%} {what} (more than {most:.1%})"
        for name, (most, what) in limits.items()
        if most is not None and shifts[name] is not None and shifts[name] > most
    ]
