"""Operational views, as data: for dashboard Pipeline, the status, and code that waits for an ingestion."""

from __future__ import annotations

from tidemark.catalog.epochs import OFFSETS
from tidemark.serving.quarantine import HEALED, REPLAYED
from tidemark.serving.views import Stage, View

# Condition on document `log_end`: measured within the last minute. If it is false, the lag of the stream is unknown.
MEASURED_RECENTLY: Stage = {"$gte": ["$measured_at", {"$subtract": ["$$NOW", 60_000]}]}


def _offset_in(offsets: str, of: str) -> Stage:
    """The offset that an array of offsets gives for the partition of the variable `of`; 0 if it gives none."""
    same = {"$and": [{"$eq": ["$$own.topic", f"$${of}.topic"]}, {"$eq": ["$$own.partition", f"$${of}.partition"]}]}
    found = {"$first": {"$filter": {"input": {"$ifNull": [offsets, []]}, "as": "own", "cond": same}}}
    return {"$ifNull": [{"$let": {"vars": {"found": found}, "in": "$$found.offset"}}, 0]}


def _of_state(document: str) -> Stage:
    """Joins one document of collection `state` under its own name, as an array of one."""
    return {"$lookup": {"from": "state", "pipeline": [{"$match": {"_id": document}}], "as": document}}


REPORT_FRESHNESS = View(
    "report_freshness",
    "state",
    [
        {"$match": {"_id": "ledger"}},
        _of_state("served"),
        {"$set": {"publication": {"$first": "$served.publication"}}},
        {"$lookup": {"from": "publication", "localField": "publication", "foreignField": "_id", "as": "published"}},
        {
            "$lookup": {
                "from": "state",
                "pipeline": [
                    {"$match": {"_id": "log_end"}},
                    {"$match": {"$expr": MEASURED_RECENTLY}},
                ],
                "as": "log",
            }
        },
        {"$lookup": {"from": "verification", "pipeline": [{"$sort": {"at": -1}}, {"$limit": 1}], "as": "verified"}},
        {
            "$lookup": {
                "from": "quarantine",
                "pipeline": [{"$match": {"status": "open"}}, {"$count": "records"}],
                "as": "quarantine",
            }
        },
        {"$set": {"log": {"$first": "$log"}}},
        {
            "$project": {
                "_id": False,
                "publication": True,
                "mark": {"$first": "$published.mark"},
                "published_at": {"$first": "$published.published_at"},
                "newest_observation": {"$ifNull": ["$newest_observation", None]},
                "newest_event": {"$ifNull": ["$newest_event", None]},
                "heartbeat": {"$ifNull": ["$heartbeat", None]},
                "seconds_since_heartbeat": {
                    "$cond": [
                        {"$ifNull": ["$heartbeat", False]},
                        {"$divide": [{"$subtract": ["$$NOW", "$heartbeat"]}, 1000]},
                        None,
                    ]
                },
                "events_behind": {
                    "$cond": [
                        {"$ifNull": ["$log", False]},
                        {
                            "$sum": {
                                "$map": {
                                    "input": {"$ifNull": ["$log.offsets", []]},
                                    "as": "end",
                                    "in": {"$max": [0, {"$subtract": ["$$end.offset", _offset_in("$offsets", "end")]}]},
                                }
                            }
                        },
                        None,
                    ]
                },
                "measured_at": {"$ifNull": ["$log.measured_at", None]},
                "drift": {"$ifNull": [{"$first": "$verified.drift"}, None]},
                "quarantined": {"$ifNull": [{"$first": "$quarantine.records"}, 0]},
                "rules": {"$ifNull": ["$rules", None]},
            }
        },
    ],
)

INGESTION_PROGRESS = View(
    "ingestion_progress",
    "ingestion",
    [
        {"$lookup": {"from": "ingestion_chunk", "localField": "_id", "foreignField": "ingestion", "as": "chunk"}},
        _of_state("ledger"),
        {"$set": {"offsets": {"$first": "$ledger.offsets"}}},
        {
            "$project": {
                "kind": True,
                "file": True,
                "name": True,
                "bytes": True,
                "rows": True,
                "observed_at": True,
                "registered_at": True,
                "chunks": True,
                "withdrawn": {"$ifNull": ["$withdrawn", None]},
                "done": {"$size": {"$filter": {"input": "$chunk", "as": "one", "cond": {"$eq": ["$$one.status", "done"]}}}},
                "acknowledged": {"$sum": "$chunk.acknowledged"},
                "reached": {
                    "$allElementsTrue": {
                        "$map": {
                            "input": {
                                "$reduce": {
                                    "input": "$chunk",
                                    "initialValue": [],
                                    "in": {"$concatArrays": ["$$value", {"$ifNull": ["$$this.ends", []]}]},
                                }
                            },
                            "as": "end",
                            "in": {"$gte": [_offset_in("$offsets", "end"), "$$end.offset"]},
                        }
                    }
                },
            }
        },
        {"$set": {"served": {"$and": ["$reached", {"$eq": ["$done", "$chunks"]}]}}},
        {"$unset": "reached"},
    ],
)

# `accepted` and `rejected` add up to the number of rows; both are null until the whole file is served. A row counts once, however many
# events it has: once it has been replayed, or corrected rules accept it, it is accepted.
REPORT_INGESTION = View(
    "report_ingestion",
    INGESTION_PROGRESS.name,
    [
        {
            "$lookup": {
                "from": "quarantine",
                "localField": "_id",
                "foreignField": "source.ingestion",
                # Records that were replayed, or that corrected rules accept, count as accepted.
                "pipeline": [{"$match": {"status": {"$nin": [REPLAYED, HEALED]}}}, {"$count": "records"}],
                "as": "quarantine",
            }
        },
        {"$set": {"rejected": {"$ifNull": [{"$first": "$quarantine.records"}, 0]}}},
        {
            "$project": {
                "_id": False,
                "ingestion": "$_id",
                **dict.fromkeys(("kind", "file", "name", "bytes", "observed_at", "registered_at"), True),
                "file_rows": "$rows",
                "sent": "$acknowledged",
                "accepted": {"$cond": ["$served", {"$subtract": ["$rows", "$rejected"]}, None]},
                "rejected": {"$cond": ["$served", "$rejected", None]},
                "served": True,
                "withdrawn_at": {"$ifNull": ["$withdrawn.at", None]},
            }
        },
    ],
)

_REACHED = ("log_start", "log_end", "landed", "served", "published")

# One row per partition of the log, with the offset that each layer has reached.
REPORT_PARTITION = View(
    "report_partition",
    "state",
    [
        {"$match": {"_id": "log_end"}},
        _of_state("ledger"),
        _of_state("served"),
        _of_state("landed"),
        {"$set": {name: {"$first": f"${name}"} for name in ("ledger", "served", "landed")}},
        {"$lookup": {"from": "publication", "localField": "served.publication", "foreignField": "_id", "as": "published"}},
        {"$set": {"published": {"$first": "$published"}}},
        {"$unwind": {"path": "$offsets"}},
        {
            "$project": {
                "_id": False,
                "topic": "$offsets.topic",
                "partition": "$offsets.partition",
                "log_start": {"$ifNull": ["$offsets.start", 0]},
                "log_end": "$offsets.offset",
                "measured_at": True,
                "epoch": "$ledger.log.epoch",
                "landed": {"$let": {"vars": {"end": "$offsets"}, "in": _offset_in("$landed.offsets", "end")}},
                "served": {"$let": {"vars": {"end": "$offsets"}, "in": _offset_in("$ledger.offsets", "end")}},
                "published": {"$let": {"vars": {"end": "$offsets"}, "in": _offset_in("$published.mark", "end")}},
            }
        },
        {"$set": {"behind": {"$max": [0, {"$subtract": ["$log_end", "$served"]}]}}},
        {"$set": {"begin": {"$multiply": ["$epoch", OFFSETS]}}},
        # Kafka's own offsets. What was reached in an earlier epoch only is 0 in this one.
        {"$set": {name: {"$max": [0, {"$subtract": [f"${name}", "$begin"]}]} for name in _REACHED}},
        {"$unset": ["epoch", "begin"]},
    ],
)

# Offsets as text: topic/partition:offset, separated by commas.
_AS_TEXT: Stage = {
    "$reduce": {
        "input": {"$ifNull": ["$mark", []]},
        "initialValue": "",
        "in": {
            "$concat": [
                {"$cond": [{"$eq": ["$$value", ""]}, "", {"$concat": ["$$value", ", "]}]},
                "$$this.topic",
                "/",
                {"$toString": "$$this.partition"},
                ":",
                {"$toString": {"$mod": ["$$this.offset", OFFSETS]}},
            ]
        },
    }
}

# The events below a mark, those of former epochs included.
_EVENTS_BELOW: Stage = {
    "$let": {
        "vars": {"all": {"$sum": "$mark.offset"}, "before": {"$sum": {"$first": "$ledger.log.origin.offset"}}},
        "in": {
            "$cond": [
                {"$gte": ["$$all", "$$before"]},
                {"$add": [{"$ifNull": [{"$first": "$ledger.log.events"}, 0]}, {"$subtract": ["$$all", "$$before"]}]},
                {"$sum": {"$map": {"input": "$mark", "in": {"$mod": ["$$this.offset", OFFSETS]}}}},
            ]
        },
    }
}

REPORT_PUBLICATION = View(
    "report_publication",
    "publication",
    [
        {"$match": {"published_at": {"$ne": None}}},
        _of_state("served"),
        _of_state("ledger"),
        {"$lookup": {"from": "verification", "localField": "_id", "foreignField": "_id", "as": "verified"}},
        {"$set": {"verified": {"$first": "$verified"}}},
        {
            "$project": {
                "_id": False,
                "publication": "$_id",
                "published_at": True,
                "is_served": {"$eq": ["$_id", {"$first": "$served.publication"}]},
                "events": _EVENTS_BELOW,
                "mark": _AS_TEXT,
                "newest_event": {"$ifNull": ["$newest_event", None]},
                "newest_observation": {"$ifNull": ["$newest_observation", None]},
                "verified_at": {"$ifNull": ["$verified.at", None]},
                "drift": {"$ifNull": ["$verified.drift", None]},
            }
        },
    ],
)

# One row per rejection. Records that came by the API have neither file nor position.
REPORT_QUARANTINE = View(
    "report_quarantine",
    "quarantine",
    [
        {
            "$project": {
                "_id": False,
                "id": "$_id",
                **dict.fromkeys(("reason", "status", "topic", "partition", "offset", "timestamp", "raw"), True),
                "file": {"$ifNull": ["$source.file", "by the API"]},
                "ingestion": {"$ifNull": ["$source.ingestion", None]},
                "position": {"$ifNull": ["$source.position", None]},
            }
        }
    ],
)

# One row per difference that the newest verification names.
REPORT_DRIFT = View(
    "report_drift",
    "verification",
    [
        {"$sort": {"at": -1}},
        {"$limit": 1},
        {"$set": {"named": {"$objectToArray": {"$ifNull": ["$named", {}]}}}},
        {"$unwind": "$named"},
        {"$unwind": "$named.v"},
        {
            "$project": {
                "_id": False,
                "publication": "$_id",
                "verified_at": "$at",
                "kind": "$named.k",
                "what": "$named.v.what",
                "how": "$named.v.how",
            }
        },
    ],
)

# Every day from the first to the last computed one; `is_computed` tells whether a day has been computed.
REPORT_DAY = View(
    "report_day",
    "history_day",
    [
        {"$project": {"_id": False, "day": "$_id", "computed_at": True}},
        {"$densify": {"field": "day", "range": {"step": 1, "unit": "day", "bounds": "full"}}},
        {"$project": {"day": True, "computed_at": {"$ifNull": ["$computed_at", None]}, "is_computed": {"$gt": ["$computed_at", None]}}},
    ],
)

# One row per measurement of a part: its size, and its growth since the previous measurement (null for the first).
REPORT_SIZE = View(
    "report_size",
    "size",
    [
        {
            "$setWindowFields": {
                "partitionBy": "$part",
                "sortBy": {"at": 1},
                "output": {
                    "former": {"$shift": {"output": "$bytes", "by": -1}},
                    "before": {"$shift": {"output": "$at", "by": -1}},
                },
            }
        },
        {
            "$project": {
                "_id": False,
                **dict.fromkeys(("part", "at", "bytes", "items", "before"), True),
                "grown": {"$cond": [{"$eq": ["$before", None]}, None, {"$subtract": ["$bytes", "$former"]}]},
            }
        },
    ],
)

# In order of creation: a view follows the view that it reads.
OPERATIONS: tuple[View, ...] = (
    REPORT_FRESHNESS,
    INGESTION_PROGRESS,
    REPORT_INGESTION,
    REPORT_PARTITION,
    REPORT_PUBLICATION,
    REPORT_QUARANTINE,
    REPORT_DRIFT,
    REPORT_DAY,
    REPORT_SIZE,
)
