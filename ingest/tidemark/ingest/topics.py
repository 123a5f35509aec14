"""Creates the topics: `python -m tidemark.ingest.topics`. Idempotent. An existing topic is checked, never changed."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError, TopicAuthorizationFailedError

from tidemark.catalog.topics import (
    CONFIGURATION,
    DAY_MS,
    FLUSHING,
    MAX_MESSAGE_BYTES,
    Durability,
    durability,
    problems,
    required_in_sync,
)
from tidemark.rendering.topics import render_durability
from tidemark.settings import settings
from tidemark.settings.kafka_clients import kafka_python_options
from tidemark.settings.kafka_refusal import explaining_timeouts
from tidemark.settings.sections import KafkaSettings

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10  # timeout for Kafka to answer a new client
CATEGORY_PARTITIONS = 1  # there are a few hundred categories; one partition gives a total order


class Described(NamedTuple):
    """A topic: its configuration in Kafka's names and values, and the replicas of the partition that has the fewest."""

    configuration: dict[str, str | None]
    replicas: int

    @property
    def durability(self) -> Durability:
        return durability(self.configuration, self.replicas)


class _Admin(KafkaAdminClient):  # type: ignore[misc]
    """Ends its network thread if Kafka does not answer; kafka-python's client would leak the thread and its sockets."""

    def __init__(self, **configuration: Any) -> None:
        try:
            super().__init__(**configuration)
        except BaseException:
            self._net.stop()
            raise


@contextmanager
def admin(of: KafkaSettings, within_seconds: float | None = None) -> Iterator[KafkaAdminClient]:
    """A Kafka admin client. Raises KafkaError if Kafka does not answer in time, or refuses the login or the certificate."""
    seconds = ANSWER_SECONDS if within_seconds is None else within_seconds
    with explaining_timeouts(of):
        client = _Admin(**kafka_python_options(of), client_id="tidemark-ingest", bootstrap_timeout_ms=int(seconds * 1000))
    try:
        yield client
    finally:
        client.close()


def partitions(of: KafkaSettings, within_seconds: float) -> dict[str, int]:
    """The number of partitions by topic, without missing topics. Raises KafkaError if Kafka does not answer in time."""
    with admin(of, within_seconds) as client:
        return dict(Counter(one.topic for one in known_partitions(client, of.topics)))


def known_partitions(client: KafkaAdminClient, of: Iterable[str]) -> list[TopicPartition]:
    """All partitions of these topics, sorted; a missing topic has none. Raises KafkaError."""
    described = client.describe_topics(list(of))
    return sorted(TopicPartition(one["name"], found["partition_index"]) for one in described for found in one.get("partitions") or ())


def configuration(of: KafkaSettings) -> dict[str, str]:
    """The configuration of new topics, in Kafka's names."""
    return {
        **CONFIGURATION,
        **(FLUSHING if of.kafka_flush else {}),
        "min.insync.replicas": str(required_in_sync(of.kafka_replication)),
        "retention.ms": str(of.retention_days * DAY_MS),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }


def create(of: KafkaSettings) -> list[str]:
    """Creates missing topics, waits until they are usable, and returns their names. Raises KafkaError."""
    partitions = {of.product_topic: of.product_partitions, of.category_topic: CATEGORY_PARTITIONS}
    with admin(of) as client:
        there = {one.topic for one in known_partitions(client, partitions)}
        missing = {
            topic: {
                "num_partitions": count,
                "replication_factor": of.kafka_replication,
                "configs": configuration(of),
            }
            for topic, count in partitions.items()
            if topic not in there
        }
        if missing:
            try:
                client.create_topics(missing)
            except TopicAlreadyExistsError:
                log.info("another process has just created a topic")
            _wait_for(client, list(missing))
    return list(missing)


def _wait_for(client: KafkaAdminClient, those: list[str]) -> None:
    """Waits until brokers know these topics and all partitions have leaders; Kafka acknowledges the creation earlier."""
    until = time.monotonic() + ANSWER_SECONDS
    while {one.topic for one in known_partitions(client, those)} != set(those):
        if time.monotonic() > until:
            raise KafkaTimeoutError(f"{' and '.join(those)} created, but not visible after {ANSWER_SECONDS} s")
        time.sleep(0.02)
    # The client retries this while a partition has no leader.
    client.list_partition_offsets(dict.fromkeys(known_partitions(client, those), OffsetSpec.LATEST), timeout_ms=ANSWER_SECONDS * 1000)


def describe(client: KafkaAdminClient, those: Iterable[str]) -> dict[str, Described]:
    """Those topics, without missing ones. Raises KafkaError."""
    replicas = {
        one["name"]: min(len(partition["replica_nodes"]) for partition in one["partitions"])
        for one in client.describe_topics(list(those))
        if one.get("partitions")
    }
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in replicas]
    found = client.describe_configs(resources, config_filter="all")["topic"] if resources else {}
    # kafka-python drops the error of a topic whose configuration Kafka does not show.
    if hidden := [topic for topic, configuration in found.items() if not configuration]:
        raise TopicAuthorizationFailedError(
            f"the configuration of {' and '.join(hidden)} is not shown: allow this account DESCRIBE_CONFIGS"
        )
    return {
        topic: Described({name: one["value"] for name, one in configuration.items()}, replicas[topic])
        for topic, configuration in found.items()
    }


def configuration_errors(found: Mapping[str, Described], other_producers: bool) -> list[str]:
    """Errors in the configuration of topics, one line each with the remedy."""
    return [line for topic, one in found.items() for line in problems(topic, one.configuration, one.replicas, other_producers)]


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("kafka").setLevel(logging.ERROR)
    of = settings()
    try:
        created = create(of)
        with admin(of) as client:
            found = describe(client, of.topics)
    except KafkaError as error:
        log.error(
            "cannot create the topics in Kafka at %s (%s): check that Kafka is running and that this user may create topics",
            of.kafka,
            error,
        )
        return 1
    for topic in of.topics:
        log.info("topic %s %s", topic, "created" if topic in created else "exists")
    log.info("an acknowledged event has %s", render_durability(one.durability for one in found.values()))
    errors = configuration_errors(found, of.other_producers)
    for line in errors:
        log.error(line)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
