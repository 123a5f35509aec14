"""Which values may meet: constants take the type of what they are compared with; what does not fit is refused."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from bson import Decimal128, Int64, ObjectId
from bson.errors import InvalidId

from mongopipe.errors import DataError, NotSupportedError, ProgrammingError
from mongopipe.kinds import Kind, common
from mongopipe.translate.scalars import NULL, Cast, Literal, Scalar

_WHOLE = re.compile(r"[+-]?\d+")
_TRUTH = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def constant(value: Any) -> Literal:
    """A Python value, as a parameter has it. Raises NotSupportedError for a type that has no BSON form here."""
    match value:
        case None:
            return NULL
        case bool():
            return Literal(value, Kind.BOOLEAN)
        case int():
            return whole(value)
        case float():
            return Literal(value, Kind.DOUBLE)
        case Decimal():
            return Literal(Decimal128(value), Kind.DECIMAL)
        case str():
            return Literal(value, Kind.STRING)
        case datetime():
            return Literal(utc(value), Kind.TIMESTAMP)
        case date():
            return Literal(datetime.combine(value, time(), UTC), Kind.DATE)
        case ObjectId():
            return Literal(value, Kind.OBJECT_ID)
        case bytes():
            return Literal(value, Kind.BINARY)
    raise NotSupportedError(f"parameters of type {type(value).__name__} are not supported")


def whole(value: int) -> Literal:
    """An integer. Raises DataError beyond 64 bits."""
    if not -(2**63) <= value < 2**63:
        raise DataError(f"{value} is beyond 64 bits")
    return Literal(value if -(2**31) <= value < 2**31 else Int64(value), Kind.INTEGER)


def utc(moment: datetime) -> datetime:
    """The moment in UTC, cut to the milliseconds that BSON keeps; without a zone it is UTC already."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def timestamp(text: str) -> datetime:
    """The moment that ISO 8601 text names. Raises DataError."""
    try:
        return utc(datetime.fromisoformat(text.strip()))
    except ValueError as error:
        raise DataError(f"{text!r} is not a timestamp") from error


def number(text: str) -> Literal:
    """The number that a numeral names: an integer if it has digits only (beyond 64 bits a decimal), else a double. Raises DataError."""
    if _WHOLE.fullmatch(text.strip()):
        value = int(text)
        return whole(value) if -(2**63) <= value < 2**63 or len(text) > 34 else Literal(Decimal128(Decimal(value)), Kind.DECIMAL)
    try:
        return Literal(float(text), Kind.DOUBLE)
    except ValueError as error:
        raise DataError(f"{text!r} is not a number") from error


def literal_as(literal: Literal, kind: Kind) -> Literal | None:
    """The constant as a value of that kind; None where SQL has no such implicit conversion. Raises DataError for a bad value."""
    value = literal.value
    if value is None or literal.kind is kind or (literal.kind.numeric and kind.numeric) or (literal.kind.temporal and kind.temporal):
        return literal
    if isinstance(value, str):
        if kind is Kind.TIMESTAMP or kind is Kind.DATE:
            return Literal(timestamp(value), Kind.TIMESTAMP)
        if kind.numeric:
            return number(value)
        if kind is Kind.BOOLEAN and value.lower() in _TRUTH:
            return Literal(_TRUTH[value.lower()], kind)
        if kind is Kind.OBJECT_ID:
            try:
                return Literal(ObjectId(value), kind)
            except InvalidId as error:
                raise DataError(str(error)) from error
    if kind is Kind.BOOLEAN and literal.kind is Kind.INTEGER and value in (0, 1):
        return Literal(bool(value), kind)
    return None


def comparable(left: Scalar, right: Scalar, operator: str = "=") -> tuple[Scalar, Scalar]:
    """Both sides as values that can be compared. Raises ProgrammingError for types that cannot, NotSupportedError for arrays."""
    for this, that in ((left, right), (right, left)):
        if isinstance(this, Literal) and not isinstance(that, Literal):
            changed = literal_as(this, that.kind)
            if changed is not None:
                left, right = (changed, that) if this is left else (that, changed)
                break
    kinds = {left.kind, right.kind} - {Kind.NULL}
    if kinds & {Kind.ARRAY, Kind.DOCUMENT}:
        raise NotSupportedError(f"comparing {' with '.join(kind.value for kind in (left.kind, right.kind))} is not supported")
    if kinds == {Kind.OBJECT_ID, Kind.STRING}:
        return (as_text(left), as_text(right))
    if Kind.MIXED in kinds and operator not in ("=", "<>"):
        raise NotSupportedError("comparing values of a column that holds several types by order is not supported")
    if Kind.MIXED not in kinds and common(kinds) is Kind.MIXED:
        raise ProgrammingError(f"cannot compare {left.kind.value} with {right.kind.value}")
    return left, right


def as_number(scalar: Scalar, where: str) -> Scalar:
    """The expression, which must be numeric. Raises ProgrammingError."""
    if scalar.kind.numeric or scalar.kind is Kind.NULL:
        return scalar
    raise ProgrammingError(f"{where} needs a number, not {scalar.kind.value}")


def as_text(scalar: Scalar) -> Scalar:
    """The expression as a string, cast if need be. Raises NotSupportedError where a type has no text form."""
    if scalar.kind in (Kind.STRING, Kind.NULL):
        return scalar
    if scalar.kind in (Kind.ARRAY, Kind.DOCUMENT, Kind.BINARY, Kind.MIXED):
        raise NotSupportedError(f"{scalar.kind.value} as text is not supported")
    return Cast(scalar, Kind.STRING)


def as_moment(scalar: Scalar, where: str) -> Scalar:
    """The expression, which must be a date or timestamp, or text that names one. Raises ProgrammingError."""
    if isinstance(scalar, Literal) and isinstance(scalar.value, str):
        return Literal(timestamp(scalar.value), Kind.TIMESTAMP)
    if scalar.kind.temporal or scalar.kind is Kind.NULL:
        return scalar
    raise ProgrammingError(f"{where} needs a date or timestamp, not {scalar.kind.value}")


def as_truth(scalar: Scalar) -> Scalar:
    """The expression as a predicate. Raises ProgrammingError where it is not boolean."""
    if scalar.kind in (Kind.BOOLEAN, Kind.NULL):
        return scalar
    raise ProgrammingError(f"a condition must be boolean, not {scalar.kind.value}")


def alike(scalars: list[Scalar], where: str) -> tuple[list[Scalar], Kind]:
    """Branches of one value (CASE, COALESCE, UNION) and the kind that holds them all.

    Text among other types makes text of all of them (Superset asks for `CASE WHEN ... THEN category_id ELSE 'Others' END`).
    Raises ProgrammingError where no kind holds them all.
    """
    kinds = {each.kind for each in scalars}
    kind = common(kinds)
    if kind is not Kind.MIXED or Kind.MIXED in kinds:
        return scalars, kind
    target = common(each.kind for each in scalars if not isinstance(each, Literal))
    try:
        changed = [literal_as(each, target) if isinstance(each, Literal) else each for each in scalars]
    except DataError:
        changed = []
    fitting = [each for each in changed if each is not None]
    if len(fitting) == len(scalars) and common(each.kind for each in fitting) is not Kind.MIXED:
        return fitting, common(each.kind for each in fitting)
    if Kind.STRING in kinds:
        return [as_text(each) for each in scalars], Kind.STRING
    raise ProgrammingError(f"{where} mixes {' and '.join(sorted(each.value for each in kinds))}")
