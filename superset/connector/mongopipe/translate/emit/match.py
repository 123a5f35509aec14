"""Predicates in the query language of $match. Unlike $expr, it can use every kind of index."""

from __future__ import annotations

from typing import Any

from mongopipe.sql_types import SqlType
from mongopipe.translate.emit.environment import is_path
from mongopipe.translate.emit.values import Values
from mongopipe.translate.scalars import (
    And,
    Column,
    Compare,
    InList,
    IsNull,
    IsTruth,
    Like,
    Literal,
    Not,
    Or,
    Scalar,
    conjuncts,
)

Query = dict[str, Any]

_OPERATORS = {"=": "$eq", "<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}
_NOTHING: Query = {"$expr": False}
_PLAIN = frozenset(SqlType) - {SqlType.ARRAY, SqlType.DOCUMENT, SqlType.MIXED, SqlType.NULL}
"""Types whose comparisons have SQL's meaning in the query language, which searches arrays and compares within one type."""


def match(predicate: Scalar, values: Values) -> Query:
    """Returns a $match query for the documents that satisfy the predicate. Conditions on fields come first, $expr comes last."""
    parts = list(conjuncts(predicate))
    plain = [query for part in parts if (query := plain_query(part, True, values)) is not None]
    rest = [{"$expr": values.truth(part, True)} for part in parts if plain_query(part, True, values) is None]
    return _and([*plain, *rest])


def plain_query(scalar: Scalar, wanted: bool, values: Values) -> Query | None:
    """Returns a query for the documents for which the predicate is true (or false, as `wanted`), or None if only $expr can express it."""
    match scalar:
        case And() | Or():
            parts = [plain_query(each, wanted, values) for each in scalar.args]
            found = [part for part in parts if part is not None]
            if len(found) < len(parts):
                return None
            return _and(found) if isinstance(scalar, And) is wanted else {"$or": found}
        case Not():
            return plain_query(scalar.arg, not wanted, values)
        case IsTruth() if wanted:
            return plain_query(scalar.arg, scalar.value, values)
        case IsTruth(arg=Column()):
            field = _field(scalar.arg, values)
            return None if field is None else {field: {"$ne": scalar.value}}
        case Literal():
            return {} if scalar.value is wanted else _NOTHING
        case Compare():
            return _compared(scalar, wanted, values)
        case InList():
            return _listed(scalar, wanted, values)
        case IsNull():
            field = _field(scalar.arg, values)
            return None if field is None else {field: {"$eq" if wanted else "$ne": None}}
        case Like() if wanted:
            field = _field(scalar.arg, values)
            return None if field is None else {field: {"$regex": scalar.pattern, "$options": "s"}}
        case Column(type=SqlType.BOOLEAN):
            field = _field(scalar, values)
            return None if field is None else {field: {"$eq": wanted}}
    return None


def _field(scalar: Scalar, values: Values) -> str | None:
    """Returns the name of the expression's field, or None if the query language cannot compare it."""
    if not isinstance(scalar, Column) or scalar.type not in _PLAIN:
        return None
    expression = values.environment.get(scalar.number)
    return str(expression)[1:] if is_path(expression) else None


def _compared(scalar: Compare, wanted: bool, values: Values) -> Query | None:
    left, right, operator = scalar.left, scalar.right, scalar.operator
    if isinstance(left, Literal):
        left, right, operator = right, left, Compare.MIRRORED[operator]
    field = _field(left, values)
    if field is None or not isinstance(right, Literal):
        return None
    if right.value is None:
        return _NOTHING
    if not wanted:
        operator = Compare.OPPOSITE[operator]
    if operator == "<>":
        return {field: {"$nin": [right.value, None]}}
    return {field: {_OPERATORS[operator]: right.value}}


def _listed(scalar: InList, wanted: bool, values: Values) -> Query | None:
    field = _field(scalar.arg, values)
    options = [each.value for each in scalar.options if isinstance(each, Literal)]
    if field is None or len(options) < len(scalar.options):
        return None
    if wanted:
        return {field: {"$in": [option for option in options if option is not None]}}
    return _NOTHING if None in options else {field: {"$nin": [*options, None]}}


def _and(queries: list[Query]) -> Query:
    """Returns the conjunction of the queries: one flat document if no two of them have a field in common."""
    queries = [query for query in queries if query]
    names = [name for query in queries for name in query]
    if len(set(names)) == len(names):
        return {name: value for query in queries for name, value in query.items()}
    return {"$and": queries}
