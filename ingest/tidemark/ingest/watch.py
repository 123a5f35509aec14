"""Records the log's end offsets every second: `python -m tidemark.ingest.watch`. So the lag is known while the stream is down.

Once a minute it records how durable the topics are, which their owner may change at any time.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterable
from math import inf

from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tidemark.catalog.epochs import first_of
from tidemark.ingest.topics import admin, describe, known_partitions
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.documents import RetainedDocument, TopicDocument
from tidemark.serving.ledger import epoch
from tidemark.settings import settings
from tidemark.settings.sections import KafkaSettings

EVERY_SECONDS = 1.0
AFTER_FAILURE_SECONDS = 5.0
DESCRIBE_EVERY_SECONDS = 60.0

log = logging.getLogger("tidemark.watch")


def fetch_end_offsets(client: KafkaAdminClient, topics: Iterable[str]) -> list[RetainedDocument]:
    """The earliest retained offset and the end offset (exclusive) of every partition of these topics. Raises KafkaError."""
    partitions = known_partitions(client, topics)
    starts = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    ends = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    return [{"topic": key.topic, "partition": key.partition, "start": starts[key].offset, "offset": ends[key].offset} for key in partitions]


def record_end_offsets(database: Database[Document], fetched: list[RetainedDocument]) -> None:
    """Stores the end offsets, as those of the ledger's epoch, with the time of measurement by MongoDB's clock."""
    begin = first_of(epoch(database))
    offsets = [{**one, "start": begin + one["start"], "offset": begin + one["offset"]} for one in fetched]
    database.state.update_one({"_id": "log_end"}, [{"$set": {"offsets": {"$literal": offsets}, "measured_at": "$$NOW"}}], upsert=True)


def fetch_durability(client: KafkaAdminClient, topics: Iterable[str]) -> list[TopicDocument]:
    """How durable an acknowledged event of each of these topics is. Raises KafkaError."""
    found = {topic: one.durability for topic, one in describe(client, topics).items()}
    return [{"topic": topic, "copies": one.copies, "flushed": one.flushed} for topic, one in found.items()]


def record_durability(database: Database[Document], topics: list[TopicDocument]) -> None:
    """Stores it beside the end offsets, which must have been recorded."""
    database.state.update_one({"_id": "log_end"}, {"$set": {"topics": topics}})


def watch(database: Database[Document], of: KafkaSettings, until: threading.Event) -> None:
    """Fetches and records end offsets and durability until `until` is set. Retries on errors; logs a persistent error once."""
    failing = False
    while not until.is_set():
        try:
            with admin(of) as client:
                described_at = -inf
                while not until.wait(EVERY_SECONDS):
                    record_end_offsets(database, fetch_end_offsets(client, of.topics))
                    if time.monotonic() - described_at >= DESCRIBE_EVERY_SECONDS:
                        record_durability(database, fetch_durability(client, of.topics))
                        described_at = time.monotonic()
                    if failing:
                        failing = False
                        log.info("the end offsets of the log can be read again")
        except (KafkaError, PyMongoError) as error:
            if not failing:
                log.warning("cannot read or record the end offsets of the log, retrying: %s", error)
            failing = True
            until.wait(AFTER_FAILURE_SECONDS)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    stop_requested = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop_requested.set())
    of = settings()
    with connect(of.mongodb) as client:
        log.info("watching topics %s in Kafka at %s", ", ".join(of.topics), of.kafka)
        watch(database_of(client, of.database), of, stop_requested)
    return 0


if __name__ == "__main__":
    sys.exit(main())
