"""Records for display only: how far the raw history reaches, and the stream's work per minute.

Correctness does not depend on them. The authoritative sources are the raw history's table and the ledger.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass

import pymongo
from bson.int64 import Int64
from pymongo.database import Database

from tidemark.catalog.marks import TideMark
from tidemark.serving import offsets
from tidemark.serving.database import Document

LANDED = "landed"
KEPT_SECONDS = 2 * 60 * 60  # retention of a minute
MAX_SECONDS = 2.0  # timeout of writing a record, because the stream has other work to do


@dataclass(frozen=True)
class Work:
    """A stream's work: micro-batches, their events, the rejected ones among these, and the time taken."""

    micro_batches: int = 0
    events: int = 0
    rejected: int = 0
    busy_milliseconds: int = 0

    def plus(self, more: Work) -> Work:
        return Work(*(one + other for one, other in zip(astuple(self), astuple(more), strict=True)))

    def since(self, before: Work) -> Work:
        """The work done since `before`."""
        return Work(*(one - other for one, other in zip(astuple(self), astuple(before), strict=True)))


def record_landing(database: Database[Document], mark: TideMark) -> None:
    """Records that the raw history reaches this mark, at the current time of MongoDB's clock."""
    note = {"offsets": {"$literal": offsets.to_documents(mark)}, "landed_at": "$$NOW"}
    database.state.update_one({"_id": LANDED}, [{"$set": note}], upsert=True)


def add_work(database: Database[Document], work: Work) -> None:
    """Adds work to the current minute of MongoDB's clock. Raises PyMongoError after MAX_SECONDS at the latest."""
    sums = {name: {"$add": [f"${name}", f"$$new.{name}"]} for name in asdict(work)}
    with pymongo.timeout(MAX_SECONDS):
        database.aggregate(
            [
                {"$documents": [{name: Int64(value) for name, value in asdict(work).items()}]},
                {"$set": {"_id": {"$dateTrunc": {"date": "$$NOW", "unit": "minute"}}}},
                {"$set": {"minute": "$_id"}},
                {"$merge": {"into": "stream_minute", "whenMatched": [{"$set": sums}]}},
            ]
        )
