"""Ingestions that are registered, without files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath

from pymongo.database import Database

from tidemark.ingest.files import PRODUCT_COLUMNS
from tidemark.serving import ingestions
from tidemark.serving.database import Document
from tidemark.serving.documents import IngestionFields
from tidemark.serving.ingestions import Chunk, Location

MOMENT = datetime(2024, 1, 2, tzinfo=UTC)
ONE_ROW = Chunk(0, 0, 9, 1, "00")


def register(database: Database[Document], identity: str, file: str, *chunks: Chunk, observed_at: datetime = MOMENT) -> datetime:
    """Registers a product file of these chunks, by default of one with one row; when it was registered."""
    planned = chunks or (ONE_ROW,)
    ingestion: IngestionFields = {
        "_id": identity,
        "kind": "product",
        "name": PurePosixPath(file).name,
        "bytes": planned[-1].end,
        "rows": sum(chunk.rows for chunk in planned),
        "content": "00",
        "observed_at": observed_at,
        "columns": list(PRODUCT_COLUMNS),
        "separator": ",",
        "chunks": len(planned),
    }
    return ingestions.register(database, ingestion, planned, Location(file))
