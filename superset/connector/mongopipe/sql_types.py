"""SQL's types for BSON values."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class SqlType(Enum):
    """The type of a value. The enum's value is the SQL name that cursors and reflection return."""

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
        """Whether the type has an order in SQL, which <, ORDER BY and MIN need."""
        return self not in (SqlType.ARRAY, SqlType.DOCUMENT, SqlType.MIXED)


_NUMBERS = (SqlType.INTEGER, SqlType.DOUBLE, SqlType.DECIMAL)  # each type holds the values of the types before it


def common_type(types: Iterable[SqlType]) -> SqlType:
    """Returns the type that holds values of all `types`: MIXED if no other type does, NULL if `types` is empty."""
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
"""SQL types by the type names of $type and $jsonSchema. Every other BSON type is MIXED."""
