"""What charts over report_cube have to answer, from the cells that have been recomputed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from support.recompute import Cell, Recomputed, category_name, label, over, rolled

# Of the charts of Catalog that show categories: how many of them, and what the rest is called where it is shown.
LARGEST = {"Average price by category": (20, None), "Products by category": (50, "Others")}
# Metrics of report_cube from the sums of cells.
METRICS: dict[str, Callable[[Mapping[str, int]], float | None]] = {
    "products_sum": lambda sums: sums["products"],
    "best_sellers": lambda sums: sums["best_sellers"],
    "categories": lambda sums: sums["categories"],
    "discounted_sum": lambda sums: sums["discounted"],
    "bought_sum": lambda sums: sums["bought_floor"],
    "average_price": lambda sums: over(sums["price_cents"], sums["priced"] * 100),
    "average_stars": lambda sums: over(sums["stars_tenths"], sums["rated"] * 10),
    "average_discount": lambda sums: over(sums["discount_cents"], sums["list_cents"]),
}
NAMES = ("category_id", "price_level", "is_best_seller")


def products(of: Recomputed, **dimensions: Any) -> int:
    """How many there are of these dimensions."""
    return sum(sums["products"] for sums in cells(of, **dimensions).values())


def cells(of: Recomputed, **dimensions: Any) -> dict[Cell, dict[str, int]]:
    """Those of these dimensions that have products."""
    having = {cell: sums for cell, sums in of.cube.items() if sums["products"]}
    return {cell: sums for cell, sums in having.items() if dimensions.items() <= dict(zip(NAMES, cell, strict=True)).items()}


def groups(of: Recomputed, by: str | None, **dimensions: Any) -> dict[str | None, Mapping[str, int]]:
    """The sums of these dimensions by category_name or label, or all together by None; with the number of categories."""
    keys: dict[str | None, Callable[[Cell], str | None]] = {
        "category_name": lambda cell: category_name(of, cell[0]),
        "label": lambda cell: label(cell[1]),
        None: lambda _: None,
    }
    key, cube = keys[by], cells(of, **dimensions)
    categories = Counter(name for name, _ in {(key(cell), cell[0]) for cell in cube})
    return {name: {**sums, "categories": categories[name]} for name, sums in rolled(cube, key).items()}


def wrong(chart: str, rows: list[dict[str, Any]], of: Recomputed, **dimensions: Any) -> str:
    """What is wrong with the rows of a chart over report_cube; empty where nothing is."""
    by = next((name for name in ("category_name", "label") if rows and name in rows[0]), None)
    expected = groups(of, by, **dimensions)
    most, rest = LARGEST.get(chart, (len(expected), None))
    shown = {row[by] if by else None: row for row in rows}
    named = [sums for name, sums in expected.items() if name not in shown]
    has_rest = rest in shown and bool(named)
    if has_rest:
        expected[rest] = sum(map(Counter, named), Counter())
        if max(sums["products"] for sums in named) > min(row["products_sum"] for row in rows):
            return f"{chart}: not the largest"
    if not shown.keys() <= expected.keys() or len(shown) != min(len(expected), most + has_rest):
        return f"{chart}: {sorted(map(str, shown))} instead of {sorted(map(str, expected))}"
    for name, row in shown.items():
        for metric, value in row.items():
            if metric in METRICS:
                right = METRICS[metric](expected[name])
                if value != right and (value is None or right is None or not math.isclose(value, right, rel_tol=1e-12)):
                    return f"{chart}: {metric} of {name} is {value} instead of {right}"
    return ""
