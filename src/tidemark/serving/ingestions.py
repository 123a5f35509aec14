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
from tidemark.serving.documents import ChunkDocument, IngestionDocument, IngestionFields

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


class Incomplete(Exception):
    """Not every row of a file is an acknowledged event."""


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


def finish_chunk(database: Database[Document], ingestion: str, number: int, acknowledged: int, ends: TideMark) -> None:
    """Records that all rows of the chunk are events below the offsets `ends`. The first such record wins."""
    database.ingestion_chunk.update_one(
        {"_id": _chunk_key(ingestion, number), "status": PLANNED},
        {"$set": {"status": DONE, "acknowledged": Int64(acknowledged), "ends": offsets.to_documents(ends)}},
    )


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
