"""Compares mongopipe's answers with DuckDB's: statements of Superset, regressions that fuzzing found, and random queries."""

from __future__ import annotations

import importlib
import os
import re

import pytest
from fuzz_mongopipe import DATABASE, Bench, differences, failures, normal, report, run, same
from pipe_fixtures import cases

pytestmark = pytest.mark.server

QUERIES = int(os.environ.get("MONGOPIPE_FUZZ", "500"))


def _for_duck(sql: str) -> str:
    """Converts the statement to DuckDB's SQL."""
    sql = sql.replace("DATE_BIN(", "TIME_BUCKET(")
    return re.sub(r"THEN small ELSE", "THEN CAST(small AS VARCHAR) ELSE", sql)


def _without_limit(sql: str) -> str:
    """Removes a final LIMIT, whose rows the order does not determine."""
    return re.sub(r"LIMIT \d+( OFFSET \d+)?$", "", sql.strip())


@pytest.mark.parametrize("name", ["superset.sql", "answers.sql"])
def test_statements(bench: Bench, name: str) -> None:
    for case in cases(name):
        sql = _without_limit(case.sql)
        found = [tuple(map(normal, row)) for row in bench.pipe.cursor().execute(sql).fetchall()]
        expected = [tuple(map(normal, row)) for row in bench.duck.execute(_for_duck(sql)).fetchall()]
        assert same(found, expected), f"{sql}\n{differences(found, expected)}"
        bench.pipe.cursor().execute(case.sql).fetchall()


def test_random_queries(server_url: str, bench: Bench) -> None:
    """No answer is wrong, fewer than 1 query in 100 is unsupported, every construct occurs. `make fuzz` runs more queries."""
    tally = run(server_url, 1, QUERIES)
    print(report(tally))
    assert not (found := failures(tally)), "\n\n".join(found[:5])


def test_answers_do_not_depend_on_the_optimiser(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = [case.sql for name in ("superset.sql", "answers.sql") for case in cases(name)]
    statements = [_without_limit(sql) for sql in statements]
    before = [bench.pipe.cursor().execute(sql).fetchall() for sql in statements]
    monkeypatch.setattr(importlib.import_module("mongopipe.translate.optimise"), "RULES", ())
    for sql, rows in zip(statements, before, strict=True):
        after = bench.pipe.cursor().execute(sql).fetchall()
        assert same([tuple(map(normal, row)) for row in rows], [tuple(map(normal, row)) for row in after]), sql


def test_a_collation_does_not_affect_answers(server_url: str, mongo: object) -> None:
    """Strings compare by code point in a collection with a case-insensitive collation."""
    import mongopipe

    database = mongo[DATABASE]  # type: ignore[index]
    database.drop_collection("collated")
    database.create_collection("collated", collation={"locale": "en", "strength": 2})
    database["collated"].insert_many([{"x": "a"}, {"x": "A"}, {"x": "b"}])
    with mongopipe.connect(f"{server_url}/{DATABASE}") as connection:
        connection.reflection.forget()
        cursor = connection.cursor()
        assert cursor.execute("SELECT COUNT(*) FROM collated WHERE x = 'a'").fetchall() == [(1,)]
        assert cursor.execute("SELECT x FROM collated ORDER BY x").fetchall() == [("A",), ("a",), ("b",)]
        assert cursor.execute("SELECT COUNT(DISTINCT x) FROM collated").fetchall() == [(3,)]
