"""Typed expressions over the columns of a plan: SQL's expressions after names and types are resolved.

Every node is immutable and compares by structure: two equal nodes are the same expression, for example in SELECT and GROUP BY.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mongopipe.sql_types import SqlType


@dataclass(frozen=True)
class Scalar:
    """An expression. `type` is its SQL type; `children` are its operands; `rebuilt` creates the same node over other operands."""

    if TYPE_CHECKING:  # at run time the property would become the default of the dataclass fields of that name

        @property
        def type(self) -> SqlType: ...

    @property
    def children(self) -> tuple[Scalar, ...]:
        return ()

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        assert not children
        return self


@dataclass(frozen=True)
class Column(Scalar):
    """A column of a plan. Its number is unique in the whole plan; `name` serves messages and labels only."""

    number: int
    type: SqlType
    name: str = ""
    element: SqlType | None = None
    nullable: bool = True

    def __str__(self) -> str:
        return f"{self.name}#{self.number}"


@dataclass(frozen=True)
class Literal(Scalar):
    """A constant, as the Python value that BSON encodes."""

    value: Any
    type: SqlType

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and (self.type, self.value) == (other.type, other.value)

    def __hash__(self) -> int:
        return hash((self.type, repr(self.value)))

    def __str__(self) -> str:
        return "NULL" if self.value is None else repr(self.value)


NULL = Literal(None, SqlType.NULL)
TRUE = Literal(True, SqlType.BOOLEAN)
FALSE = Literal(False, SqlType.BOOLEAN)


def integer(value: int) -> Literal:
    return Literal(value, SqlType.INTEGER)


@dataclass(frozen=True)
class Call(Scalar):
    """A call of a function or arithmetic operator by name (see emit.functions). `options` are constants such as a date's unit."""

    name: str
    args: tuple[Scalar, ...]
    type: SqlType
    options: tuple[Any, ...] = ()

    @property
    def children(self) -> tuple[Scalar, ...]:
        return self.args

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return Call(self.name, children, self.type, self.options)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, (*self.args, *self.options)))})"


@dataclass(frozen=True)
class Cast(Scalar):
    """CAST, or TRY_CAST if `safe`."""

    arg: Scalar
    type: SqlType
    safe: bool = False

    @property
    def children(self) -> tuple[Scalar, ...]:
        return (self.arg,)

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return Cast(children[0], self.type, self.safe)

    def __str__(self) -> str:
        return f"{'try_' if self.safe else ''}cast({self.arg} as {self.type.value})"


@dataclass(frozen=True)
class Case(Scalar):
    """A searched CASE: the value of the first branch whose condition is true."""

    branches: tuple[tuple[Scalar, Scalar], ...]
    default: Scalar
    type: SqlType

    @property
    def children(self) -> tuple[Scalar, ...]:
        return (*(each for branch in self.branches for each in branch), self.default)

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return Case(tuple(zip(children[:-1:2], children[1:-1:2], strict=True)), children[-1], self.type)

    def __str__(self) -> str:
        return f"case({', '.join(f'{condition} -> {value}' for condition, value in self.branches)}, {self.default})"


@dataclass(frozen=True)
class Predicate(Scalar):
    """An expression that is true, false or unknown."""

    @property
    def type(self) -> SqlType:
        return SqlType.BOOLEAN


@dataclass(frozen=True)
class Compare(Predicate):
    """A comparison. `operator` is one of = <> < <= > >=."""

    operator: str
    left: Scalar
    right: Scalar

    OPPOSITE: ClassVar = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
    MIRRORED: ClassVar = {"=": "=", "<>": "<>", "<": ">", ">": "<", "<=": ">=", ">=": "<="}

    @property
    def children(self) -> tuple[Scalar, ...]:
        return (self.left, self.right)

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return Compare(self.operator, *children)

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True)
class Same(Predicate):
    """IS NOT DISTINCT FROM: both sides are equal or both are null. Never unknown."""

    left: Scalar
    right: Scalar

    @property
    def children(self) -> tuple[Scalar, ...]:
        return (self.left, self.right)

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return Same(*children)

    def __str__(self) -> str:
        return f"{self.left} is not distinct from {self.right}"


@dataclass(frozen=True)
class And(Predicate):
    args: tuple[Scalar, ...]

    @property
    def children(self) -> tuple[Scalar, ...]:
        return self.args

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return And(children)

    def __str__(self) -> str:
        return f"({' and '.join(map(str, self.args))})"


@dataclass(frozen=True)
class Or(Predicate):
    args: tuple[Scalar, ...]

    @property
    def children(self) -> tuple[Scalar, ...]:
        return self.args

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return Or(children)

    def __str__(self) -> str:
        return f"({' or '.join(map(str, self.args))})"


@dataclass(frozen=True)
class Not(Predicate):
    arg: Scalar

    @property
    def children(self) -> tuple[Scalar, ...]:
        return (self.arg,)

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return Not(children[0])

    def __str__(self) -> str:
        return f"not {self.arg}"


@dataclass(frozen=True)
class IsNull(Predicate):
    """IS NULL. Never unknown."""

    arg: Scalar

    @property
    def children(self) -> tuple[Scalar, ...]:
        return (self.arg,)

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return IsNull(children[0])

    def __str__(self) -> str:
        return f"{self.arg} is null"


@dataclass(frozen=True)
class IsTruth(Predicate):
    """IS TRUE or IS FALSE, depending on `value`. Never unknown."""

    arg: Scalar
    value: bool

    @property
    def children(self) -> tuple[Scalar, ...]:
        return (self.arg,)

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return IsTruth(children[0], self.value)

    def __str__(self) -> str:
        return f"{self.arg} is {str(self.value).lower()}"


@dataclass(frozen=True)
class InList(Predicate):
    arg: Scalar
    options: tuple[Scalar, ...]

    @property
    def children(self) -> tuple[Scalar, ...]:
        return (self.arg, *self.options)

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return InList(children[0], children[1:])

    def __str__(self) -> str:
        return f"{self.arg} in ({', '.join(map(str, self.options))})"


@dataclass(frozen=True)
class Like(Predicate):
    """LIKE. `pattern` is the regular expression that the string must match; `sql` is the original pattern."""

    arg: Scalar
    pattern: str
    sql: str

    @property
    def children(self) -> tuple[Scalar, ...]:
        return (self.arg,)

    def rebuilt(self, children: tuple[Scalar, ...]) -> Scalar:
        return Like(children[0], self.pattern, self.sql)

    def __str__(self) -> str:
        return f"{self.arg} like {self.sql!r}"


def walk(scalar: Scalar) -> Iterator[Scalar]:
    """Yields the expression and all expressions below it in pre-order."""
    yield scalar
    for child in scalar.children:
        yield from walk(child)


def columns(*scalars: Scalar) -> Iterator[Column]:
    """Yields each use of a column in the expressions."""
    for scalar in scalars:
        for each in walk(scalar):
            if isinstance(each, Column):
                yield each


def rewritten(scalar: Scalar, rule: Callable[[Scalar], Scalar | None]) -> Scalar:
    """Replaces every node for which `rule` returns an expression, in pre-order."""
    answer = rule(scalar)
    if answer is not None:
        return answer
    before = scalar.children
    if not before:
        return scalar
    after = tuple(rewritten(child, rule) for child in before)
    return scalar if all(a is b for a, b in zip(after, before, strict=True)) else scalar.rebuilt(after)


def substituted(scalar: Scalar, values: dict[int, Scalar]) -> Scalar:
    """Replaces columns, by number, with expressions."""
    return rewritten(scalar, lambda each: values.get(each.number) if isinstance(each, Column) else None)


def conjuncts(scalar: Scalar) -> Iterator[Scalar]:
    """Yields the parts of a conjunction."""
    if isinstance(scalar, And):
        for each in scalar.args:
            yield from conjuncts(each)
    else:
        yield scalar


def conjunction(scalars: tuple[Scalar, ...] | list[Scalar]) -> Scalar:
    """Returns the conjunction of the predicates."""
    if not scalars:
        return TRUE
    return scalars[0] if len(scalars) == 1 else And(tuple(scalars))
