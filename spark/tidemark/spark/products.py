"""The Spark task that processes a partition of reduced rows: it writes products and quarantine records to MongoDB and returns differences.

A document's committed view is the document itself if the ledger has committed its tag, else its `before`. Writes of micro-batches that
never committed are thus ignored, so crashes, retried tasks and replays with other batch boundaries all lead to the same result.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import add, sub
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pymongo import InsertOne, ReplaceOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.versions import CategoryVersion, Version
from tidemark.serving.database import Document, database_of
from tidemark.serving.ledger import Category, Fenced, Ledger, Tag
from tidemark.spark.committed_view import apply, committed_view_of, unchanged
from tidemark.spark.documents import CONTRIBUTION, FIELDS, State, document_of, file_names, quarantine_record, states_of, versioned
from tidemark.spark.tasks import DOCUMENTS_PER_BATCH, DUPLICATE_KEY, client
from tidemark.spark.transforms import CATEGORY, PRODUCT

# The result of a task, as a Spark schema: differences by cell (version columns null), and categories (measures null).
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


# The columns of transforms.with_contributions that a task needs. The version is split: a struct costs several times as much to transfer.
COLUMNS = (
    *("kind", *(f"version.{part}" for part in Version._fields)),
    *dict.fromkeys((*FIELDS.values(), *CONTRIBUTION, "category_name", "topic", "timestamp", "reason", "ingestion", "raw")),
)


@dataclass(frozen=True)
class ProductWriter:
    """A micro-batch's task. The driver constructs it; it is called for each partition, possibly more than once.

    `categories` are the names before this micro-batch.
    """

    url: str
    database: str
    tag: Tag
    ledger: Ledger
    categories: Mapping[int, Category]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Maps rows of COLUMNS to rows of RESULT. Raises Fenced if a newer generation is at work."""
        database = database_of(client(self.url), self.database)
        differences: Differences = {}
        categories: list[dict[str, Any]] = []
        with _without_cycle_collection():
            for rows in _slices(batches):
                others = rows.filter(pc.not_equal(rows.column("kind"), PRODUCT)).to_pylist()
                categories += [row for row in others if row["kind"] == CATEGORY]
                self._quarantine(database, [row for row in others if row["reason"] is not None])
                self._write(database.product, states_of(rows.filter(pc.equal(rows.column("kind"), PRODUCT))), differences)
        yield _result(differences, categories)

    def _write(self, collection: Collection[Document], states: dict[str, State], differences: Differences) -> None:
        found = collection.find({"_id": {"$in": list(states)}}, {"_tide": True}) if states else ()
        held = {document["_id"]: committed_view_of(document["_tide"], self.ledger) for document in found}
        writes: list[InsertOne[Document] | ReplaceOne[Document]] = []
        for asin, state in states.items():
            now = held.get(asin)
            if now is not None and now.tag.generation > self.tag.generation:
                raise Fenced(
                    f"product {asin} was written by generation {now.tag.generation}, this stream is generation {self.tag.generation}"
                )
            base = now.committed if now is not None else None
            if base is not None and base.version >= state.version:
                continue
            _count(differences, state.contribution, add)
            if base is not None:
                _count(differences, base.contribution, sub)
            if now is not None and now.tag == self.tag and now.version == state.version:
                continue  # already written by an earlier attempt of this task
            before = base and {"version": versioned(base.version), "contribution": base.contribution}
            document = document_of(state, self.categories.get(state.contribution[0]), self.tag, before)
            if now is None:
                writes.append(InsertOne(document))
            else:
                writes.append(ReplaceOne(unchanged(asin, now.tag, now.version), document))
        apply(collection, writes)

    def _quarantine(self, database: Database[Document], rows: list[dict[str, Any]]) -> None:
        """Insert-only: an existing record stays unchanged, whatever its status."""
        if not rows:
            return
        files = file_names(database, rows)
        versioned_rows = ({**row, "version": {part: row[part] for part in Version._fields}} for row in rows)
        records = [quarantine_record(row, files) for row in versioned_rows]
        try:
            database.quarantine.insert_many(records, ordered=False)
        except BulkWriteError as error:
            if any(one["code"] != DUPLICATE_KEY for one in error.details["writeErrors"]) or error.details["writeConcernErrors"]:
                raise


@contextmanager
def _without_cycle_collection() -> Iterator[None]:
    """Disables the cyclic garbage collector: documents hold no cycles, and it would take a third of a task's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _slices(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows in slices of one find's size."""
    for batch in batches:
        for start in range(0, batch.num_rows, DOCUMENTS_PER_BATCH):
            yield batch.slice(start, DOCUMENTS_PER_BATCH)


def _count(differences: Differences, contribution: tuple[Any, ...], sign: Callable[[int, int], int]) -> None:
    """Adds a contribution to its cell, or subtracts it."""
    cell, measures = contribution[: len(Cell._fields)], contribution[len(Cell._fields) :]
    differences[cell] = tuple(map(sign, differences.get(cell, _NOTHING), measures))


def _result(differences: Differences, categories: list[dict[str, Any]]) -> pa.RecordBatch:
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
        for row in categories
    ]
    return pa.RecordBatch.from_pylist(rows, schema=_RESULT_ARROW)
