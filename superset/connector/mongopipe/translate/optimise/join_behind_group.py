"""A join of large rows with small ones moves behind the group: groups are few, and each row's $lookup costs."""

from __future__ import annotations

from mongopipe.translate.optimise.partial_aggregates import DECOMPOSABLE, split
from mongopipe.translate.plans import Aggregate, AggregateCall, Fresh, Join, Plan, Project, rewritten
from mongopipe.translate.scalars import Column, Scalar, columns


def join_behind_group(plan: Plan) -> Plan:
    """`group(join(left, right))` becomes `group(join(group(left), right))` if all aggregates are about left columns.

    The left side is grouped by what the join and the keys use of it. A left row that has several partners counts once for each of
    them either way, as its group has the same partners.
    """
    fresh = Fresh(plan)

    def moved(each: Plan) -> Plan:
        return _moved(each, each.input, fresh) if isinstance(each, Aggregate) and isinstance(each.input, Join) else each

    return rewritten(plan, moved)


def _moved(plan: Aggregate, join: Join, fresh: Fresh) -> Plan:
    left = set(join.left.columns)
    aggregated = {column for _, call in plan.calls for scalar in call.scalars for column in columns(scalar)}
    used = [column for column in columns(join.condition, *(key for _, key in plan.keys)) if column in left]
    if not aggregated <= left or not used or isinstance(join.left, Aggregate):
        return plan
    if any(call.function not in DECOMPOSABLE or call.distinct for _, call in plan.calls):
        return plan
    renamed = tuple((fresh.column(column.type, column.name), column) for column in dict.fromkeys(used))
    partial: list[tuple[Column, AggregateCall]] = []
    merged: list[tuple[Column, AggregateCall]] = []
    values: dict[Column, Scalar] = {column: split(call, column, partial, merged, fresh) for column, call in plan.calls}
    grouped = Aggregate(join.left, renamed, tuple(partial))
    items = (*((old, new) for new, old in renamed), *((part, part) for part, _ in partial))
    outer = Aggregate(Join(Project(grouped, items), join.right, join.condition, join.outer), plan.keys, tuple(merged), plan.total)
    return Project(outer, tuple((column, values.get(column, column)) for column in plan.columns))
