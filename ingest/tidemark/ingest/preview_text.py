"""A preview as people read it, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidemark.catalog.cube import unknown_category
from tidemark.serving.database import Document
from tidemark.serving.figures import render_comparison, render_figure, table


def in_words(preview: Document, passed: Sequence[str]) -> str:
    """`passed` are the thresholds that it passes, in words."""
    files, products, categories = preview["files"], preview["products"], preview["categories"]
    parts = [
        f"**{preview['rows']:,} rows in {len(files)} {'file' if len(files) == 1 else 'files'}**",
        table(
            ("file", "as of", "rows", "rejected", ""),
            (
                (
                    one["file"],
                    one["observed_at"][:10],
                    f"{one['rows']:,}",
                    f"{one['rejected']:,}",
                    "ingested before" if one["ingested_before"] else "",
                )
                for one in files
            ),
        ),
    ]
    if preview["refused"]:
        parts.append("**The files are not taken**\n\n" + table(("why",), ((one,) for one in preview["refused"])))
    if any(products.values()):
        parts.append(f"**Products:** {_counts(products)}")
    if any(categories.values()):
        parts.append(f"**Categories:** {_counts(categories)}")
    parts += [f"**Passes a threshold:** {one}" for one in passed]
    if behind := preview["events_behind"]:
        parts.append(f"**Not counted:** {behind:,} events that are in Kafka and not served yet")
    parts.append("**The catalog**\n\n" + render_comparison(preview["before"], preview["after"], "then"))
    if preview["by_category"]:
        parts.append(
            "**Categories that change most**\n\n"
            + table(
                ("category", "products", "then", "average price", "then"),
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
        head = ("reason", "rows", "it must be", "for example it says", "in", "byte")
        parts.append("**Rejected rows**\n\n" + table(head, (line for one in preview["rejected"] for line in _rejected(one))))
    return "\n\n".join(parts)


def _rejected(one: Document) -> Iterator[tuple[str, ...]]:
    """A line for each example of a reason, the reason itself in the first."""
    reason = (one["reason"], f"{one['rows']:,}", one["rule"])
    for example in one["examples"]:
        yield (*reason, example["says"][:80], f"{example['file']} {example['key']}", f"{example['byte']:,}")
        reason = ("", "", "")


def _counts(counts: Document) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())
