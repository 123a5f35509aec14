"""The types of values: what BSON has, seen as SQL."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class SqlType(Enum):
    """A type of values. The value is its SQL name, as cursors and reflection show it."""

    NULL = "NULL"
    BOOLEAN = "BOOLEAN"
    INTEGER = "BIGINT"
    DOUBLE = "DOUBLE"
    DECIMAL = "DECIMAL"
    STRING = "VARCHAR"
    DATE = "DATE"
    TIMESTAMP = "TIMESTAMP"
    OBJECT_ID = "OBJECTID"
    BINARY = "BINARY"
    ARRAY = "ARRAY"
    DOCUMENT = "DOCUMENT"
    MIXED = "MIXED"

    @property
    def numeric(self) -> bool:
        return self in _NUMBERS

    @property
    def temporal(self) -> bool:
        return self in (SqlType.DATE, SqlType.TIMESTAMP)

    @property
    def ordered(self) -> bool:
        """Whether values have an order in SQL, so that <, ORDER BY and MIN mean something."""
        return self not in (SqlType.ARRAY, SqlType.DOCUMENT, SqlType.MIXED)


_NUMBERS = (SqlType.INTEGER, SqlType.DOUBLE, SqlType.DECIMAL)  # each holds what the ones before it hold


def common_type(types: Iterable[SqlType]) -> SqlType:
    """The sql_type that holds values of all of `types`; MIXED where no other does, NULL where there are none."""
    found = set(types) - {SqlType.NULL}
    if not found:
        return SqlType.NULL
    if len(found) == 1:
        return found.pop()
    if all(sql_type.numeric for sql_type in found):
        return max(found, key=_NUMBERS.index)
    if all(sql_type.temporal for sql_type in found):
        return SqlType.TIMESTAMP
    return SqlType.MIXED


BSON_TYPES = {
    "null": SqlType.NULL,
    "undefined": SqlType.NULL,
    "missing": SqlType.NULL,
    "bool": SqlType.BOOLEAN,
    "int": SqlType.INTEGER,
    "long": SqlType.INTEGER,
    "double": SqlType.DOUBLE,
    "number": SqlType.DOUBLE,
    "decimal": SqlType.DECIMAL,
    "string": SqlType.STRING,
    "symbol": SqlType.STRING,
    "date": SqlType.TIMESTAMP,
    "objectId": SqlType.OBJECT_ID,
    "binData": SqlType.BINARY,
    "array": SqlType.ARRAY,
    "object": SqlType.DOCUMENT,
}
"""Kinds by the names that $type and $jsonSchema use; every other BSON type is MIXED."""
