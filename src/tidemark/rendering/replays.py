"""Renders the preview of a replay or discard as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tidemark.catalog.words import counted
from tidemark.rendering.markdown import table


def render_replay(preview: Mapping[str, Any], patch: Mapping[str, str]) -> str:
    parts = [f"**{counted(preview['records'], 'open record')}, {preview['valid']:,} now valid**"]
    if patch:
        patches = table(("invalid field", "new value"), patch.items())
        parts.append(f"**{counted(preview['patched'], 'record')} patched**\n\n{patches}")
    if preview["reasons"]:
        lines = ((one["reason"], f"{one['records']:,}", f"{one['valid']:,}") for one in preview["reasons"])
        parts.append(table(("reason", "records", "now valid"), lines))
    if preview["still_invalid"]:
        head = ("reason", "records", "must be", "example", "in")
        parts.append(
            "**Records that are still invalid**\n\n" + table(head, (line for one in preview["still_invalid"] for line in _lines(one)))
        )
    return "\n\n".join(parts)


def _lines(one: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One line per example; the first also names the rule."""
    rule = (one["reason"], f"{one['records']:,}", one["rule"])
    for example in one["examples"]:
        yield (*rule, example["text"][:80], example["origin"])
        rule = ("", "", "")
