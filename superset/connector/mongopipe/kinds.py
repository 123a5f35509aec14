"""The types of values: what BSON has, seen as SQL."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Kind(Enum):
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
        return self in (Kind.DATE, Kind.TIMESTAMP)

    @property
    def ordered(self) -> bool:
        """Whether values have an order in SQL, so that <, ORDER BY and MIN mean something."""
        return self not in (Kind.ARRAY, Kind.DOCUMENT, Kind.MIXED)


_NUMBERS = (Kind.INTEGER, Kind.DOUBLE, Kind.DECIMAL)  # each holds what the ones before it hold


def common(kinds: Iterable[Kind]) -> Kind:
    """The kind that holds values of all of `kinds`; MIXED where no other does, NULL where there are none."""
    found = set(kinds) - {Kind.NULL}
    if not found:
        return Kind.NULL
    if len(found) == 1:
        return found.pop()
    if all(kind.numeric for kind in found):
        return max(found, key=_NUMBERS.index)
    if all(kind.temporal for kind in found):
        return Kind.TIMESTAMP
    return Kind.MIXED


BSON_KINDS = {
    "null": Kind.NULL,
    "undefined": Kind.NULL,
    "missing": Kind.NULL,
    "bool": Kind.BOOLEAN,
    "int": Kind.INTEGER,
    "long": Kind.INTEGER,
    "double": Kind.DOUBLE,
    "number": Kind.DOUBLE,
    "decimal": Kind.DECIMAL,
    "string": Kind.STRING,
    "symbol": Kind.STRING,
    "date": Kind.TIMESTAMP,
    "objectId": Kind.OBJECT_ID,
    "binData": Kind.BINARY,
    "array": Kind.ARRAY,
    "object": Kind.DOCUMENT,
}
"""Kinds by the names that $type and $jsonSchema use; every other BSON type is MIXED."""
