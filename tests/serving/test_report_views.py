"""The report views say what the oracle says, of states made by hand and of generated ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from pymongo.database import Database
from support.events import any_log
from support.load import updates
from support.recompute import MEASURES, Cell, Recomputed, differences, recompute, reports
from support.states import difference, name_categories, numbered, remember, serve

from tidemark.catalog.marks import TopicPartition
from tidemark.serving.database import Document
from tidemark.serving.snapshot import snapshot

pytestmark = pytest.mark.servers

MOMENT = datetime(2023, 10, 31, 12, tzinfo=UTC)
P0, P1 = TopicPartition("products", 0), TopicPartition("products", 1)


def cell(**measures: int) -> dict[str, int]:
    return {**dict.fromkeys(MEASURES, 0), **measures}


def of(cube: Mapping[Cell, dict[str, int]], **categories: str) -> Recomputed:
    """What the oracle would have of these cells."""
    return Recomputed({}, {int(name[1:]): text for name, text in categories.items()}, set(), dict(cube), read=dict)


def wrong(database: Database[Document], expected: Recomputed) -> list[str]:
    """What is wrong with the reports, all of one moment."""
    with snapshot(database) as now:
        return [line for view, documents in reports(expected).items() for line in differences(view, documents, now.rows(view))]


@pytest.mark.parametrize("seed", range(4))
def test_incremental_changes_of_cells_give_the_reports_of_all_events(database: Database[Document], seed: int) -> None:
    random = Random(seed)
    events = numbered([*any_log(random, 300), *updates(random, 300, keys=60), *any_log(random, 300), *updates(random, 300, keys=60)])
    below, all_of_them = recompute(events[: random.randrange(150, 600)]), recompute(events)
    moved = difference(all_of_them.cube, below.cube)
    serve(database, below.cube)
    name_categories(database, {**below.categories, **dict.fromkeys(all_of_them.categories, "a former name")})
    serve(database, moved)
    name_categories(database, all_of_them.categories)
    assert wrong(database, all_of_them) == []
    # The states reach what the views must get right.
    assert min(measures["products"] for measures in moved.values()) < 0 < max(measures["products"] for measures in moved.values())
    assert moved.keys() > all_of_them.cube.keys(), "no cell has become empty"
    assert {of for of, _, _ in all_of_them.cube} > all_of_them.categories.keys() & {of for of, _, _ in all_of_them.cube}
    assert {price for _, price, _ in all_of_them.cube} >= {None, 0, 300}


def test_an_empty_catalog(database: Database[Document]) -> None:
    assert wrong(database, of({})) == []
    assert database.report_summary.count_documents({}) == 1
    # Cells that have been emptied are no products either.
    serve(database, {(1, 5, True): cell(products=2, priced=2, price_cents=1100)})
    serve(database, {(1, 5, True): cell(products=-2, priced=-2, price_cents=-1100), (2, None, False): cell()})
    assert database.cube_cell.count_documents({}) == 1
    assert wrong(database, of({})) == []


def test_averages_are_exact_and_null_without_products(database: Database[Document]) -> None:
    cube = {
        (1, 10, False): cell(products=3, priced=3, price_cents=3002, rated=3, stars_tenths=131, discounted=1, list_cents=1300)
        | {"discount_cents": 299},
        (2, None, False): cell(products=1),
        (2, None, True): cell(products=1, reviews=2**31 * 10, bought_floor=2**31 * 10),
    }  # fmt: skip
    serve(database, cube)
    assert wrong(database, of(cube)) == []
    priced, unpriced = database.report_category.find().sort("category_id")
    assert priced["average_price"] == 3002 / 300
    assert priced["average_stars"] == 131 / 30
    assert priced["average_discount"] == 299 / 1300
    assert priced["share"] == 3 / 5
    assert [unpriced[name] for name in ("average_price", "average_stars", "average_discount")] == [None] * 3
    assert unpriced["category_name"] == "Unknown category 2"
    assert (unpriced["best_sellers"], unpriced["bought_floor"]) == (1, 2**31 * 10)


def test_every_report_shows_the_newest_name(database: Database[Document]) -> None:
    cube = {(7, 300, True): cell(products=1, priced=1, price_cents=2**40)}
    serve(database, cube)
    remember(database, MOMENT, cube)
    for name in ("Luggage", "Bags & Größen 日本 😀\x00"):
        name_categories(database, {7: name})
        assert wrong(database, of(cube, _7=name)) == []
        assert [one["category_name"] for one in database.report_history.find()] == [name]


def test_history_is_the_cube_of_each_day(database: Database[Document]) -> None:
    random, days = Random(5), {}
    for number in range(3):
        day = MOMENT.replace(hour=0) + timedelta(days=number)
        days[day] = recompute(numbered([*any_log(random, 300), *updates(random, 100, keys=30)]))
        remember(database, day, {**days[day].cube, (77, 5, False): cell()})
    name_categories(database, days[day].categories)
    found: dict[datetime, list[Document]] = {}
    for one in database.report_history.find():
        found.setdefault(one.pop("day"), []).append(one)
    assert found.keys() == days.keys()
    for day, recomputed in days.items():
        recomputed.categories = days[max(days)].categories  # everyone, history too, shows the newest name
        assert differences("report_cube", reports(recomputed)["report_cube"], found[day]) == []


def test_a_day_filter_reads_only_those_days(database: Database[Document]) -> None:
    """However long the history is."""
    for number in range(50):
        remember(database, MOMENT + timedelta(days=number), {(number % 7 + 1, 5, False): cell()})
    wanted = {"$match": {"day": {"$gte": MOMENT, "$lt": MOMENT + timedelta(days=2)}}}
    plan = database.command("explain", {"aggregate": "report_history", "pipeline": [wanted], "cursor": {}}, verbosity="executionStats")
    assert '"IXSCAN"' in json.dumps(plan, default=str)
    first = plan["stages"][0]["$cursor"]["executionStats"] if "stages" in plan else plan["executionStats"]
    assert first["totalDocsExamined"] == 2
