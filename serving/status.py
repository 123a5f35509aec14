"""The whole state as one JSON-able document: marks, lag, drift, freshness, quarantine, ingestions, alerts. Everyone shows this one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pymongo.database import Database

from serving import offsets
from serving.database import Document
from serving.snapshot import Snapshot, snapshot

STALE_HEARTBEAT_SECONDS = 30.0


def state(database: Database[Document]) -> Document:
    """The state at one moment. Moments are ISO 8601 texts in UTC, offsets arrays of {topic, partition, offset}.

    Lag is null, not 0, where nobody has looked at the log within a minute. `night` is the last night that has come to its end, `alerts`
    are those that are on.
    """
    with snapshot(database) as now:
        freshness = now.one("report_freshness")
        if freshness is None:
            raise LookupError(f"database {database.name} is not prepared: run `python -m serving.schema`")
        ledger = now.one("state", {"$match": {"_id": "ledger"}}) or {}
        log = now.one("state", {"$match": {"_id": "log_end"}}) or {}
        wanted = now.one("state", {"$match": {"_id": "control"}}) or {}
        beat = freshness["seconds_since_heartbeat"]
        found = {
            "freshness": freshness,
            "summary": now.one("report_summary"),
            "stream": {
                "alive": beat is not None and beat < STALE_HEARTBEAT_SECONDS,
                "generation": ledger.get("generation"),
                "rebuilding": ledger.get("rebuilding"),
                "started_at": ledger.get("started_at"),
                "committed_at": ledger.get("committed_at"),
                "offsets": ledger.get("offsets", []),
                "last_micro_batch": ledger.get("progress"),
                "control": {
                    "paused": wanted.get("pause") is not None,
                    **{name: (wanted.get("pause") or {}).get(name) for name in ("by", "since", "reason")},
                    "stopped_at": wanted.get("stopped_at"),
                },
            },
            "log": {"offsets": log.get("offsets", []), "looked_at": log.get("looked_at"), "lag": _lag(ledger, log, freshness)},
            "quarantine": _counts(now, "quarantine", {"$match": {"status": "open"}}, {"$group": {"_id": "$reason", "n": {"$sum": 1}}}),
            "verification": now.one("verification", {"$sort": {"at": -1}}),
            "night": now.one("state", {"$match": {"_id": "night"}}, {"$unset": "_id"}),
            "alerts": now.rows("alert", {"$match": {"ended_at": None}}, {"$sort": {"began_at": 1}}),
            "ingestions": {
                "served": _count(now, {"served": True}),
                "under_way": _count(now, {"served": False}),
            },
        }
    return _json(found)  # type: ignore[no-any-return]


def _lag(ledger: Document, log: Document, freshness: Document) -> list[Document] | None:
    """Events behind by partition."""
    if freshness["looked_at"] is None:
        return None
    served = offsets.from_documents(ledger.get("offsets"))
    return [
        {"topic": key.topic, "partition": key.partition, "events": max(0, end - served[key])}
        for key, end in offsets.from_documents(log.get("offsets")).items()
    ]


def _counts(now: Snapshot, collection: str, *stages: Document) -> dict[str, int]:
    return {one["_id"]: one["n"] for one in now.rows(collection, *stages, {"$sort": {"_id": 1}})}


def _count(now: Snapshot, match: Document) -> int:
    found = now.one("ingestion_progress", {"$match": match}, {"$count": "n"})
    return found["n"] if found else 0


def _json(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _json(one) for key, one in value.items()}
        case list():
            return [_json(one) for one in value]
        case datetime():
            return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case _:
            return value
