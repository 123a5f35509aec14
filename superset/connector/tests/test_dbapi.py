"""The DB-API: the requirements of PEP 249 for the module, connections and cursors, and mongopipe's own guarantees."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from bson import Binary, Decimal128, ObjectId
from fuzz_mongopipe import DATABASE
from pymongo import MongoClient
from pymongo.monitoring import CommandListener

import mongopipe
from mongopipe.sql_types import SqlType

pytestmark = pytest.mark.server


@pytest.fixture
def cursor(connection: mongopipe.Connection) -> Iterator[mongopipe.Cursor]:
    with connection.cursor() as found:
        yield found


def test_module() -> None:
    assert (mongopipe.apilevel, mongopipe.threadsafety, mongopipe.paramstyle) == ("2.0", 2, "named")
    assert mongopipe.Date(2024, 1, 2) == date(2024, 1, 2)
    assert mongopipe.Binary(b"x") == b"x"
    assert mongopipe.TimestampFromTicks(0).year == 1970
    assert mongopipe.STRING == "VARCHAR"
    assert mongopipe.NUMBER == "DOUBLE"
    assert mongopipe.NUMBER != mongopipe.STRING


def test_exceptions_form_the_hierarchy_of_pep_249() -> None:
    assert issubclass(mongopipe.Warning, Exception)
    assert issubclass(mongopipe.InterfaceError, mongopipe.Error)
    for name in ("DataError", "OperationalError", "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError"):
        assert issubclass(getattr(mongopipe, name), mongopipe.DatabaseError)
        assert getattr(mongopipe.Connection, name) is getattr(mongopipe, name)


def test_description(cursor: mongopipe.Cursor) -> None:
    assert cursor.description is None
    cursor.execute('SELECT _id, price AS "a.b", title, seen, CAST(seen AS DATE) AS d, flag, cost, tags FROM item LIMIT 1')
    assert cursor.description is not None
    assert [each[:2] for each in cursor.description] == [
        ("_id", "BIGINT"),
        ("a.b", "DOUBLE"),
        ("title", "VARCHAR"),
        ("seen", "TIMESTAMP"),
        ("d", "DATE"),
        ("flag", "BOOLEAN"),
        ("cost", "DECIMAL"),
        ("tags", "ARRAY"),
    ]
    assert all(len(each) == 7 for each in cursor.description)
    assert cursor.rowcount == -1


def test_fetching(cursor: mongopipe.Cursor) -> None:
    cursor.execute("SELECT _id FROM item ORDER BY _id")
    assert cursor.fetchone() == (1,)
    assert cursor.fetchmany() == [(2,)]
    cursor.arraysize = 3
    assert cursor.fetchmany() == [(3,), (4,), (5,)]
    assert cursor.fetchmany(2) == [(6,), (7,)]
    assert next(iter(cursor)) == (8,)
    assert len(cursor.fetchall()) == 112
    assert cursor.fetchone() is None
    assert cursor.fetchmany(5) == []
    assert cursor.fetchall() == []


def test_a_cursor_runs_one_query_after_another(cursor: mongopipe.Cursor) -> None:
    assert cursor.execute("SELECT _id FROM item ORDER BY _id").fetchone() == (1,)
    assert cursor.execute("SELECT COUNT(*) FROM item").fetchall() == [(120,)]


def test_before_execute_and_after_close(connection: mongopipe.Connection) -> None:
    cursor = connection.cursor()
    with pytest.raises(mongopipe.ProgrammingError):
        cursor.fetchone()
    cursor.close()
    for use in (cursor.fetchone, cursor.fetchall, lambda: cursor.execute("SELECT 1")):
        with pytest.raises(mongopipe.InterfaceError):
            use()
    cursor.close()
    connection.close()
    connection.close()
    with pytest.raises(mongopipe.InterfaceError):
        connection.cursor()


def test_commit_and_rollback_do_nothing(connection: mongopipe.Connection) -> None:
    connection.commit()
    connection.rollback()


def test_parameters(cursor: mongopipe.Cursor) -> None:
    sql = "SELECT :text AS t, :whole AS w, :real AS r, :flag AS f, :moment AS m, :day AS d, :nothing AS n, :decimal AS c"
    moment = datetime(2024, 1, 2, 3, 4, 5, 678000)
    values = {"text": "it's :whole $x", "whole": 2**40, "real": 0.5, "flag": True, "moment": moment, "day": date(2024, 1, 2)}
    row = cursor.execute(sql, {**values, "nothing": None, "decimal": Decimal("1.10")}).fetchone()
    assert row == (*values.values(), None, Decimal("1.10"))
    assert cursor.execute("SELECT _id FROM item WHERE _id IN (:a, :b) ORDER BY 1 LIMIT :n", {"a": 3, "b": 4, "n": 1}).fetchall() == [(3,)]
    with pytest.raises(mongopipe.ProgrammingError, match=":b"):
        cursor.execute("SELECT :b", {"a": 1})
    with pytest.raises(mongopipe.ProgrammingError):
        cursor.execute("SELECT 1", [1])  # type: ignore[arg-type]


def test_statements_that_write_are_rejected(cursor: mongopipe.Cursor, mongo: MongoClient[Any]) -> None:
    for sql in (
        "INSERT INTO item VALUES (1)",
        "DELETE FROM item",
        "UPDATE item SET small = 1",
        "DROP TABLE item",
        "CREATE TABLE x (a INT)",
    ):
        with pytest.raises(mongopipe.NotSupportedError):
            cursor.execute(sql)
    with pytest.raises(mongopipe.NotSupportedError):
        cursor.executemany("INSERT INTO item VALUES (:a)", [{"a": 1}])
    assert mongo[DATABASE]["item"].count_documents({}) == 120


def test_values_of_all_types(server_url: str, mongo: MongoClient[Any]) -> None:
    identity = ObjectId("65a000000000000000000000")
    document = {
        "_id": identity,
        "whole": 2**40,
        "real": 0.5,
        "exact": Decimal128("1.10"),
        "moment": datetime(2024, 1, 2, 3, 4, 5),
        "raw": Binary(b"\x00\x01"),
        "list": [1, identity, {"a": Decimal128("2")}],
        "deep": {"er": {"x": 1}},
    }
    mongo[DATABASE].drop_collection("types")
    mongo[DATABASE]["types"].insert_many([document, {"_id": ObjectId(), "whole": None, "mixed": 1}, {"_id": ObjectId(), "mixed": "x"}])
    with mongopipe.connect(f"{server_url}/{DATABASE}") as connection:
        connection.reflection.forget()
        sql = 'SELECT _id, whole, "real", exact, moment, raw, list, deep.er.x, mixed FROM types WHERE _id = :i'
        row = connection.cursor().execute(sql, {"i": str(identity)}).fetchone()
        assert row == (
            str(identity),
            2**40,
            0.5,
            Decimal("1.10"),
            document["moment"],
            b"\x00\x01",
            [1, str(identity), {"a": Decimal(2)}],
            1,
            None,
        )
        assert connection.cursor().execute("SELECT COUNT(*) FROM types WHERE mixed = 1").fetchone() == (1,)
        with pytest.raises(mongopipe.NotSupportedError, match="several types"):
            connection.cursor().execute("SELECT COUNT(*) FROM types WHERE mixed > 1")
        with pytest.raises(mongopipe.DataError):
            connection.cursor().execute("SELECT * FROM types WHERE _id = 'no object id'")


class _Commands(CommandListener):
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        self.sent.append({"name": event.command_name, **event.command})

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


@pytest.fixture
def listened(server_url: str, bench: Any) -> tuple[mongopipe.Connection, list[dict[str, Any]]]:
    """A connection, and the commands that its client sends."""
    commands = _Commands()
    url = f"{server_url}/{DATABASE}"
    return mongopipe.connect(url, batch_size=10, max_time_ms=5000, client_options={"event_listeners": [commands]}), commands.sent


def test_rows_are_fetched_on_demand(listened: tuple[mongopipe.Connection, list[dict[str, Any]]]) -> None:
    connection, sent = listened
    cursor = connection.cursor().execute("SELECT _id FROM item ORDER BY _id")
    cursor.fetchmany(25)
    assert [each["name"] for each in sent if each["name"] in ("aggregate", "getMore")][-3:] == ["aggregate", "getMore", "getMore"]
    cursor.close()
    assert sent[-1]["name"] in ("killCursors", "endSessions")


def test_queries_use_snapshots_and_a_time_limit(listened: tuple[mongopipe.Connection, list[dict[str, Any]]]) -> None:
    connection, sent = listened
    connection.cursor().execute("SELECT COUNT(*) FROM item").fetchall()
    command = next(each for each in reversed(sent) if each["name"] == "aggregate")
    assert command["readConcern"]["level"] == "snapshot"
    assert command["maxTimeMS"] == 5000
    assert command["allowDiskUse"] is True
    assert command["collation"] == {"locale": "simple"}


def test_snapshots_can_be_switched_off(server_url: str) -> None:
    commands = _Commands()
    url = f"{server_url}/{DATABASE}?snapshot=false"
    mongopipe.connect(url, client_options={"event_listeners": [commands]}).cursor().execute("SELECT 1").fetchall()
    assert all("readConcern" not in each for each in commands.sent)


def test_all_rows_of_an_answer_are_from_one_snapshot(server_url: str, mongo: MongoClient[Any]) -> None:
    collection = mongo[DATABASE]["moments"]
    collection.drop()
    collection.insert_many([{"_id": number, "x": 0} for number in range(100)])
    with mongopipe.connect(f"{server_url}/{DATABASE}", batch_size=5) as connection:
        cursor = connection.cursor().execute("SELECT x FROM moments")
        first = cursor.fetchmany(3)
        collection.update_many({}, {"$set": {"x": 1}})
        assert {*first, *cursor.fetchall()} == {(0,)}


SLOW = "SELECT COUNT(*) FROM item a, item b, item c, item d WHERE LENGTH(a.title || b.title || c.title || d.title) > 3"


def test_a_query_is_cancelled_from_another_thread(connection: mongopipe.Connection) -> None:
    cursor = connection.cursor()
    timer = threading.Timer(0.5, cursor.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(mongopipe.QueryCancelled):
        cursor.execute(SLOW).fetchall()
    assert time.monotonic() - started < 20


def test_a_query_is_cancelled_by_its_id(connection: mongopipe.Connection, server_url: str) -> None:
    cursor = connection.cursor()
    identity = cursor.query_id
    other = mongopipe.connect(f"{server_url}/{DATABASE}")
    timer = threading.Timer(0.5, other.cancel, [identity])
    timer.start()
    with pytest.raises(mongopipe.QueryCancelled):
        cursor.execute(SLOW).fetchall()


def test_max_time_cancels_a_query(server_url: str, bench: Any) -> None:
    with mongopipe.connect(f"{server_url}/{DATABASE}?max_time_ms=300") as connection, pytest.raises(mongopipe.QueryCancelled):
        connection.cursor().execute(SLOW).fetchall()


def test_urls() -> None:
    for url in ("http://host/db", "mongodb://host", "mongodb://host/", "mongodb://host/db?batch_size=many", "mongodb://host:port/db"):
        with pytest.raises(mongopipe.InterfaceError):
            mongopipe.connect(url)
    with pytest.raises(mongopipe.InterfaceError):
        mongopipe.connect("mongodb://host/db", nonsense=1)


def test_an_unreachable_server_is_an_operational_error() -> None:
    connection = mongopipe.connect("mongodb://127.0.0.1:9/db?serverSelectionTimeoutMS=200")
    with pytest.raises(mongopipe.OperationalError):
        connection.cursor().execute("SELECT 1")


def test_errors_of_the_server_are_data_errors(cursor: mongopipe.Cursor) -> None:
    with pytest.raises(mongopipe.DataError):
        cursor.execute("SELECT CAST(title AS BIGINT) FROM item").fetchall()


def test_explain_and_estimate(cursor: mongopipe.Cursor) -> None:
    text = "\n".join(line for (line,) in cursor.execute("EXPLAIN SELECT _id FROM item WHERE price = 3").fetchall())
    assert '"$match"' in text
    assert "price_1" in text
    assert cursor.estimate("SELECT COUNT(*) FROM item WHERE price = 3")["Indexes"] == "price_1"
    assert cursor.estimate("SELECT COUNT(*) FROM item")["Documents in collection"] == 120


def test_reading_all_documents_finds_rare_types(server_url: str, mongo: MongoClient[dict[str, object]]) -> None:
    rare = mongo[DATABASE].rare
    rare.drop()
    rare.insert_many([{"_id": number, "x": number} for number in range(20_000)])
    rare.insert_one({"_id": -1, "x": "text", "y": 1})
    try:
        with mongopipe.connect(f"{server_url}/{DATABASE}", sample_size=10, schema_seconds=0) as some:
            assert [each.name for each in some.reflection.table("rare").fields] == ["_id", "x"]
        with mongopipe.connect(f"{server_url}/{DATABASE}", sample_size=0, schema_seconds=0) as all_of_them:
            found = {each.name: each.type for each in all_of_them.reflection.table("rare").fields}
            assert found == {"_id": SqlType.INTEGER, "x": SqlType.MIXED, "y": SqlType.INTEGER}
            with pytest.raises(mongopipe.ProgrammingError, match="SUM needs a number, not MIXED"):
                all_of_them.cursor().execute("SELECT SUM(x) FROM rare")
    finally:
        rare.drop()
