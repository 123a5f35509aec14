"""PEP 249's type objects and constructors."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from mongopipe.sql_types import SqlType

Date = date
Time = time
Timestamp = datetime
Binary = bytes


def DateFromTicks(ticks: float) -> date:
    """Converts seconds since 1970 to a date in UTC."""
    return datetime.fromtimestamp(ticks, UTC).date()


def TimeFromTicks(ticks: float) -> time:
    """Converts seconds since 1970 to a time of day in UTC."""
    return datetime.fromtimestamp(ticks, UTC).time()


def TimestampFromTicks(ticks: float) -> datetime:
    """Converts seconds since 1970 to a timestamp in UTC."""
    return datetime.fromtimestamp(ticks, UTC)


class TypeObject:
    """A type object. It equals the type codes in a cursor's description that it stands for."""

    def __init__(self, *types: SqlType) -> None:
        self._codes = frozenset(sql_type.value for sql_type in types)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TypeObject):
            return self._codes == other._codes
        return other in self._codes

    def __hash__(self) -> int:
        return hash(self._codes)


STRING = TypeObject(SqlType.STRING)
BINARY = TypeObject(SqlType.BINARY)
NUMBER = TypeObject(SqlType.INTEGER, SqlType.DOUBLE, SqlType.DECIMAL, SqlType.BOOLEAN)
DATETIME = TypeObject(SqlType.DATE, SqlType.TIMESTAMP)
ROWID = TypeObject(SqlType.OBJECT_ID)
