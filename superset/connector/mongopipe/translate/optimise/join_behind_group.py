"""Moves a join of many rows with few rows behind the group: a $lookup runs for each row, and there are fewer groups than rows."""

from __future__ import annotations

from mongopipe.translate.optimise.partial_aggregates import DECOMPOSABLE, split
from mongopipe.translate.plans import Aggregate, AggregateCall, Fresh, Join, Plan, Project, rewritten
from mongopipe.translate.scalars import Column, Scalar, columns


def join_behind_group(plan: Plan) -> Plan:
    """Rewrites `group(join(left, right))` to `group(join(group(left), right))` if all aggregates use left columns only.

    The new group's keys are the left columns in the join condition and in the outer keys. A left row with several matches counts once for
    each match in both forms, because its group has the same matches.
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
