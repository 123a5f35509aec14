"""Micro-batches against MongoDB: whoever runs them in whatever order and size, the reports are those of the events below the offsets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from pymongo.database import Database
from pyspark.sql import SparkSession
from support import broker
from support.events import CATEGORIES, NOW, PRODUCTS, any_log
from support.load import updates
from support.manual_stream import Stream
from support.names import NAMES
from support.places import Place
from support.proxy import Proxy, proxy
from support.recompute import differences, recompute, reports
from support.registered import register
from support.states import numbered
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.rules import RULES
from tidemark.serving import control, ledger, publications, rebuilds, withdrawals
from tidemark.serving.bindings import TopicsRecreated
from tidemark.serving.control import Control, Held
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.ledger import Fenced
from tidemark.serving.snapshot import snapshot
from tidemark.spark import new_cells, renames
from tidemark.spark.microbatch import NewPartition
from tidemark.spark.new_cells import TooLarge

pytestmark = pytest.mark.servers

PARTITIONS = frozenset({*(TopicPartition(PRODUCTS, partition) for partition in range(3)), TopicPartition(CATEGORIES, 0)})


@pytest.fixture
def mongodb_proxy() -> Iterator[Proxy]:
    with proxy() as found:
        yield found


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


def test_streams_and_fenced_streams_in_any_order_give_exact_reports(place: Place, spark: SparkSession) -> None:
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


def product(offset: int, category_id: int, asin: str = "B0T0000001", price: int | None = None) -> Event:
    record = {"asin": asin, "title": "t", "stars": 0, "reviews": 0, "price": offset if price is None else price, "listPrice": 0}
    record |= {"category_id": category_id}
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


def name_of_category(database: Database[Document]) -> Any:
    """The name of category 7, and the offset of the event that gives it."""
    found = database.category.find_one({"_id": 7})
    return found and (found["category_name"], found["_tide"]["version"]["offset"])


def test_products_have_the_newest_name_of_their_category(place: Place, spark: SparkSession) -> None:
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
    assert name_of_category(place.database) == ("Bags", 1)


def test_an_equal_name_counts_without_writing_products(place: Place, spark: SparkSession) -> None:
    stream = start(spark, place)
    stream.run([product(0, 7, f"B0T{number:07d}")._replace(offset=number) for number in range(3_000)])
    stream.run([named(0, "Luggage", 10)])
    before = list(place.database.product.find().sort("_id"))
    place.database.command("profile", 2)
    stream.run([named(1, "Luggage", 30)])
    place.database.command("profile", 0)
    found = list(place.database.system.profile.find({"ns": place.database.product.full_name, "docsExamined": {"$gt": 0}}))
    assert found == [], "products have been read or written"
    assert list(place.database.product.find().sort("_id")) == before
    assert name_of_category(place.database) == ("Luggage", 1)
    # A name between the two is late, here and in a successor.
    stream.run([named(2, "Bags", 20)])
    start(spark, place).run([named(3, "Cases", 29), product(3_000, 7)._replace(offset=3_000)])
    assert set(names(place.database)) == {"Luggage"}
    assert name_of_category(place.database) == ("Luggage", 1)
    # A first name may be that which products bear without one.
    stream = start(spark, place)
    stream.run([product(0, 9, "B0T0009999")._replace(offset=3_001)])
    before = list(place.database.product.find().sort("_id"))
    stream.run([Event(CATEGORIES, 0, 4, NOW, None, b'{"id": 9, "category_name": "Unknown category 9"}')])
    assert list(place.database.product.find().sort("_id")) == before
    assert place.database.category.count_documents({"_id": 9}) == 1


class Killed(Exception):
    """Stands for the end of the process: nothing that the stream would do after this is done."""


ASINS = [f"B0T000000{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("renamed", "former", "later_names", "expected"),
    [
        (2, "Luggage", ["Bags", "Luggage"], "Luggage"),
        (5, "Luggage", ["Bags", "Luggage"], "Luggage"),
        (2, "Luggage", ["Bags", "Cases"], "Cases"),
        (5, "Luggage", [], "Luggage"),
        (2, None, [], "Unknown category 7"),
    ],
    ids=["the former name again", "the former name again, all renamed", "another name", "no name", "no name, and it had none"],
)
def test_a_kill_between_a_rename_and_its_commit(
    place: Place,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    renamed: int,
    former: str | None,
    later_names: Sequence[str],
    expected: str,
) -> None:
    """Its successor gets the same events and newer ones in one micro-batch, or none of the names, as after a change of the rules."""
    monkeypatch.setattr(renames, "PRODUCTS_PER_BATCH", 2)
    stream = start(spark, place)
    stream.run([product(number, 7, asin) for number, asin in enumerate(ASINS)])
    if former:
        stream.run([named(0, former, 10)])
    last = [product(10, 7, ASINS[0]), named(1, "Bags", 20)]
    with monkeypatch.context() as patch:
        _kill(patch, renamed)
        with pytest.raises(Killed):
            stream.run(last)
    assert Counter(names(place.database)) == Counter({"Bags": renamed, former or "Unknown category 7": 5 - renamed})
    assert ledger.read(place.database).renaming == {7}
    successor = start(spark, place)
    successor.run([last[0], *(named(number, name, 10 + 10 * number) for number, name in enumerate(later_names, 1))])
    assert names(place.database) == [expected] * 5
    assert name_of_category(place.database) == ((expected, len(later_names)) if later_names or former else None)
    assert ledger.read(place.database).renaming == frozenset()


def _kill(patch: pytest.MonkeyPatch, renamed: int) -> None:
    """Ends the stream when so many of the five products are renamed: after the first transaction, or before the commit."""
    record, done = ledger.record_renames, 0

    def record_renames(*arguments: Any) -> None:
        nonlocal done
        if done >= renamed:
            raise Killed
        done += 2
        record(*arguments)

    def commit(*_: Any) -> None:
        raise Killed

    patch.setattr(ledger, "record_renames", record_renames)
    patch.setattr(ledger, "commit", commit)


@pytest.mark.parametrize("fence", ["a successor", "a rebuild"])
def test_a_fenced_stream_renames_nothing(place: Place, spark: SparkSession, mongodb_proxy: Proxy, fence: str) -> None:
    """It has read which products to rename when it is fenced. A name that is equal to the category's is no reason to rename."""
    start(spark, place).run([*(product(number, 7, asin) for number, asin in enumerate(ASINS)), named(0, "Luggage", 10)])
    with connect(mongodb_proxy.url) as client:
        zombie = start(spark, replace(place, database=database_of(client, place.database.name)))

        def meanwhile() -> None:
            if fence == "a rebuild":
                rebuilds.begin(place.database, publications.read(place.database, 0), RULES)
            else:  # in its micro-batch the names are one, which is no other
                start(spark, place).run([named(1, "Bags", 20), named(2, "Luggage", 30)])

        mongodb_proxy.meanwhile("update", meanwhile)
        before = list(place.database.product.find().sort("_id"))
        with pytest.raises(Fenced):
            zombie.run([named(1, "Bags", 20)])
    assert list(place.database.product.find().sort("_id")) == before
    assert ledger.read(place.database).renaming == frozenset()
    assert name_of_category(place.database) == ("Luggage", 0 if fence == "a rebuild" else 2)


def test_a_failed_micro_batch_commits_nothing(place: Place, spark: SparkSession, wording: Wording) -> None:
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


def of_a_file(offset: int, category_id: int, ingestion: str) -> Event:
    """Of a product of its own, all of one price."""
    headers = (("tide-ingestion", ingestion.encode()), ("tide-position", b"%d" % offset))
    return product(offset, category_id, f"B0T1{offset:06d}", price=1)._replace(headers=headers)


def everything(database: Database[Document]) -> list[list[Document]]:
    """What a micro-batch commits."""
    state = {"_id": {"$in": ["ledger", "served"]}}
    return [list(database.state.find(state, {"heartbeat": False})), *(list(database[name].find()) for name in ("cube_cell", "category"))]


@pytest.fixture
def few_cells(place: Place) -> Place:
    """Where five new cells may be made at once."""
    return replace(place, settings=place.settings.model_copy(update={"max_new_cells": 5}))


# Four cells of one file, three of another and one of the API; two that are known, and two that both files make.
MANY = [
    *(of_a_file(offset, category_id, "mapped-wrong") for offset, category_id in enumerate((1, 7, 11, 12, 13, 14), 10)),
    *(of_a_file(offset, category_id, "another") for offset, category_id in enumerate((13, 14, 15), 20)),
    product(30, 16, "B0T2000000"),
]
FEW = [product(1, 1, "B0T3000000"), product(2, 7, "B0T3000001"), named(0, "Luggage", 1)]


def hold(stream: Stream, events: Sequence[Event]) -> str:
    """Runs a micro-batch that must be held; its reason."""
    before = everything(stream.place.database)
    with pytest.raises(Held) as held:
        stream.run(events)
    assert everything(stream.place.database) == before
    now = control.read(stream.place.database)
    assert now.pause is not None
    assert now.pause.reason == str(held.value)
    return now.pause.reason


def test_very_many_new_cells_wait_until_they_are_accepted(few_cells: Place, spark: SparkSession, wording: Wording) -> None:
    database = few_cells.database
    register(database, "mapped-wrong", "/in/mapped wrong.csv")
    stream = start(spark, few_cells)
    stream.run(FEW)
    reason = hold(stream, [*MANY, named(1, "Bags", 2)])
    wording.check(reason)
    assert names(database)[-2:] == ["Unknown category 1", "Luggage"], "names of a micro-batch that is held are not given"
    # Whoever resumes it without an answer is asked again.
    control.resume(database)
    assert hold(start(spark, few_cells), MANY).split(":")[1:] == reason.split(":")[1:]
    control.resume(database, accept=6)
    # Killed before it commits, and with later events of few cells in the same micro-batch.
    start(spark, few_cells)
    stream = start(spark, few_cells)
    later = [of_a_file(offset, category_id, "another") for offset, category_id in enumerate((21, 22, 23, 24, 25), 40)]
    stream.run([*MANY, *later])
    assert wrong(database, [*FEW, *MANY, *later]) == []
    # What comes after it is not accepted.
    much_later = [of_a_file(offset, 10 + offset, "mapped-wrong") for offset in range(50, 56)]
    hold(stream, much_later)
    control.resume(database)
    with pytest.raises(Held):
        start(spark, few_cells).run([*later, *much_later])
    control.resume(database, accept=6)
    start(spark, few_cells).run(much_later)
    assert wrong(database, [*FEW, *MANY, *later, *much_later]) == []


def test_more_cells_than_a_rebuild_could_change_are_not_accepted(place: Place, spark: SparkSession, wording: Wording) -> None:
    small = replace(place, settings=place.settings.model_copy(update={"max_cells": 7}))
    register(place.database, "mapped-wrong", "/in/mapped wrong.csv")
    stream = start(spark, small)
    stream.run(FEW)
    wording.check(hold(stream, MANY))
    control.resume(place.database, accept=6)
    stream = start(spark, small)
    hold(stream, MANY)
    control.resume(place.database)
    larger = replace(place, settings=place.settings.model_copy(update={"max_cells": 8}))
    start(spark, larger).run(MANY)
    assert wrong(place.database, [*FEW, *MANY]) == []


def test_a_file_that_is_held_is_withdrawn(few_cells: Place, spark: SparkSession) -> None:
    database = few_cells.database
    for identity in ("mapped-wrong", "another"):
        register(database, identity, f"/in/{identity}.csv")
    stream = start(spark, few_cells)
    stream.run(FEW)
    hold(stream, MANY)
    withdrawals.withdraw(database, "mapped-wrong", "ann", "another column is the category", NAMES)
    assert control.read(database) == Control(1), "it is resumed, with other rules"
    successor = Stream(spark, few_cells, PARTITIONS, CATEGORIES, withdrawals.in_force(database, RULES))
    successor.run(MANY)
    left = [event for event in MANY if event.headers[:1] != (("tide-ingestion", b"mapped-wrong"),)]
    mark = TideMark({TopicPartition(PRODUCTS, 0): 31, TopicPartition(CATEGORIES, 0): 1})
    assert ledger.read(database).offsets == mark
    assert wrong(database, [*FEW, *left]) == []


def test_who_is_fenced_holds_nobody(few_cells: Place, spark: SparkSession) -> None:
    zombie = start(spark, few_cells)
    start(spark, few_cells)
    with pytest.raises(Fenced):
        zombie.run(MANY)
    assert control.read(few_cells.database) == Control(0)


def test_what_a_transaction_should_not_do_is_done_in_smaller_ones(
    place: Place, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, wording: Wording
) -> None:
    stream = start(spark, place)
    stream.run(FEW)
    monkeypatch.setattr(new_cells, "MAX_CHANGES", 9)
    names_too = [*MANY, named(1, "Bags", 2)]
    before = everything(place.database)
    with pytest.raises(TooLarge) as large:
        stream.run(names_too)
    wording.check(str(large.value))
    assert everything(place.database) == before
    stream = start(spark, place)
    while events := stream.next(names_too, 4):
        stream.run(events)
    assert wrong(place.database, [*FEW, *names_too]) == []


def test_a_micro_batch_reports_its_progress(place: Place, spark: SparkSession) -> None:
    def progress() -> dict[str, Any]:
        found = place.database.state.find_one({"_id": "ledger"}) or {}
        assert found["newest_event"] == datetime.fromtimestamp(NOW / 1000, UTC)
        return dict(found["progress"])

    def measure(seconds_ago: int) -> None:
        ends = [{"topic": PRODUCTS, "partition": partition, "start": 0, "offset": 10} for partition in range(2)]
        measured_at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        place.database.state.replace_one({"_id": "log_end"}, {"offsets": ends, "measured_at": measured_at}, upsert=True)

    stream = start(spark, place)
    measure(seconds_ago=0)
    stream.run([product(0, 7), product(4, 7), Event(PRODUCTS, 0, 5, NOW, None, b"{}")])
    assert {name: progress()[name] for name in ("batch", "events", "rejected", "behind")} == {
        **{"batch": 0, "events": 3, "rejected": 1, "behind": 14}
    }
    assert stream.batches.offsets == TideMark({TopicPartition(PRODUCTS, 0): 6}), "offsets may have gaps"
    measure(seconds_ago=70)
    stream.run([product(7, 7)])
    assert progress()["behind"] is None
    found = place.database.state.find_one({"_id": "ledger"}) or {}
    assert found["newest_observation"] == datetime(2023, 1, 8, tzinfo=UTC)
