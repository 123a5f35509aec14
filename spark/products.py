"""What a Spark task does with a partition of reduced rows: product documents and quarantine records into MongoDB, differences out.

A document's committed view is the document itself, if the ledger has committed its tag, else its `before`. Whatever was
written by a micro-batch that never committed is looked through, so that a crash, a retried task and any replay with any
other batching come to the same end.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from operator import add, sub
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
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

Differences = dict[tuple[Any, ...], tuple[int, ...]]  # measures by cell
_NOTHING = (0,) * len(MEASURES)


# A product document's fields by the columns they come from, but for those that the writer works out.
_FIELDS = {
    "_id": "id",
    "asin": "id",
    **{name: name for name in ("title", "imgUrl", "productURL", "stars", "reviews", "price", "listPrice", "category_id", "isBestSeller")},
    **{name: name for name in ("boughtInLastMonth", "price_level")},
}
_CONTRIBUTION = ("category_id", "price_level", "isBestSeller", *MEASURES)

# What a task needs of transforms.with_contributions. A version comes in parts: a struct costs several times as much to hand over.
COLUMNS = (
    *("kind", *(f"version.{part}" for part in Version._fields)),
    *dict.fromkeys((*_FIELDS.values(), *_CONTRIBUTION, "category_name", "topic", "timestamp", "reason", "ingestion", "raw")),
)


class Held(NamedTuple):
    """A product document's bookkeeping as read. `committed` holds version and contribution of its committed view, if it has one."""

    tag: Tag
    version: Document
    committed: Document | None


class State(NamedTuple):
    """A product as its newest event says. The contribution is the cell's dimensions, then the measures."""

    version: tuple[int, ...]
    contribution: tuple[Any, ...]
    fields: tuple[Any, ...]  # in the order of _FIELDS


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
        """Rows of COLUMNS to rows of RESULT. Raises Fenced where somebody newer is at work."""
        database = tidemark(_client(self.url), self.database)
        differences: Differences = {}
        told: list[dict[str, Any]] = []
        with _no_search_for_cycles():
            for rows in _slices(batches):
                others = rows.filter(pc.not_equal(rows.column("kind"), PRODUCT)).to_pylist()
                told += [row for row in others if row["kind"] == CATEGORY]
                self._quarantine(database, [row for row in others if row["reason"] is not None])
                self._write(database.product, _states(rows.filter(pc.equal(rows.column("kind"), PRODUCT))), differences)
        yield _result(differences, told)

    def _write(self, collection: Collection[Document], states: dict[str, State], differences: Differences) -> None:
        found = collection.find({"_id": {"$in": list(states)}}, {"_tide": True}) if states else ()
        held = {document["_id"]: self._held(document["_tide"]) for document in found}
        writes: list[InsertOne[Document] | ReplaceOne[Document]] = []
        for asin, state in states.items():
            now = held.get(asin)
            if now is not None and now.tag.generation > self.tag.generation:
                raise Fenced(f"product {asin} bears generation {now.tag.generation}, this stream is generation {self.tag.generation}")
            base = now.committed if now is not None else None
            if base is not None and tuple(base["version"].values()) >= state.version:
                continue
            _count(differences, state.contribution, add)
            if base is not None:
                _count(differences, tuple(base["contribution"]), sub)
            if now is not None and now.tag == self.tag and tuple(now.version.values()) == state.version:
                continue  # an earlier attempt of this very task has written it
            document = self._document(state, base)
            if now is None:
                writes.append(InsertOne(document))
            else:
                as_read = {"_id": asin, "_tide.tag": now.tag._asdict(), "_tide.version": now.version}
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
        tag, version = Tag(**tide["tag"]), tide["version"]
        if self.ledger.has_forgotten(tag):
            return Held(tag, version, None)
        if self.ledger.holds(tag):
            return Held(tag, version, {"version": version, "contribution": tide["contribution"]})
        return Held(tag, version, tide["before"])

    def _document(self, state: State, base: Document | None) -> Document:
        document = dict(zip(_FIELDS, state.fields, strict=True))
        category = self.categories.get(document["category_id"])
        document["category_name"] = category.name if category else unknown_category(document["category_id"])
        document["date"] = DatetimeMS(state.version[0])
        document["_tide"] = {
            "version": dict(zip(Version._fields, state.version, strict=True)),
            "contribution": state.contribution,
            "tag": self.tag._asdict(),
            "before": base,
            "category": category and category.version._asdict(),
        }
        return document

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
                "partition": row["partition"],
                "offset": row["offset"],
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


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Documents by the thousand hold no cycles: Python's search for some would be a third of a task's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _slices(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows as many as one find's at once."""
    for batch in batches:
        for start in range(0, batch.num_rows, _DOCUMENTS_AT_ONCE):
            yield batch.slice(start, _DOCUMENTS_AT_ONCE)


def _states(products: pa.RecordBatch) -> dict[str, State]:
    """States by ASIN. Column by column, which is several times as fast as row by row."""

    def rows(names: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        return zip(*(products.column(name).to_pylist() for name in names), strict=True)

    states = map(State, rows(Version._fields), rows(_CONTRIBUTION), rows(_FIELDS.values()))
    return dict(zip(products.column("id").to_pylist(), states, strict=True))


def _count(differences: Differences, contribution: tuple[Any, ...], sign: Callable[[int, int], int]) -> None:
    """Adds a contribution to its cell, or takes it back."""
    cell, measures = contribution[: len(Cell._fields)], contribution[len(Cell._fields) :]
    differences[cell] = tuple(map(sign, differences.get(cell, _NOTHING), measures))


def _source(row: dict[str, Any], files: Mapping[str, str]) -> Document | str:
    """Where a rejection came from; `files` are names by ingestion, which is registered before its first event is sent."""
    if row["ingestion"] is None:
        return "api"
    return {
        "ingestion": row["ingestion"],
        "position": Int64(row["position"]),
        "file": files.get(row["ingestion"]),
    }


def _result(differences: Differences, told: list[dict[str, Any]]) -> pa.RecordBatch:
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
            **{name: row[name] for name in CategoryVersion._fields},
        }
        for row in told
    ]
    return pa.RecordBatch.from_pylist(rows, schema=_RESULT_ARROW)
