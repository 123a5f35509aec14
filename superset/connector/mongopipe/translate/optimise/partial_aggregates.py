"""Aggregates in two steps: partial ones over parts of the groups, and the final value over the parts."""

from __future__ import annotations

from mongopipe.sql_types import SqlType
from mongopipe.translate.plans import AggregateCall, Fresh
from mongopipe.translate.scalars import Call, Case, Column, Literal, Scalar, integer

DECOMPOSABLE = ("count", "sum", "avg", "min", "max")
"""Aggregate functions that `split` takes."""


def filtered_argument(call: AggregateCall) -> Scalar:
    """The argument where the FILTER clause is true, null elsewhere."""
    assert call.arg is not None
    if call.where is None:
        return call.arg
    return Case(((call.where, call.arg),), Literal(None, SqlType.NULL), call.arg.type)


def split(
    call: AggregateCall,
    column: Column,
    partial: list[tuple[Column, AggregateCall]],
    merged: list[tuple[Column, AggregateCall]],
    fresh: Fresh,
) -> Scalar:
    """Splits an aggregate: adds its partial aggregates to `partial` and those that merge them to `merged`.

    Returns the aggregate's value as an expression over the merged columns. `column` holds the aggregate in the original plan.
    """

    def through(function: str, again: str, sql_type: SqlType) -> Column:
        part, whole = fresh.column(sql_type, function), fresh.column(sql_type, again)
        partial.append((part, AggregateCall(function, call.arg, where=call.where)))
        merged.append((whole, AggregateCall(again, part)))
        return whole

    if call.function == "count":
        return Call("coalesce", (through("count", "sum", SqlType.INTEGER), integer(0)), SqlType.INTEGER)
    if call.function == "avg":
        assert call.arg is not None
        total = through("sum", "sum", call.arg.type)
        return Call("divide", (total, through("count", "sum", SqlType.INTEGER)), column.type)
    return through(call.function, call.function, column.type)
