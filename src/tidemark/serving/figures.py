"""Figures derived from sums of measures, and comparisons of them in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from tidemark.catalog.cube import MEASURES
from tidemark.serving.database import Document

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


def figures(sums: Iterable[int]) -> Document:
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


def render_comparison(before: Document, after: Document, then: str) -> str:
    """A table of all figures; `then` is the heading of the values after."""
    return table(("", "served", then, "change"), (_beside(name, before[name], after[name]) for name in FIGURES if name in before))


def render_figure(name: str, value: float | None) -> str:
    """A formatted figure; - for None."""
    return "-" if value is None else FIGURES[name][1].format(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells may hold any text."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(one) for one in line)} |" for line in lines)


def exceeded_thresholds(shifts: Document, limits: Mapping[str, tuple[float | None, str]]) -> list[str]:
    """The thresholds that shifts exceed, as texts. `limits` gives, by a shift's name, its limit (None: no limit) and its description."""
    return [
        f"{shifts[name]:.1%} {what} (more than {most:.1%})"
        for name, (most, what) in limits.items()
        if most is not None and shifts[name] is not None and shifts[name] > most
    ]


def _beside(name: str, before: float | None, after: float | None) -> tuple[str, ...]:
    change = (
        ""
        if before is None or after is None or before == after
        else f"{'+' if after > before else '-'}{render_figure(name, abs(after - before))}"
    )
    share = f" ({(after - before) / before:+.1%})" if change and before and after is not None else ""
    return FIGURES[name][0], render_figure(name, before), render_figure(name, after), change + share


def _cell(text: str) -> str:
    """Escapes text, which must neither end the cell nor be read as Markdown."""
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>|#" and text != "---" else one for one in " ".join(text.split()))
