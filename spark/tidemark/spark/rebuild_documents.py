"""The Spark tasks of a rebuild: compare-and-set inserts, replacements and deletions under the rebuild's own tag."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from pymongo.collection import Collection

from tidemark.serving import quarantine
from tidemark.serving.database import Document, database_of
from tidemark.serving.ledger import Category, Fenced, Tag
from tidemark.spark.committed_view import apply, unchanged
from tidemark.spark.documents import document_of, file_names, quarantine_record, state_of, version_of
from tidemark.spark.tasks import client, slices

DONE = "done bigint"  # number of documents, as a Spark schema
_DONE_ARROW = pa.schema([("done", pa.int64())])


@dataclass(frozen=True)
class Restorer:
    """Base of the tasks: the database and the rebuild's tag."""

    url: str
    database: str
    tag: Tag

    def collection(self, name: str) -> Collection[Document]:
        return database_of(client(self.url), self.database)[name]

    def require_own(self, asin: str, tag: Tag) -> None:
        if tag.generation > self.tag.generation:
            raise Fenced(f"product {asin} was written by generation {tag.generation}, this rebuild is generation {self.tag.generation}")


@dataclass(frozen=True)
class ProductRestorer(Restorer):
    """Writes the documents of product states. `categories` are the names of the publication."""

    categories: Mapping[int, Category]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        products = self.collection("product")
        for rows in slices(batches):
            found = products.find({"_id": {"$in": [row["id"] for row in rows]}}, {"_tide.tag": True, "_tide.version": True})
            there = {one["_id"]: (Tag(**one["_tide"]["tag"]), tuple(one["_tide"]["version"].values())) for one in found}
            writes: list[InsertOne[Document] | ReplaceOne[Document]] = []
            for row in rows:
                now = there.get(row["id"])
                if now is None:
                    writes.append(InsertOne(self._document(row)))
                    continue
                self.require_own(row["id"], now[0])
                if now != (self.tag, version_of(row)):  # otherwise already written by an earlier attempt of this task
                    writes.append(ReplaceOne(unchanged(row["id"], *now), self._document(row)))
            apply(products, writes)
            yield _done(len(writes))

    def _document(self, row: Mapping[str, Any]) -> Document:
        return document_of(state_of(row), self.categories.get(row["category_id"]), self.tag, before=None)


@dataclass(frozen=True)
class ProductRemover(Restorer):
    """Deletes products that the publication does not contain, given as rows of compare.FOUND."""

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in slices(batches):
            deletes = []
            for row in rows:
                tag = Tag(row["generation"], row["batch"])
                self.require_own(row["id"], tag)
                deletes.append(DeleteOne(unchanged(row["id"], tag, tuple(row["version"]))))
            apply(self.collection("product"), deletes)
            yield _done(len(deletes))


@dataclass(frozen=True)
class QuarantineRestorer(Restorer):
    """Writes the records of rejections that are missing or wrong in quarantine. Each row comes with its source's `events`.

    The marks that people have made on a record stay. A replay that is itself a rejection no longer settles the record.
    """

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        records = self.collection("quarantine")
        for rows in slices(batches):
            files = file_names(records.database, rows)
            quarantine.replace_records(records, ((quarantine_record(row, files), row["events"]) for row in rows))
            yield _done(len(rows))


@dataclass(frozen=True)
class QuarantineHealer(Restorer):
    """Marks records whose events are no longer rejections as healed, given as rows with an id."""

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in slices(batches):
            healed = [UpdateOne({"_id": row["id"]}, {"$set": {"status": quarantine.HEALED}}) for row in rows]
            if healed:
                self.collection("quarantine").bulk_write(healed, ordered=False)
            yield _done(len(healed))


def _done(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"done": count}], _DONE_ARROW)
