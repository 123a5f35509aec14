"""Aggregate functions as accumulators of $group, and the expression over them that gives SQL's value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mongopipe.translate.emit.environment import Expression, either, is_literal, not_null
from mongopipe.translate.emit.values import Values
from mongopipe.translate.plans import Measure


@dataclass(frozen=True)
class Accumulated:
    """`accumulators` by field name, what each is over no rows, and the measure's value over these fields."""

    accumulators: dict[str, Expression]
    empty: dict[str, Any]
    value: Expression


def accumulated(measure: Measure, name: str, values: Values) -> Accumulated:
    """The measure in fields that start with `name`. $sum, $avg, $min, $max and $stdDev... pass over nulls, as SQL does."""
    condition = None if measure.where is None else values.truth(measure.where, True)
    if measure.arg is None:
        return _counted(name, 1 if condition is None else either(condition, 1, 0))
    arg = values.value(measure.arg)
    if condition is not None:
        arg = either(condition, arg, None)
    if measure.function == "count":
        return _counted(name, 1 if is_literal(arg) and arg["$literal"] is not None else either(not_null(arg), 1, 0))
    if measure.function == "sum":
        counted = f"{name}n"
        accumulators = {name: {"$sum": arg}, counted: {"$sum": either(not_null(arg), 1, 0)}}
        return Accumulated(accumulators, {name: 0, counted: 0}, either({"$gt": [f"${counted}", 0]}, f"${name}", None))
    if measure.function in ("var_samp", "var_pop"):
        operator = "$stdDevSamp" if measure.function == "var_samp" else "$stdDevPop"
        return Accumulated({name: {operator: arg}}, {name: None}, {"$pow": [f"${name}", 2]})
    operator = {"avg": "$avg", "min": "$min", "max": "$max", "stddev_samp": "$stdDevSamp", "stddev_pop": "$stdDevPop"}[measure.function]
    return Accumulated({name: {operator: arg}}, {name: None}, f"${name}")


def _counted(name: str, one: Expression) -> Accumulated:
    return Accumulated({name: {"$sum": one}}, {name: 0}, f"${name}")
