"""Fixture files, which contain statements with expected outcomes, and a fixed schema for the translation.

A blank line separates cases. A case is a statement that ends in `;`, followed by the expected lines. With MONGOPIPE_UPDATE=1 in the
environment the tests write the actual outcome instead of checking it: review the difference before you commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mongopipe.errors import Error, ProgrammingError
from mongopipe.schema import Field, Table
from mongopipe.sql_types import SqlType

FOLDER = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Case:
    """One statement and its expected outcome."""

    sql: str
    expected: str


def cases(name: str) -> Iterator[Case]:
    """Yields the cases of a fixture file. Lines that start with -- are comments."""
    for block in (FOLDER / name).read_text().strip().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("--")]
        sql, _, expected = "\n".join(lines).partition(";\n")
        if sql:
            yield Case(sql.removesuffix(";"), expected)


def check(name: str, outcome: Callable[[str], str]) -> None:
    """Asserts that `outcome` returns the expected text for every statement of the file. The outcome of an error is its message."""

    def found(sql: str) -> str:
        try:
            return outcome(sql)
        except Error as error:
            return f"{type(error).__name__}: {error}"

    if os.environ.get("MONGOPIPE_UPDATE"):
        comment = [line for line in (FOLDER / name).read_text().splitlines() if line.startswith("--")]
        blocks = [f"{case.sql};\n{found(case.sql)}" for case in cases(name)]
        (FOLDER / name).write_text("\n\n".join([*(["\n".join(comment)] if comment else []), *blocks]) + "\n")
        return
    for case in cases(name):
        assert found(case.sql) == case.expected, case.sql


def _table(name: str, **types: SqlType) -> Table:
    names = {each.replace("__", "."): sql_type for each, sql_type in types.items()}
    return Table(name, tuple(Field(each, tuple(each.split(".")), sql_type, True, SqlType.STRING) for each, sql_type in names.items()))


class Shop:
    """A catalog with the tables `product` and `category`."""

    database = "shop"
    tables: ClassVar = {
        "product": _table(
            "product",
            _id=SqlType.STRING,
            asin=SqlType.STRING,
            title=SqlType.STRING,
            price=SqlType.DOUBLE,
            category_id=SqlType.INTEGER,
            isBestSeller=SqlType.BOOLEAN,
            seen_at=SqlType.TIMESTAMP,
            maker__city=SqlType.STRING,
            tags=SqlType.ARRAY,
        ),
        "category": _table("category", _id=SqlType.INTEGER, category_name=SqlType.STRING),
    }

    def table(self, name: str) -> Table:
        """Returns the table. Raises ProgrammingError if there is none."""
        if name not in self.tables:
            raise ProgrammingError(f"no such table: {name}")
        return self.tables[name]
