"""Moves filters towards the documents, where MongoDB can use indexes."""

from __future__ import annotations

from dataclasses import replace

from mongopipe.translate.plans import Aggregate, Apply, Filter, Join, Plan, Project, Sort, Union, Window, rewritten
from mongopipe.translate.scalars import TRUE, Column, Scalar, columns, conjunction, conjuncts, substituted


def push_filters(plan: Plan) -> Plan:
    """Moves each part of a filter below projections, sorts, groups (by their keys), windows (by their partitions), unions and joins."""
    return rewritten(plan, lambda each: _pushed(each.input, list(conjuncts(each.predicate))) if isinstance(each, Filter) else each)


def _pushed(plan: Plan, parts: list[Scalar]) -> Plan:
    """Returns the plan with the parts as filters."""
    parts = [part for part in parts if part != TRUE]
    if not parts:
        return plan
    match plan:
        case Filter():
            return _pushed(plan.input, [*conjuncts(plan.predicate), *parts])
        case Project():
            values = {column.number: scalar for column, scalar in plan.items}
            return replace(plan, input=_pushed(plan.input, [substituted(part, values) for part in parts]))
        case Sort():
            return replace(plan, input=_pushed(plan.input, parts))
        case Aggregate() if plan.keys:
            keys = {column.number: scalar for column, scalar in plan.keys}
            below, above = _divided(parts, set(keys))
            return _above(replace(plan, input=_pushed(plan.input, [substituted(part, keys) for part in below])), above)
        case Window():
            partition = {each.number for each in plan.partition if isinstance(each, Column)}
            below, above = _divided(parts, partition)
            return _above(replace(plan, input=_pushed(plan.input, below)), above)
        case Apply():
            below, above = _divided(parts, {column.number for column in plan.input.columns})
            return _above(replace(plan, input=_pushed(plan.input, below)), above)
        case Union():
            return replace(plan, branches=tuple(_into_branch(plan, branch, parts) for branch in plan.branches))
        case Join():
            return _into_join(plan, parts)
    return _above(plan, parts)


def _above(plan: Plan, parts: list[Scalar]) -> Plan:
    return Filter(plan, conjunction(parts)) if parts else plan


def _divided(parts: list[Scalar], known: set[int]) -> tuple[list[Scalar], list[Scalar]]:
    """Divides the parts into those that use at least one column and only known columns, and the others."""
    below: list[Scalar] = []
    above: list[Scalar] = []
    for part in parts:
        used = {column.number for column in columns(part)}
        (below if used and used <= known else above).append(part)
    return below, above


def _into_branch(plan: Union, branch: Plan, parts: list[Scalar]) -> Plan:
    values: dict[int, Scalar] = {output.number: column for output, column in zip(plan.outputs, branch.columns, strict=True)}
    return _pushed(branch, [substituted(part, values) for part in parts])


def _into_join(plan: Join, parts: list[Scalar]) -> Plan:
    """Moves parts that use only one side into that side, but nothing into the right side of an outer join."""
    left, rest = _divided(parts, {column.number for column in plan.left.columns})
    if plan.outer:
        return _above(replace(plan, left=_pushed(plan.left, left)), rest)
    right, rest = _divided(rest, {column.number for column in plan.right.columns})
    joined = replace(plan, left=_pushed(plan.left, left), right=_pushed(plan.right, right))
    return _above(joined, rest)
