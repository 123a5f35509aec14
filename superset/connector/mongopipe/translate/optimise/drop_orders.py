"""Nobody sorts rows that are only counted."""

from __future__ import annotations

from mongopipe.translate.plans import Aggregate, AggregateCall, Limit, Plan, Project, Sort, rewritten


def drop_orders(plan: Plan) -> Plan:
    """Below a count of all rows, through projections and limits: how many there are does not depend on which come first.

    A sort there would cost more than itself: MongoDB reads a whole index to spare it, where another finds the rows.
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
