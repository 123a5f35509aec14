"""Renders a preview as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tidemark.catalog.cube import unknown_category
from tidemark.catalog.words import counted
from tidemark.rendering.figures import render_comparison, render_figure
from tidemark.rendering.markdown import table


def render_preview(preview: Mapping[str, Any], passed: Sequence[str]) -> str:
    """Markdown. `passed` are descriptions of the thresholds that the preview exceeds."""
    files, products, categories = preview["files"], preview["products"], preview["categories"]
    parts = [
        f"**{counted(preview['rows'], 'row')} in {counted(len(files), 'file')}**",
        table(
            ("file", "as of", "rows", "rejected", ""),
            (
                (
                    one["file"],
                    one["observed_at"][:10],
                    f"{one['rows']:,}",
                    f"{one['rejected']:,}",
                    "already ingested" if one["ingested_before"] else "",
                )
                for one in files
            ),
        ),
    ]
    if preview["refused"]:
        parts.append("**Files that would be refused**\n\n" + table(("reason",), ((one,) for one in preview["refused"])))
    if any(products.values()):
        parts.append(f"**Products:** {_counts(products)}")
    if any(categories.values()):
        parts.append(f"**Categories:** {_counts(categories)}")
    parts += [f"**Threshold exceeded:** {one}" for one in passed]
    if behind := preview["events_behind"]:
        parts.append(f"**Not included:** {counted(behind, 'event')} in Kafka that the stream has not served yet")
    parts.append("**Catalog**\n\n" + render_comparison(preview["before"], preview["after"], "after"))
    if preview["by_category"]:
        parts.append(
            "**Largest changes by category**\n\n"
            + table(
                ("category", "products", "after", "average price", "after"),
                (
                    (
                        one["category_name"] or unknown_category(one["category_id"]),
                        *(render_figure(name, one[when][name]) for name in ("products", "average_price") for when in ("before", "after")),
                    )
                    for one in preview["by_category"]
                ),
            )
        )
    if preview["rejected"]:
        head = ("reason", "rows", "must be", "example", "in", "byte")
        parts.append("**Rejected rows**\n\n" + table(head, (line for one in preview["rejected"] for line in _rejected(one))))
    return "\n\n".join(parts)


def _rejected(one: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One line per example; the first also names the reason."""
    reason = (one["reason"], f"{one['rows']:,}", one["rule"])
    for example in one["examples"]:
        yield (*reason, example["text"][:80], f"{example['file']} {example['key']}", f"{example['byte']:,}")
        reason = ("", "", "")


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())
