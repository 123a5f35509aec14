"""The topics are created as the contract has them, once; what exists is checked and never changed."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer, TopicPartition
from support.broker import configure, delete, described
from support.environment import setting
from support.places import Place
from support.servers import free_ports
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.topics import Durability
from tidemark.ingest import topics
from tidemark.settings.sections import KafkaSettings

pytestmark = pytest.mark.servers

DAY_MS = 86_400_000


def description(place: Place, *those: str) -> dict[str, topics.Described]:
    with topics.admin(place.settings) as client:
        return topics.describe(client, those or place.settings.topics)


def test_a_missing_topic_is_absent_from_the_description(place: Place) -> None:
    product_topic, category_topic = place.settings.topics
    assert description(place).keys() == {product_topic, category_topic}
    assert [*description(place, "nowhere", category_topic)] == [category_topic]
    assert description(place, "nowhere", "nothing") == {}


def test_topics_are_created_as_specified(place: Place) -> None:
    product_topic, category_topic = place.settings.topics
    found = described()
    assert {topic: one.partitions for topic, one in found.items()} == {product_topic: 4, category_topic: 1}
    expected = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(30 * DAY_MS),
        "retention.bytes": "-1",
        "max.message.bytes": str(8 * 1024 * 1024),
        "min.insync.replicas": "1",
        "unclean.leader.election.enable": "false",
    }
    for one in found.values():
        assert one.configuration.items() >= expected.items()
        assert one.configuration["flush.messages"] != "1"
    assert topics.configuration_errors(description(place), False) == []


def test_topics_follow_the_settings(place: Place) -> None:
    delete(*place.settings.topics)
    assert topics.create(KafkaSettings(product_partitions=7, retention_days=3, kafka_flush=True)) == list(place.settings.topics)
    for topic, one in described().items():
        assert one.partitions == (7 if topic == place.settings.product_topic else 1)
        assert one.configuration["retention.ms"] == str(3 * DAY_MS)
        assert one.configuration["flush.messages"] == "1"
    assert {one.durability for one in description(place).values()} == {Durability(1, flushed=True)}


def test_a_created_topic_is_readable_at_once(place: Place) -> None:
    """Kafka says that a topic is created before its brokers lead the partitions: with so many, well before."""
    consumer = Consumer({"bootstrap.servers": place.settings.kafka, "group.id": "none"})
    try:
        for number in range(4):
            of = KafkaSettings(product_topic=f"{place.database.name}-{number}", product_partitions=64)
            topics.create(of)
            ends = [consumer.get_watermark_offsets(TopicPartition(of.product_topic, one), timeout=10) for one in range(64)]
            delete(of.product_topic)
            assert ends == [(0, 0)] * 64
    finally:
        consumer.close()


def test_creating_again_changes_nothing(place: Place) -> None:
    place.send([Event("ingest-product", 0, 0, 0, None, b"x")])
    before, ends = described(), place.ends()
    assert topics.create(KafkaSettings(product_partitions=9, retention_days=9, kafka_flush=True)) == []
    assert described() == before
    assert place.ends() == ends


def test_only_missing_topics_are_created(place: Place) -> None:
    product_topic, category_topic = place.settings.topics
    before = described()
    delete(category_topic)
    assert topics.create(place.settings) == [category_topic]
    after = described()
    assert after[product_topic] == before[product_topic]
    assert after[category_topic].id != before[category_topic].id
    assert after[category_topic] == before[category_topic]._replace(id=after[category_topic].id)


def test_events_have_the_brokers_timestamp(place: Place) -> None:
    """A producer's clock decides nothing."""
    producer = place.producer()
    producer.produce(place.settings.product_topic, b"x", timestamp=1_000_000_000_000)
    assert producer.flush(20) == 0
    (event,) = place.log()
    assert event.timestamp > 1_700_000_000_000


def test_the_command_reports_what_it_created(place: Place, wording: Wording) -> None:
    _, category_topic = place.settings.topics
    delete(category_topic)
    done = subprocess.run([sys.executable, "-m", "tidemark.ingest.topics"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    wording.check(re.sub(r"^[0-9-]+ [0-9:,]+ ", "", done.stdout, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "CreateTime"),
        ("retention.ms", str(DAY_MS)),
        ("retention.bytes", "1000"),
        ("max.message.bytes", "20000000"),
    ],
)
def test_a_different_configuration_is_reported_and_kept(
    name: str, value: str, place: Place, caplog: pytest.LogCaptureFixture, wording: Wording
) -> None:
    product_topic, _ = place.settings.topics
    configure(product_topic, {name: value})
    assert topics.main() == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    wording.check(line)
    assert described()[product_topic].configuration[name] == value


def test_an_unreachable_broker(place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wording: Wording) -> None:
    (port,) = free_ports(1)
    monkeypatch.setattr(topics, "ANSWER_SECONDS", 1)
    started = time.monotonic()
    with setting(kafka_port=str(port)):
        assert topics.main() == 1
    assert time.monotonic() - started < 15, "Kafka's client waits as long as it likes"
    (message,) = [record.getMessage() for record in caplog.records if record.name == topics.log.name and record.levelname == "ERROR"]
    wording.check(message, kafka=f"127.0.0.1:{port}")
