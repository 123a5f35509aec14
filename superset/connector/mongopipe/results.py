"""Converts values of documents to the Python values that a cursor returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from bson import Decimal128, ObjectId
from bson.datetime_ms import DatetimeMS

from mongopipe.sql_types import SqlType

Converter = Callable[[Any], Any]


def plain(value: Any) -> Any:
    """Converts a value by its own type: object ids and UUIDs to text, decimals to Decimal, arrays and documents recursively."""
    match value:
        case Decimal128():
            return value.to_decimal()
        case ObjectId() | UUID():
            return str(value)
        case list():
            return [plain(each) for each in value]
        case Mapping():
            return {name: plain(each) for name, each in value.items()}
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).replace(tzinfo=None)
        case None | bool() | int() | float() | str() | bytes() | datetime():
            return value
    return str(value)


def _integer(value: Any) -> Any:
    """Converts integers that arithmetic returned as doubles back to integers."""
    value = plain(value)
    return int(value) if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value) else value


def _double(value: Any) -> Any:
    value = plain(value)
    return float(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else value


def _decimal(value: Any) -> Any:
    value = plain(value)
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _date(value: Any) -> date | Any:
    value = plain(value)
    return value.date() if isinstance(value, datetime) else value


def _moment(value: Any) -> Any:
    """Dates outside the range of Python's datetime become text."""
    return f"{int(value)} ms" if isinstance(value, DatetimeMS) else plain(value)


_CONVERTERS: dict[SqlType, Converter] = {
    SqlType.INTEGER: _integer,
    SqlType.DOUBLE: _double,
    SqlType.DECIMAL: _decimal,
    SqlType.DATE: _date,
    SqlType.TIMESTAMP: _moment,
}


def converter(sql_type: SqlType) -> Converter:
    """Returns the function that converts values of a column of that type to Python values. Null becomes None."""
    return _CONVERTERS.get(sql_type, plain)
