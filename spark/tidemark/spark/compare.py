"""Spark tasks that find drift: they compare documents in MongoDB with the rows that they should have been made from.

The stream may have continued meanwhile, so whatever lies at or beyond the mark is ignored on both sides: documents (by their committed
views), names and quarantine records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
from pymongo.collection import Collection
from pymongo.database import Database

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import quarantine
from tidemark.serving.database import Document, database_of
from tidemark.serving.ledger import Category, Ledger
from tidemark.spark.committed_view import Bookkeeping, committed_view_of
from tidemark.spark.documents import Row, contribution_of, product_fields, state_of, version_of
from tidemark.spark.tasks import client, slices

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SCAN_BATCH_SIZE = 5_000  # documents per batch of a scan

Event = tuple[str, int, int]  # topic, partition, offset

DIFFERENCE = "id string, how string"  # as Spark's schema
_DIFFERENCE_ARROW = pa.schema([("id", pa.string()), ("how", pa.string())])

FOUND = "id string, generation bigint, batch bigint, version array<bigint>, counts boolean"
_FOUND_ARROW = pa.schema(
    [("id", pa.string()), ("generation", pa.int64()), ("batch", pa.int64()), ("version", pa.list_(pa.int64())), ("counts", pa.bool_())]
)


class Range(NamedTuple):
    """A range of keys: `least` is inclusive, `below` exclusive, None is unbounded."""

    least: str | None
    below: str | None


@dataclass(frozen=True)
class ComparisonContext:
    """The database to compare, the ledger as it was before any document was read, the mark, and both topics."""

    url: str
    database: str
    ledger: Ledger
    mark: TideMark
    product_topic: str
    category_topic: str

    def open(self) -> Database[Document]:
        return database_of(client(self.url), self.database)

    def is_beyond(self, topic: str, partition: int, offset: int) -> bool:
        return offset >= self.mark[TopicPartition(topic, partition)]

    def is_abandoned(self, held: Bookkeeping) -> bool:
        """Was a document written ahead by a former stream, and has the mark passed its event without a commit?

        No stream reads that event again as an observation: its file has been withdrawn, or the rules have changed.
        """
        _, _, _, partition, offset = held.version
        is_former = not self.ledger.holds(held.tag) and held.tag.generation < self.ledger.generation
        return is_former and not self.is_beyond(self.product_topic, partition, offset)

    def category_is_beyond(self, version: Mapping[str, int] | None) -> bool:
        return version is not None and self.is_beyond(self.category_topic, version["partition"], version["offset"])


@dataclass(frozen=True)
class ProductComparer:
    """Maps rows of product states to rows of DIFFERENCE. `categories` are the names below the mark."""

    context: ComparisonContext
    categories: Mapping[int, Category]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        products = self.context.open().product
        for rows in slices(batches):
            found = _by_id(products, rows)
            yield _differences((row["id"], self._difference(row, found.get(row["id"]))) for row in rows)

    def _difference(self, row: Row, document: Document | None) -> str | None:
        held = committed_view_of(document["_tide"], self.context.ledger) if document else None
        if document is None or held is None or held.committed is None:
            return "missing"
        _, _, _, partition, offset = held.committed.version
        if self.context.is_beyond(self.context.product_topic, partition, offset):
            return None
        wrong = _mismatch("version", held.committed.version, version_of(row))
        wrong += _mismatch("contribution", held.committed.contribution, contribution_of(row))
        if self.context.is_abandoned(held):
            wrong += ["written ahead by a stream that has ended, and never committed"]
        if self.context.ledger.holds(held.tag):  # otherwise the fields are those of a newer state
            wrong += self._fields(row, document)
        return "; ".join(wrong) or None

    def _fields(self, row: Row, document: Document) -> list[str]:
        expected = product_fields(state_of(row), self.categories.get(row["category_id"]))
        expected["date"] = EPOCH + timedelta(milliseconds=int(expected["date"]))
        found = {name: value for name, value in document.items() if name != "_tide"}
        if self.context.category_is_beyond(document["_tide"].get("category")):
            del expected["category_name"], found["category_name"]
        return [line for name in (expected | found) for line in _mismatch(name, found.get(name), expected.get(name))]


@dataclass(frozen=True)
class ProductFinder:
    """Maps ranges of keys to rows of FOUND, one per product.

    `counts` says whether a document should have a state below the mark: its committed view is there, or the write of a stream that has
    ended, even if it was never committed. The current stream processes whatever lies beyond the mark by itself.
    """

    context: ComparisonContext

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        fields = {"_tide.tag": True, "_tide.version": True, "_tide.before": True, "_tide.contribution": True}
        for some in _scanned(self.context.open().product, batches, fields):
            yield pa.RecordBatch.from_pylist(
                [self._row(one["_id"], committed_view_of(one["_tide"], self.context.ledger)) for one in some], _FOUND_ARROW
            )

    def _row(self, asin: str, held: Bookkeeping) -> dict[str, Any]:
        view = held.committed.version if held.committed else None
        counts = self.context.is_abandoned(held) or (
            view is not None and not self.context.is_beyond(self.context.product_topic, view[3], view[4])
        )
        return {"id": asin, **held.tag._asdict(), "version": list(held.version), "counts": counts}


@dataclass(frozen=True)
class QuarantineComparer:
    """Maps rows of rejected sources, each with its `events` (topic, partition, offset, reason), to rows of DIFFERENCE."""

    context: ComparisonContext

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        records = self.context.open().quarantine
        for rows in slices(batches):
            found = _by_id(records, rows, QUARANTINE_FIELDS)
            yield _differences((row["id"], self._difference(row, found.get(row["id"]))) for row in rows)

    def _difference(self, row: Row, record: Document | None) -> str | None:
        if record is None:
            return "missing"
        if record["status"] == quarantine.HEALED:
            return "healed, but its event is a rejection"
        event = record["topic"], record["partition"], record["offset"]
        if self.context.is_beyond(*event):
            return None
        reasons = {(one["topic"], one["partition"], one["offset"]): one["reason"] for one in row["events"]}
        if event not in reasons:
            return f"refers to event {'/'.join(map(str, event))}, which is not a rejection"
        return "; ".join(_mismatch("reason", record["reason"], reasons[event]) + self._of_replay(record, reasons)) or None

    def _of_replay(self, record: Document, rejected: Mapping[Event, str]) -> list[str]:
        """A replayed record is settled as long as the replay is an observation. A rejected replay has no record of its own, because each
        source has only one.
        """
        event = quarantine.replay_of(record)
        if event is None or self.context.is_beyond(*event):
            return []
        match record["status"], event in rejected:
            case quarantine.REPLAYED, True:
                return ["replayed, but the replay is a rejection"]
            case quarantine.OPEN, False:
                return ["open, but its replay is an observation"]
        return []


@dataclass(frozen=True)
class QuarantineFinder:
    """Maps ranges of keys to rows of DIFFERENCE: the records that should belong to a rejection below the mark."""

    context: ComparisonContext

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for some in _scanned(self.context.open().quarantine, batches, QUARANTINE_FIELDS):
            yield _differences(
                (one["_id"], f"should not exist: {one['reason']}")
                for one in some
                if one["status"] != quarantine.HEALED and not self.context.is_beyond(one["topic"], one["partition"], one["offset"])
            )


QUARANTINE_FIELDS = dict.fromkeys(("topic", "partition", "offset", "reason", "status", "replayed"), True)


def ranges(collection: Collection[Document], count: int) -> list[Range]:
    """Splits all keys into ranges of about equally many documents, by a sample."""
    sampled = sorted(one["_id"] for one in collection.aggregate([{"$sample": {"size": 100 * count}}, {"$project": {"_id": True}}]))
    bounds = sorted({sampled[len(sampled) * index // count] for index in range(1, count)}) if sampled else []
    return [Range(*one) for one in zip([None, *bounds], [*bounds, None], strict=True)]


def _by_id(collection: Collection[Document], rows: list[dict[str, Any]], fields: Mapping[str, Any] | None = None) -> dict[str, Document]:
    return {one["_id"]: one for one in collection.find({"_id": {"$in": [row["id"] for row in rows]}}, fields)} if rows else {}


def _scanned(collection: Collection[Document], batches: Iterable[pa.RecordBatch], fields: Mapping[str, Any]) -> Iterator[list[Document]]:
    """All documents of the ranges, in batches."""
    for rows in slices(batches):
        for row in rows:
            within = {"$gte": row["least"], "$lt": row["below"]}
            bounds = {name: key for name, key in within.items() if key is not None}
            some: list[Document] = []
            for one in collection.find({"_id": bounds} if bounds else {}, fields):
                some.append(one)
                if len(some) == _SCAN_BATCH_SIZE:
                    yield some
                    some = []
            yield some


def _mismatch(name: str, found: object, expected: object) -> list[str]:
    same = found == expected and isinstance(found, bool) == isinstance(expected, bool)
    return [] if same else [f"{name} is {_render(found)} instead of {_render(expected)}"]


def _render(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f"'{value}'"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S.%f} UTC"
        case tuple():
            return f"({', '.join(map(_render, value))})"
    return str(value)


def _differences(found: Iterable[tuple[str, str | None]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"id": identity, "how": how} for identity, how in found if how is not None], _DIFFERENCE_ARROW)
