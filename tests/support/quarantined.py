"""A quarantine without a stream: the rejections in the log as a stream leaves them, judged by catalog/."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

import bson
from bson.codec_options import CodecOptions
from support.events import CATEGORIES
from support.places import Place

from tidemark.catalog.events import Event
from tidemark.catalog.observations import Rejection, category_observation, product_observation
from tidemark.catalog.rules import RULES
from tidemark.serving import offsets
from tidemark.serving.database import Document
from tidemark.spark.documents import file_names, quarantine_record

_IN_UTC: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)


def record_of(event: Event, files: dict[str, str] | None = None, category_topic: str = CATEGORIES) -> Document | None:
    """An event's quarantine record as MongoDB gives it back; None where it is an observation."""
    seen = (category_observation if event.topic == category_topic else product_observation)(event)
    if not isinstance(seen, Rejection):
        return None
    row = {
        **{"id": event.source, "topic": event.topic, "timestamp": event.timestamp, "reason": str(seen.reason), "raw": event.value},
        "ingestion": event.ingestion,
        "version": {"registered_at": event.registered_at, "position": event.position, "partition": event.partition, "offset": event.offset},
    }
    return bson.decode(bson.encode(quarantine_record(row, files or {})), _IN_UTC)


def quarantined(place: Place, events: Iterable[Event] | None = None) -> list[Document]:
    """Takes in what is in the log; the ledger says so. Returns all records."""
    found = list(place.log() if events is None else events)
    files = file_names(place.database, [{"ingestion": event.ingestion} for event in found])
    for record in filter(None, (record_of(event, files, place.settings.category_topic) for event in found)):
        place.database.quarantine.update_one({"_id": record.pop("_id")}, {"$setOnInsert": record}, upsert=True)
    served = {"offsets": offsets.to_documents(place.ends()), "rules": RULES.fingerprint()}
    place.database.state.update_one({"_id": "ledger"}, {"$set": served})
    return list(place.database.quarantine.find().sort("_id"))
