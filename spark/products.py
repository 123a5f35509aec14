"""What a Spark task does with a partition of reduced rows: product documents and quarantine records into MongoDB, differences out.

A document's committed view is the document itself, if the ledger has committed its tag, else its `before`. Whatever was
written by a micro-batch that never committed is looked through, so that a crash, a retried task and any replay with any
other batching come to the same end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pymongo import InsertOne, ReplaceOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from catalog.cube import MEASURES, Cell
from catalog.versions import CategoryVersion
from serving.database import Document, tidemark
from serving.ledger import Category, Fenced, Ledger, Tag
from spark.documents import contribution_of, file_names, product_document, quarantine_record, version_of, versioned
from spark.held import apply, as_read, held_by
from spark.tasks import DUPLICATE_KEY, client, slices
from spark.transforms import CATEGORY, PRODUCT

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
        database = tidemark(client(self.url), self.database)
        differences: dict[tuple[Any, ...], list[int]] = {}
        told: list[dict[str, Any]] = []
        for rows in slices(batches):
            products = [row for row in rows if row["kind"] == PRODUCT]
            told += [row for row in rows if row["kind"] == CATEGORY]
            self._quarantine(database, [row for row in rows if row["reason"] is not None])
            self._write(database.product, products, differences)
        yield _result(differences, told)

    def _write(self, collection: Collection[Document], rows: list[dict[str, Any]], differences: dict[tuple[Any, ...], list[int]]) -> None:
        found = collection.find({"_id": {"$in": [row["id"] for row in rows]}}, {"_tide": True}) if rows else ()
        held = {document["_id"]: held_by(document["_tide"], self.ledger) for document in found}
        writes: list[InsertOne[Document] | ReplaceOne[Document]] = []
        for row in rows:
            now = held.get(row["id"])
            if now is not None and now.tag.generation > self.tag.generation:
                raise Fenced(f"product {row['id']} bears generation {now.tag.generation}, this stream is generation {self.tag.generation}")
            base = now.committed if now is not None else None
            version = version_of(row)
            if base is not None and base.version >= version:
                continue
            _add(differences, contribution_of(row), 1)
            if base is not None:
                _add(differences, base.contribution, -1)
            if now is not None and now.tag == self.tag and now.version == version:
                continue  # an earlier attempt of this very task has written it
            before = base and {"version": versioned(base.version), "contribution": list(base.contribution)}
            document = product_document(row, self.categories.get(row["category_id"]), self.tag, before)
            if now is None:
                writes.append(InsertOne(document))
            else:
                writes.append(ReplaceOne(as_read(row["id"], now.tag, now.version), document))
        apply(collection, writes)

    def _quarantine(self, database: Database[Document], rows: list[dict[str, Any]]) -> None:
        """Insert-only: a record that is there, however it was treated since, stays as it is."""
        if not rows:
            return
        files = file_names(database, rows)
        records = [quarantine_record(row, files) for row in rows]
        try:
            database.quarantine.insert_many(records, ordered=False)
        except BulkWriteError as error:
            if any(one["code"] != DUPLICATE_KEY for one in error.details["writeErrors"]) or error.details["writeConcernErrors"]:
                raise


def _add(differences: dict[tuple[Any, ...], list[int]], contribution: tuple[Any, ...], sign: int) -> None:
    dimensions, measures = contribution[: len(Cell._fields)], contribution[len(Cell._fields) :]
    sums = differences.setdefault(dimensions, [0] * len(MEASURES))
    for index, measure in enumerate(measures):
        sums[index] += sign * measure


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
