"""Figures of the catalog beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemark.rendering.markdown import table

# The label and format of each figure.
FIGURES = {
    "products": ("products", "{:,}"),
    "categories": ("categories", "{:,}"),
    "average_price": ("average price", "${:,.2f}"),
    "unpriced": ("price unknown", "{:,}"),
    "average_stars": ("average stars", "{:.2f}"),
    "unrated": ("not rated", "{:,}"),
    "discounted": ("discounted", "{:,}"),
}


def render_comparison(before: Mapping[str, Any], after: Mapping[str, Any], then: str) -> str:
    """A table of all figures; `then` is the heading of the values after."""
    return table(("", "served", then, "change"), (_row(name, before[name], after[name]) for name in FIGURES if name in before))


def render_figure(name: str, value: float | None) -> str:
    """A formatted figure; - for None."""
    return "-" if value is None else FIGURES[name][1].format(value)


def render_changes(compared: Mapping[str, Any], exceeded: Sequence[str]) -> str:
    """A comparison as Markdown. `exceeded` are the thresholds that it exceeds, as plausibility.beyond() returns them."""
    comparison = render_comparison(compared["before"], compared["after"], "after")
    return "\n\n".join([*(f"**Threshold exceeded:** {one}" for one in exceeded), comparison])


def _row(name: str, before: float | None, after: float | None) -> tuple[str, ...]:
    change = (
        ""
        if before is None or after is None or before == after
        else f"{'+' if after > before else '-'}{render_figure(name, abs(after - before))}"
    )
    share = f" ({(after - before) / before:+.1%})" if change and before and after is not None else ""
    return FIGURES[name][0], render_figure(name, before), render_figure(name, after), change + share
