"""Writes down where the log ends, once a second: `python -m tidemark.ingest.watch`. So lag is known also while the stream is down."""

from __future__ import annotations

import logging
import signal
import sys
import threading

from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tidemark.ingest.topics import admin, known_partitions
from tidemark.serving.database import Document, connect, database_of
from tidemark.settings import settings

EVERY_SECONDS = 1.0
AFTER_FAILURE_SECONDS = 5.0

log = logging.getLogger("tidemark.watch")


def fetch_end_offsets(client: KafkaAdminClient) -> list[Document]:
    """First offset kept and end (exclusive) of every partition of the topics. Raises KafkaError."""
    partitions = known_partitions(client, settings().topics)
    starts = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    ends = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    return [{"topic": key.topic, "partition": key.partition, "start": starts[key].offset, "offset": ends[key].offset} for key in partitions]


def record_end_offsets(database: Database[Document], offsets: list[Document]) -> None:
    """The log's end and the moment, by MongoDB's clock."""
    database.state.update_one({"_id": "log_end"}, [{"$set": {"offsets": {"$literal": offsets}, "measured_at": "$$NOW"}}], upsert=True)


def watch(database: Database[Document], until: threading.Event) -> None:
    """CachedStatus and writes until told to stop. What fails is said once and tried again."""
    failing = False
    while not until.is_set():
        try:
            with admin() as client:
                while not until.wait(EVERY_SECONDS):
                    record_end_offsets(database, fetch_end_offsets(client))
                    if failing:
                        failing = False
                        log.info("watching again")
        except (KafkaError, PyMongoError) as error:
            if not failing:
                log.warning("cannot look at the log's end, trying again: %s", error)
            failing = True
            until.wait(AFTER_FAILURE_SECONDS)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    told_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: told_to_stop.set())
    with connect() as client:
        log.info("watching %s of Kafka at %s", ", ".join(settings().topics), settings().kafka)
        watch(database_of(client), told_to_stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
