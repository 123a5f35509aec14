"""Aggregate functions as accumulators of $group, and expressions over the accumulators that produce SQL's values."""

from __future__ import annotations

from typing import Any

from mongopipe.translate.emit.environment import Expression, either, is_literal, not_null
from mongopipe.translate.emit.values import Values
from mongopipe.translate.plans import AggregateCall

_OPERATORS = {
    "avg": "$avg",
    "min": "$min",
    "max": "$max",
    "stddev_samp": "$stdDevSamp",
    "stddev_pop": "$stdDevPop",
    "var_samp": "$stdDevSamp",
    "var_pop": "$stdDevPop",
}


class Accumulators:
    """The accumulators of one $group: `fields` by name, and their values over no rows in `empty`. Equal accumulators share a field."""

    def __init__(self, values: Values) -> None:
        self.fields: dict[str, Expression] = {}
        self.empty: dict[str, Any] = {}
        self._values = values
        self._known: dict[str, str] = {}

    def value(self, call: AggregateCall) -> Expression:
        """Returns the aggregate's value over the fields. $sum, $avg, $min, $max and $stdDev... skip nulls, as SQL does."""
        condition = None if call.where is None else self._values.truth(call.where, True)
        if call.arg is None:
            return self._field("$sum", 1 if condition is None else either(condition, 1, 0), 0)
        arg = self._values.value(call.arg)
        if condition is not None:
            arg = either(condition, arg, None)
        if call.function == "count":
            counts_all = is_literal(arg) and arg["$literal"] is not None
            return self._field("$sum", 1 if counts_all else either(not_null(arg), 1, 0), 0)
        if call.function == "sum":
            some = self._field("$min", arg, None)  # the cheapest test for at least one value
            return either(not_null(some), self._field("$sum", arg, 0), None)
        value = self._field(_OPERATORS[call.function], arg, None)
        return {"$pow": [value, 2]} if call.function in ("var_samp", "var_pop") else value

    def _field(self, operator: str, arg: Expression, empty: Any) -> Expression:
        accumulator = {operator: arg}
        name = self._known.setdefault(repr(accumulator), f"a{len(self.fields)}")
        self.fields[name] = accumulator
        self.empty[name] = empty
        return f"${name}"
