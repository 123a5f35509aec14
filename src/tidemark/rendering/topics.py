"""How durable acknowledged events are."""

from __future__ import annotations

from collections.abc import Iterable

from tidemark.catalog.topics import Durability


def render_durability(topics: Iterable[Durability]) -> str:
    """What an acknowledged event has, in the topic that does least for it."""
    least = min(topics)
    if least.copies > 1:
        return f"{least.copies} or more copies on different brokers{', flushed to disk' if least.flushed else ''}"
    if least.flushed:
        return "one copy, flushed to disk"
    return "one copy, not flushed to disk: a power failure can lose the newest events"
