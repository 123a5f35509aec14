"""Topics that programs of others write to, with timestamps of their own, and what a client posted in error: each time all is exact."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka.admin import ConfigResource, ConfigResourceType
from pyspark.sql import SparkSession
from support.environment import setting
from support.manual_stream import serve
from support.names import NAMES
from support.nights import named, night
from support.places import Place

from tidemark.catalog.posts import parse
from tidemark.ingest import topics
from tidemark.serving import withdrawals
from tidemark.settings.kafka_clients import librdkafka_options
from tidemark.spark.batch import Batch
from tidemark.spark.log import UnsafeTopic, describe_log

pytestmark = pytest.mark.servers

DAY_MS = 86_400_000
PRODUCT: dict[str, Any] = {
    **{"title": "Lamp", "stars": 4.5, "reviews": 2, "price": 10, "listPrice": 0, "category_id": 1, "isBestSeller": False},
    **{"boughtInLastMonth": 0, "date": "2024-01-01"},
}


@pytest.fixture
def of_others(place: Place) -> Iterator[Place]:
    """A place whose topics have the timestamps of producers."""
    with setting(other_producers="true") as of:
        with topics.admin(of) as admin:
            configure(admin, of.topics, **{"message.timestamp.type": "CreateTime", "message.timestamp.before.max.ms": str(20 * DAY_MS)})
        yield Place(place.database, of)


def configure(admin: Any, those: tuple[str, ...], **values: str) -> None:
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=values) for topic in those])


def send(place: Place, asin: str, *, ago: int = 0, key: str | None = None, client: str = "", **fields: Any) -> None:
    """An event without our headers, stamped by its producer so many milliseconds ago."""
    producer = Producer(librdkafka_options(place.settings))
    producer.produce(
        place.settings.product_topic,
        json.dumps({"asin": asin, **PRODUCT, **fields}).encode(),
        (asin if key is None else key).encode(),
        timestamp=round(time.time() * 1000) - ago,
        headers=[("tide-client", client.encode())] if client else [],
    )
    assert producer.flush(60) == 0


def price(place: Place, asin: str) -> float | None:
    found = place.database.product.find_one({"_id": asin})
    return None if found is None else found["price"]


def test_events_of_others_count_by_their_own_time_and_key(of_others: Place, spark: SparkSession) -> None:
    place = of_others
    send(place, "B0T0000001", price=1, ago=1_000)
    send(place, "B0T0000001", price=2, ago=60_000)  # arrives later, was made earlier
    send(place, "B0T0000002", key="B0T0000001")
    send(place, "B0T0000003", key="")
    serve(place, spark)
    work = Batch(place.database, place.settings, spark)
    assert named(night(work)) == {}
    assert place.wrong() + place.wrong_documents() == []
    assert [price(place, f"B0T000000{number}") for number in (1, 2, 3)] == [1.0, None, None]
    assert place.database.quarantine.count_documents({"reason": "key", "status": "open"}) == 2


def test_a_topic_whose_timestamps_are_unsafe_is_refused(of_others: Place) -> None:
    """It depends on the setting, and on the limits of the topic."""
    place = of_others
    describe_log(place.settings)
    with setting(other_producers="false") as of, pytest.raises(UnsafeTopic, match=r"message\.timestamp\.type"):
        describe_log(of)
    with topics.admin(place.settings) as admin:
        for name, value in (("message.timestamp.after.max.ms", 2 * DAY_MS), ("message.timestamp.before.max.ms", 28 * DAY_MS)):
            configure(admin, place.settings.topics, **{name: str(value)})
            with pytest.raises(UnsafeTopic, match=name):
                describe_log(place.settings)


def test_what_a_client_posted_in_error_is_withdrawn(place: Place, spark: SparkSession) -> None:
    send(place, "B0T0000001", price=1)
    send(place, "B0T0000001", price=100, client="shop")
    send(place, "B0T0000002", price=100, client="shop")
    send(place, "B0T0000003", price=3, client="other")
    serve(place, spark)
    assert [price(place, f"B0T000000{number}") for number in (1, 2, 3)] == [100.0, 100.0, 3.0]
    posted = [event for event in place.log() if event.header("tide-client") == "shop"]
    posts = str(parse("api/shop/2024-01-01")._replace(begin=posted[0].timestamp, end=posted[-1].timestamp + 1))
    work = Batch(place.database, place.settings, spark)
    with pytest.raises(withdrawals.NoIngestion, match=r"api/other/.* 1 event\n.*api/shop/.* 2 events"):
        work.impact("api/nobody/2024-01-01", take_back=False)
    foreseen = work.impact(posts, take_back=False)
    assert "| 3 | 2 |" in foreseen
    withdrawals.withdraw(place.database, posts, "ann", "prices in cents", NAMES)
    send(place, "B0T0000003", price=4, client="shop")

    for expected in ([1.0, None, 4.0], [100.0, 100.0, 4.0]):
        serve(place, spark)
        work = Batch(place.database, place.settings, spark)
        assert named(night(work)) != {}
        assert place.wrong() + place.wrong_documents() == []
        assert [price(place, f"B0T000000{number}") for number in (1, 2, 3)] == expected
        withdrawals.reinstate(place.database, posts, NAMES)
