"""What charts over report_cube have to answer, from the cells that have been recomputed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from support.recompute import Recomputed

from catalog.cube import label, unknown_category

Cell = tuple[dict[str, Any], dict[str, int]]  # dimensions and sums

# Of the charts of Catalog that show categories: how many of them, and what the rest is called where it is shown.
LARGEST = {"Average price by category": (20, None), "Products by category": (50, "Others")}
# Metrics of report_cube from the sums of cells.
METRICS: dict[str, Callable[[Counter[str]], tuple[int, int]]] = {
    "products_sum": lambda sums: (sums["products"], 1),
    "best_sellers": lambda sums: (sums["best_sellers"], 1),
    "categories": lambda sums: (sums["categories"], 1),
    "discounted_sum": lambda sums: (sums["discounted"], 1),
    "bought_sum": lambda sums: (sums["bought_floor"], 1),
    "average_price": lambda sums: (sums["price_cents"], sums["priced"] * 100),
    "average_stars": lambda sums: (sums["stars_tenths"], sums["rated"] * 10),
    "average_discount": lambda sums: (sums["discount_cents"], sums["list_cents"]),
}
NAMES = ("category_id", "price_level", "is_best_seller")


def products(of: Recomputed, **dimensions: Any) -> int:
    """How many there are of these dimensions."""
    return sum(sums["products"] for _, sums in cells(of, **dimensions))


def cells(of: Recomputed, **dimensions: Any) -> Iterator[Cell]:
    """The dimensions and the sums of the cells of these dimensions."""
    every = ((dict(zip(NAMES, cell, strict=True)), sums) for cell, sums in of.cube.items())
    return ((cell, sums) for cell, sums in every if dimensions.items() <= cell.items())


def summed(of: Iterable[Cell]) -> Counter[str]:
    """The sums of cells, and what follows from their dimensions."""
    sums: Counter[str] = Counter()
    categories = set()
    for cell, parts in of:
        sums.update(parts)
        sums["best_sellers"] += parts["products"] if cell["is_best_seller"] else 0
        if parts["products"]:
            categories.add(cell["category_id"])
    sums["categories"] = len(categories)
    return sums


def groups(of: Recomputed, by: str | None, **dimensions: Any) -> dict[str | None, Counter[str]]:
    """The sums of these dimensions by category_name or label, or all together by None."""

    def name(dimensions: dict[str, Any]) -> str | None:
        number = dimensions["category_id"]
        names = {"category_name": of.categories.get(number) or unknown_category(number), "label": label(dimensions["price_level"])}
        return names[by] if by else None

    grouped: dict[str | None, list[Cell]] = {}
    for cell, sums in cells(of, **dimensions):
        if sums["products"]:
            grouped.setdefault(name(cell), []).append((cell, sums))
    return {key: summed(parts) for key, parts in grouped.items()}


def wrong(chart: str, rows: list[dict[str, Any]], of: Recomputed, **dimensions: Any) -> str:
    """What is wrong with the rows of a chart over report_cube; empty where nothing is."""
    by = next((name for name in ("category_name", "label") if rows and name in rows[0]), None)
    expected = groups(of, by, **dimensions)
    most, rest = LARGEST.get(chart, (len(expected), None))
    shown = {row[by] if by else None: row for row in rows}
    has_rest = rest is not None and rest in shown
    if has_rest:
        named = [sums for name, sums in expected.items() if name not in shown]
        expected[rest] = sum(named, Counter())
        if max(sums["products"] for sums in named) > min(row["products_sum"] for row in rows):
            return f"{chart}: not the largest"
    if not shown.keys() <= expected.keys() or len(shown) != min(len(expected), most + has_rest):
        return f"{chart}: {sorted(map(str, shown))} instead of {sorted(map(str, expected))}"
    for name, row in shown.items():
        for metric, value in row.items():
            if metric in METRICS:
                over, under = METRICS[metric](expected[name])
                right = value is None if under == 0 else value is not None and math.isclose(value, over / under, rel_tol=1e-12)
                if not right:
                    return f"{chart}: {metric} of {name} is {value} instead of {over} / {under}"
    return ""
