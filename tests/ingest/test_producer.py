"""Every acknowledgement counts: what Kafka has, where it ends, and an error that says what to do where that is not all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka import KafkaProducer
from support.broker import stalling, wait_for
from support.csvs import OBSERVED_AT, REGISTERED_AT, MemoryFile, csv_bytes, products
from support.places import Place
from support.servers import Servers
from support.wording import Wording

from tidemark.catalog.marks import TideMark
from tidemark.ingest.files import CATEGORY_COLUMNS, MAX_RECORD_BYTES, FileKind
from tidemark.ingest.plan import plan
from tidemark.ingest.produce import RECOMMENDED, Acknowledged, NotAcknowledged, produce, produce_chunk
from tidemark.ingest.records import Message, Origin
from tidemark.serving.ingestions import Chunk

pytestmark = pytest.mark.servers

SECONDS = 1.0  # without an acknowledgement, where the broker is not to answer
LONGEST = 10.0  # that any failure may take here


def some(count: int, keys: int = 1_000_000, size: int = 20) -> Iterator[Message]:
    for number in range(count):
        yield Message(b"key %d" % (number % keys), Random(number).randbytes(size), [("tide-source", b"csv")])


def producer(place: Place, **configuration: Any) -> Producer:
    """A quiet one: librdkafka's log of a broker that does not answer tells nothing here."""
    return Producer({"bootstrap.servers": place.settings.kafka, **RECOMMENDED, "log_level": 0, **configuration})


@contextmanager
def fails_soon() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < LONGEST


def of_products(place: Place, mark: TideMark) -> TideMark:
    return TideMark({key: end for key, end in mark.items() if key.topic == place.settings.product_topic})


def test_all_events_are_acknowledged_and_end_offsets_returned(place: Place) -> None:
    topic = place.settings.product_topic
    first = produce(producer(place), topic, some(2_500), 20)
    assert first == Acknowledged(2_500, of_products(place, place.ends()))
    assert sum(first.ends.values()) == 2_500
    assert len(first.ends) == place.settings.product_partitions
    second = produce(producer(place), topic, some(30, keys=1), 20)
    ((key, end),) = second.ends.items()
    assert second.events == 30
    assert end == first.ends[key] + 30
    assert [place.ends()[one] for one in first.ends] == [end if one == key else first.ends[one] for one in first.ends]
    assert produce(producer(place), topic, [], 20) == Acknowledged(0, TideMark())


def test_more_events_than_the_producer_can_queue(place: Place) -> None:
    small = producer(place, **{"queue.buffering.max.messages": 50, "batch.num.messages": 20})
    assert produce(small, place.settings.product_topic, some(1_234), 20) == Acknowledged(1_234, of_products(place, place.ends()))


def test_a_slow_source_does_not_count_as_a_silent_broker(place: Place) -> None:
    def slow() -> Iterator[Message]:
        time.sleep(5.1)
        yield from some(1)

    unhurried = producer(place, **{"linger.ms": 500})  # the acknowledgement is not there at the first look
    assert produce(unhurried, place.settings.product_topic, slow(), 5).events == 1


def test_events_are_stored_as_sent(place: Place) -> None:
    given = [Message(None, b"", []), Message("ключ".encode(), "wert ü\x00".encode(), [("a", b"1"), ("b", None), ("a", b"")])]
    produce(producer(place), place.settings.category_topic, given, 20)
    assert [(event.key, event.value, list(event.headers)) for event in place.log()] == given


def test_a_key_has_one_partition_for_every_client(place: Place) -> None:
    """kafka-python, which places keys as Java's producer does, and both of librdkafka's partitioners that are allowed."""
    random = Random(1)
    keys = [b"B0T%07d" % number for number in range(200)] + [random.randbytes(random.randrange(1, 40)) for _ in range(200)]
    keys += ["日本製".encode(), b"\x00", b"\xff" * 7]
    produce(producer(place), place.settings.product_topic, [Message(key, b"", []) for key in keys], 20)
    produce(producer(place, partitioner="murmur2"), place.settings.product_topic, [Message(key, b"", []) for key in keys], 20)
    other = KafkaProducer(bootstrap_servers=place.settings.kafka, acks="all")
    for key in keys:
        other.send(place.settings.product_topic, key=key, value=b"")
    other.close()
    found: dict[bytes | None, list[int]] = {}
    for event in place.log():
        found.setdefault(event.key, []).append(event.partition)
    assert found.keys() == set(keys)
    assert [key for key, partitions in found.items() if len(partitions) != 3 or len(set(partitions)) != 1] == []
    assert {partitions[0] for partitions in found.values()} == set(range(place.settings.product_partitions))


def test_events_without_a_key_are_spread_over_all_partitions(place: Place) -> None:
    """Rows that go as they came must not all be one partition's."""
    one = producer(place)

    def all_partitions_used() -> bool:
        """The producer stays with a partition for some milliseconds, so it takes many."""
        produce(one, place.settings.product_topic, [Message(None, b"x", [])], 20)
        return all(end for key, end in place.ends().items() if key.topic == place.settings.product_topic)

    wait_for(all_partitions_used)


def test_the_longest_record_is_accepted_with_any_escaping(place: Place) -> None:
    content = csv_bytes([["7", "\x01" * (MAX_RECORD_BYTES - len(b"7,\n"))]], CATEGORY_COLUMNS)
    planned = plan(MemoryFile(content), FileKind.CATEGORY, OBSERVED_AT, 10**9)
    (chunk,) = planned.chunks
    assert chunk.end - chunk.start == MAX_RECORD_BYTES
    origin = Origin(planned.ingestion["_id"], FileKind.CATEGORY, tuple(planned.ingestion["columns"]), OBSERVED_AT, REGISTERED_AT)
    done = produce_chunk(producer(place), place.settings.category_topic, MemoryFile(content), len(content), chunk, origin, 30)
    assert done.events == 1
    (event,) = place.log()
    assert len(event.value or b"") > 6 * (MAX_RECORD_BYTES - 10)


def test_an_unknown_topic(place: Place, monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    monkeypatch.setattr("tidemark.ingest.produce._NEW_TOPIC_SECONDS", 0.2)
    with fails_soon(), pytest.raises(NotAcknowledged) as refused:
        produce(producer(place), "nowhere", some(3), 20)
    wording.check(str(refused.value))


def test_an_event_that_is_too_large_for_the_producer(place: Place, wording: Wording) -> None:
    with fails_soon(), pytest.raises(NotAcknowledged) as refused:
        produce(producer(place), place.settings.product_topic, some(1, size=9_000_000), 20)
    wording.check(str(refused.value))


def test_events_that_are_too_large_for_the_topic(place: Place, wording: Wording) -> None:
    generous = producer(place, **{"message.max.bytes": 20_000_000, "batch.num.messages": 1})
    given = [*some(5), *some(1, size=9_000_000), *some(5)]
    with fails_soon(), pytest.raises(NotAcknowledged) as refused:
        produce(generous, place.settings.product_topic, given, 20)
    wording.check(re.sub("[0-9]+ of 11 ", "<refused> of 11 ", str(refused.value)))


def test_an_acknowledgement_without_an_offset_is_not_accepted(place: Place, wording: Wording) -> None:
    """Without the offset nobody could tell when the event is served."""
    careless = producer(place, acks=0, **{"enable.idempotence": False})
    with fails_soon(), pytest.raises(NotAcknowledged) as refused:
        produce(careless, place.settings.product_topic, some(3), 20)
    wording.check(str(refused.value))


def test_a_transactional_producer_is_refused(place: Place, wording: Wording) -> None:
    with fails_soon(), pytest.raises(NotAcknowledged) as refused:
        produce(producer(place, **{"transactional.id": "x"}), place.settings.product_topic, some(3), 20)
    wording.check(str(refused.value))


def test_fewer_events_than_rows(place: Place, wording: Wording) -> None:
    content = products(20)
    planned = plan(MemoryFile(content), FileKind.PRODUCT, OBSERVED_AT, 10**9)
    (chunk,) = planned.chunks
    origin = Origin("one", FileKind.PRODUCT, tuple(planned.ingestion["columns"]), OBSERVED_AT, REGISTERED_AT)

    def produce_it(chunk: Chunk) -> Acknowledged:
        return produce_chunk(producer(place), place.settings.product_topic, MemoryFile(content), len(content), chunk, origin, 20)

    assert produce_it(chunk).events == 20
    with pytest.raises(NotAcknowledged) as refused:
        produce_it(chunk._replace(rows=21))
    wording.check(str(refused.value))


def test_an_unreachable_broker(fallible: Servers, fallible_place: Place, wording: Wording) -> None:
    place = fallible_place
    before = produce(producer(place), place.settings.product_topic, some(5), 20).ends
    with stalling(fallible) as stall, fails_soon():
        stall()
        with pytest.raises(NotAcknowledged) as refused:
            produce(producer(place), place.settings.product_topic, some(5), SECONDS)
    wording.check(re.sub(r"\([^)]*\)", "(<what its client says>)", str(refused.value)))
    assert of_products(place, place.ends()) == before
    assert produce(producer(place), place.settings.product_topic, some(3), 20).events == 3


@pytest.mark.parametrize(("queue", "count"), [(200_000, 5), (100, 500)], ids=["at the end", "with a full queue"])
def test_a_broker_that_stops_responding(queue: int, count: int, fallible: Servers, fallible_place: Place, wording: Wording) -> None:
    """While the last acknowledgements are waited for, and while the producer's queue is full."""
    place = fallible_place
    one = producer(place, **{"queue.buffering.max.messages": queue})
    one.list_topics(timeout=20)  # connected

    def stalled_after_ten(stall: Callable[[], None]) -> Iterator[Message]:
        yield from some(10)
        one.flush(20)
        stall()
        yield from some(count)

    with stalling(fallible) as stall, fails_soon(), pytest.raises(NotAcknowledged) as refused:
        produce(one, place.settings.product_topic, stalled_after_ten(stall), SECONDS)
    assert refused.value.acknowledged == frozenset(range(10))
    wording.check(str(refused.value))
    assert produce(producer(place), place.settings.product_topic, some(3), 20).events == 3
