"""The server's execution of pipelines: which indexes statements use, from the server's explain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fuzz_mongopipe import DATABASE
from pymongo import MongoClient

import mongopipe

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def shop(server_url: str) -> Iterator[mongopipe.Connection]:
    """2,000 products with indexes on price, category_id and (brand, price), and 20 categories."""
    with MongoClient(server_url) as client:
        database = client[DATABASE]
        for name in ("product", "category"):
            database.drop_collection(name)
        products = [{"_id": n, "price": n % 300, "category_id": n % 20, "brand": f"b{n % 7}", "title": f"t{n}"} for n in range(2000)]
        database["product"].insert_many(products)
        database["category"].insert_many([{"_id": n, "name": f"c{n}"} for n in range(20)])
        for keys in ("price", "category_id", [("brand", 1), ("price", 1)]):
            database["product"].create_index(keys)
    with mongopipe.connect(f"{server_url}/{DATABASE}") as connection:
        connection.reflection.forget()
        yield connection


def _plan(connection: mongopipe.Connection, sql: str) -> dict[str, Any]:
    text = "\n".join(line for (line,) in connection.cursor().execute(f"EXPLAIN {sql}").fetchall())
    return dict(json.loads(text))


def _winning(connection: mongopipe.Connection, sql: str) -> str:
    plan = _plan(connection, sql)["plan"]
    planner = plan.get("queryPlanner") or plan["stages"][0]["$cursor"]["queryPlanner"]
    return json.dumps(planner["winningPlan"])


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT COUNT(*) FROM product WHERE price >= 10 AND price < 20", "price_1"),
        ("SELECT title FROM product WHERE price BETWEEN 3 AND 5 AND title LIKE '%9%'", "price_1"),
        ("SELECT title FROM (SELECT * FROM product) AS v WHERE v.price = 3", "price_1"),
        ("SELECT title FROM (SELECT title, price AS p FROM product) AS v WHERE p = 3", "price_1"),
        ("WITH v AS (SELECT category_id AS c, price FROM product) SELECT c, COUNT(*) FROM v GROUP BY c HAVING c = 3", "category_id_1"),
        ("SELECT brand, MAX(price) FROM product WHERE brand = 'b1' AND price > 5 GROUP BY brand", "brand_1_price_1"),
        ("SELECT title FROM product WHERE brand LIKE 'b1%'", "brand_1_price_1"),
        ("SELECT title FROM product WHERE category_id IN (1, 2) OR category_id IS NULL", "category_id_1"),
        ("SELECT category_id FROM product GROUP BY category_id ORDER BY category_id", "category_id_1"),
        ("SELECT DISTINCT category_id FROM product", "category_id_1"),
        ("SELECT title FROM product ORDER BY price LIMIT 5", "price_1"),
        ("SELECT p.title, c.name FROM product p JOIN category c ON p.category_id = c._id WHERE p.price = 7", "price_1"),
        ("SELECT price FROM product WHERE price = 3 UNION ALL SELECT _id FROM category", "price_1"),
    ],
)
def test_indexes_are_used(shop: mongopipe.Connection, sql: str, index: str) -> None:
    winning = _winning(shop, sql)
    assert f'"indexName": "{index}"' in winning
    assert "COLLSCAN" not in winning


def test_distinct_by_an_index_reads_keys_only(shop: mongopipe.Connection) -> None:
    assert "DISTINCT_SCAN" in _winning(shop, "SELECT DISTINCT category_id FROM product")


def test_only_used_fields_are_read(shop: mongopipe.Connection) -> None:
    winning = _winning(shop, "SELECT brand, price FROM product WHERE brand = 'b1'")
    assert "FETCH" not in winning or '"transformBy"' in winning


def test_a_join_moves_behind_the_group(shop: mongopipe.Connection) -> None:
    sql = "SELECT c.name, COUNT(*), AVG(p.price) FROM product p JOIN category c ON p.category_id = c._id GROUP BY c.name"
    stages = [next(iter(stage)) for stage in _plan(shop, sql)["pipeline"]]
    assert stages.index("$group") < stages.index("$lookup")


def test_a_join_by_an_indexed_key_uses_the_index(shop: mongopipe.Connection) -> None:
    sql = "SELECT p.title FROM category c JOIN product p ON c._id = p.category_id"
    plan = json.dumps(_plan(shop, sql)["plan"])
    assert "localField" in plan
    assert "foreignField" in plan
