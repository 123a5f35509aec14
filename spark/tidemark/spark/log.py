"""The Kafka log for Spark's entry points: the topics, the available offsets, and whether they are safe to read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, TypeVar

from kafka import TopicPartition as KafkaTopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError, RetriableError

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.topics import complaints
from tidemark.settings.sections import KafkaSettings

FAIL_OVER_SECONDS = 15.0  # more than Kafka needs to notice that a broker is gone (broker.session.timeout.ms, 9 s)
_TRY_AGAIN_SECONDS = 0.2

_Answer = TypeVar("_Answer")


class UnfitTopic(Exception):
    """A topic is missing, or its configuration could lose or misdate events."""


class MissingOffsets(Exception):
    """Events that are still needed are no longer in the log, or the log ends before an offset already read."""


@dataclass(frozen=True)
class Log:
    """The topics at one moment: id by topic, and for each partition the first available offset and the end (exclusive)."""

    identities: Mapping[str, str]
    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]

    def require(self, mark: TideMark) -> None:
        """Raises MissingOffsets, with topic, partition and offsets, if the log cannot be read from the mark on."""
        missing = [
            f"{topic}/{partition}: {_removed(mark[key], start - 1)} removed by retention"
            for key, start in self.starts.items()
            if start > mark[key]
            for topic, partition in [key]
        ]
        missing += [
            f"{topic}/{partition}: read up to offset {offset}, but the log ends at {self.ends.get(TopicPartition(topic, partition), 0)}"
            for (topic, partition), offset in mark.items()
            if offset > self.ends.get(TopicPartition(topic, partition), 0)
        ]
        if missing:
            raise MissingOffsets(
                "the next offsets to read are not in the log, so continuing would lose events: " + "; ".join(missing)
                + ". Nothing has been changed. Restore the topic. If the raw history holds the missing events, "
                "run `python -m tidemark.spark.batch adopt`"
            )  # fmt: skip

    def starting_offsets(self, mark: TideMark) -> str:
        """Spark's startingOffsets for a mark; names every existing partition."""
        by_topic: dict[str, dict[str, int]] = {}
        for key in self.ends:
            by_topic.setdefault(key.topic, {})[str(key.partition)] = mark[key]
        return json.dumps(by_topic)


def _removed(first: int, last: int) -> str:
    return f"offset {first} has been" if first == last else f"offsets {first} to {last} have been"


def _client(servers: str) -> KafkaAdminClient:
    return KafkaAdminClient(bootstrap_servers=servers.split(","), client_id="tidemark-spark")


@contextmanager
def _admin(servers: str) -> Iterator[KafkaAdminClient]:
    client = _client(servers)
    try:
        yield client
    finally:
        client.close()


# Every micro-batch uses it twice: connecting takes several times as long as the request.
_lasting_client = lru_cache(maxsize=1)(_client)


def _through_a_fail_over(ask: Callable[[KafkaSettings], _Answer]) -> Callable[[KafkaSettings], _Answer]:
    """Asks again while a broker of several is down: until the others have noticed, a client may be sent to it."""

    @wraps(ask)
    def asking(of: KafkaSettings) -> _Answer:
        until = time.monotonic() + FAIL_OVER_SECONDS
        while True:
            try:
                return ask(of)
            except RetriableError:
                if time.monotonic() > until:
                    raise
                time.sleep(_TRY_AGAIN_SECONDS)

    return asking


@_through_a_fail_over
def identities(of: KafkaSettings) -> dict[str, str]:
    """The current ids of the topics, by name. Raises UnfitTopic if one is missing."""
    client = _lasting_client(of.kafka)
    try:
        described = _described(client, of)
    except KafkaError:  # possibly only the connection: try a new one
        _lasting_client.cache_clear()
        client.close()
        described = _described(_lasting_client(of.kafka), of)
    return {topic: str(found["topic_id"]) for topic, found in described.items()}


@_through_a_fail_over
def describe_log(of: KafkaSettings) -> Log:
    """The current log. Raises UnfitTopic if a topic is missing or its configuration does not keep events safe."""
    with _admin(of.kafka) as client:
        described = _described(client, of)
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in described]
        configurations = client.describe_configs(resources, config_filter="all")["topic"]
        wrong = [
            line
            for topic, configuration in configurations.items()
            for line in complaints(topic, {name: found["value"] for name, found in configuration.items()}, _replicas(described[topic]))
        ]
        if wrong:
            raise UnfitTopic("; ".join(wrong))
        partitions = [
            KafkaTopicPartition(topic, one["partition_index"]) for topic, found in described.items() for one in found["partitions"]
        ]
        starts = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
        ends = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    return Log(
        identities={topic: str(found["topic_id"]) for topic, found in described.items()},
        starts={TopicPartition(*key): found.offset for key, found in starts.items()},
        ends={TopicPartition(*key): found.offset for key, found in ends.items()},
    )


def _replicas(topic: Mapping[str, Any]) -> int:
    """The replicas of the partition that has the fewest."""
    return min(len(partition["replica_nodes"]) for partition in topic["partitions"])


def _described(client: KafkaAdminClient, of: KafkaSettings) -> dict[str, Any]:
    found = {one["name"]: one for one in client.describe_topics(list(of.topics)) if one.get("partitions")}
    if missing := [topic for topic in of.topics if topic not in found]:
        raise UnfitTopic(f"Kafka at {of.kafka} has no topic {' or '.join(missing)}: run `python -m tidemark.ingest.topics`")
    return found
