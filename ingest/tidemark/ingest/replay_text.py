"""What a replay or a discard would do, as people read it, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tidemark.serving.database import Document
from tidemark.serving.figures import table


def in_words(preview: Document, patch: Mapping[str, str]) -> str:
    parts = [f"**{preview['records']:,} open records, {preview['valid']:,} of them valid now**"]
    if patch:
        told = table(("field that breaks its rule", "becomes"), patch.items())
        parts.append(f"**{preview['patched']:,} records are patched**\n\n{told}")
    if preview["reasons"]:
        lines = ((one["reason"], f"{one['records']:,}", f"{one['valid']:,}") for one in preview["reasons"])
        parts.append(table(("reason", "records", "valid now"), lines))
    if preview["left"]:
        head = ("breaks the rule of", "records", "it must be", "for example it says", "in")
        parts.append("**What is not valid**\n\n" + table(head, (line for one in preview["left"] for line in _left(one))))
    return "\n\n".join(parts)


def _left(one: Document) -> Iterator[tuple[str, ...]]:
    """A line for each example of a rule, the rule itself in the first."""
    rule = (one["reason"], f"{one['records']:,}", one["rule"])
    for example in one["examples"]:
        yield (*rule, example["says"][:80], example["where"])
        rule = ("", "", "")
