"""Subqueries in expressions: EXISTS, IN and scalar subqueries."""

from __future__ import annotations

from sqlglot import exp

from mongopipe.errors import NotSupportedError, ProgrammingError
from mongopipe.sql_types import SqlType
from mongopipe.translate.bind.binder import Binder, Handlers, Subquery
from mongopipe.translate.bind.coerce import comparable
from mongopipe.translate.plans import Aggregate, Filter, Limit, Mode, Plan, Project, Sort
from mongopipe.translate.scalars import Scalar


def in_subquery(binder: Binder, needle: exp.Expression, query: exp.Expression) -> Scalar:
    """Binds `needle IN (query)`."""
    if isinstance(needle, exp.Tuple):
        raise NotSupportedError("IN over a tuple of columns is not supported")
    plan = binder.statement.subquery(query, binder.scope)
    if len(plan.columns) != 1:
        raise ProgrammingError(f"a subquery of IN must have one column, not {len(plan.columns)}")
    left, right = comparable(binder.bind(needle), plan.columns[0])
    if right is not plan.columns[0]:
        column = binder.fresh(right.type, "in")
        plan = Project(plan, ((column, right),))
    return _outcome(binder, plan, Mode.IN, SqlType.BOOLEAN, left)


def _exists(binder: Binder, node: exp.Exists) -> Scalar:
    return _outcome(binder, binder.statement.subquery(node.this, binder.scope), Mode.EXISTS, SqlType.BOOLEAN, None)


def _single(binder: Binder, node: exp.Subquery) -> Scalar:
    plan = binder.statement.subquery(node, binder.scope)
    if len(plan.columns) != 1:
        raise ProgrammingError(f"a scalar subquery must have one column, not {len(plan.columns)}")
    if not _single_row(plan):
        raise NotSupportedError("a scalar subquery must be an aggregate without GROUP BY, or have LIMIT 1")
    return _outcome(binder, plan, Mode.SCALAR, plan.columns[0].type, None)


def _single_row(plan: Plan) -> bool:
    """Returns whether the plan yields at most one row for any data."""
    match plan:
        case Aggregate():
            return plan.total
        case Limit(count=int(count)) if count <= 1:
            return True
        case Project() | Filter() | Sort() | Limit():
            return _single_row(plan.input)
    return False


def _outcome(binder: Binder, plan: Plan, mode: Mode, sql_type: SqlType, needle: Scalar | None) -> Scalar:
    outcome = binder.fresh(sql_type, mode.value)
    collected = binder.collected
    waiting = collected.subqueries if binder.inside is None else collected.inner_subqueries
    waiting.append(Subquery(plan, outcome, mode, needle))
    return outcome


HANDLERS: Handlers = {
    exp.Exists: ("this", _exists),
    exp.Subquery: ("this", _single),
}
