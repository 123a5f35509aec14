"""Plausibility: does a new publication differ so much from the served one that a person should review it first?

Data that passes validation may still be wrong: half a file, prices in another currency, a column that arrived empty.
"""

from __future__ import annotations

from collections.abc import Mapping

from tidemark.serving.cells import Cells
from tidemark.serving.database import Document
from tidemark.serving.figures import exceeded_thresholds, figures, moved, summed
from tidemark.settings import Settings


def compare(before: Cells, after: Cells) -> Document:
    """The figures of both cubes and the shift of the relevant ones: relative to the value before; for unknown prices and missing ratings,
    the absolute change of their share of all products. None if there was nothing before.
    """
    one, other = _figures(before), _figures(after)
    return {
        "before": one,
        "after": other,
        "shifts": {
            **{name: moved(one[name], other[name]) for name in ("products", "average_price", "categories")},
            **{name: _moved_of_all(name, one, other) for name in ("unpriced", "unrated")},
        },
    }


def beyond(compared: Document, of: Settings) -> list[str]:
    """The thresholds of the settings that a comparison exceeds, as texts."""
    limits = {
        "products": (of.implausible_products_shift, "change in the number of products"),
        "average_price": (of.implausible_price_shift, "change in the average price"),
        "unpriced": (of.implausible_unpriced_shift, "absolute change in the share of products with unknown price"),
        "unrated": (of.implausible_unrated_shift, "absolute change in the share of products without a rating"),
        "categories": (of.implausible_categories_shift, "change in the number of categories"),
    }
    return exceeded_thresholds(compared["shifts"], limits)


def _figures(cells: Cells) -> Document:
    categories = {cell.category_id for cell, (products, *_) in cells.items() if products}
    return {**figures(summed(cells.values())), "categories": len(categories)}


def _moved_of_all(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    if not before["products"]:
        return None
    return abs((after[name] / after["products"] if after["products"] else 0) - before[name] / before["products"])
