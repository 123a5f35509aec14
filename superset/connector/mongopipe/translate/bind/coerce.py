"""Implicit conversions: a constant takes the type of the expression that it is compared with. Other mismatches are errors."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from bson import Decimal128, Int64, ObjectId
from bson.errors import InvalidId

from mongopipe.errors import DataError, NotSupportedError, ProgrammingError
from mongopipe.sql_types import SqlType, common_type
from mongopipe.translate.scalars import NULL, Cast, Literal, Scalar

_WHOLE = re.compile(r"[+-]?\d+")
_TRUTH = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def constant(value: Any) -> Literal:
    """Converts a Python value of a parameter to a constant. Raises NotSupportedError for an unsupported type."""
    match value:
        case None:
            return NULL
        case bool():
            return Literal(value, SqlType.BOOLEAN)
        case int():
            return whole(value)
        case float():
            return Literal(value, SqlType.DOUBLE)
        case Decimal():
            return Literal(Decimal128(value), SqlType.DECIMAL)
        case str():
            return Literal(value, SqlType.STRING)
        case datetime():
            return Literal(utc(value), SqlType.TIMESTAMP)
        case date():
            return Literal(datetime.combine(value, time(), UTC), SqlType.DATE)
        case ObjectId():
            return Literal(value, SqlType.OBJECT_ID)
        case bytes():
            return Literal(value, SqlType.BINARY)
    raise NotSupportedError(f"parameters of type {type(value).__name__} are not supported")


def whole(value: int) -> Literal:
    """Returns an integer constant. Raises DataError if it exceeds 64 bits."""
    if not -(2**63) <= value < 2**63:
        raise DataError(f"{value} exceeds 64 bits")
    return Literal(value if -(2**31) <= value < 2**31 else Int64(value), SqlType.INTEGER)


def utc(moment: datetime) -> datetime:
    """Converts a timestamp to UTC and truncates it to milliseconds, as BSON does. A timestamp without a time zone is in UTC."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def timestamp(text: str) -> datetime:
    """Parses an ISO 8601 timestamp. Raises DataError."""
    try:
        return utc(datetime.fromisoformat(text.strip()))
    except ValueError as error:
        raise DataError(f"{text!r} is not a timestamp") from error


def number(text: str) -> Literal:
    """Parses a number: digits only are an integer (a decimal if it exceeds 64 bits), other numbers are doubles. Raises DataError."""
    if _WHOLE.fullmatch(text.strip()):
        value = int(text)
        return whole(value) if -(2**63) <= value < 2**63 or len(text) > 34 else Literal(Decimal128(Decimal(value)), SqlType.DECIMAL)
    try:
        return Literal(float(text), SqlType.DOUBLE)
    except ValueError as error:
        raise DataError(f"{text!r} is not a number") from error


def literal_as(literal: Literal, sql_type: SqlType) -> Literal | None:
    """Converts a constant to a type. Returns None if SQL has no such implicit conversion. Raises DataError for an invalid value."""
    value = literal.value
    if (
        value is None
        or literal.type is sql_type
        or (literal.type.numeric and sql_type.numeric)
        or (literal.type.temporal and sql_type.temporal)
    ):
        return literal
    if isinstance(value, str):
        if sql_type is SqlType.TIMESTAMP or sql_type is SqlType.DATE:
            return Literal(timestamp(value), SqlType.TIMESTAMP)
        if sql_type.numeric:
            return number(value)
        if sql_type is SqlType.BOOLEAN and value.lower() in _TRUTH:
            return Literal(_TRUTH[value.lower()], sql_type)
        if sql_type is SqlType.OBJECT_ID:
            try:
                return Literal(ObjectId(value), sql_type)
            except InvalidId as error:
                raise DataError(str(error)) from error
    if sql_type is SqlType.BOOLEAN and literal.type is SqlType.INTEGER and value in (0, 1):
        return Literal(bool(value), sql_type)
    return None


def comparable(left: Scalar, right: Scalar, operator: str = "=") -> tuple[Scalar, Scalar]:
    """Converts both sides to comparable values. Raises ProgrammingError for incompatible types, NotSupportedError for arrays."""
    for this, that in ((left, right), (right, left)):
        if isinstance(this, Literal) and not isinstance(that, Literal):
            changed = literal_as(this, that.type)
            if changed is not None:
                left, right = (changed, that) if this is left else (that, changed)
                break
    types = {left.type, right.type} - {SqlType.NULL}
    if types & {SqlType.ARRAY, SqlType.DOCUMENT}:
        raise NotSupportedError(f"comparison of {' with '.join(sql_type.value for sql_type in (left.type, right.type))} is not supported")
    if types == {SqlType.OBJECT_ID, SqlType.STRING}:
        return (as_text(left), as_text(right))
    if SqlType.MIXED in types and operator not in ("=", "<>"):
        raise NotSupportedError("a comparison by order is not supported for a column that holds several types")
    if SqlType.MIXED not in types and common_type(types) is SqlType.MIXED:
        raise ProgrammingError(f"cannot compare {left.type.value} with {right.type.value}")
    return left, right


def as_number(scalar: Scalar, where: str) -> Scalar:
    """Returns the expression if it is numeric. Raises ProgrammingError if it is not."""
    if scalar.type.numeric or scalar.type is SqlType.NULL:
        return scalar
    raise ProgrammingError(f"{where} needs a number, not {scalar.type.value}")


def as_text(scalar: Scalar) -> Scalar:
    """Converts the expression to text. Raises NotSupportedError for a type without a text form."""
    if scalar.type in (SqlType.STRING, SqlType.NULL):
        return scalar
    if scalar.type in (SqlType.ARRAY, SqlType.DOCUMENT, SqlType.BINARY, SqlType.MIXED):
        raise NotSupportedError(f"{scalar.type.value} as text is not supported")
    return Cast(scalar, SqlType.STRING)


def as_moment(scalar: Scalar, where: str) -> Scalar:
    """Returns the expression if it is a date or timestamp, or parses constant text. Raises ProgrammingError otherwise."""
    if isinstance(scalar, Literal) and isinstance(scalar.value, str):
        return Literal(timestamp(scalar.value), SqlType.TIMESTAMP)
    if scalar.type.temporal or scalar.type is SqlType.NULL:
        return scalar
    raise ProgrammingError(f"{where} needs a date or timestamp, not {scalar.type.value}")


def as_truth(scalar: Scalar) -> Scalar:
    """Returns the expression if it is a predicate. Raises ProgrammingError if it is not boolean."""
    if scalar.type in (SqlType.BOOLEAN, SqlType.NULL):
        return scalar
    raise ProgrammingError(f"a condition must be boolean, not {scalar.type.value}")


def alike(scalars: list[Scalar], where: str) -> tuple[list[Scalar], SqlType]:
    """Converts the branches of one value (CASE, COALESCE, UNION) to a common type, and returns them with that type.

    If one branch is text, all become text (Superset emits `CASE WHEN ... THEN category_id ELSE 'Others' END`).
    Raises ProgrammingError if there is no common type.
    """
    types = {each.type for each in scalars}
    sql_type = common_type(types)
    if sql_type is not SqlType.MIXED or SqlType.MIXED in types:
        return scalars, sql_type
    target = common_type(each.type for each in scalars if not isinstance(each, Literal))
    try:
        changed = [literal_as(each, target) if isinstance(each, Literal) else each for each in scalars]
    except DataError:
        changed = []
    fitting = [each for each in changed if each is not None]
    if len(fitting) == len(scalars) and common_type(each.type for each in fitting) is not SqlType.MIXED:
        return fitting, common_type(each.type for each in fitting)
    if SqlType.STRING in types:
        return [as_text(each) for each in scalars], SqlType.STRING
    raise ProgrammingError(f"{where} mixes {' and '.join(sorted(each.value for each in types))}: cast the values to one type")
