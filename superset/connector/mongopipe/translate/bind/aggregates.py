"""Aggregate functions, with DISTINCT and FILTER."""

from __future__ import annotations

from sqlglot import exp

from mongopipe.errors import NotSupportedError, ProgrammingError
from mongopipe.sql_types import SqlType
from mongopipe.translate.bind.binder import Binder, Handlers, construct, only
from mongopipe.translate.bind.coerce import as_number, as_truth
from mongopipe.translate.plans import AggregateCall
from mongopipe.translate.scalars import Column, Scalar

_NAMES: dict[type[exp.Expression], str] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
    exp.AnyValue: "max",
    exp.LogicalOr: "max",
    exp.LogicalAnd: "min",
    exp.Stddev: "stddev_samp",
    exp.StddevSamp: "stddev_samp",
    exp.StddevPop: "stddev_pop",
    exp.Variance: "var_samp",
    exp.VariancePop: "var_pop",
}
_SPREADS = ("stddev_samp", "stddev_pop", "var_samp", "var_pop")


def aggregate_call(binder: Binder, node: exp.Expression) -> AggregateCall:
    """Binds an aggregate function without FILTER."""
    if isinstance(node, exp.CountIf):
        return AggregateCall("count", where=as_truth(binder.bind(node.this)))
    if isinstance(node, exp.WithinGroup | exp.Median | exp.PercentileCont | exp.Quantile):
        return _percentile(binder, node)
    function = _NAMES.get(type(node))
    if function is None:
        raise NotSupportedError(f"{construct(node)} is not supported as an aggregate or window function")
    if node.expressions:
        raise NotSupportedError(f"{construct(node)} with several arguments is not supported")
    arg = node.this
    distinct = isinstance(arg, exp.Distinct)
    if distinct:
        only(arg, "expressions")
        if len(arg.expressions) != 1:
            raise NotSupportedError(f"{function.upper()} DISTINCT with several columns is not supported")
        arg = arg.expressions[0]
    if function == "count" and isinstance(arg, exp.Star):
        return AggregateCall("count")
    value = binder.bind(arg)
    if function in ("sum", "avg", *_SPREADS):
        value = as_number(value, function.upper())
    elif function in ("min", "max") and not value.type.ordered:
        raise NotSupportedError(f"{function.upper()} of {value.type.value} is not supported")
    return AggregateCall(function, value, distinct=distinct and function not in ("min", "max"))


def _percentile(binder: Binder, node: exp.WithinGroup | exp.Median | exp.PercentileCont | exp.Quantile) -> AggregateCall:
    function, descending = "percentile_cont", False
    if isinstance(node, exp.Median):
        arg, fraction = node.this, 0.5
    elif isinstance(node, exp.WithinGroup):
        order = node.expression.expressions
        if not isinstance(node.this, exp.PercentileCont | exp.PercentileDisc) or len(order) != 1 or node.this.args.get("expression"):
            raise NotSupportedError(f"{construct(node.this)} WITHIN GROUP is not supported")
        function = "percentile_cont" if isinstance(node.this, exp.PercentileCont) else "percentile_disc"
        arg, descending = order[0].this, bool(order[0].args.get("desc"))
        fraction = _fraction(binder, node.this.this)
    elif isinstance(node, exp.PercentileCont):
        if node.expression is None:
            raise ProgrammingError("PERCENTILE_CONT needs WITHIN GROUP (ORDER BY ...)")
        arg, fraction = node.this, _fraction(binder, node.expression)
    else:
        function, arg, fraction = "percentile_disc", node.this, _fraction(binder, node.args["quantile"])
    if descending and function == "percentile_disc":
        raise NotSupportedError("PERCENTILE_DISC in descending order is not supported")
    if isinstance(arg, exp.Distinct):
        raise NotSupportedError("a percentile of DISTINCT values is not supported")
    value = binder.bind(arg)
    if function == "percentile_cont":
        value = as_number(value, "PERCENTILE_CONT")
    elif not value.type.ordered:
        raise NotSupportedError(f"a percentile of {value.type.value} is not supported")
    return AggregateCall(function, value, fraction=1 - fraction if descending else fraction)


def _fraction(binder: Binder, node: exp.Expression) -> float:
    value = binder.constant(node, "a percentile's fraction").value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ProgrammingError("a percentile's fraction must be a number from 0 to 1")
    return float(value)


def result_type(call: AggregateCall) -> SqlType:
    """Returns the type of an aggregate's values."""
    if call.function == "count":
        return SqlType.INTEGER
    assert call.arg is not None
    if call.function in ("sum", "min", "max", "percentile_disc"):
        return call.arg.type
    return SqlType.DECIMAL if call.arg.type is SqlType.DECIMAL and call.function in ("avg", "percentile_cont") else SqlType.DOUBLE


def _aggregate(binder: Binder, node: exp.Expression) -> Scalar:
    name = node.sql_name() if isinstance(node, exp.Func) else type(node).__name__
    if not binder.aggregates and binder.inside is None:
        hint = ": use HAVING" if binder.clause == "WHERE" else ""
        raise ProgrammingError(f"aggregate function {name} is not allowed in {binder.clause}{hint}")
    where = None
    with binder.nested(name):
        if isinstance(node, exp.Filter):
            call = aggregate_call(binder, node.this)
            where = as_truth(binder.bind(node.expression.this))
            call = AggregateCall(call.function, call.arg, call.distinct, where, call.fraction)
        else:
            call = aggregate_call(binder, node)
    return registered(binder, call, name)


def registered(binder: Binder, call: AggregateCall, name: str) -> Column:
    """Returns the column that holds an aggregate. Equal aggregates share one column."""
    aggregates = binder.collected.aggregates
    if call not in aggregates:
        aggregates[call] = binder.fresh(result_type(call), name.lower(), nullable=call.function != "count")
    return aggregates[call]


HANDLERS: Handlers = {
    **dict.fromkeys(_NAMES, ("this", _aggregate)),
    exp.CountIf: ("this", _aggregate),
    exp.Median: ("this", _aggregate),
    exp.PercentileCont: ("this expression", _aggregate),
    exp.Quantile: ("this quantile", _aggregate),
    exp.WithinGroup: ("this expression", _aggregate),
    exp.Filter: ("this expression", _aggregate),
}
