"""Ingestions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemark.catalog.words import counted


def render_ingestion(one: Mapping[str, Any]) -> str:
    """An ingestion as a line."""
    withdrawn = one.get("withdrawn")
    state = f"  {_withdrawal(withdrawn)}" if withdrawn else ""
    return (
        f"{one['_id']}  {one['name']}  {counted(one['rows'], 'row')} as of {one['observed_at']:%Y-%m-%d %H:%M} UTC, "
        f"registered {one['registered_at']:%Y-%m-%d %H:%M} UTC{state}"
    )


def render_withdrawn_posts(one: Mapping[str, Any]) -> str:
    """Withdrawn posts as a line."""
    return f"{one['_id']}  {_withdrawal(one)}"


def _withdrawal(one: Mapping[str, Any]) -> str:
    return f"withdrawn by {one['by']}, {one['at']:%Y-%m-%d %H:%M} UTC: {one['reason']}"
