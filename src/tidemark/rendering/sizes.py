"""Sizes of collections, folders and tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tidemark.catalog.words import counted

COLLECTION = "collection "  # what the names of collections' parts begin with


def render_sizes(measured: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line per measurement of view report_size, with the growth since the previous one."""
    for one in measured:
        growth = "" if one["grown"] is None else f", {_megabytes(one['grown'], '+')} since {one['before']:%Y-%m-%d}"
        items = counted(one["items"], "document" if one["part"].startswith(COLLECTION) else "file")
        yield f"{one['part']}: {_megabytes(one['bytes'])} in {items}{growth}"


def _megabytes(count: int, sign: str = "") -> str:
    return f"{count / 1_000_000:{sign},.1f} MB"
