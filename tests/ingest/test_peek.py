"""`make peek`: the newest events of a topic, as they are, and what validation says of each."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from support import broker
from support.environment import setting
from support.names import NAMES
from support.places import Place
from support.registered import register
from support.servers import free_ports
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TopicPartition
from tidemark.ingest import peek, topics
from tidemark.serving import withdrawals
from tidemark.settings.sections import KafkaSettings

PRODUCT = (
    b'{"asin":"B0GOOD%04d","title":"T","stars":4,"reviews":1,"price":%d.5,"listPrice":0,"category_id":7,"isBestSeller":true,'
    b'"boughtInLastMonth":0,"date":"2024-01-02T03:04:05Z"}'
)


def product(number: int) -> Event:
    return Event("ingest-product", 0, 0, 0, b"B0GOOD%04d" % number, PRODUCT % (number, number), (("tide-source", b"csv"), ("odd", None)))


def without_coordinates(output: str) -> str:
    """Events as they are shown, in an order that Kafka does not decide."""
    shown = (re.sub(r"^\S+/\d+/\d+  \S+", "<coordinates and moment>", one) for one in output.strip("\n").split("\n\n"))
    return "\n\n".join(sorted(shown))


@pytest.mark.servers
def test_it_returns_the_newest_events_of_all_partitions_oldest_first(place: Place) -> None:
    for number in range(0, 60, 5):  # of twelve moments
        place.send([product(number + one) for one in range(5)])
    found = peek.last(place.settings, place.settings.product_topic, 25)
    events = sorted(place.log(), key=lambda event: (event.timestamp, event.partition, event.offset))
    assert found == events[-25:]
    assert len({event.partition for event in found}) > 1
    assert peek.last(place.settings, place.settings.product_topic, 1_000) == events
    assert peek.last(place.settings, place.settings.category_topic, 5) == []


@pytest.mark.servers
def test_rendering_of_events(place: Place, capsys: pytest.CaptureFixture[str], wording: Wording) -> None:
    bad = [
        (b"B0BAD00001", b'{"asin":"b0bad"}'),
        (None, b"caf\xe9,[bold]"),
        (b"k", None),
        (b"B0LONG0001", b'{"title":"' + b"x" * 5_000 + b'"}'),
    ]
    place.send([product(3), *(Event("ingest-product", 0, 0, 0, key, value) for key, value in bad)])
    assert peek.main(["product", "--count", "10"]) == 0
    output = capsys.readouterr().out
    for event in place.log():
        moment = datetime.fromtimestamp(event.timestamp / 1000, UTC)
        assert f"{event.topic}/{event.partition}/{event.offset}  {moment.isoformat(timespec='milliseconds')}" in output
    wording.check(without_coordinates(output), "product", many="x" * (peek.MAX_CHARACTERS - len('{"title":"')))

    place.send([Event("ingest-category", 0, 0, 0, b"7", b'{"id":7,"category_name":"Bags"}')])
    assert peek.main(["category"]) == 0
    wording.check(without_coordinates(capsys.readouterr().out), "category")


@pytest.mark.servers
def test_one_event_is_shown_by_its_coordinates(place: Place, capsys: pytest.CaptureFixture[str], wording: Wording) -> None:
    place.send(product(number) for number in range(20))
    for event in place.log():
        assert peek.at(place.settings, event.topic, event.partition, event.offset) == [event]
    of_client = product(3)._replace(headers=(("tide-source", b"api"), ("tide-client", b"shop")))
    place.send([of_client])
    event = next(event for event in place.log() if event.header("tide-client"))
    assert peek.main(["product", "--at", f"{event.partition}/{event.offset}"]) == 0
    wording.check(without_coordinates(capsys.readouterr().out), "shown")
    assert peek.main(["product", "--at", "0/123456"]) == 1
    wording.check(capsys.readouterr().out, "missing")


@pytest.mark.parametrize("coordinates", ["3", "a/b", "-1/2", "1/2/3"])
def test_invalid_coordinates_are_refused(coordinates: str, capsys: pytest.CaptureFixture[str], wording: Wording) -> None:
    with pytest.raises(SystemExit):
        peek._arguments([f"--at={coordinates}"])
    *_, output = capsys.readouterr().err.splitlines()
    wording.check(output)


@pytest.mark.servers
def test_withdrawn_events_are_marked(place: Place, capsys: pytest.CaptureFixture[str], wording: Wording) -> None:
    register(place.database, "a", "/in/a.csv")
    withdrawals.withdraw(place.database, "a", "somebody", "", NAMES)
    good = product(3)
    place.send([good._replace(headers=(("tide-ingestion", b"a"), ("tide-position", b"0"))), good])
    assert peek.main(["product"]) == 0
    wording.check(without_coordinates(capsys.readouterr().out))


@pytest.mark.servers
def test_an_empty_topic(place: Place, capsys: pytest.CaptureFixture[str], wording: Wording) -> None:
    assert peek.main(["category"]) == 0
    wording.check(capsys.readouterr().out)


@pytest.mark.servers
def test_a_topic_whose_partitions_have_no_leader_yet(place: Place) -> None:
    """As it is for a moment after somebody has created it."""
    of = KafkaSettings(product_topic=f"{place.database.name}-new")
    with topics.admin(of) as client:
        client.create_topics({of.product_topic: {"num_partitions": 64, "replication_factor": 1}})
        broker.wait_for(lambda: of.product_topic in topics.partitions(of, 10))
        assert peek.last(of, of.product_topic, 5) == []


@pytest.mark.servers
def test_transaction_markers_are_not_events(place: Place) -> None:
    producer = Producer({"bootstrap.servers": place.settings.kafka, "transactional.id": "peek"})
    producer.init_transactions()
    producer.begin_transaction()
    for number in range(3):
        producer.produce(place.settings.product_topic, b"%d" % number, partition=0)
    producer.commit_transaction()
    first = TopicPartition(place.settings.product_topic, 0)
    broker.wait_for(lambda: place.ends()[first] == 4)  # the marker comes after the commit is acknowledged
    # Offset 3 is the marker. It is among the newest two, and nobody waits for an event there.
    assert [event.value for event in peek.last(place.settings, place.settings.product_topic, 2)] == [b"2"]
    assert [event.value for event in peek.last(place.settings, place.settings.product_topic, 100)] == [b"0", b"1", b"2"]


@pytest.mark.servers
def test_a_missing_topic(place: Place, capsys: pytest.CaptureFixture[str], wording: Wording) -> None:
    with setting(product_topic="nothing"):
        assert peek.main([]) == 1
        output = capsys.readouterr().out
        assert place.settings.kafka in output
        wording.check(output)


def test_an_unreachable_server_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], wording: Wording
) -> None:
    """Said once, by us."""
    (port,) = free_ports(1)
    monkeypatch.setattr(peek, "ANSWER_SECONDS", 1.0)
    with setting(kafka_port=str(port)):
        assert peek.main([]) == 1
        output = capfd.readouterr()
        wording.check(re.sub(r"\(.*\)", "(<what its client says>)", output.out))
    assert f"127.0.0.1:{port}" in output.out.partition(" (")[0]
    assert output.out.count("\n") == 1
    assert output.err == ""


@pytest.mark.parametrize("count", ["0", "-1", "many", "100001"])
def test_invalid_counts_are_refused(count: str, capsys: pytest.CaptureFixture[str], wording: Wording) -> None:
    with pytest.raises(SystemExit):
        peek._arguments(["--count", count])
    *_, output = capsys.readouterr().err.splitlines()
    wording.check(output)
