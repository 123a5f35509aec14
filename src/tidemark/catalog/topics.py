"""The topic configuration that keeps events safe, as data. All code that creates, reads or describes topics shares it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

DAY_MS = 86_400_000

# The largest event. Its document in MongoDB stays well below the limit of 16 MiB. Kafka counts compressed bytes.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
MIN_RETENTION_DAYS = 3
MAX_AHEAD_MS = DAY_MS  # of a producer's timestamp before Kafka's clock
NO_LIMIT = 2**63 - 1  # of a timestamp, for Kafka

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


def problems(topic: str, configuration: Mapping[str, str | None], replicas: int, other_producers: bool = False) -> list[str]:
    """The problems of a topic's configuration (Kafka's names and values), each with its remedy; empty if there are none.

    `replicas` is the number that each partition has, or that of the partition with the fewest. With one, no copies can be required.
    With `other_producers` events may have their producers' timestamps, within limits.
    """
    found = []

    def add_problem(name: str, value: str, why: str) -> None:
        found.append(f"topic {topic}: {name} is {configuration.get(name)}, {why}: set it to {value}")

    if configuration.get("cleanup.policy") != "delete":
        add_problem("cleanup.policy", "delete", "so Kafka drops events that the raw history needs")
    retention = int(configuration.get("retention.ms") or 0)
    for name, value, why in _timestamp_problems(configuration, retention, other_producers):
        add_problem(name, value, why)
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


def _timestamp_problems(
    configuration: Mapping[str, str | None], retention_ms: int, other_producers: bool
) -> Iterator[tuple[str, str, str]]:
    """For each problem with the timestamps of events: the name of the option, the value it should have, and why."""
    if configuration.get("message.timestamp.type") == "LogAppendTime":
        return
    if not other_producers:
        remedy = "LogAppendTime, or TIDEMARK_OTHER_PRODUCERS to true"
        yield "message.timestamp.type", remedy, "so a producer's clock sets the timestamps of events"
        return
    if int(configuration.get("message.timestamp.after.max.ms") or NO_LIMIT) > MAX_AHEAD_MS:
        yield (
            "message.timestamp.after.max.ms",
            f"{MAX_AHEAD_MS} or less",
            "so a producer's wrong clock can make its events the newest for years",
        )
    oldest = max(retention_ms - MIN_RETENTION_DAYS * DAY_MS, 0)
    if retention_ms >= 0 and int(configuration.get("message.timestamp.before.max.ms") or NO_LIMIT) > oldest:
        remedy = f"{oldest} or less, or retention.ms to -1"
        yield "message.timestamp.before.max.ms", remedy, "so Kafka can drop an event with an old timestamp before it is read"


def _in_sync(configuration: Mapping[str, str | None]) -> int:
    return int(configuration.get("min.insync.replicas") or 1)
