"""Compares charts, filters, drilling and SQL Lab in a real Superset with hand-written pipelines on the same collection."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

pytest.importorskip("superset", reason="needs Superset in this environment: pip install apache-superset")

from pipe_superset import Superset
from pipe_superset import superset as a_superset

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

DATABASE = "mongopipe_superset"
ROWS = 3_000
START = datetime(2024, 1, 1, tzinfo=UTC)
LEVELS = ["low", "middle", "high", None]

Document = dict[str, Any]
Products = Collection[Document]


@pytest.fixture(scope="module")
def products(server_url: str) -> Iterator[Products]:
    """A collection without a validator. It has stored and missing nulls, whole numbers among doubles, and a nested document."""
    random = Random(11)
    with MongoClient[Document](server_url, tz_aware=True) as client:
        client.drop_database(DATABASE)
        collection = client[DATABASE].product
        documents: list[Document] = []
        for number in range(ROWS):
            one: Document = {
                "_id": f"B{number:06d}",
                "title": f"Product {number} {random.choice(['of wood', '100% cotton', 'Blue', 'blue'])}",
                "category": random.choice(["Toys", "Tools", "Games", "Home & Garden", "Books"]),
                "level": random.choice(LEVELS),
                "price": random.choice([None, random.randrange(1, 400), random.randrange(40_000) / 100]),
                "stars": random.randrange(51) / 10,
                "bought": random.randrange(1_000),
                "best": random.random() < 0.2,
                "seen": START + timedelta(hours=random.randrange(24 * 200)),
                "place": {"latitude": random.randrange(-80, 80) * 1.0, "longitude": random.randrange(-170, 170) * 1.0},
            }
            if one["price"] is None and number % 2:
                del one["price"]
            documents.append(one)
        collection.insert_many(documents)
        yield collection
        client.drop_database(DATABASE)


@pytest.fixture(scope="module")
def superset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Superset]:
    with a_superset(tmp_path_factory.mktemp("superset")) as found:
        yield found


@pytest.fixture(scope="module")
def database(superset: Superset, server_url: str) -> int:
    return superset.add_database(server_url.replace("mongodb://", "mongopipe://") + f"/{DATABASE}")


@pytest.fixture(scope="module")
def dataset(superset: Superset, database: int, products: Products) -> int:
    return superset.add_dataset(database, "product")


COUNT: Document = {"$sum": 1}
AVERAGE = {"expressionType": "SIMPLE", "column": {"column_name": "price"}, "aggregate": "AVG", "label": "average"}
BOUGHT = {"expressionType": "SIMPLE", "column": {"column_name": "bought"}, "aggregate": "SUM", "label": "bought"}
STARS = {"expressionType": "SIMPLE", "column": {"column_name": "stars"}, "aggregate": "AVG", "label": "stars"}
DISTINCT = {"expressionType": "SIMPLE", "column": {"column_name": "category"}, "aggregate": "COUNT_DISTINCT", "label": "kinds"}
MEDIAN = {"expressionType": "SQL", "sqlExpression": "MEDIAN(stars)", "label": "median"}
PRICE_BIN = {"expressionType": "SQL", "sqlExpression": "FLOOR(price / 50) * 50", "label": "from"}
SEEN_IN = {"col": "seen", "op": "TEMPORAL_RANGE", "val": "2024-02-01 : 2024-05-01"}
WITHIN = {"$match": {"seen": {"$gte": datetime(2024, 2, 1, tzinfo=UTC), "$lt": datetime(2024, 5, 1, tzinfo=UTC)}}}


def by(*names: str) -> Document:
    """Returns a $group's _id in which missing fields are null."""
    return {name: {"$ifNull": [f"${name}", None]} for name in names}


def seen_by(unit: str, **columns: Any) -> Document:
    """Returns a $group's _id by time grain. Weeks start on Monday."""
    truncated: Document = {"date": "$seen", "unit": unit}
    return {"seen": {"$dateTrunc": truncated | ({"startOfWeek": "monday"} if unit == "week" else {})}, **columns}


def axis(grain: str) -> Document:
    """Returns the column of a chart's time axis."""
    return {"columnType": "BASE_AXIS", "expressionType": "SQL", "label": "seen", "sqlExpression": "seen", "timeGrain": grain}


# For each type of chart: the query that Superset requests, and the hand-written pipeline.
CHARTS: dict[str, tuple[Document, list[Document]]] = {
    "big_number_total": ({"metrics": ["count"]}, [{"$group": {"_id": None, "count": COUNT}}]),
    "big_number": (
        {"columns": [axis("P1W")], "metrics": ["count"], "filters": [SEEN_IN]},
        [WITHIN, {"$group": {"_id": seen_by("week"), "count": COUNT}}],
    ),
    "table": (
        {"columns": ["category", "best"], "metrics": ["count", AVERAGE, DISTINCT], "orderby": [["count", False]]},
        [{"$group": {"_id": by("category", "best"), "count": COUNT, "average": {"$avg": "$price"}}}, {"$set": {"kinds": 1}}],
    ),
    "pivot_table_v2": (
        {"columns": ["level", "category"], "metrics": [BOUGHT]},
        [{"$group": {"_id": by("level", "category"), "bought": {"$sum": "$bought"}}}],
    ),
    "pie": (
        {"columns": ["level"], "metrics": [BOUGHT], "orderby": [[BOUGHT, False]]},
        [{"$group": {"_id": by("level"), "bought": {"$sum": "$bought"}}}],
    ),
    "echarts_timeseries_line": (
        {"columns": [axis("P1M"), "category"], "metrics": [AVERAGE], "filters": [SEEN_IN]},
        [WITHIN, {"$group": {"_id": seen_by("month", category="$category"), "average": {"$avg": "$price"}}}],
    ),
    "echarts_timeseries_bar": (
        {"columns": ["category"], "metrics": ["count", BOUGHT], "orderby": [["count", False]]},
        [{"$group": {"_id": by("category"), "count": COUNT, "bought": {"$sum": "$bought"}}}],
    ),
    "echarts_timeseries_bar of bins": (
        {"columns": [PRICE_BIN], "metrics": ["count"], "extras": {"where": "price >= 0 AND price < 300"}},
        [
            {"$match": {"price": {"$gte": 0, "$lt": 300}}},
            {"$group": {"_id": {"from": {"$multiply": [{"$floor": {"$divide": ["$price", 50]}}, 50]}}, "count": COUNT}},
        ],
    ),
    "echarts_area": (
        {"columns": [axis("P3M"), "best"], "metrics": [STARS]},
        [{"$group": {"_id": seen_by("quarter", best="$best"), "stars": {"$avg": "$stars"}}}],
    ),
    "echarts_timeseries_scatter": (
        {"columns": [axis("P1D")], "metrics": [STARS], "filters": [SEEN_IN]},
        [WITHIN, {"$group": {"_id": seen_by("day"), "stars": {"$avg": "$stars"}}}],
    ),
    "mixed_timeseries": (
        {"columns": [axis("P1Y")], "metrics": ["count"]},
        [{"$group": {"_id": seen_by("year"), "count": COUNT}}],
    ),
    "bubble_v2": (
        {"columns": ["category", "level"], "metrics": [AVERAGE, STARS, BOUGHT]},
        [
            {
                "$group": {
                    "_id": by("category", "level"),
                    "average": {"$avg": "$price"},
                    "stars": {"$avg": "$stars"},
                    "bought": {"$sum": "$bought"},
                }
            }
        ],
    ),
    "box_plot": (
        {"columns": ["category", "level"], "metrics": [MEDIAN]},
        [{"$group": {"_id": by("category", "level"), "all": {"$push": "$stars"}}}],
    ),
    "heatmap_v2": (
        {"columns": ["category", "level"], "metrics": ["count"], "orderby": [["category", True]]},
        [{"$group": {"_id": by("category", "level"), "count": COUNT}}],
    ),
    "treemap_v2": (
        {"columns": ["level", "category", "best"], "metrics": ["count"], "filters": [{"col": "level", "op": "IS NOT NULL"}]},
        [{"$match": {"level": {"$ne": None}}}, {"$group": {"_id": by("level", "category", "best"), "count": COUNT}}],
    ),
    "sunburst_v2": (
        {"columns": ["best", "level"], "metrics": ["count"], "filters": [{"col": "best", "op": "==", "val": True}]},
        [{"$match": {"best": True}}, {"$group": {"_id": by("best", "level"), "count": COUNT}}],
    ),
    "funnel": (
        {"columns": ["level"], "metrics": ["count"], "filters": [{"col": "level", "op": "IN", "val": ["low", "high"]}]},
        [{"$match": {"level": {"$in": ["low", "high"]}}}, {"$group": {"_id": by("level"), "count": COUNT}}],
    ),
    "gauge_chart": (
        {"columns": ["category"], "metrics": [STARS], "filters": [{"col": "category", "op": "NOT IN", "val": ["Toys"]}]},
        [{"$match": {"category": {"$ne": "Toys"}}}, {"$group": {"_id": by("category"), "stars": {"$avg": "$stars"}}}],
    ),
    "radar": (
        {"columns": ["category"], "metrics": [AVERAGE, STARS], "extras": {"having": "COUNT(*) > 590"}},
        [
            {"$group": {"_id": by("category"), "average": {"$avg": "$price"}, "stars": {"$avg": "$stars"}, "n": COUNT}},
            {"$match": {"n": {"$gt": 590}}},
            {"$unset": "n"},
        ],
    ),
    "word_cloud": (
        {"columns": ["title"], "metrics": ["count"], "filters": [{"col": "title", "op": "ILIKE", "val": "%BLUE%"}]},
        [{"$match": {"title": {"$regex": "blue", "$options": "i"}}}, {"$group": {"_id": by("title"), "count": COUNT}}],
    ),
    "graph_chart": (
        {"columns": ["category", "level"], "metrics": [BOUGHT], "filters": [{"col": "title", "op": "LIKE", "val": "%_100% cot%"}]},
        [{"$match": {"title": {"$regex": ".100.* cot"}}}, {"$group": {"_id": by("category", "level"), "bought": {"$sum": "$bought"}}}],
    ),
    "waterfall": (
        {"columns": [axis("P1M")], "metrics": [BOUGHT], "filters": [SEEN_IN, {"col": "stars", "op": ">=", "val": 2.5}]},
        [WITHIN, {"$match": {"stars": {"$gte": 2.5}}}, {"$group": {"_id": seen_by("month"), "bought": {"$sum": "$bought"}}}],
    ),
    "cal_heatmap": (
        {
            "columns": [axis("PT1H")],
            "metrics": ["count"],
            "filters": [{"col": "seen", "op": "TEMPORAL_RANGE", "val": "2024-03-01 : 2024-03-08"}],
        },
        [
            {"$match": {"seen": {"$gte": datetime(2024, 3, 1, tzinfo=UTC), "$lt": datetime(2024, 3, 8, tzinfo=UTC)}}},
            {"$group": {"_id": seen_by("hour"), "count": COUNT}},
        ],
    ),
    "deck_scatter": (
        {
            "columns": [{"expressionType": "SQL", "sqlExpression": f"place.{name}", "label": name} for name in ("latitude", "longitude")],
            "metrics": ["count"],
        },
        [{"$group": {"_id": {"latitude": "$place.latitude", "longitude": "$place.longitude"}, "count": COUNT}}],
    ),
}


def table(rows: list[Document]) -> list[tuple[Any, ...]]:
    """Returns rows as a comparable multiset: columns by name, numbers with twelve digits, dates in milliseconds."""
    return sorted((tuple(sorted((name, value(one)) for name, one in row.items())) for row in rows), key=repr)


def value(one: Any) -> Any:
    if isinstance(one, bool) or one is None or isinstance(one, str):
        return one
    if isinstance(one, datetime):
        return round(one.timestamp() * 1_000)
    return float(f"{one:.12g}")


def by_hand(products: Products, pipeline: list[Document]) -> list[Document]:
    """Returns the pipeline's rows: the group's key and its aggregates."""
    rows = []
    for one in products.aggregate(pipeline):
        if "all" in one:
            some = sorted(one.pop("all"))
            one["median"] = (some[(len(some) - 1) // 2] + some[len(some) // 2]) / 2
        rows.append({**(one.pop("_id") or {}), **one})
    return rows


@pytest.mark.parametrize("kind", CHARTS)
def test_charts(superset: Superset, dataset: int, products: Products, kind: str) -> None:
    query, pipeline = CHARTS[kind]
    found = superset.chart(dataset, query, viz_type=kind.split(" ")[0])
    expected = by_hand(products, pipeline)
    assert len(expected) >= 1
    assert table(found["data"]) == table(expected), found["query"]


def test_series_limit_runs_a_separate_query(superset: Superset, dataset: int, products: Products) -> None:
    """A separate query finds the two categories with the most purchases; no join is needed."""
    query = {
        "columns": [axis("P1M"), "category"], "metrics": [BOUGHT], "series_columns": ["category"],
        "series_limit": 2, "series_limit_metric": BOUGHT, "filters": [SEEN_IN],
    }  # fmt: skip
    found = superset.chart(dataset, query, viz_type="echarts_timeseries_line")
    group = {"$group": {"_id": "$category", "bought": {"$sum": "$bought"}}}
    most = [one["_id"] for one in products.aggregate([WITHIN, group, {"$sort": {"bought": -1}}, {"$limit": 2}])]
    pipeline = [WITHIN, {"$match": {"category": {"$in": most}}}]
    pipeline += [{"$group": {"_id": seen_by("month", category="$category"), "bought": {"$sum": "$bought"}}}]
    assert table(found["data"]) == table(by_hand(products, pipeline))


def test_time_comparison(superset: Superset, dataset: int, products: Products) -> None:
    query = {"columns": [axis("P1M")], "metrics": ["count"], "filters": [SEEN_IN], "time_offsets": ["1 month ago"]}
    found = superset.chart(dataset, query, viz_type="echarts_timeseries_line")
    counts = {one["_id"]: one["count"] for one in products.aggregate([{"$group": {"_id": seen_by("month")["seen"], "count": COUNT}}])}
    months = [datetime(2024, month, 1, tzinfo=UTC) for month in range(1, 5)]
    expected = [{"seen": month, "count": counts[month], "count__1 month ago": counts[before]} for before, month in pairwise(months)]
    assert table(found["data"]) == table(expected)


def test_raw_rows_in_pages(superset: Superset, dataset: int, products: Products) -> None:
    """The rows of a table chart are sorted and paged, and the row count is right."""
    columns = ["_id", "title", "price", "best", "seen", "place.latitude"]
    rows: list[Document] = []
    for page in range(3):
        query = {"columns": columns, "metrics": None, "orderby": [["_id", True]], "row_limit": 100, "row_offset": page * 100}
        found = superset.chart(dataset, query, viz_type="table", query_mode="raw")
        rows += found["data"]
    expected = [
        {name: one.get(name) for name in columns[:-1]} | {"place.latitude": one["place"]["latitude"]}
        for one in products.find().sort("_id", 1).limit(300)
    ]
    assert [row["_id"] for row in rows] == [row["_id"] for row in expected]
    assert table(rows) == table(expected)
    count = superset.chart(dataset, {"columns": columns, "metrics": None, "is_rowcount": True, "row_limit": 0}, viz_type="table")
    assert [list(one.values()) for one in count["data"]] == [[ROWS]]


def test_samples_and_drill_to_detail(superset: Superset, dataset: int, products: Products) -> None:
    everything = superset.samples(dataset, 50)
    assert (len(everything["data"]), everything["total_count"]) == (50, ROWS)
    assert {"_id", "title", "price", "place.latitude"} <= set(everything["colnames"])
    toys = [{"col": "category", "op": "==", "val": "Toys"}, {"col": "best", "op": "==", "val": True}]
    detail = superset.samples(dataset, 1_000, toys)
    expected = {one["_id"] for one in products.find({"category": "Toys", "best": True})}
    assert {row["_id"] for row in detail["data"]} == expected
    assert detail["total_count"] == len(expected)


def test_drill_by(superset: Superset, dataset: int, products: Products) -> None:
    """A bar of a chart by category, broken down by level."""
    query = {"columns": ["level"], "metrics": [BOUGHT], "filters": [{"col": "category", "op": "==", "val": "Home & Garden"}]}
    found = superset.chart(dataset, query, viz_type="echarts_timeseries_bar")
    pipeline = [{"$match": {"category": "Home & Garden"}}, {"$group": {"_id": by("level"), "bought": {"$sum": "$bought"}}}]
    assert table(found["data"]) == table(by_hand(products, pipeline))


def test_filter_values(superset: Superset, dataset: int, products: Products) -> None:
    """The values of the dataset's column, and of a dashboard's native filter with a search."""
    assert set(superset.get(f"datasource/table/{dataset}/column/level/values/")["result"]) == set(LEVELS)
    query = {
        "columns": ["title"],
        "metrics": [],
        "extras": {"where": "lower(title) LIKE lower('%WOOD%')"},
        "orderby": [["title", True]],
        "row_limit": 5,
    }
    found = superset.chart(dataset, query, viz_type="filter_select")
    expected = [
        one["_id"]
        for one in products.aggregate(
            [{"$match": {"title": {"$regex": "wood"}}}, {"$group": {"_id": "$title"}}, {"$sort": {"_id": 1}}, {"$limit": 5}]
        )
    ]
    assert [row["title"] for row in found["data"]] == expected
    query = {"columns": [], "metrics": [
        {"expressionType": "SIMPLE", "column": {"column_name": "price"}, "aggregate": how, "label": how.lower()} for how in ("MIN", "MAX")
    ]}  # fmt: skip
    found = superset.chart(dataset, query, viz_type="filter_range")
    (expected_range,) = products.aggregate(
        [{"$group": {"_id": None, "min": {"$min": "$price"}, "max": {"$max": "$price"}}}, {"$unset": "_id"}]
    )
    assert table(found["data"]) == table([expected_range])


def test_a_virtual_dataset(superset: Superset, database: int, products: Products) -> None:
    made = superset.add_dataset(database, "cheap", "SELECT category, price FROM product WHERE price < 50")
    found = superset.chart(made, {"columns": ["category"], "metrics": ["count", AVERAGE]}, viz_type="pie")
    pipeline = [{"$match": {"price": {"$lt": 50}}}, {"$group": {"_id": by("category"), "count": COUNT, "average": {"$avg": "$price"}}}]
    assert table(found["data"]) == table(by_hand(products, pipeline))


def test_the_dataset_knows_its_columns(superset: Superset, dataset: int) -> None:
    columns = {one["column_name"]: one for one in superset.get(f"dataset/{dataset}")["result"]["columns"]}
    assert {name for name, one in columns.items() if one["is_dttm"]} == {"seen"}
    generic = {name: one["type_generic"] for name, one in columns.items()}
    assert {name: generic[name] for name in ("title", "price", "seen", "best", "place.latitude")} == {
        "title": 1, "price": 0, "seen": 2, "best": 3, "place.latitude": 0,
    }  # fmt: skip


def test_sql_lab(superset: Superset, database: int, products: Products) -> None:
    # The limit beside the editor: where the web server runs a query itself, Superset 6.1 replaces a typed LIMIT by it.
    answer = superset.sql(database, "SELECT * FROM product ORDER BY _id", queryLimit=7)
    assert [row["_id"] for row in answer["data"]] == [one["_id"] for one in products.find().sort("_id", 1).limit(7)]
    answer = superset.sql(database, "WITH t AS (SELECT level, COUNT(*) AS n FROM product GROUP BY level) SELECT MAX(n) AS most FROM t")
    assert answer["data"] == [{"most": max(one["n"] for one in products.aggregate([{"$group": {"_id": "$level", "n": COUNT}}]))}]
    plan = superset.sql(database, "EXPLAIN SELECT title FROM product WHERE _id = 'B000001'")
    assert "pipeline" in repr(plan["data"])
    cost = superset.post("sqllab/estimate/", {"database_id": database, "sql": "SELECT COUNT(*) FROM product"})["result"]
    assert cost
    for text, reason in (
        ("SELECT title FROM products", "products"),
        ("SELECT titel FROM product", "titel"),
        ("SELECT SOUNDEX(title) FROM product", "SOUNDEX"),
        ("DELETE FROM product", "DML|only|read"),
    ):
        with pytest.raises(AssertionError, match=reason):
            superset.sql(database, text)
    assert products.count_documents({}) == ROWS


def test_table_metadata(superset: Superset, database: int, products: Products) -> None:
    products.create_index("price", name="by_price")
    answer = superset.get(f"database/{database}/table_metadata/extra/", name="product")
    assert {"name": "by_price", "columns": ["price"]} in answer["indexes"]
    answer = superset.get(f"database/{database}/table_metadata/", name="product")
    assert {"_id", "price", "place.latitude"} <= {one["name"] for one in answer["columns"]}


def test_cancel(superset: Superset, database: int, products: Products) -> None:
    """Stopping a query in SQL Lab ends it in MongoDB long before it completes."""
    answers: list[str] = []
    endless = "SELECT COUNT(*) AS n FROM product AS a JOIN product AS b ON a.bought <> b.bought WHERE a.stars + b.stars < 0"

    def run() -> None:
        try:
            answers.append(superset.sql(database, endless, client_id="stopme")["status"])
        except AssertionError as error:
            answers.append(str(error))

    asking = threading.Thread(target=run)
    started = time.monotonic()
    asking.start()
    admin = products.database.client.admin
    while not list(
        admin.aggregate([{"$currentOp": {}}, {"$match": {"op": "command", "command.aggregate": "product", "secs_running": {"$gte": 1}}}])
    ):
        assert asking.is_alive(), answers
        assert time.monotonic() - started < 60
        time.sleep(0.2)
    superset.post("query/stop", {"client_id": "stopme"})
    asking.join(60)
    assert not asking.is_alive()
    # MongoDB ends the query before Superset records that it is stopped: the request returns one state or the other.
    (answer,) = answers
    assert answer == "stopped" or "operation was interrupted" in answer
    assert not list(admin.aggregate([{"$currentOp": {}}, {"$match": {"op": "command", "command.aggregate": "product"}}]))


def test_a_chart_shows_the_error_of_its_query(superset: Superset, dataset: int) -> None:
    with pytest.raises(AssertionError, match="SOUNDEX"):
        superset.chart(dataset, {"columns": [], "metrics": [{"expressionType": "SQL", "sqlExpression": "SOUNDEX(title)", "label": "x"}]})
