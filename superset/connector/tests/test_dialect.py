"""The SQLAlchemy dialect: URLs, reflection, and statements that SQLAlchemy renders. Runs with SQLAlchemy 1.4, 2.0 and 2.1."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from fuzz_mongopipe import DATABASE, Bench
from sqlalchemy.engine import make_url

from mongopipe.dialect import MongopipeDialect, MongopipeSrvDialect

pytestmark = pytest.mark.server


@pytest.fixture
def engine(server_url: str, bench: Bench) -> Iterator[sa.engine.Engine]:
    found = sa.create_engine(server_url.replace("mongodb://", "mongopipe://") + f"/{DATABASE}")
    yield found
    found.dispose()


@pytest.fixture
def item(engine: sa.engine.Engine) -> sa.Table:
    return sa.Table("item", sa.MetaData(), autoload_with=engine)


@pytest.mark.parametrize(
    ("dialect", "url", "expected"),
    [
        (MongopipeDialect, "mongopipe://host:1/db", "mongodb://host:1/db"),
        (
            MongopipeDialect,
            "mongopipe://u%40x:p%2Fw@host/db?authSource=admin&tls=true",
            "mongodb://u%40x:p%2Fw@host/db?authSource=admin&tls=true",
        ),
        (MongopipeDialect, "mongopipe://a:1/db?host=b:2&host=c:3&replicaSet=r", "mongodb://a:1,b:2,c:3/db?replicaSet=r"),
        (MongopipeSrvDialect, "mongopipe+srv://u:p@cluster.example.com/db", "mongodb+srv://u:p@cluster.example.com/db"),
    ],
)
def test_urls(dialect: type[MongopipeDialect], url: str, expected: str) -> None:
    assert dialect().create_connect_args(make_url(url)) == ([expected], {})


def test_both_schemes_are_registered() -> None:
    assert make_url("mongopipe://host/db").get_dialect() is MongopipeDialect
    assert make_url("mongopipe+srv://host/db").get_dialect() is MongopipeSrvDialect


def test_engines_raise_no_deprecation_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scheme in ("mongopipe", "mongopipe+srv"):
            sa.create_engine(f"{scheme}://host/db")


def test_reflection(engine: sa.engine.Engine) -> None:
    found = sa.inspect(engine)
    assert found.default_schema_name == DATABASE
    assert found.get_schema_names() == [DATABASE]
    assert {"group", "item"} <= set(found.get_table_names())
    assert found.get_view_names() == ["item_view"]
    assert found.get_table_names(schema="other") == []
    assert [(each["name"], str(each["type"])) for each in found.get_columns("item")][:4] == [
        ("_id", "BIGINT"),
        ("small", "BIGINT"),
        ("Group Id", "BIGINT"),
        ("price", "DOUBLE"),
    ]
    assert found.get_pk_constraint("item")["constrained_columns"] == ["_id"]
    assert found.get_indexes("item") == [{"name": "price_1", "column_names": ["price"], "unique": False}]
    assert found.get_indexes("item_view") == []
    assert found.get_foreign_keys("item") == []
    assert found.get_table_comment("item") == {"text": None}
    assert '"viewOn": "item"' in found.get_view_definition("item_view")
    assert found.has_table("item")
    assert not found.has_table("nothing")
    with pytest.raises(sa.exc.NoSuchTableError):
        sa.Table("nothing", sa.MetaData(), autoload_with=engine)


def test_a_statement_with_many_clauses(engine: sa.engine.Engine, item: sa.Table) -> None:
    columns = item.c
    statement = (
        sa.select(columns["Group Id"], sa.func.count().label("n"), sa.func.sum(columns.price / 2).label("half"))
        .where(columns.title.ilike("%A%"), columns.code.in_(["B07", "Z", "B08-1"]), columns.small.notin_([]), columns.price.isnot(None))
        .group_by(columns["Group Id"])
        .having(sa.func.count() > 0)
        .order_by(sa.desc("n"), columns["Group Id"])
        .limit(3)
        .offset(1)
    )
    with engine.connect() as connection:
        rows = connection.execute(statement).fetchall()
        where = "title ILIKE '%a%' AND code IN ('B07', 'Z', 'B08-1') AND price IS NOT NULL"
        text = f'SELECT COUNT(*) FROM item WHERE {where} GROUP BY "Group Id"'
        assert len(rows) == min(3, len(connection.execute(sa.text(text)).fetchall()) - 1)


def test_expressions(engine: sa.engine.Engine, item: sa.Table) -> None:
    columns = item.c
    with engine.connect() as connection:
        one = connection.execute(
            sa.select(
                sa.case((columns._id > 0, "y"), else_="n"),
                sa.cast(columns._id, sa.String),
                sa.literal("x") + "y",
                columns._id / 2,
                sa.extract("year", sa.literal_column("TIMESTAMP '2024-05-01 00:00:00'")),
                columns._id.is_distinct_from(None),
                sa.func.coalesce(sa.null(), 7),
                sa.true(),
            ).where(columns._id == 3)
        ).one()
        assert tuple(one) == ("y", "3", "xy", 1.5, 2024, True, 7, True)


def test_subqueries_and_unions(engine: sa.engine.Engine, item: sa.Table) -> None:
    inner = sa.select(item.c.code).where(item.c.code.isnot(None)).distinct().subquery()
    union = sa.union(sa.select(item.c._id).where(item.c._id < 3), sa.select(item.c._id).where(item.c._id < 5))
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(inner)).scalar() == 6
        assert len(connection.execute(union).fetchall()) == 4
        assert (
            connection.execute(
                sa.select(sa.func.count()).select_from(item).where(item.c._id.in_(sa.select(union.subquery().c._id)))
            ).scalar()
            == 4
        )


def test_values(engine: sa.engine.Engine, item: sa.Table) -> None:
    with engine.connect() as connection:
        row = connection.execute(sa.select(item.c.tags, item.c.cost, item.c.seen).where(item.c.tags.isnot(None)).limit(1)).one()
        assert isinstance(row[0], list)


def test_statements_that_write_are_rejected(engine: sa.engine.Engine, item: sa.Table) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.NotSupportedError):
        connection.execute(item.insert().values(_id=1))
    with engine.connect() as connection, pytest.raises(sa.exc.NotSupportedError):
        connection.execute(item.delete())


def test_errors_are_wrapped_by_sqlalchemy(engine: sa.engine.Engine) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError):
        connection.execute(sa.text("SELECT nothing FROM item"))
    with engine.connect() as connection, pytest.raises(sa.exc.DataError):
        connection.execute(sa.text("SELECT CAST(title AS BIGINT) FROM item")).fetchall()


def test_streaming_and_ping(engine: sa.engine.Engine, item: sa.Table) -> None:
    pinging = sa.create_engine(engine.url, pool_pre_ping=True)
    for _ in range(2):
        with pinging.connect() as connection:
            result = connection.execution_options(stream_results=True).execute(sa.select(item.c._id).order_by(item.c._id))
            assert result.fetchmany(2) == [(1,), (2,)]
            result.close()
    pinging.dispose()
