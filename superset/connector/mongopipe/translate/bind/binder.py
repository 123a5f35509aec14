"""The binder of expressions: a table of handlers by node type, and what they share."""

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
"""A handler for each node type, with the names of the arguments that it understands, separated by spaces."""

_HARMLESS = frozenset({"typed", "safe", "big_int", "coalesce", "ignore_nulls", "dialect", "zone_optional"})
"""Arguments that sqlglot sets by itself and that say nothing here."""


@dataclass(frozen=True)
class Subquery:
    """A subquery in an expression; its outcome stands in the expression as column `outcome`."""

    plan: Plan
    outcome: Column
    mode: Mode
    needle: Scalar | None


@dataclass(frozen=True)
class Over:
    """A window function with its window; its value stands in the expression as column `value`."""

    value: Column
    call: WindowCall
    partition: tuple[Scalar, ...]
    order: tuple[Order, ...]


@dataclass
class Collected:
    """What expressions need the plan to compute for them first."""

    aggregates: dict[AggregateCall, Column] = field(default_factory=dict)
    windows: list[Over] = field(default_factory=list)
    subqueries: list[Subquery] = field(default_factory=list)
    inner_subqueries: list[Subquery] = field(default_factory=list)  # those inside aggregate functions


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
    """Binds the expressions of one clause by `handlers`.

    `aggregates` says whether aggregate functions may stand there, `windows` whether window functions may; `aliases` are names that
    mean expressions where no column has the name.
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
        self.inside: str | None = None  # the aggregate or window function whose arguments are being bound

    def bind(self, node: exp.Expression) -> Scalar:
        """The typed expression that the node means."""
        found = self.handlers.get(type(node))
        if found is None:
            raise NotSupportedError(f"{construct(node)} is not supported")
        known, handler = found
        only(node, known)
        return handler(self, node)

    def bind_all(self, nodes: Sequence[exp.Expression]) -> list[Scalar]:
        return [self.bind(node) for node in nodes]

    def constant(self, node: exp.Expression, where: str) -> Literal:
        """The node's value, which must not depend on the row. Raises NotSupportedError."""
        bound = self.bind(node)
        if not isinstance(bound, Literal):
            raise NotSupportedError(f"{where} must be a constant")
        return bound

    def whole(self, node: exp.Expression, where: str) -> int:
        """The node's value as an int. Raises ProgrammingError where it is none."""
        value = self.constant(node, where).value
        if isinstance(value, bool) or not isinstance(value, int):
            raise ProgrammingError(f"{where} must be a whole number")
        return int(value)

    def text(self, node: exp.Expression, where: str) -> str:
        """The node's value as text. Raises ProgrammingError where it is none."""
        value = self.constant(node, where).value
        if not isinstance(value, str):
            raise ProgrammingError(f"{where} must be text")
        return value

    def parameter(self, name: str) -> Literal:
        """The named parameter's value. Raises ProgrammingError where it has none."""
        if name not in self.statement.parameters:
            raise ProgrammingError(f"no value for parameter :{name}")
        return constant(self.statement.parameters[name])

    def nested(self, function: str) -> Nested:
        """A block in which the function's arguments are bound: no aggregate inside an aggregate, no window inside a window."""
        return Nested(self, function)

    def fresh(self, sql_type: SqlType, name: str, *, nullable: bool = True, element: SqlType | None = None) -> Column:
        return self.statement.fresh(sql_type, name, nullable=nullable, element=element)


class Nested:
    """See Binder.nested."""

    def __init__(self, binder: Binder, function: str) -> None:
        self.binder = binder
        self.function = function

    def __enter__(self) -> None:
        if self.binder.inside is not None:
            raise ProgrammingError(f"{self.function} inside {self.binder.inside} is not allowed")
        self.binder.inside = self.function

    def __exit__(self, *_: object) -> None:
        self.binder.inside = None


def construct(node: exp.Expression) -> str:
    """How messages name a node: the function's or the operator's SQL name, with the text."""
    if isinstance(node, exp.Anonymous):
        return f"function {node.name.upper()}"
    if isinstance(node, exp.Func):
        return f"function {node.sql_name()}"
    return f"{type(node).__name__} ({node.sql()[:80]})"


def only(node: exp.Expression, known: str) -> None:
    """Raises NotSupportedError where the node has an argument set that is not among the known: nothing is ignored silently."""
    allowed = known.split()
    for name, value in node.args.items():
        if value and name not in allowed and name not in _HARMLESS:
            shown = ", ".join(each.sql() if isinstance(each, exp.Expression) else str(each) for each in ensure_list(value))
            raise NotSupportedError(f"{name.strip('_').upper().replace('_', ' ')} in {construct(node)} is not supported ({shown})")
