"""The raw history: what lands, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

import pytest
from confluent_kafka import Producer
from pyspark.sql import SparkSession
from support import broker
from support.events import any_log
from support.load import updates
from support.manual_stream import kafka
from support.places import Place
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import ledger
from tidemark.serving.bindings import TopicsRecreated
from tidemark.spark.lake import Lake
from tidemark.spark.land import land
from tidemark.spark.log import MissingOffsets, describe_topics
from tidemark.spark.transforms import events

pytestmark = pytest.mark.servers

Row = tuple[object, ...]


def landed(lake: Lake, end: TideMark) -> list[Row]:
    """The events of the table below a mark, each a row as often as it is there."""
    return sorted(
        (
            *(row["topic"], row["partition"], row["offset"], row["timestamp"]),
            *(None if row[name] is None else bytes(row[name]) for name in ("key", "value")),
            tuple((one["key"], None if one["value"] is None else bytes(one["value"])) for one in row["headers"] or ()),
        )
        for row in lake.events(TideMark(), end).collect()
    )


def sent(place: Place) -> list[Row]:
    return sorted(tuple(event) for event in place.log())


def test_each_event_of_the_log_lands_exactly_once(place: Place, spark: SparkSession, lake: Lake) -> None:
    place.send(any_log(Random(71), 150))
    ends = place.ends()
    assert land(spark, lake, ledger.read(place.database), place.settings, most=30) == ends
    assert landed(lake, ends) == sent(place)
    landing = lake.landed().landing
    assert landing > 1, "it was not landed in parts"
    assert land(spark, lake, ledger.read(place.database), place.settings) == ends
    assert lake.landed().landing == landing, "there was nothing to land"
    place.send(any_log(Random(72), 100))
    assert land(spark, Lake(spark, place.settings.lake_url), ledger.read(place.database), place.settings) == place.ends()
    assert landed(lake, place.ends()) == sent(place)
    # Between marks are the events at or beyond one and below the other.
    between = lake.events(ends, place.ends()).select("topic", "partition", "offset").collect()
    assert sorted(map(tuple, between)) == [row[:3] for row in sent(place) if not ends.covers(Event(*row[:3], 0, None, None))]


def test_a_late_landing_of_another_range_lands_nothing(place: Place, spark: SparkSession, lake: Lake) -> None:
    place.send(any_log(Random(73), 60))
    log, before = place.log(), lake.landed()
    land(spark, lake, ledger.read(place.database), place.settings)
    now = lake.landed()
    lake.append(events(kafka(spark, log[:30])), before.landing + 1)
    lake.append(events(kafka(spark, log)), now.landing)
    assert lake.landed() == now
    assert landed(lake, place.ends()) == sent(place)


def test_concurrent_landings(place: Place, spark: SparkSession, lake: Lake) -> None:
    place.send(any_log(Random(74), 150))
    failures: list[BaseException] = []

    def one() -> None:
        try:
            land(spark, Lake(spark, place.settings.lake_url), ledger.read(place.database), place.settings, most=30)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert lake.landed().mark == place.ends()
    assert landed(lake, place.ends()) == sent(place)


def test_offsets_deleted_from_the_log_are_named_and_the_rest_is_kept(
    place: Place, spark: SparkSession, lake: Lake, wording: Wording
) -> None:
    place.send(updates(Random(75), 200, keys=50))
    first = TopicPartition(place.settings.product_topic, 0)
    broker.forget(*first, below=5)
    wording.check(refused(lambda: land(spark, lake, ledger.read(place.database), place.settings), MissingOffsets))
    assert lake.landed().mark == TideMark(), "there is a gap"


def test_a_gap_after_a_landing(place: Place, spark: SparkSession, lake: Lake, wording: Wording) -> None:
    first = TopicPartition(place.settings.product_topic, 0)
    place.send(updates(Random(76), 200, keys=50))
    land(spark, lake, ledger.read(place.database), place.settings)
    before, rows = lake.landed(), sent(place)
    place.send(updates(Random(77), 200, keys=50))
    broker.forget(*first, below=before.mark[first] + 3)
    message = refused(lambda: land(spark, lake, ledger.read(place.database), place.settings), MissingOffsets)
    assert f"{first.topic}/0:" in message
    assert all(f" {offset} " in message for offset in (before.mark[first], before.mark[first] + 2))
    assert landed(lake, before.mark) == rows
    assert lake.landed() == before
    broker.recreate(place.settings.product_topic)
    landed_of, there = lake.topics()[first.topic], describe_topics(place.settings).identities[first.topic]
    wording.check(
        refused(lambda: land(spark, lake, ledger.read(place.database), place.settings), TopicsRecreated), landed=landed_of, there=there
    )
    assert lake.landed() == before


@pytest.mark.soak(proof="losses")  # Spark waits two minutes for what is not there
def test_offsets_without_events_end_a_landing(place: Place, spark: SparkSession, lake: Lake) -> None:
    """A transaction's end takes an offset that no reader sees."""
    producer = Producer({"bootstrap.servers": place.settings.kafka, "transactional.id": "t"})
    producer.init_transactions()
    for _ in range(3):
        producer.begin_transaction()
        producer.produce(place.settings.category_topic, b"{}")
        producer.commit_transaction()
    land(spark, lake, ledger.read(place.database), place.settings, most=1)
    category = TopicPartition(place.settings.category_topic, 0)
    assert (lake.landed().mark[category], place.ends()[category]) == (5, 6)
    assert [row[2] for row in landed(lake, place.ends())] == [0, 2, 4]


def refused(act: Callable[[], object], error: type[Exception]) -> str:
    with pytest.raises(error) as raised:
        act()
    return str(raised.value)
