"""What a topic must be like for its events to be safe, as data: who creates topics and who reads them use the same table."""

from __future__ import annotations

from collections.abc import Mapping

DAY_MS = 86_400_000

# One event at most; what it becomes in MongoDB stays well below a document's 16 MiB. Kafka counts what a producer has compressed.
MOST_MESSAGE_BYTES = 8 * 1024 * 1024
LEAST_RETENTION_DAYS = 3

# What our topics are created with, beside retention.ms from the settings.
CONFIGURATION = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "retention.bytes": "-1",
}


def complaints(topic: str, configuration: Mapping[str, str | None]) -> list[str]:
    """What is wrong with a topic's configuration (Kafka's names and values), each with what to do; empty where all is well."""
    found = []

    def set_it(name: str, value: str, why: str) -> None:
        found.append(f"topic {topic}: {name} is {configuration.get(name)}, {why}: set it to {value}")

    if configuration.get("cleanup.policy") != "delete":
        set_it("cleanup.policy", "delete", "so that Kafka drops events that the raw history needs")
    if configuration.get("message.timestamp.type") != "LogAppendTime":
        set_it("message.timestamp.type", "LogAppendTime", "so that a producer's clock decides when events came")
    retention = int(configuration.get("retention.ms") or 0)
    if 0 <= retention < LEAST_RETENTION_DAYS * DAY_MS:
        set_it("retention.ms", f"{LEAST_RETENTION_DAYS * DAY_MS} or more, or -1", "which does not outlast a few missed nights")
    if (configuration.get("retention.bytes") or "-1") != "-1":
        set_it("retention.bytes", "-1", "so that a large day pushes out events that are still needed")
    if int(configuration.get("max.message.bytes") or 0) > MOST_MESSAGE_BYTES:
        set_it("max.message.bytes", f"{MOST_MESSAGE_BYTES} or less", "so that an event can be too large for MongoDB")
    return found
