"""History from generated events of every kind: each day is the cube of what was observed before its end, whatever way it came about."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest
from pymongo.database import Database
from pyspark.sql import SparkSession
from support.events import CATEGORIES, NOW, any_log
from support.load import updates
from support.manual_stream import kafka
from support.places import Place
from support.recompute import MEASURES, differences, recompute, reports
from support.states import numbered

from tidemark.catalog.cube import Cell
from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.rules import RULES
from tidemark.serving import history
from tidemark.serving.cells import TooManyCells
from tidemark.serving.database import Document
from tidemark.serving.history import DayNotEnded, Label, Put, days
from tidemark.serving.snapshot import snapshot
from tidemark.spark.history import compute, refresh
from tidemark.spark.lake import Lake
from tidemark.spark.transforms import events

pytestmark = pytest.mark.servers

FIRST, LAST = date(2023, 10, 27), date(2023, 11, 6)  # of the days that the load is mostly about


def some_events(seed: int, count: int = 300, keys: int = 40) -> list[Event]:
    """Of every kind, and many that are seen on one of a few days."""
    random = Random(seed)
    few_days = [replace_date(event, random) for event in updates(random, count, keys)]
    return [*any_log(random, count // 3), *few_days]


def replace_date(event: Event, random: Random) -> Event:
    """The same, seen within the days above, often on the last or first millisecond of one."""
    edge = random.choice(("T00:00:00Z", "T23:59:59.999Z", "T12:00:00Z"))
    day = FIRST + timedelta(days=random.randrange((LAST - FIRST).days + 1))
    value = event.value or b""
    at = value.find(b'"date": "')
    return event if at < 0 else event._replace(timestamp=NOW, value=value[: at + 9] + f"{day}{edge}".encode() + b'"}')


def within_days(log: Sequence[Event]) -> list[Event]:
    """Without the events that are of other days, or say of none."""
    those = [b'"date": "%s' % str(day).encode() for day in days(FIRST, LAST)]
    return [event for event in log if any(day in (event.value or b"") for day in those)]


def land(spark: SparkSession, lake: Lake, log: Sequence[Event], landing: int) -> None:
    lake.append(events(kafka(spark, log)), landing)


def wrong(database: Database[Document], log: Sequence[Event], those: Sequence[date]) -> list[str]:
    """What is wrong with days, as the view shows them. There are to be no others."""
    held = history.labels(database)
    found = [f"{day} is there" for day in held.keys() - {*those}] + [f"{day} is missing" for day in {*those} - held.keys()]
    newest_names = recompute(log).categories
    for day in those:
        truth = recompute(log, before=round(history.end_of(day).timestamp() * 1000))
        truth.categories = newest_names
        # The categories of cells, not of names told: those come from the view's join.
        rows = [
            {key: value for key, value in one.items() if key != "day"}
            for one in database.report_history.find({"day": history.start_of(day)})
        ]
        named = {one["_id"]: one["category_name"] for one in database.category.find()}
        expected = [
            one | {"category_name": named.get(one["category_id"], f"Unknown category {one['category_id']}")}
            for one in reports(truth)["report_cube"]
        ]
        found += [f"{day}: {line}" for line in differences("report_cube", expected, rows)]
    return found


def test_a_range_gives_the_same_result_as_its_days_one_by_one(place: Place, spark: SparkSession, lake: Lake) -> None:
    """In one pass, backwards one by one, and again: days in which nothing happens among them, and days before everything."""
    log = numbered(some_events(31))
    land(spark, lake, log, 1)
    those = list(days(FIRST - timedelta(days=3), LAST + timedelta(days=2)))
    assert compute(lake, place.database, those[0], those[-1], CATEGORIES) == {Put.WRITTEN: len(those)}
    assert wrong(place.database, log, those) == []
    assert len({label.digest for label in history.labels(place.database).values()}) > (LAST - FIRST).days, "each day is another"
    place.database.history_day.delete_many({})
    place.database.history.delete_many({})
    for day in reversed(those[::16]):
        compute(lake, place.database, day, day, CATEGORIES)
    assert wrong(place.database, log, those[::16]) == []
    empty = date(1994, 12, 31)
    assert compute(lake, place.database, empty, empty, CATEGORIES) == {Put.WRITTEN: 1}
    assert place.database.history.count_documents({"day": history.start_of(empty)}) == 0
    assert empty in history.labels(place.database)
    assert compute(lake, place.database, LAST, FIRST, CATEGORIES) == {}
    before = list(place.database.history.find()), history.labels(place.database)
    with pytest.raises(TooManyCells):
        compute(lake, place.database, LAST, LAST, CATEGORIES, max_cells=3)
    assert (list(place.database.history.find()), history.labels(place.database)) == before


def test_history_of_an_empty_raw_history(place: Place, lake: Lake) -> None:
    assert refresh(lake, place.database, FIRST, CATEGORIES) == {Put.WRITTEN: 1}
    assert wrong(place.database, [], [FIRST]) == []


def test_days_that_are_not_kept_are_not_computed_again(place: Place, spark: SparkSession, lake: Lake) -> None:
    land(spark, lake, numbered(within_days(some_events(36))), 1)
    oldest = LAST - timedelta(days=1)
    refresh(lake, place.database, LAST, CATEGORIES, oldest=oldest)
    assert history.labels(place.database).keys() == {oldest, LAST}


@pytest.mark.soak(proof="history")
def test_days_long_after_the_last_observation_are_left_out(place: Place, spark: SparkSession, lake: Lake) -> None:
    """The days between are not made up, and can be asked for."""
    log = numbered(within_days(some_events(35)))
    land(spark, lake, log, 1)
    years_later = date(2026, 11, 23)
    refresh(lake, place.database, years_later, CATEGORIES)
    assert wrong(place.database, log, [*days(FIRST, LAST), years_later]) == []
    between = date(2025, 1, 1)
    compute(lake, place.database, between, between, CATEGORIES)
    assert refresh(lake, place.database, years_later, CATEGORIES) == {Put.SAME: 1}
    assert wrong(place.database, log, [*days(FIRST, LAST), between, years_later]) == []


def test_each_night_recomputes_only_changed_days(place: Place, spark: SparkSession, lake: Lake) -> None:
    """Missing days, a late file, one that changes nothing, days after the night's own."""
    first = numbered(within_days(some_events(32)))
    land(spark, lake, first, 1)
    refresh(lake, place.database, LAST, CATEGORIES)
    those = list(days(FIRST, LAST))
    assert wrong(place.database, first, those) == []
    assert {label.mark for label in history.labels(place.database).values()} == {lake.landed().mark}

    # A file about a day in the middle, told later; then the same once more, which changes no cell.
    day = date(2023, 11, 2)
    late = [
        event._replace(value=(event.value or b"").replace(b'"price": "', b'"price": "1'))
        for event in first
        if b"2023-11-02" in (event.value or b"")
    ]
    log = numbered([*first, *late])
    land(spark, lake, log[len(first) :], 2)
    done = refresh(lake, place.database, LAST, CATEGORIES)
    assert wrong(place.database, log, those) == []
    assert done[Put.WRITTEN] >= 1
    assert done.total() == (LAST - day).days + 1, "days before it are left alone"
    labels = history.labels(place.database)
    assert {label.mark for label in labels.values()} == {lake.landed().mark}, "and known to be right"
    again = numbered([*log, *late])
    land(spark, lake, again[len(log) :], 3)
    assert refresh(lake, place.database, LAST, CATEGORIES)[Put.WRITTEN] == 0
    assert wrong(place.database, again, those) == []

    # A night that comes late itself, and finds days after its own.
    older = numbered([*again, *late[:1]])
    land(spark, lake, older[len(again) :], 4)
    refresh(lake, place.database, date(2023, 11, 3), CATEGORIES)
    assert wrong(place.database, older, those) == []
    place.database.history_day.delete_one({"_id": history.start_of(date(2023, 10, 29))})
    place.database.history.delete_many({"day": history.start_of(date(2023, 10, 29))})
    assert refresh(lake, place.database, LAST, CATEGORIES)[Put.WRITTEN] == 1
    assert wrong(place.database, older, those) == []


@pytest.mark.soak(proof="history")
@pytest.mark.timeout(3600)
def test_random_landings_nights_and_backfills_give_exact_days(place: Place, spark: SparkSession, lake: Lake) -> None:
    """Landings of anything, nights and backfills of any days between, in any order: all that is held by the end is right."""
    random = Random(33)
    log: list[Event] = []
    for landing in range(1, 16):
        before = len(log)
        log = numbered([*log, *some_events(random.randrange(10**6), count=90, keys=15)])
        land(spark, lake, log[before:], landing)
        if random.random() < 0.5:
            day = FIRST + timedelta(days=random.randrange(8))
            compute(lake, place.database, day, day + timedelta(days=random.randrange(3)), CATEGORIES)
        if random.random() < 0.6 or landing == 15:
            refresh(lake, place.database, FIRST + timedelta(days=landing), CATEGORIES)
    held = history.labels(place.database)
    assert {*days(FIRST, FIRST + timedelta(days=15))} < held.keys()
    assert wrong(place.database, log, sorted(held)) == []


def test_changed_rules_recompute_all_days(place: Place, spark: SparkSession, lake: Lake) -> None:
    log = numbered(within_days(some_events(34)))
    land(spark, lake, log, 1)
    refresh(lake, place.database, LAST, CATEGORIES)
    changed = replace(RULES, edition=RULES.edition + 1)
    assert refresh(lake, place.database, LAST, CATEGORIES, changed).total() == (LAST - FIRST).days + 1
    assert {label.rules for label in history.labels(place.database).values()} == {changed.fingerprint()}
    assert wrong(place.database, log, list(days(FIRST, LAST))) == []


def at(offset: int) -> TideMark:
    return TideMark({TopicPartition("products", 0): offset})


def test_a_day_computed_from_an_older_landing_is_not_stored(place: Place) -> None:
    """Whoever has computed longer, and what it was made of."""
    new = {Cell(1, 5, False): (3,) * len(MEASURES)}
    day = FIRST
    assert history.put(place.database, day, at(7), "r", new) is Put.WRITTEN
    before = history.labels(place.database)
    assert history.put(place.database, day, at(6), "r", {}) is Put.OLDER
    assert history.labels(place.database) == before == {day: Label(at(7), "r", before[day].digest)}
    assert place.database.history.count_documents({}) == 1
    assert history.put(place.database, day, at(8), "r", new) is Put.SAME
    assert history.put(place.database, day, at(9), "r", {}) is Put.WRITTEN
    assert place.database.history.count_documents({}) == 0


def test_a_day_that_has_not_ended_is_refused() -> None:
    day = date(2023, 11, 1)
    history.require_over(day, datetime(2023, 11, 2, tzinfo=UTC))
    with pytest.raises(DayNotEnded) as refused:
        history.require_over(day, datetime(2023, 11, 1, 23, 59, 59, tzinfo=UTC))
    assert all(moment in str(refused.value) for moment in ("2023-11-01", "2023-11-02 00:00"))


def test_readers_never_see_a_partially_replaced_day(place: Place, spark: SparkSession, lake: Lake) -> None:
    """While it is replaced again and again."""
    day, cells = date(2023, 11, 1), [Cell(number, 5, False) for number in range(1, 400)]
    ended = threading.Event()

    def write() -> None:
        offset = 0
        while not ended.is_set():
            offset += 1
            history.put(place.database, day, at(offset), "r", {cell: (offset,) * len(MEASURES) for cell in cells})

    writing = threading.Thread(target=write)
    writing.start()
    try:
        seen: set[int] = set()
        until = time.monotonic() + 120
        while len(seen) < 5 and time.monotonic() < until:
            with snapshot(place.database) as now:
                found = Counter(one["products"] for one in now.rows("report_history", {"$match": {"day": history.start_of(day)}}))
            assert list(found.values()) in ([], [len(cells)])
            seen |= found.keys()
    finally:
        ended.set()
        writing.join()
    assert len(seen) > 1
