"""Counts in messages: `1 row`, `2 rows`."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """The count, with thousands separators, and the noun in singular or plural."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: list[str], noun: str) -> str:
    """The noun in singular or plural and the names: `column a`, `columns a, b`."""
    return f"{noun}{'' if len(names) == 1 else 's'} {', '.join(names)}"
