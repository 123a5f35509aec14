"""What MongoDB expression stands for each column at one point of the pipeline, and small helpers to build expressions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

Expression = Any
"""An aggregation expression as pymongo encodes it: "$path", {"$literal": ...}, {"$operator": ...}."""

Environment = dict[int, Expression]
"""Expressions by column number."""


class Names:
    """Names for variables and for fields that the pipeline adds: unique in one pipeline."""

    def __init__(self) -> None:
        self._variables = count(1)
        self._fields = count(1)

    def variable(self) -> str:
        return f"v{next(self._variables)}"

    def field(self) -> str:
        """A field name that no document has by chance."""
        return f"__mongopipe_{next(self._fields)}"


def literal(value: Any) -> Expression:
    return {"$literal": value}


def is_literal(expression: Expression) -> bool:
    return isinstance(expression, dict) and "$literal" in expression


def is_path(expression: Expression) -> bool:
    """Whether the expression is the path of a field of the document at hand."""
    return isinstance(expression, str) and not expression.startswith("$$")


def is_cheap(expression: Expression) -> bool:
    """Whether evaluating the expression twice costs nothing."""
    return isinstance(expression, str) or is_literal(expression) or (isinstance(expression, dict) and "$arrayElemAt" in expression)


def path(parts: tuple[str, ...]) -> Expression:
    """The expression that reads a field. Names with dots or dollars in them need $getField."""
    if all(part and "." not in part and not part.startswith("$") for part in parts):
        return "$" + ".".join(parts)
    expression: Expression = "$$ROOT"
    for part in parts:
        expression = {"$getField": {"field": literal(part), "input": expression}}
    return expression


def is_null(expression: Expression) -> Expression:
    """True for null and for a missing field, which BSON orders below null."""
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
    """`body(value)`, with the value computed once."""
    if is_cheap(value):
        return body(value)
    name = names.variable()
    return {"$let": {"vars": {name: value}, "in": body(f"$${name}")}}


def unless_null(names: Names, values: list[Expression], body: Callable[..., Expression]) -> Expression:
    """`body(*values)`, or null if any of the values is null: for operators that do not pass null on by themselves."""

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
