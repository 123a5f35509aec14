"""Ingestions and their chunks: what must be sent, what has been sent, and whether the stream has served it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import reduce
from typing import Final, NamedTuple, cast

from bson.int64 import Int64
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database

from tidemark.catalog.marks import TideMark
from tidemark.catalog.words import counted
from tidemark.serving import offsets
from tidemark.serving.database import Document, in_transaction
from tidemark.serving.documents import ChunkDocument, IngestionDocument, IngestionFields, SendingDocument

SENDING: Final = "sending"  # document of collection `state`
PLANNED: Final = "planned"
DONE: Final = "done"


class Chunk(NamedTuple):
    """A byte range of a file, `end` exclusive: whole records, their number, and the hexadecimal SHA-256 of the bytes."""

    number: int
    start: int
    end: int
    rows: int
    content: str


class Location(NamedTuple):
    """Where the content of an ingestion is: the path or URL of a file, and what is read of it, as in IngestionDocument."""

    file: str
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.file}/{self.member}" if self.member else self.file


class Progress(NamedTuple):
    """The progress of an ingestion: chunks done and in total, events acknowledged and rows in total."""

    done: int
    chunks: int
    acknowledged: int
    rows: int
    served: bool


class Uncertain(NamedTuple):
    """An ingestion whose events may be lost: so many of its chunks, and their rows."""

    ingestion: str
    name: str
    lost: int
    chunks: int
    rows: int


class Incomplete(Exception):
    """Not every row of a file is an acknowledged event."""


class LogReplaced(Exception):
    """The log that a chunk was sent to has been replaced since: its events may be lost with it."""


def register(database: Database[Document], ingestion: IngestionFields, chunks: Sequence[Chunk], location: Location) -> datetime:
    """Registers an ingestion with its plan. Idempotent: the first plan stays; the location is that of the last call.

    Returns `registered_at`, by MongoDB's clock.
    """
    identity = ingestion["_id"]
    new = {**ingestion, "bytes": Int64(ingestion["bytes"]), "rows": Int64(ingestion["rows"])}

    def transaction(session: ClientSession) -> datetime:
        # A pipeline update can use MongoDB's clock. Of an existing document it changes the location only.
        before = _ingestions(database).find_one_and_update(
            {"_id": identity},
            [
                {
                    "$replaceWith": {
                        "$mergeObjects": [{"$literal": new}, {"registered_at": "$$NOW"}, "$$ROOT", {"$literal": location._asdict()}]
                    }
                }
            ],
            upsert=True,
            return_document=ReturnDocument.BEFORE,
            session=session,
        )
        if before is None:
            _chunks(database).insert_many([_chunk_document(identity, chunk) for chunk in chunks], session=session)
            before = _ingestions(database).find_one({"_id": identity}, session=session)
            assert before is not None
        return before["registered_at"]

    return in_transaction(database, transaction)


def chunks_to_do(database: Database[Document], ingestion: str) -> list[int]:
    """The numbers of the chunks that are not done, in file order."""
    return [one["number"] for one in _chunks(database).find({"ingestion": ingestion, "status": PLANNED}).sort("number")]


def read(database: Database[Document], ingestion: str) -> IngestionDocument:
    """A registered ingestion. Raises LookupError if there is none."""
    found = _ingestions(database).find_one({"_id": ingestion})
    if found is None:
        raise LookupError(f"ingestion {ingestion} is not registered")
    return found


def registered_at(database: Database[Document], ingestion: str) -> datetime | None:
    """When an ingestion was registered; None if it was not."""
    found = _ingestions(database).find_one({"_id": ingestion}, {"registered_at": True})
    return None if found is None else found["registered_at"]


def read_chunk(database: Database[Document], ingestion: str, number: int) -> tuple[Chunk, bool]:
    """A chunk of the plan, and whether it is done. Raises LookupError if there is none."""
    found = _chunks(database).find_one({"_id": _chunk_key(ingestion, number)})
    if found is None:
        raise LookupError(f"ingestion {ingestion} has no chunk {number}")
    chunk = Chunk(found["number"], found["start"], found["end"], found["rows"], found["content"])
    return chunk, found["status"] == DONE


def epoch(database: Database[Document]) -> int:
    """The epoch of the log that chunks are sent to (tidemark.catalog.epochs)."""
    found = database.state.find_one({"_id": SENDING})
    return 0 if found is None else cast(SendingDocument, found)["epoch"]


def begin_epoch(database: Database[Document], session: ClientSession, number: int) -> None:
    """From here on no chunk is finished that was sent to the log of an earlier epoch."""
    database.state.update_one({"_id": SENDING}, {"$max": {"epoch": number}}, session=session)


def finish_chunk(database: Database[Document], ingestion: str, number: int, acknowledged: int, ends: TideMark, sent_in: int) -> None:
    """Records that all rows of the chunk are events below the offsets `ends`. The first such record wins.

    `sent_in` is the epoch before the chunk was sent. Raises LogReplaced if another one has begun since.
    """

    def transaction(session: ClientSession) -> None:
        # A write, so that the begin of an epoch conflicts with it.
        counted_in = database.state.update_one({"_id": SENDING, "epoch": sent_in}, {"$inc": {"chunks": 1}}, session=session)
        if not counted_in.matched_count:
            raise LogReplaced(
                f"the log was replaced while chunk {number} of ingestion {ingestion} was sent, so that its events may be lost: "
                "run the task again"
            )
        database.ingestion_chunk.update_one(
            {"_id": _chunk_key(ingestion, number), "status": PLANNED},
            {
                "$set": {"status": DONE, "acknowledged": Int64(acknowledged), "ends": offsets.to_documents(ends)},
                "$unset": {"lost": True},
            },
            session=session,
        )

    in_transaction(database, transaction)


def reopen(database: Database[Document], certain: TideMark, below: int) -> None:
    """Opens the finished chunks that have events between the mark `certain` and the offset `below`: these may be lost."""
    found = {**_uncertain(certain, below), "status": DONE}
    # An ingestion first: if this is interrupted, it is checked against the raw history again, and found incomplete.
    _ingestions(database).update_many({"_id": {"$in": _chunks(database).distinct("ingestion", found)}}, {"$unset": {"reconciled": True}})
    _chunks(database).update_many(found, {"$set": {"status": PLANNED, "acknowledged": None, "ends": None, "lost": True}})


def uncertain(database: Database[Document], certain: TideMark, below: int) -> list[Uncertain]:
    """The ingestions with chunks that reopen() would open."""
    found = database.ingestion_chunk.aggregate(
        [
            {"$match": {**_uncertain(certain, below), "status": DONE}},
            {"$group": {"_id": "$ingestion", "chunks": {"$sum": 1}, "rows": {"$sum": "$rows"}}},
            {"$lookup": {"from": "ingestion", "localField": "_id", "foreignField": "_id", "as": "of"}},
            {"$sort": {"_id": 1}},
        ]
    )
    return [Uncertain(one["_id"], one["of"][0]["name"], one["chunks"], one["of"][0]["chunks"], one["rows"]) for one in found]


def _uncertain(certain: TideMark, below: int) -> Document:
    """A query for chunks that have events between a mark and an offset."""
    parts: list[Document] = [
        {"topic": key.topic, "partition": key.partition, "offset": {"$gt": offset, "$lt": below}} for key, offset in certain.items()
    ]
    # Of a partition that the mark does not name, nothing is certain.
    others: Document = {"$nor": [{"topic": key.topic, "partition": key.partition} for key in certain]} if certain else {}
    return {"ends": {"$elemMatch": {"$or": [*parts, {**others, "offset": {"$lt": below}}]}}}


def lost_chunks(database: Database[Document]) -> dict[str, list[int]]:
    """The numbers of the chunks whose events may be lost and that have not been sent again, by ingestion. Without withdrawn ingestions."""
    found: dict[str, list[int]] = {}
    withdrawn = set(_ingestions(database).distinct("_id", {"withdrawn": {"$ne": None}}))
    for one in _chunks(database).find({"status": PLANNED, "lost": True}).sort([("ingestion", 1), ("number", 1)]):
        if one["ingestion"] not in withdrawn:
            found.setdefault(one["ingestion"], []).append(one["number"])
    return found


def progress(database: Database[Document], ingestion: str) -> Progress:
    """Raises LookupError if the ingestion is not registered."""
    found = next(database.ingestion_progress.aggregate([{"$match": {"_id": ingestion}}]), None)
    if found is None:
        raise LookupError(f"ingestion {ingestion} is not registered")
    return Progress(*(found[name] for name in Progress._fields))


def reconcile(database: Database[Document], ingestion: str) -> Progress:
    """Raises Incomplete, with the numbers, unless every row of the file is an acknowledged event."""
    now = progress(database, ingestion)
    if now.done != now.chunks or now.acknowledged != now.rows:
        raise Incomplete(
            f"ingestion {ingestion} is incomplete: {now.acknowledged} of {counted(now.rows, 'row')} acknowledged by Kafka, "
            f"{now.done} of {counted(now.chunks, 'chunk')} done. Run the chunks' tasks again"
        )
    return now


def ends(database: Database[Document], identities: Iterable[str]) -> TideMark:
    """The lowest mark above the newest event of every finished chunk."""
    found = _chunks(database).find({"ingestion": {"$in": list(identities)}, "status": DONE}, {"ends": True})
    return reduce(TideMark.joined, (offsets.from_documents(one["ends"]) for one in found), TideMark())


def to_reconcile(database: Database[Document], mark: TideMark) -> dict[str, int]:
    """Numbers of rows by ingestion, for those whose events all lie below the mark and have not been found in the raw history yet."""
    found: dict[str, int] = {}
    for one in _ingestions(database).find({"reconciled": None}, {"rows": True, "chunks": True}):
        done = list(_chunks(database).find({"ingestion": one["_id"], "status": DONE}, {"ends": True}))
        if len(done) == one["chunks"] and all(mark.reaches(offsets.from_documents(chunk["ends"])) for chunk in done):
            found[one["_id"]] = one["rows"]
    return found


def mark_reconciled(database: Database[Document], identities: Iterable[str]) -> None:
    """Records that every row of these files has been found in the raw history."""
    database.ingestion.update_many({"_id": {"$in": list(identities)}}, {"$set": {"reconciled": True}})


def _chunk_key(ingestion: str, number: int) -> str:
    return f"{ingestion}/{number}"


def _ingestions(database: Database[Document]) -> Collection[IngestionDocument]:
    """Collection `ingestion`, with the type of its documents."""
    return cast(Collection[IngestionDocument], database.ingestion)


def _chunks(database: Database[Document]) -> Collection[ChunkDocument]:
    """Collection `ingestion_chunk`, with the type of its documents."""
    return cast(Collection[ChunkDocument], database.ingestion_chunk)


def _chunk_document(ingestion: str, chunk: Chunk) -> ChunkDocument:
    return {
        "_id": _chunk_key(ingestion, chunk.number),
        "ingestion": ingestion,
        "number": chunk.number,
        "start": Int64(chunk.start),
        "end": Int64(chunk.end),
        "rows": chunk.rows,
        "content": chunk.content,
        "status": PLANNED,
        "acknowledged": None,
        "ends": None,
    }
