"""The Kafka log as Spark's entry points need it: which topics, which offsets there are, and whether they may be relied on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kafka import TopicPartition as KafkaTopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.topics import complaints
from tidemark.settings import settings


class UnfitTopic(Exception):
    """A topic is missing, or configured so that events could be lost or misdated."""


class MissingOffsets(Exception):
    """Events that are still needed have left the log, or the log is shorter than what was read from it."""


@dataclass(frozen=True)
class Log:
    """The topics at one moment: id by topic, and for each partition the first offset kept and the end (exclusive)."""

    identities: Mapping[str, str]
    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]

    def require(self, mark: TideMark) -> None:
        """Raises MissingOffsets, naming topic, partition and offsets, where reading on from the mark is not possible."""
        missing = [
            f"{topic}/{partition}: offsets {mark[key]} to {start - 1} have left the log (retention)"
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
                "the log does not hold what must be read next, so reading on would lose events: " + "; ".join(missing)
                + ". Nothing has been changed. Restore the topic, or rebuild from the raw history"
            )  # fmt: skip

    def starting_offsets(self, mark: TideMark) -> str:
        """Spark's startingOffsets from a mark: every partition there is, named."""
        by_topic: dict[str, dict[str, int]] = {}
        for key in self.ends:
            by_topic.setdefault(key.topic, {})[str(key.partition)] = mark[key]
        return json.dumps(by_topic)


def _client(servers: str) -> KafkaAdminClient:
    return KafkaAdminClient(bootstrap_servers=servers.split(","), client_id="tidemark-spark")


@contextmanager
def _admin() -> Iterator[KafkaAdminClient]:
    client = _client(settings().kafka)
    try:
        yield client
    finally:
        client.close()


# For what every micro-batch asks twice: to connect takes several times as long as to ask.
_lasting_client = lru_cache(maxsize=1)(_client)


def identities() -> dict[str, str]:
    """Ids of the topics by name, as they are. Raises UnfitTopic where one is missing."""
    client = _lasting_client(settings().kafka)
    try:
        described = _described(client)
    except KafkaError:  # it may only be the connection: a new one tells
        _lasting_client.cache_clear()
        client.close()
        described = _described(_lasting_client(settings().kafka))
    return {topic: str(found["topic_id"]) for topic, found in described.items()}


def describe_log() -> Log:
    """The log as it is. Raises UnfitTopic where a topic is missing or its configuration does not keep events safe."""
    with _admin() as client:
        described = _described(client)
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in described]
        configurations = client.describe_configs(resources, config_filter="all")["topic"]
        wrong = [
            line
            for topic, configuration in configurations.items()
            for line in complaints(topic, {name: found["value"] for name, found in configuration.items()})
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


def _described(client: KafkaAdminClient) -> dict[str, Any]:
    found = {one["name"]: one for one in client.describe_topics(list(settings().topics)) if one.get("partitions")}
    if missing := [topic for topic in settings().topics if topic not in found]:
        raise UnfitTopic(f"Kafka at {settings().kafka} has no topic {' nor '.join(missing)}: run `python -m tidemark.ingest.topics`")
    return found
