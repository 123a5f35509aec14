"""Percentiles become positions in a window: MongoDB 6 has no accumulator for them, and an array of all values can exceed memory."""

from __future__ import annotations

from mongopipe.sql_types import SqlType
from mongopipe.translate.optimise.partial_aggregates import filtered_argument
from mongopipe.translate.plans import Aggregate, AggregateCall, Fresh, Order, Plan, Project, Window, WindowCall, rewritten
from mongopipe.translate.scalars import Call, Case, Column, Compare, Literal, Scalar, integer

_FUNCTIONS = ("percentile_cont", "percentile_disc")


def percentiles(plan: Plan) -> Plan:
    """Adds each value's number in its group and the group's size. A percentile is the value at a position, or between two positions."""
    fresh = Fresh(plan)
    return rewritten(plan, lambda each: _split(each, fresh) if isinstance(each, Aggregate) else each)


def _split(plan: Aggregate, fresh: Fresh) -> Plan:
    if not any(call.function in _FUNCTIONS for _, call in plan.calls):
        return plan
    source = plan.input
    aggregates: list[tuple[Column, AggregateCall]] = []
    values: dict[Column, Scalar] = {}
    places: dict[Scalar, tuple[Column, Column]] = {}
    for column, call in plan.calls:
        if call.function not in _FUNCTIONS:
            aggregates.append((column, call))
            continue
        arg = filtered_argument(call)
        if arg not in places:
            number, size = fresh.column(SqlType.INTEGER, "number"), fresh.column(SqlType.INTEGER, "size")
            calls = ((number, WindowCall("row_number")), (size, WindowCall("count", arg)))
            source = Window(source, tuple(key for _, key in plan.keys), (Order(arg, nulls_first=False),), calls)
            places[arg] = (number, size)
        values[column] = _value(call, arg, *places[arg], aggregates, fresh)
    grouped = Aggregate(source, plan.keys, tuple(aggregates), plan.total)
    return Project(grouped, tuple((column, values.get(column, column)) for column in plan.columns))


def _value(
    call: AggregateCall, arg: Scalar, number: Column, size: Column, aggregates: list[tuple[Column, AggregateCall]], fresh: Fresh
) -> Scalar:
    """Returns the percentile over aggregates that it adds to `aggregates`."""

    def at(place: Scalar) -> Column:
        column = fresh.column(arg.type, "at")
        chosen = Case(((Compare("=", number, place), arg),), Literal(None, SqlType.NULL), arg.type)
        aggregates.append((column, AggregateCall("max", chosen)))
        return column

    def position(of: Scalar) -> Scalar:
        """Returns the position between values, starting at 0."""
        last = Call("subtract", (of, integer(1)), SqlType.INTEGER)
        return Call("multiply", (last, Literal(call.fraction, SqlType.DOUBLE)), SqlType.DOUBLE)

    if call.function == "percentile_disc":
        scaled = Call("multiply", (size, Literal(call.fraction, SqlType.DOUBLE)), SqlType.DOUBLE)
        return at(Call("greatest", (Call("ceil", (scaled,), SqlType.DOUBLE), integer(1)), SqlType.DOUBLE))
    below = Call("floor", (position(size),), SqlType.DOUBLE)
    above = Call("ceil", (position(size),), SqlType.DOUBLE)
    low, high = (at(Call("add", (place, integer(1)), SqlType.DOUBLE)) for place in (below, above))
    total = fresh.column(SqlType.INTEGER, "size")
    aggregates.append((total, AggregateCall("max", size)))
    share = Call("modulo", (position(total), integer(1)), SqlType.DOUBLE)
    step = Call("multiply", (Call("subtract", (high, low), SqlType.DOUBLE), share), SqlType.DOUBLE)
    return Call("add", (low, step), SqlType.DOUBLE)
