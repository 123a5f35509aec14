"""Percentiles become positions in a window: MongoDB 6 has no accumulator for them, and pushing all values would not fit in memory."""

from __future__ import annotations

from mongopipe.sql_types import SqlType
from mongopipe.translate.plans import Aggregate, Fresh, Measure, Order, Plan, Project, Window, WindowCall, rewritten
from mongopipe.translate.scalars import Call, Case, Column, Compare, Literal, Scalar, integer

_FUNCTIONS = ("percentile_cont", "percentile_disc")


def percentiles(plan: Plan) -> Plan:
    """Each value gets its number in its group and the group's size; the percentile is the value at a place, or between two places."""
    fresh = Fresh(plan)
    return rewritten(plan, lambda each: _split(each, fresh) if isinstance(each, Aggregate) else each)


def _split(plan: Aggregate, fresh: Fresh) -> Plan:
    if not any(measure.function in _FUNCTIONS for _, measure in plan.measures):
        return plan
    source = plan.input
    measures: list[tuple[Column, Measure]] = []
    values: dict[Column, Scalar] = {}
    places: dict[Scalar, tuple[Column, Column]] = {}
    for column, measure in plan.measures:
        if measure.function not in _FUNCTIONS:
            measures.append((column, measure))
            continue
        arg = counted_argument(measure)
        if arg not in places:
            number, size = fresh.column(SqlType.INTEGER, "number"), fresh.column(SqlType.INTEGER, "size")
            calls = ((number, WindowCall("row_number")), (size, WindowCall("count", arg)))
            source = Window(source, tuple(key for _, key in plan.keys), (Order(arg, nulls_first=False),), calls)
            places[arg] = (number, size)
        values[column] = _value(measure, arg, *places[arg], measures, fresh)
    grouped = Aggregate(source, plan.keys, tuple(measures), plan.total)
    return Project(grouped, tuple((column, values.get(column, column)) for column in plan.columns))


def counted_argument(measure: Measure) -> Scalar:
    """The measure's argument where its FILTER is true, null elsewhere."""
    assert measure.arg is not None
    if measure.where is None:
        return measure.arg
    return Case(((measure.where, measure.arg),), Literal(None, SqlType.NULL), measure.arg.type)


def _value(measure: Measure, arg: Scalar, number: Column, size: Column, measures: list[tuple[Column, Measure]], fresh: Fresh) -> Scalar:
    """The percentile over measures that it adds to `measures`."""

    def at(place: Scalar) -> Column:
        column = fresh.column(arg.type, "at")
        chosen = Case(((Compare("=", number, place), arg),), Literal(None, SqlType.NULL), arg.type)
        measures.append((column, Measure("max", chosen)))
        return column

    def position(of: Scalar) -> Scalar:
        """The place between values, from 0."""
        last = Call("subtract", (of, integer(1)), SqlType.INTEGER)
        return Call("multiply", (last, Literal(measure.fraction, SqlType.DOUBLE)), SqlType.DOUBLE)

    if measure.function == "percentile_disc":
        scaled = Call("multiply", (size, Literal(measure.fraction, SqlType.DOUBLE)), SqlType.DOUBLE)
        return at(Call("greatest", (Call("ceil", (scaled,), SqlType.DOUBLE), integer(1)), SqlType.DOUBLE))
    below = Call("floor", (position(size),), SqlType.DOUBLE)
    above = Call("ceil", (position(size),), SqlType.DOUBLE)
    low, high = (at(Call("add", (place, integer(1)), SqlType.DOUBLE)) for place in (below, above))
    total = fresh.column(SqlType.INTEGER, "size")
    measures.append((total, Measure("max", size)))
    share = Call("modulo", (position(total), integer(1)), SqlType.DOUBLE)
    step = Call("multiply", (Call("subtract", (high, low), SqlType.DOUBLE), share), SqlType.DOUBLE)
    return Call("add", (low, step), SqlType.DOUBLE)
