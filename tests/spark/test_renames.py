"""Renames of products in MongoDB: who is written, and what happens between reading and writing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pytest
from pymongo.database import Database
from support.databases import a_database
from support.events import NOW, PRODUCTS
from support.proxy import proxy
from support.rows import rows

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark
from tidemark.catalog.versions import CategoryVersion
from tidemark.serving import ledger
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.ledger import Category, Ledger, Tag
from tidemark.settings.sections import MongodbSettings
from tidemark.spark.products import ProductWriter
from tidemark.spark.renames import PRODUCTS_PER_BATCH, rename

pytestmark = pytest.mark.servers

NOTHING = Ledger(1, TideMark(), {})
LUGGAGE, BAGS = Category("Luggage", CategoryVersion(1, 0, 0, 0)), Category("Bags", CategoryVersion(2, 0, 0, 1))


@pytest.fixture
def database(servers: None) -> Iterator[Database[Document]]:
    with a_database("test_renames") as found:
        ledger.start_generation(found, "rules", {})
        yield found


def product(number: int, category_id: int) -> Event:
    record = {"asin": f"B0T{number:07d}", "title": "t", "stars": 0, "reviews": 0, "price": 5, "listPrice": 0, "category_id": category_id}
    record |= {"isBestSeller": False, "boughtInLastMonth": 0, "date": "2023-01-01"}
    return Event(PRODUCTS, 0, number, NOW, None, json.dumps(record).encode())


def write(database: Database[Document], products: Iterable[Event], category: Category | None = None, batch: int = 0) -> None:
    """Products as a micro-batch's task writes them, with this name of category 7."""
    writer = ProductWriter(MongodbSettings().mongodb, database.name, Tag(1, batch), NOTHING, {7: category} if category else {})
    list(writer([rows(products)]))


def names_by_category(database: Database[Document]) -> dict[int, set[tuple[str, int | None]]]:
    """Names and their offsets, by category."""
    found: dict[int, set[tuple[str, int | None]]] = {}
    for one in database.product.find():
        version = one["_tide"]["category"]
        found.setdefault(one["category_id"], set()).add((one["category_name"], version and version["offset"]))
    return found


def test_only_products_with_another_name_are_renamed(database: Database[Document]) -> None:
    write(database, [product(number, 7) for number in range(2_400)])
    write(database, [product(number, 8) for number in range(2_400, 2_500)])
    rename(database, 1, {7: LUGGAGE})
    assert names_by_category(database) == {7: {("Luggage", 0)}, 8: {("Unknown category 8", None)}}
    write(database, [product(number, 7) for number in range(2_500, 2_600)], BAGS)
    newer_version = Category("Bags", CategoryVersion(3, 0, 0, 9))
    rename(database, 1, {7: newer_version})
    assert names_by_category(database)[7] == {("Bags", 1), ("Bags", 9)}, "who bears it already is not written"
    rename(database, 1, {7: newer_version, 8: None, 9: LUGGAGE})
    found = database.state.find_one({"_id": "ledger"}) or {}
    assert found["renaming"] == {"categories": [7], "products": 2 * 2_400}
    assert 2 * PRODUCTS_PER_BATCH < 2_400
    rename(database, 1, {7: None})
    assert names_by_category(database) == {7: {("Unknown category 7", None)}, 8: {("Unknown category 8", None)}}


def test_a_product_moved_to_another_category_in_the_meantime_is_not_renamed(database: Database[Document]) -> None:
    write(database, [product(1, 7), product(2, 7)])
    with proxy() as between, connect(between.url) as client:
        moved = product(2, 8)._replace(offset=5)
        between.meanwhile("update", lambda: write(database, [moved], batch=1))
        rename(database_of(client, database.name), 1, {7: LUGGAGE})
    assert names_by_category(database) == {7: {("Luggage", 0)}, 8: {("Unknown category 8", None)}}
