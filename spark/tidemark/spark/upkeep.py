"""Upkeep of the raw history and the states: drops what is no longer needed and compacts small files."""

from __future__ import annotations

import logging

from pymongo.database import Database

from tidemark.catalog.words import counted
from tidemark.serving import publications
from tidemark.serving.database import Document
from tidemark.serving.sizes import Size
from tidemark.spark.lake import Lake
from tidemark.spark.recompute import drop_unneeded

log = logging.getLogger(__name__)


def maintain(lake: Lake, database: Database[Document], keep: int) -> dict[str, Size]:
    """Idempotent; can be interrupted at any moment. Returns the sizes of the tables.

    Every event stays, and every layer that a publication names. A night that publishes nothing leaves a draft: the newest `keep` drafts
    stay, and as many publications.
    """
    if gone := publications.prune(database, keep, keep_drafts=keep):
        log.info("dropped publications and drafts %s", ", ".join(map(str, gone)))
    drop_unneeded(lake, database)
    log.info("compacted the raw events: %s fewer", counted(lake.compact(), "file"))
    lake.vacuum()
    return {f"lake: {table}": Size(size, files) for table, (files, size) in lake.sizes().items()}
