"""What rows of transforms.with_contributions are in MongoDB: the same documents, whoever writes them or compares them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bson import Binary
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from pymongo.database import Database

from catalog.cube import MEASURES
from catalog.versions import Version
from serving.database import Document
from serving.ledger import Category, Tag
from serving.views import unknown_category

Row = Mapping[str, Any]


def version_of(row: Row) -> tuple[int, ...]:
    return tuple(row["version"].values())


def contribution_of(row: Row) -> tuple[Any, ...]:
    """The cell's dimensions, then the measures."""
    return (row["category_id"], row["price_level"], row["isBestSeller"], *(row[measure] for measure in MEASURES))


def versioned(version: tuple[int, ...]) -> dict[str, int]:
    """A version as documents hold it. The fields' order is part of the value."""
    return dict(zip(Version._fields, version, strict=True))


def product_fields(row: Row, category: Category | None) -> Document:
    """A product's document but for its bookkeeping."""
    return {
        "_id": row["id"],
        "asin": row["id"],
        "title": row["title"],
        "imgUrl": row["imgUrl"],
        "productURL": row["productURL"],
        "stars": row["stars"],
        "reviews": row["reviews"],
        "price": row["price"],
        "listPrice": row["listPrice"],
        "category_id": row["category_id"],
        "isBestSeller": row["isBestSeller"],
        "boughtInLastMonth": row["boughtInLastMonth"],
        "category_name": category.name if category else unknown_category(row["category_id"]),
        "price_level": row["price_level"],
        "date": DatetimeMS(version_of(row)[0]),
    }


def product_document(row: Row, category: Category | None, tag: Tag, before: Document | None) -> Document:
    """The whole document; `before` is the committed view that it replaces."""
    return {
        **product_fields(row, category),
        "_tide": {
            "version": versioned(version_of(row)),
            "contribution": list(contribution_of(row)),
            "tag": tag._asdict(),
            "before": before,
            "category": category and category.version._asdict(),
        },
    }


def quarantine_record(row: Row, files: Mapping[str, str]) -> Document:
    """The record of a rejection; `files` are names by ingestion."""
    return {
        "_id": row["id"],
        "topic": row["topic"],
        "partition": row["version"]["partition"],
        "offset": row["version"]["offset"],
        "timestamp": DatetimeMS(row["timestamp"]),
        "reason": row["reason"],
        "raw": None if row["raw"] is None else Binary(row["raw"]),
        "source": _source(row, files),
        "status": "open",
    }


def file_names(database: Database[Document], rows: Iterable[Row]) -> dict[str, str]:
    """Names of the files that rejections came from, by ingestion, which is registered before its first event is sent."""
    from_files = {row["ingestion"] for row in rows} - {None}
    named = database.ingestion.find({"_id": {"$in": list(from_files)}}, {"name": True}) if from_files else ()
    return {one["_id"]: one["name"] for one in named}


def _source(row: Row, files: Mapping[str, str]) -> Document | str:
    if row["ingestion"] is None:
        return "api"
    return {
        "ingestion": row["ingestion"],
        "position": Int64(row["version"]["position"]),
        "file": files.get(row["ingestion"]),
    }
