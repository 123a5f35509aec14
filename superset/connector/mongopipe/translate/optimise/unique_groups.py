"""A group by _id becomes a projection, because each group is one row. A $group of all rows could exceed memory."""

from __future__ import annotations

from mongopipe.sql_types import SqlType
from mongopipe.translate.optimise.partial_aggregates import filtered_argument
from mongopipe.translate.plans import Aggregate, AggregateCall, Filter, Limit, Plan, Project, Scan, Sort, Window, rewritten
from mongopipe.translate.scalars import TRUE, Case, Column, IsNull, Literal, Scalar, integer

_NULL = Literal(None, SqlType.NULL)


def unique_groups(plan: Plan) -> Plan:
    """Rewrites `GROUP BY _id, ...` over a collection to a projection. For one row, a sum is the value and a count is 0 or 1."""
    return rewritten(plan, lambda each: _ungrouped(each) if isinstance(each, Aggregate) else each)


def _ungrouped(plan: Aggregate) -> Plan:
    if not any(_is_identity(key, plan.input) for _, key in plan.keys):
        return plan
    aggregates = tuple((column, _alone(call, column)) for column, call in plan.calls)
    return Project(plan.input, (*plan.keys, *aggregates))


def _is_identity(scalar: Scalar, plan: Plan) -> bool:
    """Returns whether the expression is the _id of a collection whose documents occur at most once in the plan's rows."""
    if not isinstance(scalar, Column):
        return False
    match plan:
        case Scan():
            return not plan.table.is_view and any(column == scalar and field.path == ("_id",) for column, field in plan.items)
        case Project():
            return any(column == scalar and _is_identity(value, plan.input) for column, value in plan.items)
        case Filter() | Sort() | Limit() | Window():
            return _is_identity(scalar, plan.input)
    return False


def _alone(call: AggregateCall, column: Column) -> Scalar:
    """Returns the aggregate's value for a group of one row."""
    if call.arg is None:
        return Case(((TRUE if call.where is None else call.where, integer(1)),), integer(0), SqlType.INTEGER)
    value = filtered_argument(call)
    if call.function == "count":
        return Case(((IsNull(value), integer(0)),), integer(1), SqlType.INTEGER)
    if call.function in ("stddev_samp", "var_samp"):
        return Literal(None, column.type)
    if call.function in ("stddev_pop", "var_pop"):
        return Case(((IsNull(value), _NULL),), Literal(0.0, SqlType.DOUBLE), SqlType.DOUBLE)
    return value
