"""The MongoDB expression of each column at one point of the pipeline, and helpers that build expressions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

Expression = Any
"""An aggregation expression as pymongo encodes it: "$path", {"$literal": ...}, {"$operator": ...}."""

Environment = dict[int, Expression]
"""Expressions by column number."""


class Names:
    """Generates names for variables and additional fields. The names are unique in one pipeline."""

    def __init__(self) -> None:
        self._variables = count(1)
        self._fields = count(1)

    def variable(self) -> str:
        return f"v{next(self._variables)}"

    def field(self) -> str:
        """Returns a field name that documents do not use."""
        return f"__mongopipe_{next(self._fields)}"


def literal(value: Any) -> Expression:
    return {"$literal": value}


def is_literal(expression: Expression) -> bool:
    return isinstance(expression, dict) and "$literal" in expression


def is_path(expression: Expression) -> bool:
    """Whether the expression is the path of a field of the current document."""
    return isinstance(expression, str) and not expression.startswith("$$")


def is_cheap(expression: Expression) -> bool:
    """Whether the expression costs nothing to evaluate twice."""
    return isinstance(expression, str) or is_literal(expression) or (isinstance(expression, dict) and "$arrayElemAt" in expression)


def path(parts: tuple[str, ...]) -> Expression:
    """Returns the expression that reads a field. A name with a dot or a leading dollar needs $getField."""
    if all(part and "." not in part and not part.startswith("$") for part in parts):
        return "$" + ".".join(parts)
    expression: Expression = "$$ROOT"
    for part in parts:
        expression = {"$getField": {"field": literal(part), "input": expression}}
    return expression


def is_null(expression: Expression) -> Expression:
    """Returns a test for null that is also true for a missing field, which BSON orders below null."""
    return {"$lte": [expression, None]}


def not_null(expression: Expression) -> Expression:
    return {"$gt": [expression, None]}


def either(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    return {"$cond": [condition, then, otherwise]}


def all_of(expressions: list[Expression]) -> Expression:
    return expressions[0] if len(expressions) == 1 else {"$and": expressions}


def any_of(expressions: list[Expression]) -> Expression:
    return expressions[0] if len(expressions) == 1 else {"$or": expressions}


def sharing(names: Names, value: Expression, body: Callable[[Expression], Expression]) -> Expression:
    """Returns `body(value)` and computes the value once."""
    if is_cheap(value):
        return body(value)
    name = names.variable()
    return {"$let": {"vars": {name: value}, "in": body(f"$${name}")}}


def unless_null(names: Names, values: list[Expression], body: Callable[..., Expression]) -> Expression:
    """Returns `body(*values)`, or null if one of the values is null: for operators that do not propagate null."""

    def bound(rest: list[Expression], done: list[Expression]) -> Expression:
        if rest:
            return sharing(names, rest[0], lambda value: bound(rest[1:], [*done, value]))
        nullable = [value for value in done if not is_literal(value)]
        if not nullable:
            return body(*done)
        return either(any_of([is_null(value) for value in nullable]), None, body(*done))

    if any(is_literal(value) and value["$literal"] is None for value in values):
        return literal(None)
    return bound(values, [])
