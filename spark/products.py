"""What a Spark task does with a partition of reduced rows: product documents and quarantine records into MongoDB, differences out.

A document's committed view is the document itself, if the ledger has committed its tag, else its `before`. Whatever was
written by a micro-batch that never committed is looked through, so that a crash, a retried task and any replay with any
other batching come to the same end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
from bson import Binary
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from pymongo import InsertOne, MongoClient, ReplaceOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from catalog.cube import MEASURES, Cell
from catalog.versions import CategoryVersion, Version
from serving.database import Document, connect, tidemark
from serving.ledger import Category, Fenced, Ledger, Tag
from serving.views import unknown_category
from spark.transforms import CATEGORY, PRODUCT

_DUPLICATE_KEY = 11000  # MongoDB's error code
_DOCUMENTS_AT_ONCE = 2_000  # one find and one bulk write

# What a task returns, as Spark's schema: differences by cell (version columns null), and categories (measures null).
RESULT = ", ".join(
    (
        "kind string, category_id int, price_level int, is_best_seller boolean, category_name string",
        *(f"{name} bigint" for name in CategoryVersion._fields),
        *(f"{measure} bigint" for measure in MEASURES),
    )
)
DIMENSIONS = ("kind", "category_id", "price_level", "is_best_seller", "category_name", *CategoryVersion._fields)

_RESULT_ARROW = pa.schema(
    [
        ("kind", pa.string()),
        ("category_id", pa.int32()),
        ("price_level", pa.int32()),
        ("is_best_seller", pa.bool_()),
        ("category_name", pa.string()),
        *((name, pa.int64()) for name in CategoryVersion._fields),
        *((measure, pa.int64()) for measure in MEASURES),
    ]
)

CELL_DIFFERENCE = "cell"  # beside transforms.CATEGORY


class View(NamedTuple):
    """What a document says once uncommitted writes are looked through."""

    version: tuple[int, ...]
    contribution: tuple[Any, ...]  # the cell's dimensions, then the measures


class Held(NamedTuple):
    """A product document's bookkeeping as read."""

    tag: Tag
    version: tuple[int, ...]
    committed: View | None


@dataclass(frozen=True)
class ProductWriter:
    """A micro-batch's task: constructed by the driver, called once a partition, maybe more than once.

    `categories` are the names before this micro-batch.
    """

    url: str
    database: str
    tag: Tag
    ledger: Ledger
    categories: Mapping[int, Category]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of transforms.with_contributions to rows of RESULT. Raises Fenced where somebody newer is at work."""
        database = tidemark(_client(self.url), self.database)
        differences: dict[tuple[Any, ...], list[int]] = {}
        told: list[dict[str, Any]] = []
        for rows in _slices(batches):
            products = [row for row in rows if row["kind"] == PRODUCT]
            told += [row for row in rows if row["kind"] == CATEGORY]
            self._quarantine(database, [row for row in rows if row["reason"] is not None])
            self._write(database.product, products, differences)
        yield _result(differences, told)

    def _write(self, collection: Collection[Document], rows: list[dict[str, Any]], differences: dict[tuple[Any, ...], list[int]]) -> None:
        found = collection.find({"_id": {"$in": [row["id"] for row in rows]}}, {"_tide": True}) if rows else ()
        held = {document["_id"]: self._held(document["_tide"]) for document in found}
        writes: list[InsertOne[Document] | ReplaceOne[Document]] = []
        for row in rows:
            now = held.get(row["id"])
            if now is not None and now.tag.generation > self.tag.generation:
                raise Fenced(f"product {row['id']} bears generation {now.tag.generation}, this stream is generation {self.tag.generation}")
            base = now.committed if now is not None else None
            version = tuple(row["version"].values())
            if base is not None and base.version >= version:
                continue
            contribution = (row["category_id"], row["price_level"], row["isBestSeller"], *(row[measure] for measure in MEASURES))
            _add(differences, contribution, 1)
            if base is not None:
                _add(differences, base.contribution, -1)
            if now is not None and now.tag == self.tag and now.version == version:
                continue  # an earlier attempt of this very task has written it
            document = self._document(row, version, contribution, base)
            if now is None:
                writes.append(InsertOne(document))
            else:
                as_read = {"_id": row["id"], "_tide.tag": now.tag._asdict(), "_tide.version": _versioned(now.version)}
                writes.append(ReplaceOne(as_read, document))
        if writes:
            self._apply(collection, writes)

    def _apply(self, collection: Collection[Document], writes: list[InsertOne[Document] | ReplaceOne[Document]]) -> None:
        """Inserts are inserts and replacements compare what was read: whoever loses a race has been succeeded."""
        try:
            done = collection.bulk_write(writes, ordered=False)
        except BulkWriteError as error:
            if all(one["code"] == _DUPLICATE_KEY for one in error.details["writeErrors"]) and error.details["writeErrors"]:
                raise Fenced("a product was inserted by somebody else at the same time") from error
            raise
        if done.inserted_count + done.matched_count != len(writes):
            raise Fenced("a product was replaced by somebody else at the same time")

    def _held(self, tide: Document) -> Held:
        tag, version = Tag(**tide["tag"]), tuple(tide["version"].values())
        if self.ledger.has_forgotten(tag):
            return Held(tag, version, None)
        if self.ledger.holds(tag):
            return Held(tag, version, View(version, tuple(tide["contribution"])))
        before = tide["before"]
        return Held(tag, version, before and View(tuple(before["version"].values()), tuple(before["contribution"])))

    def _document(self, row: dict[str, Any], version: tuple[int, ...], contribution: tuple[Any, ...], base: View | None) -> Document:
        category = self.categories.get(row["category_id"])
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
            "date": DatetimeMS(version[0]),
            "_tide": {
                "version": _versioned(version),
                "contribution": list(contribution),
                "tag": self.tag._asdict(),
                "before": base and {"version": _versioned(base.version), "contribution": list(base.contribution)},
                "category": category and category.version._asdict(),
            },
        }

    def _quarantine(self, database: Database[Document], rows: list[dict[str, Any]]) -> None:
        """Insert-only: a record that is there, however it was treated since, stays as it is."""
        if not rows:
            return
        from_files = {row["ingestion"] for row in rows} - {None}
        named = database.ingestion.find({"_id": {"$in": list(from_files)}}, {"name": True}) if from_files else ()
        files = {one["_id"]: one["name"] for one in named}
        records = [
            {
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
            for row in rows
        ]
        try:
            database.quarantine.insert_many(records, ordered=False)
        except BulkWriteError as error:
            if any(one["code"] != _DUPLICATE_KEY for one in error.details["writeErrors"]) or error.details["writeConcernErrors"]:
                raise


@cache
def _client(url: str) -> MongoClient[Document]:
    """One client a worker process."""
    return connect(url)


def _slices(batches: Iterable[pa.RecordBatch]) -> Iterator[list[dict[str, Any]]]:
    """Rows in lists of one find's size, whatever the size of Arrow's batches."""
    rows = (row for batch in batches for row in batch.to_pylist())
    while some := list(islice(rows, _DOCUMENTS_AT_ONCE)):
        yield some


def _add(differences: dict[tuple[Any, ...], list[int]], contribution: tuple[Any, ...], sign: int) -> None:
    dimensions, measures = contribution[: len(Cell._fields)], contribution[len(Cell._fields) :]
    sums = differences.setdefault(dimensions, [0] * len(MEASURES))
    for index, measure in enumerate(measures):
        sums[index] += sign * measure


def _source(row: dict[str, Any], files: Mapping[str, str]) -> Document | str:
    """Where a rejection came from; `files` are names by ingestion, which is registered before its first event is sent."""
    if row["ingestion"] is None:
        return "api"
    return {
        "ingestion": row["ingestion"],
        "position": Int64(row["version"]["position"]),
        "file": files.get(row["ingestion"]),
    }


def _versioned(version: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(Version._fields, version, strict=True))


def _result(differences: Mapping[tuple[Any, ...], list[int]], told: list[dict[str, Any]]) -> pa.RecordBatch:
    rows = [
        {
            "kind": CELL_DIFFERENCE,
            **dict(zip(Cell._fields, cell, strict=True)),
            **dict(zip(MEASURES, sums, strict=True)),
        }
        for cell, sums in differences.items()
        if any(sums)
    ]
    rows += [
        {
            "kind": CATEGORY,
            "category_id": row["category_id"],
            "category_name": row["category_name"],
            **{name: row["version"][name] for name in CategoryVersion._fields},
        }
        for row in told
    ]
    return pa.RecordBatch.from_pylist(rows, schema=_RESULT_ARROW)


Task = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]
