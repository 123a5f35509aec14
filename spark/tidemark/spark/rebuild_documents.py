"""What Spark tasks do in a rebuild: documents are replaced, inserted and deleted only as they were read, under the rebuild's own tag."""

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
from tidemark.spark.committed_view import apply, as_read
from tidemark.spark.documents import document_of, file_names, quarantine_record, state_of, version_of
from tidemark.spark.tasks import client, slices

DONE = "done bigint"  # documents, as Spark's schema
_DONE_ARROW = pa.schema([("done", pa.int64())])


@dataclass(frozen=True)
class Restorer:
    """Whose tasks these are: the database and the rebuild's tag."""

    url: str
    database: str
    tag: Tag

    def collection(self, name: str) -> Collection[Document]:
        return database_of(client(self.url), self.database)[name]

    def require_own(self, asin: str, tag: Tag) -> None:
        if tag.generation > self.tag.generation:
            raise Fenced(f"product {asin} bears generation {tag.generation}, this rebuild is generation {self.tag.generation}")


@dataclass(frozen=True)
class ProductRestorer(Restorer):
    """Rows of product states to their documents. `categories` are the names of the publication."""

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
                if now != (self.tag, version_of(row)):  # else an earlier attempt of this very task has written it
                    writes.append(ReplaceOne(as_read(row["id"], *now), self._document(row)))
            apply(products, writes)
            yield _done(len(writes))

    def _document(self, row: Mapping[str, Any]) -> Document:
        return document_of(state_of(row), self.categories.get(row["category_id"]), self.tag, before=None)


@dataclass(frozen=True)
class ProductRemover(Restorer):
    """Rows of compare.FOUND: products that the publication does not hold."""

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in slices(batches):
            deletes = []
            for row in rows:
                tag = Tag(row["generation"], row["batch"])
                self.require_own(row["id"], tag)
                deletes.append(DeleteOne(as_read(row["id"], tag, tuple(row["version"]))))
            apply(self.collection("product"), deletes)
            yield _done(len(deletes))


@dataclass(frozen=True)
class QuarantineRestorer(Restorer):
    """Rows of rejections that are not in quarantine as they should be, each with its source's `events`.

    What people have done about a record stays, but for a replay that is a rejection itself: then there is something to be done again.
    """

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        records = self.collection("quarantine")
        for rows in slices(batches):
            files = file_names(records.database, rows)
            quarantine.replace_records(records, ((quarantine_record(row, files), row["events"]) for row in rows))
            yield _done(len(rows))


@dataclass(frozen=True)
class QuarantineHealer(Restorer):
    """Rows with an id: records of what is no rejection any more."""

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in slices(batches):
            healed = [UpdateOne({"_id": row["id"]}, {"$set": {"status": quarantine.HEALED}}) for row in rows]
            if healed:
                self.collection("quarantine").bulk_write(healed, ordered=False)
            yield _done(len(healed))


def _done(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"done": count}], _DONE_ARROW)
