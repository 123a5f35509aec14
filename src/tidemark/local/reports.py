"""Prints the served reports to the terminal, from one snapshot."""

from __future__ import annotations

from datetime import datetime

from pymongo.database import Database
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from tidemark.serving.database import Document
from tidemark.serving.snapshot import snapshot

TOP_CATEGORIES = 10


def show(console: Console, database: Database[Document]) -> None:
    """Prints summary, price levels, the largest categories and freshness."""
    with snapshot(database) as now:
        summary = now.one("report_summary") or {}
        levels = now.rows("report_price_level", {"$sort": {"price_level": 1}})
        categories = now.rows("report_category", {"$sort": {"products": -1, "category_id": 1}}, {"$limit": TOP_CATEGORIES})
        freshness = now.one("report_freshness") or {}
    console.print(_summary(summary))
    console.print(_price_levels(levels))
    console.print(_categories(categories))
    console.print(_freshness(freshness))


def _summary(summary: Document) -> Table:
    table = Table("products", "categories", "average price", "average stars", "best sellers", "discounted", title="Summary")
    table.add_row(
        f"{summary['products']:,}",
        f"{summary['categories']:,}",
        _dollars(summary["average_price"]),
        _number(summary["average_stars"]),
        f"{summary['best_sellers']:,}",
        f"{summary['discounted']:,}",
    )
    return table


def _price_levels(levels: list[Document]) -> Table:
    """The levels in order, unknown last."""
    table = Table(title="Products by price level", box=None, pad_edge=False)
    table.add_column("price", justify="right")
    table.add_column("products", justify="right")
    table.add_column("share", justify="right")
    table.add_column("", width=50)
    most = max((level["products"] for level in levels), default=1)
    for level in sorted(levels, key=lambda one: (one["price_level"] is None, one["price_level"])):
        bar = Bar(size=most, begin=0, end=level["products"], color="cyan")
        table.add_row(level["label"], f"{level['products']:,}", f"{level['share']:.1%}", bar)
    return table


def _categories(categories: list[Document]) -> Table:
    table = Table(title=f"The {TOP_CATEGORIES} largest categories")
    table.add_column("category", no_wrap=True)
    for name in ("products", "share", "avg price", "avg stars", "best sellers", "avg discount"):
        table.add_column(name, justify="right")
    for one in categories:
        table.add_row(
            one["category_name"],
            f"{one['products']:,}",
            f"{one['share']:.1%}",
            _dollars(one["average_price"]),
            _number(one["average_stars"]),
            f"{one['best_sellers']:,}",
            "-" if one["average_discount"] is None else f"{one['average_discount']:.1%}",
        )
    return table


def _freshness(freshness: Document) -> Table:
    table = Table(title="Freshness", show_header=False)
    behind = freshness["events_behind"]
    rows = {
        "publication": f"{freshness['publication']}",
        "newest observation": _moment(freshness["newest_observation"]),
        "newest event served": _moment(freshness["newest_event"]),
        "events behind": "unknown" if behind is None else f"{behind:,}",
        "rows in quarantine": f"{freshness['quarantined']:,}",
        "rules": f"{freshness['rules'] or '-'}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _moment(value: datetime | None) -> str:
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC"


def _dollars(value: float | None) -> str:
    return "-" if value is None else f"${value:,.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
