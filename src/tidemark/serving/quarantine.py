"""Operations on the quarantine: selecting records, and marking them as replayed or discarded.

A record is open until it is replayed or discarded; the mark records when, by whom and how. The event itself stays in the raw history
as a rejection for ever: a replay is another event of the same source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from bson.datetime_ms import DatetimeMS
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from tidemark.catalog.marks import TideMark
from tidemark.catalog.observations import Reason
from tidemark.serving.database import Document
from tidemark.settings.airflow_names import AirflowNames, Dag

OPEN, REPLAYED, DISCARDED, HEALED = STATUSES = ("open", "replayed", "discarded", "healed")
BY_API = "api"  # the source of events that came from no file

IN_ORDER = ("topic", "partition", "offset")  # the order of the log
_RECORDS_PER_BATCH, _BYTES_PER_BATCH = 1_000, 16 * 1024 * 1024


class InvalidRequest(ValueError):
    """The request cannot be fulfilled; the message says what to request instead."""


class Selection(NamedTuple):
    """Selects open records; None selects all. `file` is a name, a path or URL, or `api`. Times are Kafka's; `until` is exclusive."""

    reason: str | None = None
    file: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Replayed(NamedTuple):
    """A record whose replay Kafka has acknowledged: the fields that were replaced, and the coordinates of the new event."""

    record: str
    patch: Mapping[str, str]
    topic: str
    partition: int
    offset: int


def selected(database: Database[Document], selection: Selection, below: TideMark, names: AirflowNames) -> Document:
    """A query for the selected open records below a mark. `names` are for the text of InvalidRequest, which it raises."""
    if selection.reason == Reason.WITHDRAWN:
        raise InvalidRequest(
            f"records of a withdrawn ingestion cannot be replayed one by one: undo the withdrawal with DAG {names.of(Dag.WITHDRAW)}"
        )
    if selection.since is not None and selection.until is not None and selection.since >= selection.until:
        since, until = (f"{moment:%Y-%m-%d %H:%M} UTC" for moment in (selection.since, selection.until))
        raise InvalidRequest(f"the period from {since} to {until} is empty: its end must be later than its beginning")
    partitions = [{"topic": one.topic, "partition": one.partition, "offset": {"$lt": int(end)}} for one, end in below.items()]
    times = {name: moment for name, moment in (("$gte", selection.since), ("$lt", selection.until)) if moment is not None}
    return {
        "status": OPEN,
        "reason": selection.reason if selection.reason is not None else {"$ne": Reason.WITHDRAWN},
        **({"timestamp": times} if times else {}),
        **(_from_file(database, selection.file) if selection.file is not None else {}),
        **({"$or": partitions} if partitions else {"_id": {"$in": []}}),
    }


def _from_file(database: Database[Document], file: str) -> Document:
    if file == BY_API:
        return {"source": BY_API}
    found = [one["_id"] for one in database.ingestion.find({"$or": [{"name": file}, {"file": file}]}, {"_id": True})]
    if not found:
        raise InvalidRequest(f"no file '{file}' has been ingested: use a name of report_ingestion, or `{BY_API}` for records from no file")
    return {"source.ingestion": {"$in": found}}


def count(database: Database[Document], query: Document) -> dict[str, int]:
    """Numbers of records, by reason."""
    stages: list[Document] = [{"$match": query}, {"$group": {"_id": "$reason", "records": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    return {one["_id"]: one["records"] for one in database.quarantine.aggregate(stages)}


def records(database: Database[Document], query: Document) -> Iterator[list[Document]]:
    """The records of a query, each once, in lists that fit in memory. Records already yielded may be marked meanwhile.

    They come in the order of the log, which breaks ties between observations of one moment: replays keep that order, also when a run is
    repeated. All have `registered_at` and `position`; in records of earlier versions, which lack them, they are filled in.
    """
    some: list[Document] = []
    size = 0
    for one in database.quarantine.find(query, batch_size=_RECORDS_PER_BATCH).sort(IN_ORDER):
        some.append(one)
        size += len(one["raw"] or b"")
        if len(some) == _RECORDS_PER_BATCH or size >= _BYTES_PER_BATCH:
            yield _completed(database, some)
            some, size = [], 0
    if some:
        yield _completed(database, some)


def _completed(database: Database[Document], some: list[Document]) -> list[Document]:
    lacking = [one for one in some if "registered_at" not in one]
    from_files = {one["source"]["ingestion"] for one in lacking if one["source"] != BY_API}
    registered = {
        one["_id"]: one["registered_at"] for one in database.ingestion.find({"_id": {"$in": list(from_files)}}, {"registered_at": True})
    }
    for one in lacking:
        source = one["source"] if one["source"] != BY_API else {}
        registered_at: datetime = registered.get(source.get("ingestion")) or one["timestamp"]
        one["registered_at"] = int(DatetimeMS(registered_at))
        one["position"] = source.get("position", 0)
    return some


def mark_replayed(database: Database[Document], done: Iterable[Replayed], by: str) -> int:
    """Marks those that are still open; returns their number."""
    writes = [
        UpdateOne(
            {"_id": one.record, "status": OPEN},
            [
                {
                    "$set": {
                        "status": REPLAYED,
                        "replayed": {
                            **{"at": "$$NOW", "by": {"$literal": by}, "patch": {"$literal": dict(one.patch)}},
                            **{name: {"$literal": getattr(one, name)} for name in ("topic", "partition", "offset")},
                        },
                    }
                }
            ],
        )
        for one in done
    ]
    return database.quarantine.bulk_write(writes, ordered=False).modified_count if writes else 0


def discard(database: Database[Document], query: Document, why: str, by: str) -> int:
    """Marks the records of a query as discarded; returns their number."""
    mark = {"at": "$$NOW", "by": {"$literal": by}, "why": {"$literal": why}}
    return database.quarantine.update_many(query, [{"$set": {"status": DISCARDED, "discarded": mark}}]).modified_count


def replay_of(record: Document) -> tuple[str, int, int] | None:
    """Topic, partition and offset of a record's latest replay; None if it was never replayed."""
    replayed = record.get("replayed")
    return None if replayed is None else (replayed["topic"], replayed["partition"], replayed["offset"])


def replace_records(collection: Collection[Document], those: Iterable[tuple[Document, Iterable[Mapping[str, Any]]]]) -> None:
    """Writes records as they should be. Each comes with all events of its source that are rejections (topic, partition, offset).

    The status follows from the marks: replayed, unless the replay is a rejection as well; else discarded; else that of a new record.
    """
    replay = {name: f"$replayed.{name}" for name in ("topic", "partition", "offset")}
    writes = []
    for record, events in those:
        fields = dict(record)
        identity, status = fields.pop("_id"), fields.pop("status")
        rejected = [{name: event[name] for name in replay} for event in events]
        is_settled = {"$and": ["$replayed", {"$not": [{"$in": [replay, {"$literal": rejected}]}]}]}
        marked = {"$cond": [is_settled, REPLAYED, {"$cond": [{"$ifNull": ["$discarded", False]}, DISCARDED, status]}]}
        literal = {name: {"$literal": value} for name, value in fields.items()}
        writes.append(UpdateOne({"_id": identity}, [{"$set": {**literal, "status": marked}}], upsert=True))
    if writes:
        collection.bulk_write(writes, ordered=False)
