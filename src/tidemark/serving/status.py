"""The whole state as one JSON-serialisable document: marks, lag, rates, drift, quarantine, ingestions, alerts. Every display uses it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from pymongo.database import Database

from tidemark.catalog.topics import Durability
from tidemark.rendering.topics import render_durability
from tidemark.serving import offsets
from tidemark.serving.database import Document
from tidemark.serving.documents import (
    ControlDocument,
    FreshnessStatus,
    IngestionsStatus,
    LagStatus,
    LandedDocument,
    LedgerDocument,
    LogEndDocument,
    LogStatus,
    PausedStatus,
    RateStatus,
    StatusDocument,
    UnpausedStatus,
)
from tidemark.serving.ledger import NotPrepared
from tidemark.serving.notes import LANDED
from tidemark.serving.snapshot import Snapshot, snapshot

STALE_HEARTBEAT_SECONDS = 30.0
RATES_SECONDS = 60 * 60  # the period for which rates are listed
NEWEST = 10  # publications and ingestions that are listed


class _LedgerNow(LedgerDocument):
    """The ledger, and the time of MongoDB's clock when it was read."""

    at: datetime


def state(database: Database[Document]) -> StatusDocument:
    """The state at one moment, `at` by MongoDB's clock. Moments are ISO 8601 texts in UTC; offsets, arrays of {topic, partition, offset}.

    Raises NotPrepared. Lag is null, not 0, if the end of the log was not measured within the last minute. `night` is the last nightly
    batch that has finished, `alerts` are those that are on.
    """
    with snapshot(database) as now:
        freshness: FreshnessStatus | None = _json(now.one("report_freshness"))
        if freshness is None:
            raise NotPrepared(f"database {database.name} is not prepared: run `python -m tidemark.serving.schema`")
        ledger = cast(_LedgerNow, now.one("state", {"$match": {"_id": "ledger"}}, {"$set": {"at": "$$NOW"}}) or {})
        log = cast(LogEndDocument, now.one("state", {"$match": {"_id": "log_end"}}) or {})
        wanted = cast(ControlDocument, now.one("state", {"$match": {"_id": "control"}}) or {})
        landed = cast(LandedDocument, now.one("state", {"$match": {"_id": LANDED}}) or {})
        beat = freshness["seconds_since_heartbeat"]
        return {
            "at": _json(ledger.get("at")),
            "freshness": freshness,
            "summary": _json(now.one("report_summary")),
            "stream": {
                "alive": beat is not None and beat < STALE_HEARTBEAT_SECONDS,
                "generation": ledger.get("generation"),
                "rebuilding": ledger.get("rebuilding"),
                "started_at": _json(ledger.get("started_at")),
                "committed_at": _json(ledger.get("committed_at")),
                "offsets": ledger.get("offsets", []),
                "last_micro_batch": ledger.get("progress"),
                "control": _control(wanted),
            },
            "log": _log(ledger, log, freshness),
            "raw_history": {"offsets": landed.get("offsets", []), "landed_at": _json(landed.get("landed_at"))},
            "partitions": _json(now.rows("report_partition", {"$sort": {"topic": 1, "partition": 1}})),
            "rates": _rates(now),
            "quarantine": _counts(now, "quarantine", "$reason", {"$match": {"status": "open"}}),
            "verification": _json(now.one("verification", {"$sort": {"at": -1}})),
            "night": _json(now.one("state", {"$match": {"_id": "night"}}, {"$unset": "_id"})),
            "alerts": _json(now.rows("alert", {"$match": {"ended_at": None}}, {"$sort": {"began_at": 1}})),
            "publications": _json(now.rows("report_publication", {"$sort": {"publication": -1}}, {"$limit": NEWEST})),
            "ingestions": _ingestions(now),
        }


def _control(wanted: ControlDocument) -> UnpausedStatus | PausedStatus:
    """The desired state of the stream."""
    pause, stopped_at = wanted.get("pause"), _json(wanted.get("stopped_at"))
    if pause is None:
        return {"paused": False, "by": None, "since": None, "reason": None, "stopped_at": stopped_at, "held": False}
    return {
        "paused": True,
        "by": pause["by"],
        "since": _json(pause["since"]),
        "reason": pause["reason"],
        "stopped_at": stopped_at,
        "held": wanted.get("held") is not None,
    }


def _log(ledger: LedgerDocument, log: LogEndDocument, freshness: FreshnessStatus) -> LogStatus:
    topics = log.get("topics", [])
    return {
        "offsets": log.get("offsets", []),
        "measured_at": _json(log.get("measured_at")),
        "lag": _lag(ledger, log, freshness),
        "topics": topics,
        "durability": render_durability(Durability(one["copies"], one["flushed"]) for one in topics) if topics else None,
    }


def _lag(ledger: LedgerDocument, log: LogEndDocument, freshness: FreshnessStatus) -> list[LagStatus] | None:
    """Events behind, by partition."""
    if freshness["measured_at"] is None:
        return None
    served = offsets.from_documents(ledger.get("offsets"))
    return [
        {"topic": key.topic, "partition": key.partition, "events": max(0, end - served[key])}
        for key, end in offsets.from_documents(log.get("offsets")).items()
    ]


def _rates(now: Snapshot) -> list[RateStatus]:
    """What the stream did in each minute of the last hour, by MongoDB's clock. Idle minutes are absent."""
    lately = {"$gte": ["$minute", {"$subtract": ["$$NOW", RATES_SECONDS * 1000]}]}
    minutes: list[RateStatus] = _json(now.rows("stream_minute", {"$match": {"$expr": lately}}, {"$sort": {"minute": 1}}, {"$unset": "_id"}))
    return minutes


def _ingestions(now: Snapshot) -> IngestionsStatus:
    """The numbers of served and running ingestions, and the newest ingestions."""
    served = _counts(now, "ingestion_progress", "$served")
    # Select them before reading the view, which computes much for each.
    newest = now.rows("ingestion", {"$sort": {"registered_at": -1}}, {"$limit": NEWEST}, {"$project": {"_id": True}})
    shown = now.rows(
        "report_ingestion", {"$match": {"ingestion": {"$in": [one["_id"] for one in newest]}}}, {"$sort": {"registered_at": -1}}
    )
    return {"served": served.get(True, 0), "under_way": served.get(False, 0), "newest": _json(shown)}


def _counts(now: Snapshot, collection: str, by: str, *stages: Document) -> dict[Any, int]:
    """The number of documents for each value of a field."""
    found = now.rows(collection, *stages, {"$group": {"_id": by, "n": {"$sum": 1}}}, {"$sort": {"_id": 1}})
    return {one["_id"]: one["n"] for one in found}


def _json(value: Any) -> Any:
    """The value with all moments as text."""
    match value:
        case dict():
            return {str(key): _json(one) for key, one in value.items()}
        case list():
            return [_json(one) for one in value]
        case datetime():
            return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case _:
            return value
