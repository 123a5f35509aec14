"""The columns of views, from their pipelines: they have the names that documents have, and exist without documents."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo import MongoClient

import mongopipe
from mongopipe import reflection, view_fields
from mongopipe.sql_types import SqlType

pytestmark = pytest.mark.server

DATABASE = "mongopipe_views"
MOMENT = datetime(2024, 2, 29, tzinfo=UTC)
ROW = {"_id": 1, "code": "a", "n": 3, "at": MOMENT, "deep": {"er": {"x": 1.5}, "y": "z"}, "many": [{"k": "m", "v": 2}], "texts": ["t"]}

PIPELINES: dict[str, list[dict[str, Any]]] = {
    "as it is": [{"$match": {"n": 3}}, {"$sort": {"n": 1}}, {"$limit": 5}],
    "chosen": [{"$project": {"code": True, "deep.er": 1, "made": {"$add": ["$n", 1]}, "as": "$at"}}],
    "chosen without _id": [{"$project": {"_id": False, "n": 1}}],
    "left out": [{"$project": {"_id": 0, "deep": 0}}],
    "set and unset": [
        {"$set": {"n": "$code", "more": {"$literal": 1}}},
        {"$addFields": {"other": "$deep.y"}},
        {"$unset": ["many", "deep.er"]},
    ],
    "unset one": [{"$unset": "code"}],
    "grouped": [{"$group": {"_id": "$code", "sum": {"$sum": "$n"}, "last": {"$max": "$at"}}}],
    "counted": [{"$count": "all"}],
    "replaced": [{"$replaceWith": "$deep"}],
    "replaced by what is made": [{"$replaceRoot": {"newRoot": {"x": "$n", "y": {"$first": "$many"}}}}, {"$unset": "y"}],
    "merged": [{"$replaceWith": {"$mergeObjects": [{"n": 0, "new": 1}, "$deep"]}}],
    "joined": [{"$lookup": {"from": "row", "localField": "n", "foreignField": "n", "as": "same"}}, {"$project": {"n": 1, "same": 1}}],
    "unwound": [{"$unwind": "$texts"}, {"$unwind": {"path": "$many"}}, {"$project": {"texts": 1, "sql_type": "$many.k"}}],
    "windows": [{"$setWindowFields": {"output": {"all": {"$sum": "$n"}}}}],
}


@pytest.fixture(scope="module")
def rows(server_url: str) -> Iterator[str]:
    """The URL of a database with one collection and an empty view for each pipeline."""
    with MongoClient[dict[str, Any]](server_url, tz_aware=True) as client:
        client.drop_database(DATABASE)
        client[DATABASE].row.insert_one(ROW)
        for number, pipeline in enumerate(PIPELINES.values()):
            client[DATABASE].create_collection(f"empty{number}", viewOn="row", pipeline=[{"$match": {"n": 0}}, *pipeline])
        yield f"{server_url}/{DATABASE}"
        client.drop_database(DATABASE)


@pytest.mark.parametrize("name", PIPELINES)
def test_names_are_those_that_documents_have(rows: str, mongo: MongoClient[dict[str, Any]], name: str) -> None:
    documented = {each.name: each.type for each in reflection.sampled(mongo[DATABASE].row.aggregate(PIPELINES[name]))}
    defined = {each.name: each.type for each in view_fields.after(PIPELINES[name], list(reflection.sampled([ROW])))}
    assert defined.keys() == documented.keys()
    assert {name: sql_type for name, sql_type in defined.items() if sql_type not in (documented[name], SqlType.NULL)} == {}


def test_a_stage_with_unknown_fields_defines_no_fields() -> None:
    assert view_fields.after([{"$replaceWith": {"$first": "$many"}}], list(reflection.sampled([ROW]))) == []


@pytest.mark.parametrize("number", [number for number, name in enumerate(PIPELINES) if name != "counted"])
def test_an_empty_view_answers(rows: str, number: int) -> None:
    pipeline = list(PIPELINES.values())[number]
    with mongopipe.connect(rows) as connection, connection.cursor() as cursor:
        for field in view_fields.after(pipeline, list(reflection.sampled([ROW]))):
            column = f'"{field.name}"'
            assert cursor.execute(f"SELECT {column} FROM empty{number} WHERE {column} IS NOT NULL LIMIT 5").fetchall() == []
            if field.type.ordered:
                assert cursor.execute(f"SELECT {column}, COUNT(*) FROM empty{number} GROUP BY {column}").fetchall() == []


def test_a_computed_field_of_unknown_type_is_valid_in_any_expression(rows: str) -> None:
    number = list(PIPELINES).index("chosen")
    with mongopipe.connect(rows) as connection, connection.cursor() as cursor:
        for expression in (
            "SUM(made)",
            "MAX(made) + 1",
            "SUM(CASE WHEN made THEN 1 ELSE 0 END)",
            "MAX(DATE_TRUNC('day', made))",
            "MAX(UPPER(made))",
        ):
            assert cursor.execute(f"SELECT {expression} FROM empty{number} WHERE made > 1 OR made = 'x' OR made IS TRUE").fetchall() == [
                (None,)
            ]
