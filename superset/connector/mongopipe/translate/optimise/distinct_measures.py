"""DISTINCT inside aggregates becomes a group of its own: a set in one $group could pass MongoDB's 16 MB for a document."""

from __future__ import annotations

from mongopipe.sql_types import SqlType
from mongopipe.translate.optimise.percentiles import counted_argument
from mongopipe.translate.plans import Aggregate, Fresh, Measure, Order, Plan, Project, Window, WindowCall, rewritten
from mongopipe.translate.scalars import Call, Case, Column, Compare, Literal, Scalar, integer

_MERGEABLE = ("count", "sum", "avg", "min", "max")


def distinct_measures(plan: Plan) -> Plan:
    """Grouped by the value too, then grouped again; where several arguments are DISTINCT, each value's first row is found instead."""
    fresh = Fresh(plan)
    return rewritten(plan, lambda each: _split(each, fresh) if isinstance(each, Aggregate) else each)


def _split(plan: Aggregate, fresh: Fresh) -> Plan:
    arguments = {counted_argument(measure) for _, measure in plan.measures if measure.distinct}
    if not arguments:
        return plan
    others = [measure for _, measure in plan.measures if not measure.distinct]
    if len(arguments) == 1 and all(measure.function in _MERGEABLE for measure in others):
        return _twice_grouped(plan, arguments.pop(), fresh)
    return _first_rows(plan, fresh)


def _twice_grouped(plan: Aggregate, arg: Scalar, fresh: Fresh) -> Plan:
    value = fresh.column(arg.type, "value")
    keys = tuple((fresh.column(key.type, column.name), key) for column, key in plan.keys)
    partial: list[tuple[Column, Measure]] = []
    merged: list[tuple[Column, Measure]] = []
    values: dict[Column, Scalar] = {}
    for column, measure in plan.measures:
        if measure.distinct:
            merged.append((column, Measure(measure.function, value)))
        else:
            values[column] = merge(measure, column, partial, merged, fresh)
    inner = Aggregate(plan.input, (*keys, (value, arg)), tuple(partial))
    outer_keys = tuple((column, inner_key) for (column, _), (inner_key, _) in zip(plan.keys, keys, strict=True))
    outer = Aggregate(inner, outer_keys, tuple(merged), plan.total)
    return Project(outer, tuple((column, values.get(column, column)) for column in plan.columns))


def merge(
    measure: Measure,
    column: Column,
    partial: list[tuple[Column, Measure]],
    merged: list[tuple[Column, Measure]],
    fresh: Fresh,
) -> Scalar:
    """Splits a measure into one over parts of its groups and one over the parts; gives its value over the latter."""

    def through(function: str, again: str, sql_type: SqlType) -> Column:
        part, whole = fresh.column(sql_type, function), fresh.column(sql_type, again)
        partial.append((part, Measure(function, measure.arg, where=measure.where)))
        merged.append((whole, Measure(again, part)))
        return whole

    if measure.function == "count":
        return Call("coalesce", (through("count", "sum", SqlType.INTEGER), integer(0)), SqlType.INTEGER)
    if measure.function == "avg":
        assert measure.arg is not None
        total = through("sum", "sum", measure.arg.type)
        return Call("divide", (total, through("count", "sum", SqlType.INTEGER)), column.type)
    return through(measure.function, measure.function, column.type)


def _first_rows(plan: Aggregate, fresh: Fresh) -> Plan:
    source = plan.input
    firsts: dict[Scalar, Column] = {}
    measures = []
    for column, measure in plan.measures:
        if not measure.distinct:
            measures.append((column, measure))
            continue
        arg = counted_argument(measure)
        if arg not in firsts:
            firsts[arg] = fresh.column(SqlType.INTEGER, "number")
            partition = (*(key for _, key in plan.keys), arg)
            source = Window(source, partition, (Order(arg),), ((firsts[arg], WindowCall("row_number")),))
        once = Case(((Compare("=", firsts[arg], integer(1)), arg),), Literal(None, SqlType.NULL), arg.type)
        measures.append((column, Measure(measure.function, once)))
    return Aggregate(source, plan.keys, tuple(measures), plan.total)
