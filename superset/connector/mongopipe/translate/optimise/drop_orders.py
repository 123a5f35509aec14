"""Removes sorts below a count of all rows."""

from __future__ import annotations

from mongopipe.translate.plans import Aggregate, AggregateCall, Limit, Plan, Project, Sort, rewritten


def drop_orders(plan: Plan) -> Plan:
    """Removes sorts below projections and limits under a count of all rows: the number of rows does not depend on their order.

    Such a sort costs more than the sorting itself: to avoid it MongoDB reads a whole index, where another index would find the rows.
    """
    return rewritten(plan, lambda each: each.over(_unordered(each.input)) if isinstance(each, Aggregate) and _only_counts(each) else each)


def _only_counts(aggregate: Aggregate) -> bool:
    return not aggregate.keys and all(call == AggregateCall("count") for _, call in aggregate.calls)


def _unordered(plan: Plan) -> Plan:
    match plan:
        case Sort():
            return _unordered(plan.input)
        case Project() | Limit():
            return plan.over(_unordered(plan.input))
    return plan
