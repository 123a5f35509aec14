"""Differential fuzzing: compares mongopipe's answers to random queries with those of DuckDB and SQLite on the same rows.

Run `python tests/fuzz_mongopipe.py --queries 3000 --seed 1`; it prints wrong and unsupported queries, and counts.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
from pipe_data import duck, fill_mongo, lite
from pipe_grammar import Grammar, Query, Use
from pipe_server import server
from pymongo import MongoClient

import mongopipe

DATABASE = f"mongopipe_test_{os.getpid()}"  # concurrent runs on one server use different databases


_DUCK_BUG = "BindBuiltinScalarFunction did not return"  # DuckDB 2.0.0 fails on some constant casts


@dataclass
class Tally:
    """The results of a run."""

    queries: int = 0
    with_rows: int = 0
    both_fail: int = 0
    oracle_fails: int = 0
    checked_by_lite: int = 0
    unsupported: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    use: Use = field(default_factory=Use)


def normal(value: Any) -> Any:
    """Normalises a value, because engines represent equal values differently."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return round(value, 7) + 0.0 if math.isfinite(value) else repr(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day).isoformat()
    if isinstance(value, list):
        return tuple(normal(each) for each in value)
    return value


def sort_key(row: tuple[Any, ...]) -> str:
    return repr([(value is not None, round(value, 3) + 0.0 if isinstance(value, int | float) else value) for value in row])


def close(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)
    return bool(one == other)


def same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    """Returns whether the rows are equal as multisets."""
    if len(one) != len(other):
        return False
    if Counter(map(repr, one)) == Counter(map(repr, other)):
        return True
    pairs = zip(sorted(one, key=sort_key), sorted(other, key=sort_key), strict=True)
    return all(len(a) == len(b) and all(map(close, a, b)) for a, b in pairs)


def in_order(rows: list[tuple[Any, ...]], query: Query) -> bool:
    """Returns whether the rows are in the order of the query's ORDER BY."""

    def compare(one: tuple[Any, ...], other: tuple[Any, ...]) -> int:
        for place, descending, nulls_first in query.keys:
            a, b = one[place], other[place]
            if a == b:
                continue
            if a is None or b is None:
                return -1 if (a is None) is nulls_first else 1
            return -1 if (a < b) is not descending else 1
        return 0

    return all(compare(a, b) <= 0 for a, b in itertools.pairwise(rows))


def _answer(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(normal(value) for value in row) for row in connection.execute(sql).fetchall()]


class Bench:
    """The three engines with their rows."""

    def __init__(self, url: str, seed: int) -> None:
        with MongoClient(url) as client:
            fill_mongo(client[DATABASE], seed)
        self.pipe = mongopipe.connect(f"{url}/{DATABASE}", sample_size=10_000)
        self.pipe.reflection.forget()
        self.duck = duck(seed)
        self.lite = lite(seed)

    def check(self, query: Query, tally: Tally) -> None:
        """Runs the query on all engines and records differences."""
        tally.queries += 1
        try:
            expected: list[tuple[Any, ...]] | Exception = _answer(self.duck, query.node.duck)
        except duckdb.Error as error:
            expected = error
        try:
            found = [tuple(normal(value) for value in row) for row in self.pipe.cursor().execute(query.node.pipe).fetchall()]
        except mongopipe.NotSupportedError as error:
            tally.unsupported[str(error)[:100]] += 1
            return
        except mongopipe.DataError as error:
            if isinstance(expected, Exception):
                tally.both_fail += 1
            else:
                tally.wrong.append(f"{query.node.pipe}\n  error {error}")
            return
        except Exception as error:
            tally.wrong.append(f"{query.node.pipe}\n  {type(error).__name__} {str(error)[:600]}")
            return
        if isinstance(expected, Exception) and _DUCK_BUG in str(expected):
            tally.oracle_fails += 1
            return
        if isinstance(expected, Exception):
            tally.wrong.append(f"{query.node.pipe}\n  DuckDB: {str(expected)[:300]}")
            return
        tally.with_rows += bool(found)
        if not same(found, expected):
            tally.wrong.append(f"{query.node.pipe}\n{differences(found, expected)}")
        elif not in_order(found, query):
            tally.wrong.append(f"{query.node.pipe}\n  not in order: {found[:20]}")
        elif query.node.lite is not None:
            self._check_lite(query, found, tally)

    def _check_lite(self, query: Query, found: list[tuple[Any, ...]], tally: Tally) -> None:
        try:
            expected = _answer(self.lite, query.node.lite or "")
        except sqlite3.Error as error:
            tally.wrong.append(f"{query.node.lite}\n  SQLite: {error}")
            return
        tally.checked_by_lite += 1
        if not same(found, expected):
            tally.wrong.append(f"{query.node.lite}\n  SQLite differs:\n{differences(found, expected)}")


def differences(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> str:
    """Renders some rows that only one side has."""
    one, other = Counter(map(repr, found)), Counter(map(repr, expected))
    return "\n".join(
        [
            f"  {len(found)} rows, {len(expected)} expected",
            *(f"  only here:  {row}" for row in list(one - other)[:4]),
            *(f"  only there: {row}" for row in list(other - one)[:4]),
        ]
    )


def queries(seed: int, count: int, use: Use) -> Iterator[Query]:
    """Yields random queries. The same seed yields the same queries."""
    for number in range(count):
        yield Grammar(seed * 1_000_003 + number, use).query()


def run(url: str, seed: int, count: int, *, rows_seed: int = 7, until_wrong: bool = False) -> Tally:
    """Checks `count` queries. With `until_wrong`, stops at the first wrong one."""
    tally = Tally()
    bench = Bench(url, rows_seed)
    for query in queries(seed, count, tally.use):
        bench.check(query, tally)
        if until_wrong and tally.wrong:
            break
    return tally


def report(tally: Tally) -> str:
    """Renders the counts as text."""
    rare = sorted((count, tag) for tag, count in tally.use.constructs.items())[:12]
    thin = sum(1 for count in tally.use.pairs.values() if count < 5)
    return "\n".join(
        [
            f"{tally.queries} queries, {len(tally.wrong)} wrong, {sum(tally.unsupported.values())} unsupported,"
            f" {tally.with_rows} with rows, {tally.both_fail} rejected by all engines, {tally.oracle_fails} failed in DuckDB,"
            f" {tally.checked_by_lite} also compared with SQLite",
            f"{len(tally.use.constructs)} constructs, the rarest {rare}",
            f"{len(tally.use.pairs)} pairs of neighbours, {thin} of them occur fewer than 5 times",
            *(f"unsupported {count}: {name}" for name, count in tally.unsupported.most_common()),
        ]
    )


def failures(tally: Tally) -> list[str]:
    """Returns the failures of a run.

    Failures are wrong answers, at least 1 unsupported query in 100, too few answers with rows, and too rare constructs or pairs of
    neighbours. A run of fewer than 3,000 queries must have each construct once and need not have each pair.
    """
    rarest, thinnest = min(tally.use.constructs.values()), min(tally.use.pairs.values())
    found = list(tally.wrong)
    found += ["too many queries are unsupported"] * (sum(tally.unsupported.values()) >= tally.queries / 100)
    found += ["too few answers have rows"] * (tally.with_rows < 0.7 * tally.queries)
    found += [f"the rarest construct occurs {rarest} times only"] * (rarest < (tally.queries // 60 if tally.queries >= 3000 else 1))
    found += [f"the rarest pair of neighbours occurs {thinnest} times only"] * (
        thinnest < (tally.queries // 600 if tally.queries >= 3000 else 0)
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows-seed", type=int, default=7)
    parser.add_argument("--show", type=int, default=10)
    parser.add_argument("--until-wrong", action="store_true")
    given = parser.parse_args()
    with server() as url:
        try:
            tally = run(url, given.seed, given.queries, rows_seed=given.rows_seed, until_wrong=given.until_wrong)
        finally:
            with MongoClient(url) as client:
                client.drop_database(DATABASE)
    for each in tally.wrong[: given.show]:
        print(each, end="\n\n")
    print(report(tally))
    if found := failures(tally)[len(tally.wrong) :]:
        print("\n".join(found))
    return 1 if tally.wrong or (found and not given.until_wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
