"""mongopipe's dialect for SQLAlchemy's test suite. It executes the suite's CREATE, INSERT, DELETE and DROP with pymongo.

mongopipe is read-only, but the suite creates its own tables. This dialect executes such statements outside the DB-API.
"""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from bson import Decimal128
from sqlalchemy import types
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable

from mongopipe.dialect import MongopipeDialect

_BSON = (
    (types.Boolean, ["bool"]),
    (types.Integer, ["int", "long"]),
    (types.Float, ["double", "int", "long"]),
    (types.Numeric, ["decimal"]),
    (types.DateTime, ["date"]),
    (types.Date, ["date"]),
    (types.String, ["string"]),
)


def _schema(table: Any) -> dict[str, Any]:
    properties = {}
    for column in table.columns:
        found = next((names for kind, names in _BSON if isinstance(column.type, kind)), ["object"])
        properties[column.name] = {"bsonType": [*found, "null"]}
    return {"$jsonSchema": {"properties": properties}}


def _bson(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal128(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


class FixtureDialect(MongopipeDialect):
    """See the module. Rows get an `id` if the table's column is an autoincrement column."""

    driver = "fixture"
    supports_statement_cache = True

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        if not self._made(cursor, context):
            super().do_execute(cursor, statement, parameters, context)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        if not self._made(cursor, context):
            super().do_executemany(cursor, statement, parameters, context)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        if not self._made(cursor, context):
            super().do_execute_no_params(cursor, statement, context)

    def _made(self, cursor: Any, context: Any) -> bool:
        """Executes the statement if it writes. Returns whether it did."""
        if context is None or context.compiled is None or not (context.isddl or context.isinsert or context.isdelete):
            return False
        database = cursor.connection.database
        statement = context.compiled.statement
        if isinstance(statement, CreateTable):
            database.drop_collection(statement.element.name)
            database.create_collection(statement.element.name, validator=_schema(statement.element), validationAction="warn")
        elif isinstance(statement, DropTable):
            database.drop_collection(statement.element.name)
        elif isinstance(statement, CreateIndex):
            database[statement.element.table.name].create_index([column.name for column in statement.element.columns])
        elif context.isdelete:
            database[statement.table.name].delete_many({})
        elif context.isinsert:
            self._insert(database[statement.table.name], statement.table, context.compiled_parameters)
        cursor.connection.reflection.forget()
        return True

    def _insert(self, collection: Any, table: Any, rows: list[dict[str, Any]]) -> None:
        names = {column.key: column.name for column in table.columns}
        for number, row in enumerate(rows, collection.count_documents({}) + 1):
            document = {names[key]: _bson(value) for key, value in row.items() if key in names}
            key = table._autoincrement_column
            if key is not None and document.get(key.name) is None:
                document[key.name] = number
            collection.insert_one(document)
