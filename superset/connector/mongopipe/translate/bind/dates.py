"""Date functions: truncation, parts, arithmetic with intervals. All times are in UTC; weeks start on Monday (ISO 8601)."""

from __future__ import annotations

from sqlglot import exp

from mongopipe.errors import NotSupportedError, ProgrammingError
from mongopipe.sql_types import SqlType
from mongopipe.translate.bind.binder import Binder, Handlers
from mongopipe.translate.bind.coerce import as_moment
from mongopipe.translate.scalars import Call, Cast, Literal, Scalar

_UNITS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond")
_PARTS = {
    "year": SqlType.INTEGER,
    "isoyear": SqlType.INTEGER,
    "quarter": SqlType.INTEGER,
    "month": SqlType.INTEGER,
    "week": SqlType.INTEGER,
    "day": SqlType.INTEGER,
    "doy": SqlType.INTEGER,
    "dow": SqlType.INTEGER,
    "isodow": SqlType.INTEGER,
    "hour": SqlType.INTEGER,
    "minute": SqlType.INTEGER,
    "second": SqlType.INTEGER,
    "epoch": SqlType.DOUBLE,
}
_OTHER_NAMES = {
    "dayofweek": "dow",
    "dayofyear": "doy",
    "dayofmonth": "day",
    "dayofweekiso": "isodow",
    "weekofyear": "week",
    "weekiso": "week",
}


def _unit(node: exp.Expression | None) -> str:
    """Returns MongoDB's name of the unit of a date function. Raises NotSupportedError."""
    name = "" if node is None else node.name.lower()
    if isinstance(node, exp.WeekStart):
        name = f"week({node.name.lower()})"
    singular = name.removesuffix("s")
    if singular in _UNITS:
        return singular
    raise NotSupportedError(f"date unit {name or node} is not supported")


def _truncated(binder: Binder, node: exp.DateTrunc | exp.TimestampTrunc) -> Scalar:
    moment = as_moment(binder.bind(node.this), "DATE_TRUNC")
    return Call("date_trunc", (moment,), SqlType.TIMESTAMP, (_unit(node.args.get("unit")),))


def _binned(binder: Binder, node: exp.DateBin) -> Scalar:
    """Binds DATE_BIN(interval, x): bins of several seconds, minutes, hours or days, with the origin 2000-01-01."""
    if not isinstance(node.this, exp.Interval):
        raise NotSupportedError("DATE_BIN needs an interval as its first argument")
    amount, unit = _interval(binder, node.this)
    if amount.value < 1 or unit not in ("second", "minute", "hour", "day"):
        raise NotSupportedError(f"DATE_BIN by {amount.value} {unit} is not supported: use seconds, minutes, hours or days")
    moment = as_moment(binder.bind(node.expression), "DATE_BIN")
    return Call("date_trunc", (moment,), SqlType.TIMESTAMP, (unit, amount.value))


def _extracted(binder: Binder, node: exp.Extract) -> Scalar:
    part = node.name.lower()
    part = _OTHER_NAMES.get(part, part)
    if part not in _PARTS:
        raise NotSupportedError(f"EXTRACT of {part} is not supported")
    return Call("date_part", (as_moment(binder.bind(node.expression), "EXTRACT"),), _PARTS[part], (part,))


def _interval(binder: Binder, node: exp.Interval) -> tuple[Literal, str]:
    """Returns the interval's number and unit. Raises NotSupportedError if it is not an integer of one unit."""
    amount = node.this
    negative = isinstance(amount, exp.Neg)
    text = binder.constant(amount.this if negative else amount, "an interval").value
    try:
        number = int(text)
    except (TypeError, ValueError) as error:
        raise NotSupportedError(f"interval {node.sql()} is not supported: use one integer and one unit") from error
    return Literal(-number if negative else number, SqlType.INTEGER), _unit(node.args.get("unit"))


def _moved(moment: Scalar, amount: Scalar, unit: str, sign: int) -> Scalar:
    if sign < 0:
        amount = Literal(-amount.value, SqlType.INTEGER) if isinstance(amount, Literal) and amount.value is not None else _negated(amount)
    return Call("date_add", (moment, amount), SqlType.TIMESTAMP, (unit,))


def _negated(amount: Scalar) -> Scalar:
    return Call("multiply", (amount, Literal(-1, SqlType.INTEGER)), amount.type)


def with_interval(binder: Binder, node: exp.Binary) -> Scalar | None:
    """Binds `date + interval`, `interval + date` and `date - interval`. Returns None if no operand is an interval."""
    sign = -1 if isinstance(node, exp.Sub) else 1
    left, right = node.left.unnest(), node.right.unnest()
    if isinstance(left, exp.Interval) and sign > 0:
        left, right = right, left
    if isinstance(right, exp.Interval):
        return _moved(as_moment(binder.bind(left), "interval arithmetic"), *_interval(binder, right), sign)
    if isinstance(left, exp.Interval):
        raise ProgrammingError("an interval can only be added to or subtracted from a date or timestamp")
    return None


def date_arithmetic(first: Scalar, second: Scalar, sign: int) -> Scalar | None:
    """Binds `date + days`, `date - days`, and `date - date` in days. Returns None if no operand is a date. Raises NotSupportedError."""
    if first.type is SqlType.DATE and second.type is SqlType.INTEGER:
        return Cast(_moved(first, second, "day", sign), SqlType.DATE)
    if first.type is SqlType.DATE and second.type is SqlType.DATE and sign < 0:
        return Call("date_diff", (second, first), SqlType.INTEGER, ("day",))
    if first.type.temporal or second.type.temporal:
        raise NotSupportedError(
            f"{first.type.value} {'-' if sign < 0 else '+'} {second.type.value} is not supported: use an interval or DATE_DIFF"
        )
    return None


def _added(binder: Binder, node: exp.DateAdd | exp.DateSub) -> Scalar:
    sign = -1 if isinstance(node, exp.DateSub) else 1
    moment = as_moment(binder.bind(node.this), "DATE_ADD")
    if isinstance(node.expression, exp.Interval):
        return _moved(moment, *_interval(binder, node.expression), sign)
    amount = binder.bind(node.expression)
    if amount.type is not SqlType.INTEGER:
        raise ProgrammingError("DATE_ADD needs an interval or an integer")
    return _moved(moment, amount, _unit(node.args.get("unit") or exp.var("DAY")), sign)


def _difference(binder: Binder, node: exp.DateDiff | exp.TimestampDiff) -> Scalar:
    start, end = (as_moment(binder.bind(each), "DATE_DIFF") for each in (node.expression, node.this))
    return Call("date_diff", (start, end), SqlType.INTEGER, (_unit(node.args.get("unit") or exp.var("DAY")),))


def _now(_: Binder, node: exp.Expression) -> Scalar:
    now = Call("now", (), SqlType.TIMESTAMP)
    return Call("date_trunc", (now,), SqlType.DATE, ("day",)) if isinstance(node, exp.CurrentDate) else now


def _date(binder: Binder, node: exp.Date) -> Scalar:
    return Call("date_trunc", (as_moment(binder.bind(node.this), "DATE"),), SqlType.DATE, ("day",))


HANDLERS: Handlers = {
    exp.DateTrunc: ("this unit", _truncated),
    exp.TimestampTrunc: ("this unit", _truncated),
    exp.DateBin: ("this expression", _binned),
    exp.Extract: ("this expression", _extracted),
    exp.DateAdd: ("this expression unit", _added),
    exp.DateSub: ("this expression unit", _added),
    exp.DateDiff: ("this expression unit", _difference),
    exp.CurrentTimestamp: ("", _now),
    exp.CurrentDate: ("", _now),
    exp.Date: ("this", _date),
}
