"""The report views, as data: name, source and pipeline. Fields follow the contract of the reports; averages are not rounded."""

from __future__ import annotations

from typing import Any, NamedTuple

from tidemark.catalog.cube import MEASURES, label, unknown_category
from tidemark.catalog.rules import RULES

Stage = dict[str, Any]


class View(NamedTuple):
    name: str
    on: str
    pipeline: list[Stage]


CUBE = "cube_cell"

_SUMS: Stage = {measure: {"$sum": f"${measure}"} for measure in MEASURES}
_MEASURES: Stage = dict.fromkeys(MEASURES, True)


def _quotient(dividend: str, divisor: str, scale: int = 1) -> Stage:
    """The dividend divided by divisor times scale, in one division; null if the divisor is not positive."""
    below: Any = {"$multiply": [f"${divisor}", scale]} if scale != 1 else f"${divisor}"
    return {"$cond": [{"$gt": [f"${divisor}", 0]}, {"$divide": [f"${dividend}", below]}, None]}


_AVERAGE_PRICE = _quotient("price_cents", "priced", 100)
_AVERAGE_STARS = _quotient("stars_tenths", "rated", 10)

_LABEL: Stage = {
    "$cond": [
        {"$eq": ["$price_level", None]},
        label(None),
        # A lookup: building the text for each row takes several times as long.
        {
            "$arrayElemAt": [
                {"$literal": [label(level) for level in range(0, RULES.top_level_dollars + 1, RULES.level_dollars)]},
                {"$divide": ["$price_level", RULES.level_dollars]},
            ]
        },
    ]
}

_BEST_SELLERS: Stage = {"$sum": {"$cond": ["$is_best_seller", "$products", 0]}}

_SHARE: list[Stage] = [
    {"$setWindowFields": {"output": {"_all": {"$sum": "$products"}}}},
    {"$set": {"share": {"$divide": ["$products", "$_all"]}}},
]


# Cells without products are left out, and with them empty levels and categories.
_SOME_PRODUCTS: Stage = {"$match": {"products": {"$ne": 0}}}

# Cells contain their names and labels: joining them in each query takes several times as long as reading the cells.
REPORT_CUBE = View(
    "report_cube",
    CUBE,
    [
        _SOME_PRODUCTS,
        {
            "$project": {
                "_id": False,
                **dict.fromkeys(("category_id", "category_name", "price_level", "is_best_seller", "label"), True),
                **_MEASURES,
            }
        },
    ],
)

REPORT_PRICE_LEVEL = View(
    "report_price_level",
    CUBE,
    [
        _SOME_PRODUCTS,
        {"$group": {"_id": "$price_level", "label": {"$first": "$label"}, "products": {"$sum": "$products"}}},
        *_SHARE,
        {"$project": {"_id": False, "price_level": "$_id", "label": True, "products": True, "share": True}},
    ],
)

REPORT_CATEGORY = View(
    "report_category",
    CUBE,
    [
        _SOME_PRODUCTS,
        {"$group": {"_id": "$category_id", "category_name": {"$first": "$category_name"}, **_SUMS, "best_sellers": _BEST_SELLERS}},
        *_SHARE,
        {
            "$project": {
                "_id": False,
                "category_id": "$_id",
                "category_name": True,
                "products": True,
                "share": True,
                "average_price": _AVERAGE_PRICE,
                "average_stars": _AVERAGE_STARS,
                "best_sellers": True,
                "bought_floor": True,
                "discounted": True,
                "average_discount": _quotient("discount_cents", "list_cents"),
            }
        },
    ],
)

REPORT_SUMMARY = View(
    "report_summary",
    "state",
    [
        {"$match": {"_id": "served"}},
        {
            "$lookup": {
                "from": CUBE,
                "pipeline": [
                    _SOME_PRODUCTS,
                    {"$group": {"_id": "$category_id", **_SUMS, "best_sellers": _BEST_SELLERS}},
                    {"$group": {"_id": None, **_SUMS, "best_sellers": {"$sum": "$best_sellers"}, "categories": {"$sum": 1}}},
                ],
                "as": "total",
            }
        },
        # An empty catalog has a summary, too.
        {
            "$replaceWith": {
                "$mergeObjects": [
                    dict.fromkeys((*MEASURES, "best_sellers", "categories"), 0),
                    {"$first": "$total"},
                ]
            }
        },
        {
            "$project": {
                "_id": False,
                "products": True,
                "categories": True,
                "average_price": _AVERAGE_PRICE,
                "average_stars": _AVERAGE_STARS,
                "best_sellers": True,
                "discounted": True,
                "bought_floor": True,
            }
        },
    ],
)

_HISTORY_NAME: Stage = {
    "$let": {
        "vars": {"known": {"$first": "$_known"}},
        "in": {
            "$let": {
                "vars": {"at": {"$indexOfArray": [{"$ifNull": ["$$known.ids", []]}, "$cell.category_id"]}},
                "in": {
                    "$cond": [
                        {"$gte": ["$$at", 0]},
                        {"$arrayElemAt": ["$$known.names", "$$at"]},
                        {"$concat": [unknown_category(0)[:-1], {"$toString": "$cell.category_id"}]},
                    ]
                },
            }
        },
    }
}

# Without a $group MongoDB pushes a filter on days before the lookup of names, whose result it computes once and caches.
REPORT_HISTORY = View(
    "report_history",
    "history",
    [
        _SOME_PRODUCTS,
        {
            "$lookup": {
                "from": "category",
                "pipeline": [{"$group": {"_id": None, "ids": {"$push": "$_id"}, "names": {"$push": "$category_name"}}}],
                "as": "_known",
            }
        },
        {
            "$project": {
                "_id": False,
                "day": True,
                "category_id": "$cell.category_id",
                "category_name": _HISTORY_NAME,
                "price_level": "$cell.price_level",
                "is_best_seller": "$cell.is_best_seller",
                **_MEASURES,
            }
        },
        {"$set": {"label": _LABEL}},
    ],
)

# In order of creation: a view follows the view that it reads.
VIEWS: tuple[View, ...] = (
    REPORT_CUBE,
    REPORT_PRICE_LEVEL,
    REPORT_CATEGORY,
    REPORT_SUMMARY,
    REPORT_HISTORY,
)
