"""Rows of transforms.with_contributions as MongoDB documents, for code that writes them and code that compares them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
from bson import Binary
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from pymongo.database import Database
from pyspark.sql import Row as SparkRow

from tidemark.catalog.cube import MEASURES, Cell, unknown_category
from tidemark.catalog.observations import Reason
from tidemark.catalog.versions import Version
from tidemark.serving.database import Document
from tidemark.serving.ledger import Category, Tag
from tidemark.serving.quarantine import DISCARDED, OPEN

Row = Mapping[str, Any]

# The columns by the fields of a product document, without the fields that are computed.
FIELDS = {
    "_id": "id",
    "asin": "id",
    **{name: name for name in ("title", "imgUrl", "productURL", "stars", "reviews", "price", "listPrice", "category_id", "isBestSeller")},
    **{name: name for name in ("boughtInLastMonth", "price_level")},
}
CONTRIBUTION = ("category_id", "price_level", "isBestSeller", *MEASURES)  # the dimensions of the cell, then the measures


class State(NamedTuple):
    """A product's state according to one event. `fields` are in the order of FIELDS, `contribution` in that of CONTRIBUTION."""

    version: tuple[int, ...]
    contribution: tuple[Any, ...]
    fields: tuple[Any, ...]


def state_of(row: Row) -> State:
    return State(version_of(row), contribution_of(row), tuple(row[name] for name in FIELDS.values()))


def states_of(products: pa.RecordBatch) -> dict[str, State]:
    """States by ASIN, of rows whose versions are split into columns. Column by column is several times as fast as row by row."""

    def rows(names: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        return zip(*(products.column(name).to_pylist() for name in names), strict=True)

    states = map(State, rows(Version._fields), rows(CONTRIBUTION), rows(FIELDS.values()))
    return dict(zip(products.column("id").to_pylist(), states, strict=True))


def version_of(row: Row) -> tuple[int, ...]:
    return tuple(row["version"].values())


def contribution_of(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in CONTRIBUTION)


def cell_of(row: Row | SparkRow) -> Cell:
    """The cell of a row of transforms.cube."""
    return Cell(row["category_id"], row["price_level"], row["isBestSeller"])


def sums_of(row: Row | SparkRow) -> tuple[int, ...]:
    """The measures of a row, in the order of MEASURES."""
    return tuple(row[measure] for measure in MEASURES)


def versioned(version: tuple[int, ...]) -> dict[str, int]:
    """A version as an embedded document. The order of fields is part of the value."""
    return dict(zip(Version._fields, version, strict=True))


def category_name(category_id: int, category: Category | None) -> str:
    """The name that products of a category bear."""
    return category.name if category else unknown_category(category_id)


def category_version(category: Category | None) -> dict[str, int] | None:
    """The version of that name, as an embedded document; None if the category has no name."""
    return category and category.version._asdict()


def product_fields(state: State, category: Category | None) -> Document:
    """A product's document without its bookkeeping."""
    document = dict(zip(FIELDS, state.fields, strict=True))
    document["category_name"] = category_name(document["category_id"], category)
    document["date"] = DatetimeMS(state.version[0])
    return document


def document_of(state: State, category: Category | None, tag: Tag, before: Document | None) -> Document:
    """The whole document; `before` is the committed view that it replaces."""
    document = product_fields(state, category)
    document["_tide"] = {
        "version": versioned(state.version),
        "contribution": list(state.contribution),
        "tag": tag._asdict(),
        "before": before,
        "category": category_version(category),
    }
    return document


def quarantine_record(row: Row, files: Mapping[str, str]) -> Document:
    """The record of a rejection; `files` are names by ingestion. A replay reuses `registered_at` (milliseconds) and `position`."""
    return {
        "_id": row["id"],
        "topic": row["topic"],
        "partition": row["version"]["partition"],
        "offset": row["version"]["offset"],
        "timestamp": DatetimeMS(row["timestamp"]),
        "registered_at": Int64(row["version"]["registered_at"]),
        "position": Int64(row["version"]["position"]),
        "reason": row["reason"],
        "raw": None if row["raw"] is None else Binary(row["raw"]),
        "source": _source(row, files),
        # The withdrawal has already decided about these.
        "status": DISCARDED if row["reason"] == Reason.WITHDRAWN else OPEN,
    }


def file_names(database: Database[Document], rows: Iterable[Row]) -> dict[str, str]:
    """The names of the files that rejections came from, by ingestion. An ingestion is registered before its first event is sent."""
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
