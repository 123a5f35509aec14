"""Upkeep of the master dataset: what nothing needs any more goes, small files are written together."""

from __future__ import annotations

import logging

from pymongo.database import Database

from tidemark.serving import publications
from tidemark.serving.database import Document
from tidemark.serving.sizes import Size
from tidemark.spark.lake import Lake
from tidemark.spark.recompute import drop_unneeded

log = logging.getLogger(__name__)


def maintain(lake: Lake, database: Database[Document], keep: int) -> dict[str, Size]:
    """Can be ended and run again at any moment. Returns the sizes of the tables.

    Every event stays, and every layer that a publication names. A night that publishes nothing leaves a draft: as many as `keep` of those
    stay, beside as many publications.
    """
    if gone := publications.prune(database, keep, keep_drafts=keep):
        log.info("publications and drafts %s are dropped", ", ".join(map(str, gone)))
    drop_unneeded(lake, database)
    log.info("small files of raw events are written together: %d files less", lake.compact())
    lake.vacuum()
    return {f"lake: {table}": Size(size, files) for table, (files, size) in lake.sizes().items()}
