"""Topics on three brokers: what is acknowledged outlives one of them, and what could be lost is not acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError
from support.broker import configure, described, wait_for
from support.brokers import three_brokers
from support.environment import setting
from support.servers import Server
from support.wording import Wording

from tidemark.catalog.topics import Durability
from tidemark.ingest import topics
from tidemark.ingest.produce import RECOMMENDED, NotAcknowledged, produce
from tidemark.ingest.records import Message
from tidemark.settings import settings
from tidemark.spark.log import UnsafeTopic, describe_log

pytestmark = [pytest.mark.servers, pytest.mark.soak(proof="api")]


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[list[Server]]:
    with three_brokers(tmp_path) as found, setting(kafka_replication="3"):
        wait_for(_created)
        yield found


def _created() -> bool:
    """Possible once all three have joined."""
    try:
        return bool(topics.create(settings()))
    except KafkaError:
        return False


def durability() -> set[Durability]:
    with topics.admin(settings()) as client:
        return {one.durability for one in topics.describe(client, settings().topics).values()}


def sent(events: int) -> int:
    """How many of them Kafka has acknowledged."""
    producer = Producer({"bootstrap.servers": settings().kafka, **RECOMMENDED, "log_level": 0})
    try:
        return produce(producer, settings().product_topic, [Message(b"%d" % number, b"x", []) for number in range(events)], 30).events
    except NotAcknowledged as refused:
        return len(refused.acknowledged)


def test_an_event_is_acknowledged_with_two_copies_or_not_at_all(brokers: list[Server], wording: Wording) -> None:
    product_topic, _ = settings().topics
    for one in described().values():
        assert one.configuration.items() >= {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}.items()
    assert durability() == {Durability(2, flushed=False)}
    describe_log(settings())
    acknowledged = sent(100)
    assert acknowledged == 100
    brokers[2].kill()
    acknowledged += sent(100)
    assert acknowledged == 200, "one of three may be away"
    brokers[1].kill()
    assert sent(100) == 0, "what only one broker has may be lost"
    brokers[1].start()
    brokers[2].start()
    wait_for(lambda: sent(1) == 1, seconds=120)
    with topics.admin(settings()) as client:
        ends = client.list_partition_offsets(dict.fromkeys(topics.known_partitions(client, [product_topic]), OffsetSpec.LATEST))
    assert sum(one.offset for one in ends.values()) > acknowledged
    for name, wrong, right in (("min.insync.replicas", "1", "2"), ("unclean.leader.election.enable", "true", "false")):
        configure(product_topic, {name: wrong})
        with pytest.raises(UnsafeTopic) as error:
            describe_log(settings())
        wording.check(str(error.value), name)
        configure(product_topic, {name: right})
    describe_log(settings())
