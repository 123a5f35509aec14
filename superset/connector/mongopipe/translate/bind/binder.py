"""The binder of expressions, its table of handlers by node type, and the data that handlers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlglot import exp
from sqlglot.helper import ensure_list

from mongopipe.errors import NotSupportedError, ProgrammingError
from mongopipe.sql_types import SqlType
from mongopipe.translate.bind.coerce import constant
from mongopipe.translate.bind.names import Scope
from mongopipe.translate.plans import AggregateCall, Mode, Order, Plan, WindowCall
from mongopipe.translate.scalars import Column, Literal, Scalar

Handler = Callable[["Binder", Any], Scalar]
Handlers = Mapping[type[exp.Expression], tuple[str, Handler]]
"""A handler for each node type, with the names of the arguments that it supports, separated by spaces."""

_HARMLESS = frozenset({"typed", "safe", "big_int", "coalesce", "ignore_nulls", "dialect", "zone_optional"})
"""Arguments that sqlglot sets itself and that do not affect the meaning."""


@dataclass(frozen=True)
class Subquery:
    """A subquery in an expression. Column `outcome` replaces it in the expression."""

    plan: Plan
    outcome: Column
    mode: Mode
    needle: Scalar | None


@dataclass(frozen=True)
class Over:
    """A window function with its window. Column `value` replaces it in the expression."""

    value: Column
    call: WindowCall
    partition: tuple[Scalar, ...]
    order: tuple[Order, ...]


@dataclass
class Collected:
    """Operations that the plan must perform before it can evaluate the expressions."""

    aggregates: dict[AggregateCall, Column] = field(default_factory=dict)
    windows: list[Over] = field(default_factory=list)
    subqueries: list[Subquery] = field(default_factory=list)
    inner_subqueries: list[Subquery] = field(default_factory=list)  # the subqueries inside aggregate functions


class Statement(Protocol):
    """What the binder of an expression needs from the statement around it."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The values of the named parameters."""

    def fresh(self, sql_type: SqlType, name: str, *, nullable: bool = True, element: SqlType | None = None) -> Column:
        """A column with a number that is unique in the statement."""

    def subquery(self, node: exp.Expression, outer: Scope) -> Plan:
        """The plan of a subquery inside an expression whose names `outer` resolves."""


class Binder:
    """Binds the expressions of one clause with `handlers`.

    `aggregates` and `windows` say whether the clause allows aggregate functions and window functions. `aliases` are names of expressions;
    a column with the same name has precedence.
    """

    def __init__(
        self,
        handlers: Handlers,
        statement: Statement,
        scope: Scope,
        clause: str,
        collected: Collected,
        *,
        aggregates: bool = False,
        windows: bool = False,
        aliases: Mapping[str, Scalar] | None = None,
    ) -> None:
        self.handlers = handlers
        self.statement = statement
        self.scope = scope
        self.clause = clause
        self.collected = collected
        self.aggregates = aggregates
        self.windows = windows
        self.aliases = aliases or {}
        self.inside: str | None = None  # the aggregate or window function whose arguments the binder binds

    def bind(self, node: exp.Expression) -> Scalar:
        """Returns the typed expression of a node. Raises NotSupportedError if no handler supports the node."""
        found = self.handlers.get(type(node))
        if found is None:
            raise NotSupportedError(f"{construct(node)} is not supported")
        known, handler = found
        only(node, known)
        return handler(self, node)

    def bind_all(self, nodes: Sequence[exp.Expression]) -> list[Scalar]:
        return [self.bind(node) for node in nodes]

    def constant(self, node: exp.Expression, where: str) -> Literal:
        """Returns the value of a constant. Raises NotSupportedError if the node depends on the row."""
        bound = self.bind(node)
        if not isinstance(bound, Literal):
            raise NotSupportedError(f"{where} must be a constant")
        return bound

    def whole(self, node: exp.Expression, where: str) -> int:
        """Returns the value of a constant integer. Raises ProgrammingError if the value is not an integer."""
        value = self.constant(node, where).value
        if isinstance(value, bool) or not isinstance(value, int):
            raise ProgrammingError(f"{where} must be an integer")
        return int(value)

    def text(self, node: exp.Expression, where: str) -> str:
        """Returns the value of a constant text. Raises ProgrammingError if the value is not text."""
        value = self.constant(node, where).value
        if not isinstance(value, str):
            raise ProgrammingError(f"{where} must be text")
        return value

    def parameter(self, name: str) -> Literal:
        """Returns the value of a named parameter. Raises ProgrammingError if it has none."""
        if name not in self.statement.parameters:
            raise ProgrammingError(f"parameter :{name} has no value: pass one in `parameters`")
        return constant(self.statement.parameters[name])

    def nested(self, function: str) -> Nested:
        """Returns a context in which a function's arguments are bound. It rejects nested aggregates and nested window functions."""
        return Nested(self, function)

    def fresh(self, sql_type: SqlType, name: str, *, nullable: bool = True, element: SqlType | None = None) -> Column:
        return self.statement.fresh(sql_type, name, nullable=nullable, element=element)


class Nested:
    """The context of Binder.nested."""

    def __init__(self, binder: Binder, function: str) -> None:
        self.binder = binder
        self.function = function

    def __enter__(self) -> None:
        if self.binder.inside is not None:
            raise ProgrammingError(f"{self.function} inside {self.binder.inside} is not allowed: compute one of them in a subquery")
        self.binder.inside = self.function

    def __exit__(self, *_: object) -> None:
        self.binder.inside = None


def construct(node: exp.Expression) -> str:
    """Returns the name of a node for messages: the function's SQL name, or the node type with the SQL text."""
    if isinstance(node, exp.Anonymous):
        return f"function {node.name.upper()}"
    if isinstance(node, exp.Func):
        return f"function {node.sql_name()}"
    return f"{type(node).__name__} ({node.sql()[:80]})"


def only(node: exp.Expression, known: str) -> None:
    """Raises NotSupportedError if the node has an argument that is not in `known`, so that no argument is ignored silently."""
    allowed = known.split()
    for name, value in node.args.items():
        if value and name not in allowed and name not in _HARMLESS:
            shown = ", ".join(each.sql() if isinstance(each, exp.Expression) else str(each) for each in ensure_list(value))
            detail = "" if shown in ("", "True") else f": {shown}"
            raise NotSupportedError(f"{name.strip('_').upper().replace('_', ' ')} in {construct(node)} is not supported{detail}")
