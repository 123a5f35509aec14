"""Views of how all of it runs, as data: for the pipeline's dashboard, the status, and whoever waits for an ingestion."""

from __future__ import annotations

from tidemark.serving.quarantine import HEALED, REPLAYED
from tidemark.serving.views import Stage, View

# Of the document that says where the log ends. Where this is false, nobody knows how far behind the stream is.
LOOKED_AT_LATELY: Stage = {"$gte": ["$measured_at", {"$subtract": ["$$NOW", 60_000]}]}


def _offset_in(offsets: str, of: str) -> Stage:
    """The offset that an array of offsets names for the partition of the variable `of`; 0 where it names none."""
    same = {"$and": [{"$eq": ["$$own.topic", f"$${of}.topic"]}, {"$eq": ["$$own.partition", f"$${of}.partition"]}]}
    found = {"$first": {"$filter": {"input": {"$ifNull": [offsets, []]}, "as": "own", "cond": same}}}
    return {"$ifNull": [{"$let": {"vars": {"found": found}, "in": "$$found.offset"}}, 0]}


def _of_state(document: str) -> Stage:
    """Joins one document of the collection `state` under its own name, as an array of one."""
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
                    {"$match": {"$expr": LOOKED_AT_LATELY}},
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

# `accepted` and `rejected` add up to the rows; both are known when all of the file has been served. A row is one or the other, however
# many events tell of it: once it is replayed, or the rules are mended, it is accepted.
REPORT_INGESTION = View(
    "report_ingestion",
    INGESTION_PROGRESS.name,
    [
        {
            "$lookup": {
                "from": "quarantine",
                "localField": "_id",
                "foreignField": "source.ingestion",
                # What mended rules take, and what has been sent again as it should be, is accepted.
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

# A row a partition of the log, with how far each layer has come in it.
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
                "landed": {"$let": {"vars": {"end": "$offsets"}, "in": _offset_in("$landed.offsets", "end")}},
                "served": {"$let": {"vars": {"end": "$offsets"}, "in": _offset_in("$ledger.offsets", "end")}},
                "published": {"$let": {"vars": {"end": "$offsets"}, "in": _offset_in("$published.mark", "end")}},
            }
        },
        {"$set": {"behind": {"$max": [0, {"$subtract": ["$log_end", "$served"]}]}}},
    ],
)

# Offsets as people read them: topic/partition:offset, one after the other.
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
                {"$toString": "$$this.offset"},
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
        {"$lookup": {"from": "verification", "localField": "_id", "foreignField": "_id", "as": "verified"}},
        {"$set": {"verified": {"$first": "$verified"}}},
        {
            "$project": {
                "_id": False,
                "publication": "$_id",
                "published_at": True,
                "is_served": {"$eq": ["$_id", {"$first": "$served.publication"}]},
                "events": {"$sum": "$mark.offset"},
                "mark": _AS_TEXT,
                "newest_event": {"$ifNull": ["$newest_event", None]},
                "newest_observation": {"$ifNull": ["$newest_observation", None]},
                "verified_at": {"$ifNull": ["$verified.at", None]},
                "drift": {"$ifNull": ["$verified.drift", None]},
            }
        },
    ],
)

# A row a rejection; where a record came by the API there is neither file nor position.
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

# A row a difference that the newest verification names.
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

# Every day from the first that has been computed to the last; those between them that have not say so.
REPORT_DAY = View(
    "report_day",
    "history_day",
    [
        {"$project": {"_id": False, "day": "$_id", "computed_at": True}},
        {"$densify": {"field": "day", "range": {"step": 1, "unit": "day", "bounds": "full"}}},
        {"$project": {"day": True, "computed_at": {"$ifNull": ["$computed_at", None]}, "is_computed": {"$gt": ["$computed_at", None]}}},
    ],
)

# A row a measurement of a part: how large it was, and by how much it had grown since the one before, null for the first.
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

# In the order in which they can be created: a view follows what it is a view on.
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
