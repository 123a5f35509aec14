"""CAST and TRY_CAST."""

from __future__ import annotations

from typing import Any

from mongopipe.sql_types import SqlType
from mongopipe.translate.emit.environment import Expression, Names, either, sharing, unless_null

_BSON = {SqlType.INTEGER: "long", SqlType.DOUBLE: "double", SqlType.DECIMAL: "decimal", SqlType.STRING: "string"}


def cast(names: Names, value: Expression, source: SqlType, target: SqlType, safe: bool) -> Expression:
    """Converts a value to another type. A failed conversion is an error of the server, or null if `safe`."""
    if target is SqlType.STRING:
        return _text(names, value, source)
    if target is SqlType.BOOLEAN:
        return _truth(names, value, source, safe)
    if target in (SqlType.DATE, SqlType.TIMESTAMP):
        moment = value if source.temporal else _parsed(value, safe)
        return {"$dateTrunc": {"date": moment, "unit": "day"}} if target is SqlType.DATE else moment
    if target is SqlType.INTEGER and source in (SqlType.DOUBLE, SqlType.DECIMAL):
        return _converted({"$round": [value, 0]}, target, safe)
    if source is SqlType.STRING:
        return _number(names, value, target, safe)
    return _converted(value, target, safe)


def _converted(value: Expression, target: SqlType, safe: bool) -> Expression:
    options: dict[str, Any] = {"onError": None} if safe else {}
    return {"$convert": {"input": value, "to": _BSON[target], **options}}


def _number(names: Names, value: Expression, target: SqlType, safe: bool) -> Expression:
    """Parses a number in text and ignores surrounding spaces. A fraction is rounded if the target is an integer."""
    trimmed = {"$trim": {"input": value}}
    if target is not SqlType.INTEGER:
        return _converted(trimmed, target, safe)

    def converted(text: Expression) -> Expression:
        whole = {"$regexMatch": {"input": {"$ifNull": [text, ""]}, "regex": r"^[+-]?[0-9]+\z"}}
        return either(
            whole, _converted(text, target, safe), _converted({"$round": [_converted(text, SqlType.DECIMAL, safe), 0]}, target, safe)
        )

    return sharing(names, trimmed, converted)


def _text(names: Names, value: Expression, source: SqlType) -> Expression:
    """Formats dates as 2024-01-31 and timestamps as 2024-01-31 12:00:00, with the fraction of a second if there is one."""
    if source is SqlType.DATE:
        return {"$dateToString": {"date": value, "format": "%Y-%m-%d"}}
    if source is SqlType.TIMESTAMP:

        def written(date: Expression) -> Expression:
            fraction = {"$rtrim": {"input": {"$dateToString": {"date": date, "format": "%Y-%m-%d %H:%M:%S.%L"}}, "chars": "0"}}
            plain = {"$dateToString": {"date": date, "format": "%Y-%m-%d %H:%M:%S"}}
            return either({"$eq": [{"$millisecond": date}, 0]}, plain, fraction)

        return unless_null(names, [value], written)
    return {"$toString": value}


def _truth(names: Names, value: Expression, source: SqlType, safe: bool) -> Expression:
    if source is SqlType.STRING:

        def read(text: Expression) -> Expression:
            lowered = {"$toLower": {"$trim": {"input": text}}}
            failed: Expression = None if safe else {"$toBool": {"$toInt": text}}
            branches = [
                {"case": {"$in": [lowered, ["true", "t", "yes", "y", "1"]]}, "then": True},
                {"case": {"$in": [lowered, ["false", "f", "no", "n", "0"]]}, "then": False},
            ]
            return {"$switch": {"branches": branches, "default": failed}}

        return unless_null(names, [value], read)
    return {"$toBool": value}


def _parsed(value: Expression, safe: bool) -> Expression:
    return {"$dateFromString": {"dateString": value, **({"onError": None} if safe else {})}}
