"""What is written down only to be shown: how far the raw history reaches, and what the stream does minute by minute.

Nothing relies on it. The truth is the table of the raw history, and the ledger.
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
KEPT_SECONDS = 2 * 60 * 60  # how long a minute is kept
MOST_SECONDS = 2.0  # that noting what was done may take: who does it has something else to do


@dataclass(frozen=True)
class Work:
    """What a stream has done: micro-batches, the events in them, those of them that were rejected, and the time it took."""

    micro_batches: int = 0
    events: int = 0
    rejected: int = 0
    busy_milliseconds: int = 0

    def plus(self, more: Work) -> Work:
        return Work(*(one + other for one, other in zip(astuple(self), astuple(more), strict=True)))

    def since(self, before: Work) -> Work:
        """What has been done since that much had been."""
        return Work(*(one - other for one, other in zip(astuple(self), astuple(before), strict=True)))


def landed(database: Database[Document], mark: TideMark) -> None:
    """The raw history has been seen to reach this mark, at this moment of MongoDB's clock."""
    note = {"offsets": {"$literal": offsets.to_documents(mark)}, "landed_at": "$$NOW"}
    database.state.update_one({"_id": LANDED}, [{"$set": note}], upsert=True)


def worked(database: Database[Document], work: Work) -> None:
    """Adds to what the stream has done in this minute of MongoDB's clock. Raises PyMongoError, soon."""
    sums = {name: {"$add": [f"${name}", f"$$new.{name}"]} for name in asdict(work)}
    with pymongo.timeout(MOST_SECONDS):
        database.aggregate(
            [
                {"$documents": [{name: Int64(value) for name, value in asdict(work).items()}]},
                {"$set": {"_id": {"$dateTrunc": {"date": "$$NOW", "unit": "minute"}}}},
                {"$set": {"minute": "$_id"}},
                {"$merge": {"into": "stream_minute", "whenMatched": [{"$set": sums}]}},
            ]
        )
