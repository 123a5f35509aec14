"""The version of the stored layout: what the ledger, the other collections and the raw history hold, and how.

A change of the layout raises LAYOUT and adds an upgrade (tidemark.serving.upgrades).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAYOUT = 3
FIRST = 1  # of databases that do not name theirs


class OtherLayout(Exception):
    """The data were written by another version of Tidemark, whose layout this one does not read."""


def layout_of(ledger: Mapping[str, Any]) -> int:
    """The layout of the database with this ledger."""
    return int(ledger.get("layout", FIRST))


def require(found: int, where: str) -> None:
    """Raises OtherLayout unless data have the current layout."""
    if found > LAYOUT:
        raise OtherLayout(
            f"{where} has layout {found}, which a newer version of Tidemark has written; this version reads layout {LAYOUT}. Nothing has "
            "been changed. Install the newer version"
        )
    if found < LAYOUT:
        raise OtherLayout(
            f"{where} has layout {found}, this version of Tidemark needs layout {LAYOUT}. Nothing has been changed. Stop everything, make "
            "a backup with the former version, then run `python -m tidemark.serving.schema --upgrade`; `--check` says what it will change"
        )
