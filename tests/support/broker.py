"""What tests do to the broker and its topics; each returns when the broker goes by it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError
from support.servers import Servers

from tidemark.ingest import topics
from tidemark.settings import settings


class Topic(NamedTuple):
    id: str
    partitions: int
    configuration: dict[str, str]


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, f"not so after {seconds:g} s"
        time.sleep(0.05)


def described() -> dict[str, Topic]:
    """The topics of the settings, those that there are, as the broker tells them."""
    with topics.admin(settings()) as client:
        found = [one for one in client.describe_topics(list(settings().topics)) if one["partitions"]]
        resources = [ConfigResource(ConfigResourceType.TOPIC, one["name"]) for one in found]
        configured = client.describe_configs(resources, config_filter="all")["topic"] if resources else {}
    return {
        one["name"]: Topic(
            str(one["topic_id"]), len(one["partitions"]), {name: value["value"] for name, value in configured[one["name"]].items()}
        )
        for one in found
    }


def configure(topic: str, configuration: dict[str, str]) -> None:
    """Changes these settings of a topic and no others."""
    with topics.admin(settings()) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configuration)])
    wait_for(lambda: described()[topic].configuration.items() >= configuration.items())


def delete(*names: str) -> None:
    with topics.admin(settings()) as client:
        client.delete_topics(list(names))
    wait_for(lambda: described().keys().isdisjoint(names))


def create() -> None:
    """Creates the topics that are missing, as the settings say, as soon as the broker has forgotten a former one."""

    def created() -> bool:
        try:
            topics.create(settings())
        except KafkaError:
            return False
        return described().keys() == set(settings().topics)

    wait_for(created)


def recreate(topic: str) -> None:
    """Deletes a topic and creates it again."""
    delete(topic)
    create()


def add_partitions(topic: str, count: int) -> None:
    """Until there are that many."""
    with topics.admin(settings()) as client:
        client.create_partitions({topic: count})
    wait_for(lambda: described()[topic].partitions == count)


def forget(topic: str, partition: int, below: int) -> None:
    """Deletes the events below an offset, as retention does."""
    with topics.admin(settings()) as client:
        client.delete_records({TopicPartition(topic, partition): below})


@contextmanager
def stalling(servers: Servers) -> Iterator[Callable[[], None]]:
    """What it yields stalls the broker: connections stay open and nothing is answered. In the end the broker goes on."""
    try:
        yield lambda: servers.kafka.signal(signal.SIGSTOP)
    finally:
        servers.kafka.signal(signal.SIGCONT)
        servers.wait()
