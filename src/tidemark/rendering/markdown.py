"""Markdown tables whose cells may hold any text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells may hold any text."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(escape(one) for one in line)} |" for line in lines)


def escape(text: str) -> str:
    """Escapes text, which must neither end the cell nor be read as Markdown."""
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>|#" and text != "---" else one for one in " ".join(text.split()))
