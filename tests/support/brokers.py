"""What happens to topics on the broker while they are used."""

from __future__ import annotations

import time

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from ingest import topics


def configure(topic: str, **configuration: str) -> None:
    """Changes a topic's configuration; underscores stand for the dots in Kafka's names."""
    configs = {name.replace("_", "."): value for name, value in configuration.items()}
    with topics.admin() as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])


def delete(topic: str) -> None:
    with topics.admin() as client:
        client.delete_topics([topic])
        while any(one.get("partitions") for one in client.describe_topics([topic])):
            time.sleep(0.05)


def recreate(topic: str) -> None:
    """Deletes a topic and creates it again."""
    delete(topic)
    create()


def create() -> None:
    """Creates the topics that are missing, as the settings say, as soon as the broker has forgotten a former one."""
    until = time.monotonic() + 30
    while True:
        try:
            topics.create()
            return
        except KafkaError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def forget(topic: str, partition: int, below: int) -> None:
    """Deletes the events below an offset, as retention does."""
    with topics.admin() as client:
        client.delete_records({TopicPartition(topic, partition): below})


def add_partitions(topic: str, count: int) -> None:
    """Until there are that many."""
    with topics.admin() as client:
        client.create_partitions({topic: count})
