"""The topic configuration that keeps events safe, as data. Code that creates topics and code that reads them share it."""

from __future__ import annotations

from collections.abc import Mapping

DAY_MS = 86_400_000

# The largest event. Its document in MongoDB stays well below the limit of 16 MiB. Kafka counts compressed bytes.
MOST_MESSAGE_BYTES = 8 * 1024 * 1024
LEAST_RETENTION_DAYS = 3

# Configuration of topics that are created here; retention.ms comes from the settings.
CONFIGURATION = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "retention.bytes": "-1",
}


def complaints(topic: str, configuration: Mapping[str, str | None]) -> list[str]:
    """The problems of a topic's configuration (Kafka's names and values), each with its remedy; empty if there are none."""
    found = []

    def set_it(name: str, value: str, why: str) -> None:
        found.append(f"topic {topic}: {name} is {configuration.get(name)}, {why}: set it to {value}")

    if configuration.get("cleanup.policy") != "delete":
        set_it("cleanup.policy", "delete", "so Kafka drops events that the raw history needs")
    if configuration.get("message.timestamp.type") != "LogAppendTime":
        set_it("message.timestamp.type", "LogAppendTime", "so a producer's clock sets the timestamps of events")
    retention = int(configuration.get("retention.ms") or 0)
    if 0 <= retention < LEAST_RETENTION_DAYS * DAY_MS:
        set_it("retention.ms", f"{LEAST_RETENTION_DAYS * DAY_MS} or more, or -1", "which does not outlast a few missed nights")
    if (configuration.get("retention.bytes") or "-1") != "-1":
        set_it("retention.bytes", "-1", "so a day with much data removes events that are still needed")
    if int(configuration.get("max.message.bytes") or 0) > MOST_MESSAGE_BYTES:
        set_it("max.message.bytes", f"{MOST_MESSAGE_BYTES} or less", "so an event can be too large for MongoDB")
    return found
