"""Micro-batches against MongoDB: whoever runs them in whatever order and size, the reports are those of the events below the offsets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from pymongo.database import Database
from pyspark.sql import SparkSession
from support import broker
from support.events import CATEGORIES, NOW, PRODUCTS, any_log
from support.hands import Stream
from support.load import updates
from support.places import Place
from support.recompute import differences, recompute, reports
from support.states import numbered
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import ledger
from tidemark.serving.database import Document
from tidemark.serving.ledger import Fenced, TopicsRecreated
from tidemark.serving.snapshot import snapshot
from tidemark.spark.microbatch import NewPartition

pytestmark = pytest.mark.servers

PARTITIONS = frozenset({*(TopicPartition(PRODUCTS, partition) for partition in range(3)), TopicPartition(CATEGORIES, 0)})


def start(spark: SparkSession, place: Place) -> Stream:
    return Stream(spark, place, PARTITIONS, CATEGORIES)


def wrong(database: Database[Document], log: Iterable[Event]) -> list[str]:
    """What is wrong with the reports at one snapshot."""
    with snapshot(database) as now:
        served = {view: now.rows(view) for view in ("report_cube", "report_price_level", "report_category", "report_summary")}
        mark = ledger.offsets.from_documents((now.one("state", {"$match": {"_id": "ledger"}}) or {})["offsets"])
    expected = reports(recompute(event for event in log if mark.covers(event)))
    return [line for view, rows in served.items() for line in differences(view, expected[view], rows)]


def products(database: Database[Document]) -> dict[str, Document]:
    return {one["_id"]: {name: value for name, value in one.items() if name != "_tide"} for one in database.product.find()}


def test_streams_and_zombies_in_any_order(place: Place, spark: SparkSession) -> None:
    """Zombies write ahead and are fenced; their successors look through what they have written, in other micro-batches."""
    random = Random(31)
    log = numbered([*updates(random, 250, keys=40), *any_log(random, 100)])
    alive = [start(spark, place)]
    fenced = 0
    for _ in range(7):
        if len(alive) == 1 and random.random() < 0.6:
            alive.append(start(spark, place))
        chosen = random.choice(alive)
        try:
            chosen.run(chosen.next(log, random.randint(20, 90)))
        except Fenced:
            fenced += 1
            alive.remove(chosen)
        assert wrong(place.database, log) == []
    assert fenced > 1
    last = start(spark, place)
    last.run(last.next(log, len(log)))
    truth = recompute(log)
    assert wrong(place.database, log) == []
    assert products(place.database) == dict(truth.products)
    assert {one["_id"]: one["category_name"] for one in place.database.category.find()} == truth.categories
    assert {one["_id"] for one in place.database.quarantine.find()} == {source for source, _ in truth.rejections}


def product(offset: int, category_id: int, asin: str = "B0T0000001") -> Event:
    record = {"asin": asin, "title": "t", "stars": 0, "reviews": 0, "price": offset, "listPrice": 0, "category_id": category_id}
    record |= {"isBestSeller": False, "boughtInLastMonth": 0, "date": (datetime(2023, 1, 1) + timedelta(days=offset)).isoformat()}  # noqa: DTZ001
    return Event(PRODUCTS, 0, offset, NOW, None, json.dumps(record).encode())


def named(offset: int, name: str, registered_at: int) -> Event:
    return Event(
        CATEGORIES,
        0,
        offset,
        NOW,
        None,
        json.dumps({"id": 7, "category_name": name}).encode(),
        (("tide-registered-at", b"%d" % registered_at),),
    )


def names(database: Database[Document]) -> list[str]:
    return [one["category_name"] for one in database.product.find().sort("_id")]


def test_products_bear_the_newest_name_of_their_category(place: Place, spark: SparkSession) -> None:
    one, two, other = "B0T0000001", "B0T0000002", "B0T0000003"
    stream = start(spark, place)
    stream.run([product(0, 7, one), product(1, 8, other)])
    assert names(place.database) == ["Unknown category 7", "Unknown category 8"]
    stream.run([named(0, "Luggage", 5), product(2, 7, two)])  # five is stored as a short integer, the next as a long one
    assert names(place.database) == ["Luggage", "Luggage", "Unknown category 8"]
    stream.run([named(1, "Bags", NOW), named(2, "older", 4), product(3, 7, other)])
    assert names(place.database) == ["Bags"] * 3
    # Late names change nothing, neither here nor in a successor.
    successor = start(spark, place)
    successor.run([named(3, "late", NOW - 1), product(4, 7, one)])
    assert names(place.database) == ["Bags"] * 3
    # A micro-batch renames the products and is fenced. In its successor's, the products come before the name.
    zombie = start(spark, place)
    last = start(spark, place)
    events = [product(5, 7, one), named(4, "Cases", NOW + 1)]
    with pytest.raises(Fenced):
        zombie.run(events)
    assert names(place.database) == ["Cases"] * 3
    assert [one["category_name"] for one in place.database.category.find()] == ["Bags"]
    last.run(events[:1])
    last.run(events[1:])
    assert names(place.database) == ["Cases"] * 3
    assert [one["category_name"] for one in place.database.category.find()] == ["Cases"]
    # A zombie knows of no newer name than the one it brings.
    zombie = start(spark, place)
    last = start(spark, place)
    last.run([named(6, "Trunks", NOW + 3)])
    with pytest.raises(Fenced):
        zombie.run([named(5, "Boxes", NOW + 2)])
    assert names(place.database) == ["Trunks"] * 3


def test_whoever_cannot_go_on_commits_nothing(place: Place, spark: SparkSession, wording: Wording) -> None:
    def refused(stream: Stream, events: Sequence[Event], error: type[Exception]) -> str:
        before = ledger.read(place.database), list(place.database.cube_cell.find())
        with pytest.raises(error) as raised:
            stream.run(events)
        assert (ledger.read(place.database), list(place.database.cube_cell.find())) == before
        return str(raised.value)

    stream = start(spark, place)
    stream.run([product(0, 7)])
    new = product(0, 7)._replace(partition=3)
    wording.check(refused(stream, [product(1, 7), new], NewPartition), "a new partition")
    # The task itself meets its successor's document.
    successor = start(spark, place)
    successor.run([product(1, 7)])
    assert (stream.generation, successor.generation) == (1, 2)
    wording.check(refused(stream, [product(2, 7)], Fenced), "fenced")
    # A topic is another one than that whose offsets these are.
    before = products(place.database)
    broker.recreate(place.settings.category_topic)
    assert place.settings.category_topic in refused(successor, [product(3, 7)], TopicsRecreated)
    assert products(place.database) == before


def test_what_a_micro_batch_tells_of_itself(place: Place, spark: SparkSession) -> None:
    def progress() -> dict[str, Any]:
        found = place.database.state.find_one({"_id": "ledger"}) or {}
        assert found["newest_event"] == datetime.fromtimestamp(NOW / 1000, UTC)
        return dict(found["progress"])

    def look(seconds_ago: int) -> None:
        ends = [{"topic": PRODUCTS, "partition": partition, "start": 0, "offset": 10} for partition in range(2)]
        measured_at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        place.database.state.replace_one({"_id": "log_end"}, {"offsets": ends, "measured_at": measured_at}, upsert=True)

    stream = start(spark, place)
    look(seconds_ago=0)
    stream.run([product(0, 7), product(4, 7), Event(PRODUCTS, 0, 5, NOW, None, b"{}")])
    assert {name: progress()[name] for name in ("batch", "events", "rejected", "behind")} == {
        **{"batch": 0, "events": 3, "rejected": 1, "behind": 14}
    }
    assert stream.batches.offsets == TideMark({TopicPartition(PRODUCTS, 0): 6}), "offsets may have gaps"
    look(seconds_ago=70)
    stream.run([product(7, 7)])
    assert progress()["behind"] is None
    found = place.database.state.find_one({"_id": "ledger"}) or {}
    assert found["newest_observation"] == datetime(2023, 1, 8, tzinfo=UTC)
