"""Moves limits below operators that preserve the number and order of rows."""

from __future__ import annotations

from dataclasses import replace

from mongopipe.translate.plans import Apply, Limit, Plan, Project, Sort, Union, rewritten
from mongopipe.translate.scalars import columns


def push_limits(plan: Plan) -> Plan:
    """Moves limits below projections and subqueries and, as an upper bound, into the branches of UNION ALL."""
    return rewritten(plan, lambda each: _pushed(each) if isinstance(each, Limit) else each)


def _pushed(limit: Limit) -> Plan:
    below = limit.input
    match below:
        case Project():
            return replace(below, input=_pushed(replace(limit, input=below.input)))
        case Apply():
            return replace(below, input=_pushed(replace(limit, input=below.input)))
        case Sort(input=Apply() as apply) if apply.outcome not in set(columns(*below.scalars)):
            return replace(apply, input=_pushed(replace(limit, input=replace(below, input=apply.input))))
        case Union() if limit.count is not None:
            bound = limit.count + limit.offset
            branches = tuple(_pushed(Limit(branch, bound)) for branch in below.branches)
            return replace(limit, input=replace(below, branches=branches))
    return limit
