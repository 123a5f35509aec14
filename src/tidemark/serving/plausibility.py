"""Plausibility: is a new publication so unlike the one that is served that a person should look at it first?

What is right by the rules may still be wrong in the world: half a file, prices in another currency, a column that came empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidemark.serving.cells import Cells
from tidemark.serving.database import Document
from tidemark.serving.figures import exceeded_thresholds, figures, moved, render_comparison, summed
from tidemark.settings import Settings


def compare(before: Cells, after: Cells) -> Document:
    """Figures of both cubes, and how far each of interest moves: as a share of what it was, for unknown prices and missing ratings as a
    share of all products. None where there was nothing.
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
    """Which thresholds of the settings a comparison passes, in words."""
    limits = {
        "products": (of.implausible_products_shift, "is how far the number of products moves"),
        "average_price": (of.implausible_price_shift, "is how far the average price moves"),
        "unpriced": (of.implausible_unpriced_shift, "of the products is how far those of unknown price move"),
        "unrated": (of.implausible_unrated_shift, "of the products is how far those without a rating move"),
        "categories": (of.implausible_categories_shift, "is how far the number of categories moves"),
    }
    return exceeded_thresholds(compared["shifts"], limits)


def in_words(compared: Document, passed: Sequence[str]) -> str:
    """Markdown. `passed` are the thresholds that it passes, in words."""
    return "\n\n".join(
        [*(f"**Passes a threshold:** {one}" for one in passed), render_comparison(compared["before"], compared["after"], "then")]
    )


def _figures(cells: Cells) -> Document:
    categories = {cell.category_id for cell, (products, *_) in cells.items() if products}
    return {**figures(summed(cells.values())), "categories": len(categories)}


def _moved_of_all(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    if not before["products"]:
        return None
    return abs((after[name] / after["products"] if after["products"] else 0) - before[name] / before["products"])
