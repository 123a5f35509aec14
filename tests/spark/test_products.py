"""The product writer against MongoDB: committed views, attempts of tasks, and whoever else is at work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from typing import Any

import pytest
from pymongo.database import Database
from support.databases import a_database, emptied
from support.events import CATEGORIES, NOW, PRODUCTS
from support.proxy import Proxy, proxy
from support.registered import register
from support.rows import rows
from support.wording import Wording

from tidemark.catalog.cube import MEASURES, Cube, added, cell_of, contribution_of, negated
from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark
from tidemark.catalog.observations import ProductObservation, product_observation
from tidemark.catalog.versions import CategoryVersion
from tidemark.serving.database import Document
from tidemark.serving.ledger import Category, Fenced, Ledger, Tag
from tidemark.settings.sections import MongodbSettings
from tidemark.spark.products import ProductWriter

pytestmark = pytest.mark.servers

NOTHING = Ledger(1, TideMark(), {})
ASIN = "B0T0000001"


@pytest.fixture(scope="module")
def prepared(servers: None) -> Iterator[Database[Document]]:
    with a_database("test_products") as found:
        yield found


@pytest.fixture
def database(prepared: Database[Document]) -> Database[Document]:
    return emptied(prepared)


@pytest.fixture
def mongodb_proxy() -> Iterator[Proxy]:
    with proxy() as found:
        yield found


def product_event(day: int, price: str = "5.00", asin: str = ASIN, **more: Any) -> Event:
    """A product event; each day has an offset of its own."""
    record = {"asin": asin, "title": f"of day {day}", "stars": "4.5", "reviews": "3", "price": price, "listPrice": "0", "category_id": "7"}
    record |= {"isBestSeller": "False", "boughtInLastMonth": "50", "date": f"2023-01-{day:02d}", **more}
    return Event(PRODUCTS, 0, day, NOW, None, json.dumps(record).encode())


def write(
    database: Database[Document],
    tag: tuple[int, int],
    ledger: Ledger,
    *events: Event,
    names: dict[int, Category] | None = None,
    url: str = "",
) -> dict[Any, tuple[int, ...]]:
    """One attempt of a task; returns the differences by cell."""
    writer = ProductWriter(url or MongodbSettings().mongodb, database.name, Tag(*tag), ledger, names or {})
    (result,) = writer([rows(events)])
    return {
        (row["category_id"], row["price_level"], row["is_best_seller"]): tuple(row[measure] for measure in MEASURES)
        for row in result.to_pylist()
        if row["kind"] != "category"
    }


def cube_difference(new: Event, old: Event | None = None) -> Cube:
    """contribution(new) - contribution(old)."""

    def cube(event: Event) -> Cube:
        seen = product_observation(event)
        assert isinstance(seen, ProductObservation)
        return {cell_of(seen): contribution_of(seen)}

    return added(cube(new), negated(cube(old)) if old else {})


def plain(cube: Cube) -> dict[Any, tuple[int, ...]]:
    return {tuple(cell): astuple(contribution) for cell, contribution in cube.items()}


def difference(new: Event, old: Event | None = None) -> dict[Any, tuple[int, ...]]:
    return plain(cube_difference(new, old))


def document(database: Database[Document], asin: str = ASIN) -> Document:
    found = database.product.find_one({"_id": asin})
    assert found is not None
    return found


def shown(database: Database[Document]) -> tuple[str, tuple[int, int], str | None]:
    """Title, tag, and the day that the document's `before` was observed on."""
    found = document(database)
    before = found["_tide"]["before"]
    tag = found["_tide"]["tag"]
    return found["title"], (tag["generation"], tag["batch"]), before and f"of day {before['version']['offset']}"


def committed(*numbers: tuple[int, int]) -> Ledger:
    return replace(NOTHING, committed=dict(numbers))


def test_a_new_product_is_inserted(database: Database[Document]) -> None:
    event = product_event(
        3, "139.99", stars="4.55", listPrice="159.99", isBestSeller="true", imgUrl="https://images.example/1.jpg", productURL=""
    )
    assert write(database, (1, 0), NOTHING, event) == difference(event)
    found = document(database)
    tide = found.pop("_tide")
    assert found.pop("date").isoformat() == "2023-01-03T00:00:00+00:00"
    assert found == {
        **{"_id": ASIN, "asin": ASIN, "title": "of day 3", "imgUrl": "https://images.example/1.jpg", "productURL": "", "stars": 4.55},
        **{"reviews": 3, "price": 139.99, "listPrice": 159.99, "category_id": 7, "isBestSeller": True, "boughtInLastMonth": 50},
        **{"category_name": "Unknown category 7", "price_level": 135},
    }
    ((cell, measures),) = difference(event).items()
    assert tide == {
        "version": {"observed_at": 1672704000000, "registered_at": NOW, "position": 0, "partition": 0, "offset": 3},
        "contribution": [*cell, *measures],
        "tag": {"generation": 1, "batch": 0},
        "before": None,
        "category": None,
    }


def test_a_newer_event_replaces_the_product_and_subtracts_its_contribution(database: Database[Document]) -> None:
    write(database, (1, 0), NOTHING, product_event(1))
    assert write(database, (1, 1), committed((1, 0)), product_event(2, "300")) == difference(product_event(2, "300"), product_event(1))
    assert shown(database) == ("of day 2", (1, 1), "of day 1")
    assert write(database, (1, 2), committed((1, 1)), product_event(3, "300")) == {}, "the same contribution is no difference"
    assert shown(database) == ("of day 3", (1, 2), "of day 2")


@pytest.mark.parametrize("day", [1, 2])
def test_older_and_repeated_events_change_nothing(database: Database[Document], day: int) -> None:
    write(database, (1, 0), NOTHING, product_event(2))
    before = document(database)
    assert write(database, (2, 0), committed((1, 0)), product_event(day, "1")) == {}
    assert document(database) == before


def test_uncommitted_writes_are_ignored(database: Database[Document]) -> None:
    write(database, (1, 0), NOTHING, product_event(2))
    # Nothing was committed: the product is a new one, also for an event that is older than what stands there.
    assert write(database, (2, 0), NOTHING, product_event(1, "9")) == difference(product_event(1, "9"))
    assert shown(database) == ("of day 1", (2, 0), None)
    # Generation 2 committed that, not what it wrote then: day 4 is looked through, to day 1.
    write(database, (2, 1), committed((2, 0)), product_event(4, "20"))
    assert write(database, (3, 0), committed((2, 0)), product_event(3, "30")) == difference(product_event(3, "30"), product_event(1, "9"))
    assert shown(database) == ("of day 3", (3, 0), "of day 1")
    # An event that is not newer than the committed view writes nothing, whatever stands there.
    assert write(database, (4, 0), committed((2, 0)), product_event(1, "9")) == {}
    assert shown(database) == ("of day 3", (3, 0), "of day 1")


def test_another_attempt_of_a_task_gives_the_same_result(database: Database[Document]) -> None:
    write(database, (1, 0), NOTHING, product_event(1, asin="B0T0000001"), product_event(1, asin="B0T0000002"))
    ledger = committed((1, 0))
    events = (
        product_event(2, "9", asin="B0T0000001"),
        product_event(2, "12", asin="B0T0000002"),
        product_event(2, "15", asin="B0T0000003"),
    )
    write(database, (1, 1), ledger, events[0], events[2])  # it got that far
    result = write(database, (1, 1), ledger, *events)
    after = list(database.product.find().sort("_id"))
    assert write(database, (1, 1), ledger, *events) == result
    assert list(database.product.find().sort("_id")) == after
    replaced = added(cube_difference(product_event(2, "9"), product_event(1)), cube_difference(product_event(2, "12"), product_event(1)))
    assert result == plain(added(replaced, cube_difference(product_event(2, "15"))))
    assert [one["_tide"]["before"] and one["_tide"]["before"]["version"]["offset"] for one in after] == [1, 1, None]


def test_a_late_attempt_after_the_commit_changes_nothing(database: Database[Document]) -> None:
    """It knows the ledger as it was, and meets what it has not written itself."""
    write(database, (1, 0), NOTHING, product_event(2))
    write(database, (1, 1), committed((1, 0)), product_event(3))
    before = document(database)
    write(database, (1, 0), NOTHING, product_event(2))
    assert document(database)["_tide"]["tag"] == before["_tide"]["tag"]


def test_a_higher_generation_fences(database: Database[Document], wording: Wording) -> None:
    write(database, (2, 0), NOTHING, product_event(1))
    before = document(database)
    with pytest.raises(Fenced) as fenced:
        write(database, (1, 7), NOTHING, product_event(2, asin="B0T0000009"), product_event(2))
    wording.check(str(fenced.value))
    assert list(database.product.find()) == [before], "nothing else of the slice is written either"


def test_a_product_forgotten_by_a_rebuild_counts_as_absent(database: Database[Document]) -> None:
    """Stray attempts of generation 2 have inserted a product, and replaced it, after the rebuild of generation 4 had deleted it."""
    write(database, (2, 0), NOTHING, product_event(5))
    write(database, (2, 1), committed((2, 0)), product_event(6))
    assert write(database, (5, 0), committed((4, 0)), product_event(3)) == difference(product_event(3))
    assert shown(database) == ("of day 3", (5, 0), None)


@pytest.mark.parametrize("other", [(1, 0), (2, 0)], ids=["the same tag", "another"])
def test_an_insert_does_not_overwrite_a_concurrent_insert(
    database: Database[Document], mongodb_proxy: Proxy, wording: Wording, other: tuple[int, int]
) -> None:
    mongodb_proxy.meanwhile("insert", lambda: write(database, other, NOTHING, product_event(2, "9")))
    with pytest.raises(Fenced) as fenced:
        write(database, (1, 0), NOTHING, product_event(1), url=mongodb_proxy.url)
    wording.check(str(fenced.value))
    assert shown(database) == ("of day 2", other, None)


@pytest.mark.parametrize("other", [((2, 0), 6), ((3, 0), 5), ((5, 0), 8), None], ids=["version", "tag", "both", "nothing left"])
def test_a_replacement_is_a_compare_and_set(
    database: Database[Document], mongodb_proxy: Proxy, wording: Wording, other: tuple[tuple[int, int], int] | None
) -> None:
    """Meanwhile comes another version under the same tag, the same version under another tag, both, or nothing is left."""
    write(database, (1, 0), NOTHING, product_event(1))
    ledger = committed((1, 0))
    write(database, (2, 0), ledger, product_event(5))

    def meanwhile() -> None:
        if other is None:
            database.product.delete_one({"_id": ASIN})
        else:
            write(database, other[0], ledger, product_event(other[1]))

    mongodb_proxy.meanwhile("update", meanwhile)
    with pytest.raises(Fenced) as fenced:
        write(database, (4, 0), ledger, product_event(7), url=mongodb_proxy.url)
    wording.check(str(fenced.value))
    assert [one["title"] for one in database.product.find()] == ([f"of day {other[1]}"] if other else [])


@pytest.mark.parametrize("lose", [Proxy.lose_request, Proxy.lose_answer], ids=["request", "answer"])
def test_lost_messages_are_retried(database: Database[Document], mongodb_proxy: Proxy, lose: Callable[[Proxy, str, int], None]) -> None:
    events = [product_event(1, asin=f"B0T{number:07d}") for number in range(30)]
    lose(mongodb_proxy, "insert", 1)
    assert write(database, (1, 0), NOTHING, *events, url=mongodb_proxy.url) == {
        cell: tuple(30 * one for one in measures) for cell, measures in difference(product_event(1)).items()
    }
    newer = [product_event(2, "20", asin=f"B0T{number:07d}") for number in range(30)]
    lose(mongodb_proxy, "update", 1)
    assert write(database, (1, 1), committed((1, 0)), *newer, url=mongodb_proxy.url) == {
        cell: tuple(30 * one for one in measures) for cell, measures in difference(product_event(2, "20"), product_event(1)).items()
    }
    assert mongodb_proxy.lost == {"insert": 1, "update": 1}
    assert database.product.count_documents({"title": "of day 2", "_tide.before.version.offset": 1}) == 30


def test_categories_are_returned_and_their_names_written(database: Database[Document]) -> None:
    name = Event(
        CATEGORIES, 0, 9, NOW + 5, None, b'{"id": 7, "category_name": "Luggage"}', (("tide-registered-at", b"77"), ("tide-position", b"3"))
    )
    writer = ProductWriter(MongodbSettings().mongodb, database.name, Tag(1, 0), NOTHING, {7: Category("Bags", CategoryVersion(1, 2, 3, 4))})
    (result,) = writer([rows([name, product_event(1)])])
    (row,) = [row for row in result.to_pylist() if row["kind"] == "category"]
    assert (row["category_id"], row["category_name"]) == (7, "Luggage")
    assert [row[field] for field in CategoryVersion._fields] == [77, 3, 0, 9]
    found = document(database)
    assert found["category_name"] == "Bags", "the newer name comes when all products of the micro-batch are there"
    assert found["_tide"]["category"] == {"registered_at": 1, "position": 2, "partition": 3, "offset": 4}


def test_the_quarantine_is_insert_only(database: Database[Document]) -> None:
    register(database, "i1", "/in/products.csv")

    def rejected(offset: int, value: bytes | None, *headers: tuple[str, bytes]) -> Event:
        return Event(PRODUCTS, 2, offset, NOW, None, value, headers)

    known, unknown = (
        (("tide-ingestion", b"i1"), ("tide-position", b"50")),
        (("tide-ingestion", b"i2"), ("tide-position", b"60"), ("tide-registered-at", b"4")),
    )
    events = (rejected(1, b"\xff\0"), rejected(2, None), rejected(3, b"{}", *known), rejected(4, b"{}", *unknown))
    write(database, (1, 0), NOTHING, *events, product_event(1))
    found = {one["_id"]: one for one in database.quarantine.find()}
    assert {one["status"] for one in found.values()} == {"open"}
    assert {one: (record["reason"], record["raw"], record["source"]) for one, record in found.items()} == {
        f"{PRODUCTS}/2/1": ("malformed", b"\xff\0", "api"),
        f"{PRODUCTS}/2/2": ("malformed", None, "api"),
        "i1:50": ("asin", b"{}", {"ingestion": "i1", "position": 50, "file": "products.csv"}),
        "i2:60": ("asin", b"{}", {"ingestion": "i2", "position": 60, "file": None}),
    }
    assert found["i1:50"]["timestamp"].timestamp() * 1000 == NOW
    assert {(one["registered_at"], one["position"]) for one in found.values()} == {(NOW, 0), (NOW, 50), (4, 60)}
    assert {(one["topic"], one["partition"]) for one in found.values()} == {(PRODUCTS, 2)}
    database.quarantine.update_one({"_id": "i1:50"}, {"$set": {"status": "discarded"}})
    before = list(database.quarantine.find().sort("_id"))
    write(database, (2, 0), NOTHING, rejected(9, b"[]", *known), *events[:2], rejected(10, b"new"))
    assert list(database.quarantine.find({"_id": {"$ne": f"{PRODUCTS}/2/10"}}).sort("_id")) == before
    assert database.quarantine.count_documents({}) == len(before) + 1


def test_more_rows_than_one_slice(database: Database[Document]) -> None:
    events = [product_event(1 + number % 28, asin=f"B0T{number:07d}") for number in range(4_100)]
    writer = ProductWriter(MongodbSettings().mongodb, database.name, Tag(1, 0), NOTHING, {})
    (result,) = writer([rows(events[:1]), rows(events[1:3_000]), rows([]), rows(events[3_000:])])
    assert [row["products"] for row in result.to_pylist()] == [4_100]
    assert database.product.count_documents({}) == 4_100
