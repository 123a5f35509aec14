"""The topic configuration that keeps events safe, as data. All code that creates, reads or describes topics shares it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

DAY_MS = 86_400_000

# The largest event. Its document in MongoDB stays well below the limit of 16 MiB. Kafka counts compressed bytes.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
MIN_RETENTION_DAYS = 3

# Configuration of topics that are created here; retention.ms comes from the settings.
CONFIGURATION = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "retention.bytes": "-1",
    "unclean.leader.election.enable": "false",
}
# Added where each event is to be on disk before it is acknowledged.
FLUSHING = {"flush.messages": "1"}


class Durability(NamedTuple):
    """What a topic does for an event before it is acknowledged: copies on that many brokers, each flushed to disk or not."""

    copies: int
    flushed: bool


def required_in_sync(replicas: int) -> int:
    """The min.insync.replicas of a topic: how many replicas have an event before it is acknowledged with acks=all.

    Two, where there are two. With exactly two replicas no event is accepted while a broker is down; producers then retry and lose
    nothing, whereas an event acknowledged with one copy can be lost for good. With three, one broker may be down.
    """
    return min(2, replicas)


def durability(configuration: Mapping[str, str | None], replicas: int) -> Durability:
    """The durability of a topic with this configuration (Kafka's names and values) and that many replicas of each partition."""
    return Durability(min(_in_sync(configuration), replicas), configuration.get("flush.messages") == FLUSHING["flush.messages"])


def problems(topic: str, configuration: Mapping[str, str | None], replicas: int) -> list[str]:
    """The problems of a topic's configuration (Kafka's names and values), each with its remedy; empty if there are none.

    `replicas` is the number that each partition has, or that of the partition with the fewest. With one, no copies can be required.
    """
    found = []

    def add_problem(name: str, value: str, why: str) -> None:
        found.append(f"topic {topic}: {name} is {configuration.get(name)}, {why}: set it to {value}")

    if configuration.get("cleanup.policy") != "delete":
        add_problem("cleanup.policy", "delete", "so Kafka drops events that the raw history needs")
    if configuration.get("message.timestamp.type") != "LogAppendTime":
        add_problem("message.timestamp.type", "LogAppendTime", "so a producer's clock sets the timestamps of events")
    retention = int(configuration.get("retention.ms") or 0)
    if 0 <= retention < MIN_RETENTION_DAYS * DAY_MS:
        add_problem("retention.ms", f"{MIN_RETENTION_DAYS * DAY_MS} or more, or -1", "which does not outlast a few missed nights")
    if (configuration.get("retention.bytes") or "-1") != "-1":
        add_problem("retention.bytes", "-1", "so a day with much data removes events that are still needed")
    if int(configuration.get("max.message.bytes") or 0) > MAX_MESSAGE_BYTES:
        add_problem("max.message.bytes", f"{MAX_MESSAGE_BYTES} or less", "so an event can be too large for MongoDB")
    if _in_sync(configuration) < required_in_sync(replicas):
        add_problem("min.insync.replicas", "2", f"so an acknowledged event may have one copy, although the topic has {replicas} replicas")
    if replicas > 1 and configuration.get("unclean.leader.election.enable") == "true":
        add_problem("unclean.leader.election.enable", "false", "so a replica that lacks acknowledged events can become the leader")
    return found


def _in_sync(configuration: Mapping[str, str | None]) -> int:
    return int(configuration.get("min.insync.replicas") or 1)
