"""Ingestions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemark.catalog.words import counted


def render_ingestion(one: Mapping[str, Any]) -> str:
    """An ingestion as a line."""
    withdrawn = one.get("withdrawn")
    state = f"  withdrawn by {withdrawn['by']}, {withdrawn['at']:%Y-%m-%d %H:%M} UTC: {withdrawn['reason']}" if withdrawn else ""
    return (
        f"{one['_id']}  {one['name']}  {counted(one['rows'], 'row')} as of {one['observed_at']:%Y-%m-%d %H:%M} UTC, "
        f"registered {one['registered_at']:%Y-%m-%d %H:%M} UTC{state}"
    )
