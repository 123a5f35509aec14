"""Rows for differential tests, in MongoDB and in the two reference engines.

All numbers are multiples of 1/4, so that sums and products are exact in every engine. Half of the nulls are stored, half are missing
fields.
"""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb
from bson import Decimal128
from pymongo.database import Database


@dataclass(frozen=True)
class DataColumn:
    """A column: its SQL name, its kind (see pipe_grammar) and its path in documents."""

    name: str
    kind: str
    path: tuple[str, ...]

    @property
    def sql(self) -> str:
        return '"' + self.name.replace('"', '""') + '"'


def _column(name: str, kind: str, path: tuple[str, ...] | None = None) -> DataColumn:
    return DataColumn(name, kind, path or (name,))


ITEM = (
    _column("_id", "int"),
    _column("small", "int"),
    _column("Group Id", "int"),
    _column("price", "num"),
    _column("cost", "num"),
    _column("title", "str"),
    _column("code", "str"),
    _column("flag", "bool"),
    _column("seen", "ts"),
    _column("sold", "ts"),
    _column("place.city", "str", ("place", "city")),
    _column("place.floor", "int", ("place", "floor")),
    _column("$odd [x]", "num"),
    _column("we.ird", "int", ("we.ird",)),
    _column("tags", "arr"),
)
GROUP = (
    _column("_id", "int"),
    _column("key", "int"),
    _column("label", "str"),
    _column("weight", "num"),
    _column("live", "bool"),
)
TABLES = {"item": ITEM, "group": GROUP}

_TITLES = [
    "Alpha",
    "alpha",
    "BETA",
    "Beta 50%",
    "x_y",
    "Ünïcode Ä",
    "ünïcode ä",
    "",
    " pad ",
    "$dollar",
    "zeta\nline",
    "a.b",
    "é",
    "Kk",
    "日本",
]
_CODES = ["B07", "b07", "B08-1", "C-1-2", "C-2-1", "Z"]
_CITIES = ["Oslo", "Bern", "bern", "Ōsaka"]
_START = datetime(2023, 11, 28, 22, 30)


def _item(number: int, rng: random.Random) -> dict[str, Any]:
    quarter = rng.randint(-12, 40) / 4
    return {
        "_id": number,
        "small": rng.randint(-2, 4),
        "Group Id": rng.randint(1, 9),
        "price": int(quarter) if quarter == int(quarter) and rng.random() < 0.7 else quarter,
        "cost": rng.randint(0, 30) / 4,
        "title": rng.choice(_TITLES),
        "code": rng.choice(_CODES),
        "flag": rng.random() < 0.6,
        "seen": _START + timedelta(hours=rng.randint(0, 24 * 500), milliseconds=rng.choice([0, 0, 250])),
        "sold": _START + timedelta(days=rng.randint(-40, 400)),
        "place.city": rng.choice(_CITIES),
        "place.floor": rng.randint(0, 3),
        "$odd [x]": rng.randint(-4, 4) / 2,
        "we.ird": rng.randint(0, 2),
        "tags": [rng.choice(["red", "blue", "Red"]) for _ in range(rng.randint(0, 3))],
    }


def _group(number: int, rng: random.Random) -> dict[str, Any]:
    return {
        "_id": number,
        "key": rng.randint(-1, 3),
        "label": rng.choice(["one", "Two", "three", "Two"]),
        "weight": rng.randint(1, 8) / 4,
        "live": rng.random() < 0.5,
    }


def rows(seed: int, items: int = 120, groups: int = 8) -> dict[str, list[dict[str, Any]]]:
    """Returns flat rows by table. None is null."""
    rng = random.Random(seed)
    found = {
        "item": [_item(number, rng) for number in range(1, items + 1)],
        "group": [_group(number, rng) for number in range(1, groups + 1)],
    }
    for each in found.values():
        for row in each:
            for name in row:
                if name != "_id" and rng.random() < 0.14:
                    row[name] = None
    return found


def _document(row: dict[str, Any], columns: tuple[DataColumn, ...], rng: random.Random) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for column in columns:
        value = row[column.name]
        if value is None and rng.random() < 0.5:
            continue
        if column.name == "cost" and value is not None:
            value = Decimal128(f"{value:.2f}")
        target = document
        for part in column.path[:-1]:
            target = target.setdefault(part, {})
        target[column.path[-1]] = value
    return document


def fill_mongo(database: Database[dict[str, Any]], seed: int) -> None:
    """Fills MongoDB's collections. The group table has a validator; the columns of the item table come from a sample."""
    rng = random.Random(seed + 1)
    found = rows(seed)
    for name, columns in TABLES.items():
        database.drop_collection(name)
        database.create_collection(name)
        database[name].insert_many([_document(row, columns, rng) for row in found[name]])
    properties = {"_id": "int", "key": "int", "label": "string", "weight": "double", "live": "bool"}
    schema = {"properties": {name: {"bsonType": [kind, "null"]} for name, kind in properties.items()}}
    database.command("collMod", "group", validator={"$jsonSchema": schema})
    database["item"].create_index("price")
    database["group"].create_index("key")
    database.drop_collection("item_view")
    database.command("create", "item_view", viewOn="item", pipeline=[{"$match": {"_id": {"$gt": 0}}}])


_DUCK = {"int": "BIGINT", "num": "DOUBLE", "str": "VARCHAR", "bool": "BOOLEAN", "ts": "TIMESTAMP", "arr": "VARCHAR[]"}


def duck(seed: int) -> duckdb.DuckDBPyConnection:
    """Returns DuckDB with the same rows and with settings that match mongopipe's semantics."""
    connection = duckdb.connect()
    connection.execute("SET default_null_order = 'nulls_first_on_asc_last_on_desc'")
    connection.execute("SET error_on_division_by_zero = false")
    connection.execute("SET ieee_floating_point_ops = false")
    connection.execute("SET order_by_non_integer_literal = true")
    connection.execute("PRAGMA disable_optimizer")  # DuckDB 2.0.0's optimizer drops rows by NULLIF('x', column) IN ('x') in WHERE
    connection.execute("SET threads = 1")
    for name, columns in TABLES.items():
        connection.execute(f'CREATE TABLE "{name}" ({", ".join(f"{column.sql} {_DUCK[column.kind]}" for column in columns)})')
        marks = ", ".join("?" for _ in columns)
        connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', [list(row.values()) for row in rows(seed)[name]])
    return connection


def lite(seed: int) -> sqlite3.Connection:
    """Returns SQLite with the same rows, without timestamps and arrays."""
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA case_sensitive_like = ON")
    for name, columns in TABLES.items():
        kept = [column for column in columns if column.kind not in ("ts", "arr")]
        types = {"int": "INTEGER", "num": "REAL", "str": "TEXT", "bool": "INTEGER"}
        connection.execute(f'CREATE TABLE "{name}" ({", ".join(f"{column.sql} {types[column.kind]}" for column in kept)})')
        values = [[row[column.name] for column in kept] for row in rows(seed)[name]]
        connection.executemany(f'INSERT INTO "{name}" VALUES ({", ".join("?" for _ in kept)})', values)
    return connection
