"""Measures how long Superset's charts take on a large collection: `make bench`. Prints one line of JSON.

The benchmark runs seven shapes of queries through Superset's chart API with mongopipe and with PyMongoSQL 0.7.4 (on a virtual dataset, as
its users do). Outside Superset it runs the pipeline that a person would write. The answers of mongopipe must equal those of the
hand-written pipelines. The benchmark also measures the time of the translation and the growth of Superset's memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import truediv
from pathlib import Path
from random import Random
from typing import Any

from pipe_server import server
from pipe_superset import Superset, superset
from pymongo import MongoClient
from pymongo.collection import Collection

import mongopipe
from mongopipe.translate import translate

DATABASE = "charts"
AT_ONCE = 20_000
START = datetime(2023, 1, 1, tzinfo=UTC)

Document = dict[str, Any]
Products = Collection[Document]

COUNT: Document = {"expressionType": "SQL", "sqlExpression": "COUNT(*)", "label": "cnt"}
BINS: Document = {"expressionType": "SQL", "sqlExpression": "FLOOR(price / 5) * 5", "label": "price_bin"}
CASE = "CASE WHEN (category_id = 104 OR category_id = 110) THEN category_id ELSE 'Others' END"


def _filter(column: str, operator: str, value: Any = None) -> Document:
    return {"col": column, "op": operator, **({} if value is None else {"val": value})}


@dataclass(frozen=True)
class Shape:
    """A chart's query from Superset, the pipeline that a person would write, and the fields of its rows in the chart's order."""

    name: str
    query: Document
    pipeline: list[Document]
    fields: tuple[str, ...]
    virtual: bool = False
    ordered: bool = False
    form_data: Document = field(default_factory=dict)


_COUNTED: Document = {"$group": {"_id": "$category_id", "cnt": {"$sum": 1}}}
SHAPES = (
    Shape(
        "bins of prices",
        {
            "columns": [BINS],
            "metrics": [COUNT],
            "filters": [_filter("price", ">=", 0), _filter("price", "<", 300)],
            "row_limit": 100,
        },
        [
            {"$match": {"price": {"$gte": 0, "$lt": 300}}},
            {"$group": {"_id": {"$multiply": [{"$floor": {"$divide": ["$price", 5]}}, 5]}, "cnt": {"$sum": 1}}},
            {"$limit": 100},
        ],
        ("_id", "cnt"),
    ),
    Shape(
        "months",
        {
            "columns": [{"columnType": "BASE_AXIS", "sqlExpression": "seen", "label": "seen", "expressionType": "SQL", "timeGrain": "P1M"}],
            "metrics": [COUNT],
            "granularity": "seen",
            "time_range": "2023-02-01 : 2023-12-01",
            "extras": {"time_grain_sqla": "P1M"},
        },
        [
            {"$match": {"seen": {"$gte": datetime(2023, 2, 1, tzinfo=UTC), "$lt": datetime(2023, 12, 1, tzinfo=UTC)}}},
            {"$group": {"_id": {"$dateTrunc": {"date": "$seen", "unit": "month"}}, "cnt": {"$sum": 1}}},
        ],
        ("_id", "cnt"),
    ),
    Shape(
        "virtual dataset",
        {"columns": ["category_id"], "metrics": [COUNT]},
        [_COUNTED],
        ("_id", "cnt"),
        virtual=True,
    ),
    Shape(
        "values of a filter",
        {
            "columns": ["asin"],
            "metrics": [],
            "filters": [_filter("asin", "ILIKE", "%b07%")],
            "orderby": [["asin", True]],
            "row_limit": 5,
        },
        [
            {"$match": {"asin": {"$regex": "b07", "$options": "i"}}},
            {"$group": {"_id": "$asin"}},
            {"$sort": {"_id": 1}},
            {"$limit": 5},
        ],
        ("_id",),
        ordered=True,
    ),
    Shape(
        "ordered by another average",
        {
            "columns": ["category_id"],
            "metrics": [COUNT],
            "orderby": [[{"expressionType": "SQL", "sqlExpression": "AVG(price)", "label": "average"}, False]],
            "row_limit": 10,
        },
        [
            {"$group": {"_id": "$category_id", "cnt": {"$sum": 1}, "average": {"$avg": "$price"}}},
            {"$sort": {"average": -1}},
            {"$limit": 10},
        ],
        ("_id", "cnt"),
        ordered=True,
    ),
    Shape(
        "filters and HAVING",
        {
            "columns": ["stars"],
            "metrics": [COUNT],
            "filters": [_filter("isBestSeller", "IS TRUE")],
            "extras": {"where": "(category_id IS NULL OR category_id IN (104, 110))", "having": "(COUNT(*) > 3)"},
        },
        [
            {"$match": {"isBestSeller": True, "category_id": {"$in": [None, 104, 110]}}},
            {"$group": {"_id": "$stars", "cnt": {"$sum": 1}}},
            {"$match": {"cnt": {"$gt": 3}}},
        ],
        ("_id", "cnt"),
    ),
    Shape(
        "some and others",
        {
            "columns": [{"expressionType": "SQL", "sqlExpression": CASE, "label": "which"}],
            "metrics": [COUNT],
        },
        [
            {
                "$group": {
                    "_id": {"$cond": [{"$in": ["$category_id", [104, 110]]}, {"$toString": "$category_id"}, "Others"]},
                    "cnt": {"$sum": 1},
                }
            }
        ],
        ("_id", "cnt"),
    ),
)


def documents(rows: int) -> Iterator[list[Document]]:
    """Yields products like those of real catalogs: some prices are missing, and whole numbers are among the doubles."""
    random = Random(1)
    for first in range(0, rows, AT_ONCE):
        some: list[Document] = []
        for number in range(first, min(first + AT_ONCE, rows)):
            asin = f"B0{number * 7919 % 10**8:08d}"
            one: Document = {
                "_id": asin,
                "asin": asin,
                "title": f"Product {number} of a catalog, with as many words in its title as products of shops have",
                "imgUrl": f"https://images.example/{number}.jpg",
                "productURL": f"https://shop.example/dp/{asin}",
                "stars": random.randrange(51) / 10,
                "reviews": random.randrange(1_000),
                "price": random.choice([None, random.randrange(1, 400), random.lognormvariate(3.1, 0.95)]),
                "category_id": random.randint(1, 248),
                "isBestSeller": random.random() < 0.01,
                "seen": START + timedelta(minutes=random.randrange(60 * 24 * 365)),
            }
            if one["price"] is None and number % 2:
                del one["price"]
            some.append(one)
        yield some


def filled(url: str, rows: int) -> Products:
    collection: Products = MongoClient[Document](url, tz_aware=True)[DATABASE].product
    for some in documents(rows):
        collection.insert_many(some, ordered=False)
    collection.create_index("asin", unique=True)
    collection.create_index("category_id")
    return collection


def seconds(act: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = act()
    return time.perf_counter() - started, found


def comparable(rows: list[list[Any]], ordered: bool) -> list[str]:
    """Renders rows as text. Timestamps become milliseconds, as in Superset's answers; numbers become doubles."""
    texts = [json.dumps([_plain(value) for value in row]) for row in rows]
    return texts if ordered else sorted(texts)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return float(value.timestamp() * 1000)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def memory_mb(leader: int) -> int:
    """Returns the peak memory of a process or of one of its children, whichever is larger."""
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    texts = [Path(f"/proc/{one}/status").read_text() for one in (str(leader), *children)]
    return max(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("VmHWM")) // 1024


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Bench:
    def __init__(self, url: str, products: Products, there: Superset) -> None:
        self.products, self.there = products, there
        ours = there.add_database(f"{url.replace('mongodb://', 'mongopipe://')}/{DATABASE}")
        self.ours = there.add_dataset(ours, "product")
        self.ours_virtual = there.add_dataset(ours, "product as it is", "SELECT * FROM product")
        self.theirs = there.add_dataset(there.add_database(f"{url}/{DATABASE}?mode=superset"), "all products", "SELECT * FROM product")
        self.connection = mongopipe.connect(f"{url}/{DATABASE}")

    def chart(self, dataset: int, shape: Shape) -> tuple[float, list[list[Any]], str]:
        """Returns the seconds, rows and SQL of a chart."""
        took, found = seconds(lambda: self.there.chart(dataset, shape.query, **shape.form_data))
        return took, [list(row.values()) for row in found["data"]], found["query"]

    def beside_by_hand(self, shape: Shape, rounds: int) -> Document:
        mine = self.ours_virtual if shape.virtual else self.ours
        through, by_hand, driver, translating = [], [], [], []
        sql = self.chart(mine, shape)[2].strip().rstrip(";")
        for _ in range(rounds):
            took, rows, _ = self.chart(mine, shape)
            through.append(took)
            took, found = seconds(lambda: list(self.products.aggregate(shape.pipeline, allowDiskUse=True)))
            by_hand.append(took)
            driver.append(seconds(lambda: self.connection.cursor().execute(sql).fetchall())[0])
            translating.append(seconds(lambda: translate(sql, self.connection.reflection))[0])
            expected = [[one[name] for name in shape.fields] for one in found]
            if comparable(rows, shape.ordered) != comparable(expected, shape.ordered):
                raise RuntimeError(f"{shape.name}: {rows[:3]} instead of {expected[:3]}")
        answer: Document = {
            "ours_through_superset": round(statistics.median(through), 3),
            "by_hand": round(statistics.median(by_hand), 3),
            "driver_to_by_hand": round(statistics.median(map(truediv, driver, by_hand)), 3),
            "translation_ms": round(statistics.median(translating) * 1000, 2),
        }
        say(f"{shape.name}: {answer}")
        return answer

    def of_peer(self, shape: Shape, ours: float) -> Document:
        theirs = self.chart(self.theirs, shape)[0]
        say(f"{shape.name}: PyMongoSQL {theirs:.1f} s")
        return {"theirs_through_superset": round(theirs, 3), "ratio": round(theirs / ours, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="charts.py")
    parser.add_argument("--rows", type=int, default=1_400_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peer", choices=["yes", "no"], default="yes", help="whether to run PyMongoSQL, which needs about a minute for each chart"
    )
    given = parser.parse_args()
    with server() as url, tempfile.TemporaryDirectory(prefix="mongopipe-bench-") as home:
        took, products = seconds(lambda: filled(url, given.rows))
        say(f"{given.rows:,} documents in {took:.0f} s")
        with superset(Path(home)) as there:
            bench = Bench(url, products, there)
            for shape in SHAPES:
                bench.chart(bench.ours_virtual if shape.virtual else bench.ours, shape)
            before = memory_mb(there.process)
            found = {shape.name: bench.beside_by_hand(shape, given.rounds) for shape in SHAPES}
            grown = {"ours": memory_mb(there.process) - before}
            if given.peer == "yes":
                for shape in SHAPES:
                    found[shape.name] |= bench.of_peer(shape, found[shape.name]["ours_through_superset"])
                grown["theirs"] = memory_mb(there.process) - before - grown["ours"]
    reach = {"ratio": 20, "driver_to_by_hand": 1.15, "translation_ms": 5}
    sys.stdout.write(
        json.dumps(
            {
                "bench": "charts",
                "unit": "seconds",
                "shapes": found,
                "reach": reach,
                "rows": given.rows,
                "rounds": given.rounds,
                "superset_grew_mb": grown,
                "load": round(os.getloadavg()[1], 1),
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
