"""Plausibility: does a new publication differ so much from the served one that a person should review it first?

Data that passes validation may still be wrong: half a file, prices in another currency, a column that arrived empty.
"""

from __future__ import annotations

from tidemark.catalog.words import counted
from tidemark.serving.cells import Cells
from tidemark.serving.documents import ComparisonDocument, CubeFiguresDocument
from tidemark.serving.figures import exceeded_thresholds, figures, moved, summed
from tidemark.settings.sections import BatchSettings


def compare(before: Cells, after: Cells, cut: Cells | None = None) -> ComparisonDocument:
    """The figures of both cubes and the shift of the relevant ones: relative to the value before; for unknown prices and missing ratings,
    the absolute change of their share of all products. None if there was nothing before.

    `cut` is the served cube at the moment of the cut, which may lack cells of the cube after.
    """
    one, other = _figures(before), _figures(after)
    return {
        "before": one,
        "after": other,
        "shifts": {
            "products": moved(one["products"], other["products"]),
            "average_price": moved(one["average_price"], other["average_price"]),
            "categories": moved(one["categories"], other["categories"]),
            "unpriced": _moved_share((one["unpriced"], one["products"]), (other["unpriced"], other["products"])),
            "unrated": _moved_share((one["unrated"], one["products"]), (other["unrated"], other["products"])),
        },
        "new_cells": sum(any(sums) and cell not in cut for cell, sums in after.items()) if cut is not None else 0,
    }


def beyond(compared: ComparisonDocument, of: BatchSettings) -> list[str]:
    """The thresholds of the settings that a comparison exceeds, as texts."""
    limits = {
        "products": (of.implausible_products_shift, "change in the number of products"),
        "average_price": (of.implausible_price_shift, "change in the average price"),
        "unpriced": (of.implausible_unpriced_shift, "absolute change in the share of products with unknown price"),
        "unrated": (of.implausible_unrated_shift, "absolute change in the share of products without a rating"),
        "categories": (of.implausible_categories_shift, "change in the number of categories"),
    }
    exceeded = exceeded_thresholds(compared["shifts"], limits)
    if (new := compared.get("new_cells", 0)) > of.implausible_new_cells:
        exceeded.append(f"{counted(new, 'new cell')} (more than {of.implausible_new_cells:,.0f}), which the stream has not served")
    return exceeded


def _figures(cells: Cells) -> CubeFiguresDocument:
    categories = {cell.category_id for cell, (products, *_) in cells.items() if products}
    return {**figures(summed(cells.values())), "categories": len(categories)}


def _moved_share(before: tuple[int, int], after: tuple[int, int]) -> float | None:
    """The absolute change of a share, given as a number of products and the number of all products."""
    (count, products), (count_after, products_after) = before, after
    if not products:
        return None
    return abs((count_after / products_after if products_after else 0) - count / products)
