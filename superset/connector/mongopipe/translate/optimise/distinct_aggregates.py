"""DISTINCT aggregates become a separate group, because a set in one $group could exceed MongoDB's limit of 16 MB for a document."""

from __future__ import annotations

from mongopipe.sql_types import SqlType
from mongopipe.translate.optimise.partial_aggregates import DECOMPOSABLE, filtered_argument, split
from mongopipe.translate.plans import Aggregate, AggregateCall, Fresh, Order, Plan, Project, Window, WindowCall, rewritten
from mongopipe.translate.scalars import Case, Column, Compare, Literal, Scalar, integer


def distinct_aggregates(plan: Plan) -> Plan:
    """Groups by the argument too, then groups again. If several arguments are DISTINCT, takes the first row of each value instead."""
    fresh = Fresh(plan)
    return rewritten(plan, lambda each: _split(each, fresh) if isinstance(each, Aggregate) else each)


def _split(plan: Aggregate, fresh: Fresh) -> Plan:
    arguments = {filtered_argument(call) for _, call in plan.calls if call.distinct}
    if not arguments:
        return plan
    others = [call for _, call in plan.calls if not call.distinct]
    if len(arguments) == 1 and all(call.function in DECOMPOSABLE for call in others):
        return _twice_grouped(plan, arguments.pop(), fresh)
    return _first_rows(plan, fresh)


def _twice_grouped(plan: Aggregate, arg: Scalar, fresh: Fresh) -> Plan:
    value = fresh.column(arg.type, "value")
    keys = tuple((fresh.column(key.type, column.name), key) for column, key in plan.keys)
    partial: list[tuple[Column, AggregateCall]] = []
    merged: list[tuple[Column, AggregateCall]] = []
    values: dict[Column, Scalar] = {}
    for column, call in plan.calls:
        if call.distinct:
            merged.append((column, AggregateCall(call.function, value)))
        else:
            values[column] = split(call, column, partial, merged, fresh)
    inner = Aggregate(plan.input, (*keys, (value, arg)), tuple(partial))
    outer_keys = tuple((column, inner_key) for (column, _), (inner_key, _) in zip(plan.keys, keys, strict=True))
    outer = Aggregate(inner, outer_keys, tuple(merged), plan.total)
    return Project(outer, tuple((column, values.get(column, column)) for column in plan.columns))


def _first_rows(plan: Aggregate, fresh: Fresh) -> Plan:
    source = plan.input
    firsts: dict[Scalar, Column] = {}
    aggregates = []
    for column, call in plan.calls:
        if not call.distinct:
            aggregates.append((column, call))
            continue
        arg = filtered_argument(call)
        if arg not in firsts:
            firsts[arg] = fresh.column(SqlType.INTEGER, "number")
            partition = (*(key for _, key in plan.keys), arg)
            source = Window(source, partition, (Order(arg),), ((firsts[arg], WindowCall("row_number")),))
        once = Case(((Compare("=", firsts[arg], integer(1)), arg),), Literal(None, SqlType.NULL), arg.type)
        aggregates.append((column, AggregateCall(call.function, once)))
    return Aggregate(source, plan.keys, tuple(aggregates), plan.total)
