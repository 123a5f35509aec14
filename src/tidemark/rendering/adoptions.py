"""Renders what an adoption of a log would do, and what would be lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemark.catalog.words import counted
from tidemark.rendering.markdown import table


def render_adoption(found: Mapping[str, Any]) -> str:
    """Markdown. `found` has the fields of tidemark.serving.documents.AdoptionFields."""
    if found["continues"]:
        return (
            "**Nothing is lost.** The log continues what the raw history holds. Adopting rebuilds the reports from all events in both, and "
            "the stream continues from there."
        )
    parts = [_why(found)]
    served: Sequence[Mapping[str, Any]] = found["served_only"]
    if served:
        ranges = [(f"{one['topic']}/{one['partition']}", f"{one['first']:,} to {one['last']:,}", f"{one['count']:,}") for one in served]
        parts.append(
            "**Served events that the raw history does not hold.** The reports lose them, unless the log still holds them:\n\n"
            + table(("partition", "offsets", "at most"), ranges)
        )
    if found["ingestions"]:
        files = [(one["name"], f"{one['lost']} of {one['chunks']}", f"{one['rows']:,}", one["ingestion"]) for one in found["ingestions"]]
        parts.append(
            "**Files whose rows may be missing.** Their chunks are opened, and are sent again if the files are still there:\n\n"
            + table(("file", "chunks", "rows", "ingestion"), files)
        )
    if not served and not found["ingestions"]:
        parts.append("**No served event is lost:** the raw history holds everything that was served.")
    parts.append(
        "Events that others have sent to Kafka or to the API, and that neither the raw history nor the log holds, are lost for good. "
        f"The raw history keeps {counted(found['events'], 'event')}."
    )
    return "\n\n".join(parts)


def _why(found: Mapping[str, Any]) -> str:
    if found["other_log"]:
        what = "The log is another one than before: its topics were deleted and recreated."
    elif found["parted"]:
        what = f"The log has lost events that the raw history holds ({', '.join(found['parted'])})."
    else:
        what = "The raw history does not hold everything that the log no longer has."
    begins = ", ".join(f"{one['topic']}/{one['partition']} from offset {one['offset']:,}" for one in found["begins"])
    return f"**{what}** Adopting keeps the raw history and follows the log: {begins}."
