"""The relational plan between SQL and the pipeline: immutable nodes, each a relation whose columns have unique numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from mongopipe.schema import Field, Table
from mongopipe.sql_types import SqlType
from mongopipe.translate.scalars import Column, Scalar, columns


@dataclass(frozen=True)
class Plan:
    """A relation. `columns` are its output, `inputs` the relations below it."""

    @property
    def columns(self) -> tuple[Column, ...]:
        raise NotImplementedError

    @property
    def inputs(self) -> tuple[Plan, ...]:
        return tuple(value for each in fields(self) if isinstance(value := getattr(self, each.name), Plan))

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        """The expressions that this node evaluates over its inputs."""
        return ()

    def over(self, *inputs: Plan) -> Plan:
        """Returns the same node over other inputs."""
        names = [each.name for each in fields(self) if isinstance(getattr(self, each.name), Plan)]
        return replace(self, **dict(zip(names, inputs, strict=True)))


@dataclass(frozen=True)
class Scan(Plan):
    """The documents of a collection or view."""

    table: Table
    items: tuple[tuple[Column, Field], ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for column, _ in self.items)


@dataclass(frozen=True)
class Constants(Plan):
    """Constant rows. A SELECT without FROM reads one row without columns."""

    outputs: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.outputs


@dataclass(frozen=True)
class Filter(Plan):
    input: Plan
    predicate: Scalar

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.input.columns

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        return (self.predicate,)


@dataclass(frozen=True)
class Project(Plan):
    input: Plan
    items: tuple[tuple[Column, Scalar], ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for column, _ in self.items)

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        return tuple(scalar for _, scalar in self.items)


@dataclass(frozen=True)
class AggregateCall:
    """A call of an aggregate function.

    The functions are count, sum, avg, min, max, stddev_samp, stddev_pop, var_samp, var_pop, percentile_cont and percentile_disc. `arg` is
    None for COUNT(*). `where` is the FILTER clause. `fraction` is the percentile's, from 0 to 1.
    """

    function: str
    arg: Scalar | None = None
    distinct: bool = False
    where: Scalar | None = None
    fraction: float = 0.0

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        return tuple(each for each in (self.arg, self.where) if each is not None)

    def __str__(self) -> str:
        inside = "*" if self.arg is None else str(self.arg)
        fraction = f", {self.fraction}" if self.function.startswith("percentile") else ""
        where = "" if self.where is None else f" where {self.where}"
        return f"{self.function}({'distinct ' if self.distinct else ''}{inside}{fraction}){where}"


@dataclass(frozen=True)
class Aggregate(Plan):
    """One row for each distinct tuple of keys. With `total` there are no keys, and an empty input produces one row."""

    input: Plan
    keys: tuple[tuple[Column, Scalar], ...]
    calls: tuple[tuple[Column, AggregateCall], ...]
    total: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*(column for column, _ in self.keys), *(column for column, _ in self.calls))

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        return (*(scalar for _, scalar in self.keys), *(each for _, call in self.calls for each in call.scalars))


@dataclass(frozen=True)
class Order:
    """A sort key. Nulls are the smallest values unless `nulls_first` says otherwise."""

    key: Scalar
    descending: bool = False
    nulls_first: bool = True

    @property
    def nulls_displaced(self) -> bool:
        """Whether the requested position of nulls differs from MongoDB's order."""
        return self.nulls_first == self.descending

    def __str__(self) -> str:
        return f"{self.key}{' desc' if self.descending else ''}{' nulls displaced' if self.nulls_displaced else ''}"


@dataclass(frozen=True)
class WindowCall:
    """A call of a window function.

    The functions are row_number, rank, dense_rank, lag, lead, first_value, last_value, and aggregates over a frame. `frame` is the range of
    rows (lower, upper) relative to the current row; None means unbounded. With `peers` the frame is SQL's default: from the start of the
    partition to the last peer of the current row. `offset` and `default` belong to lag and lead.
    """

    function: str
    arg: Scalar | None = None
    frame: tuple[int | None, int | None] = (None, None)
    peers: bool = False
    offset: int = 1
    default: Any = None

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        return () if self.arg is None else (self.arg,)

    def __str__(self) -> str:
        frame = "peers" if self.peers else "..".join("" if bound is None else str(bound) for bound in self.frame)
        return f"{self.function}({'' if self.arg is None else self.arg})[{frame}]"


@dataclass(frozen=True)
class Window(Plan):
    """The input's rows with additional columns: window functions that share one partition and one order."""

    input: Plan
    partition: tuple[Scalar, ...]
    order: tuple[Order, ...]
    calls: tuple[tuple[Column, WindowCall], ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*self.input.columns, *(column for column, _ in self.calls))

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        arguments = (each for _, call in self.calls for each in call.scalars)
        return (*self.partition, *(order.key for order in self.order), *arguments)


@dataclass(frozen=True)
class Sort(Plan):
    input: Plan
    order: tuple[Order, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.input.columns

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        return tuple(order.key for order in self.order)


@dataclass(frozen=True)
class Limit(Plan):
    """At most `count` rows (all rows if None) after the first `offset` rows."""

    input: Plan
    count: int | None
    offset: int = 0

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.input.columns


@dataclass(frozen=True)
class Union(Plan):
    """UNION ALL. Column i of each branch becomes column i of `outputs`."""

    branches: tuple[Plan, ...]
    outputs: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.outputs

    @property
    def inputs(self) -> tuple[Plan, ...]:
        return self.branches

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        return tuple(column for branch in self.branches for column in branch.columns)

    def over(self, *inputs: Plan) -> Plan:
        return Union(inputs, self.outputs)


@dataclass(frozen=True)
class Join(Plan):
    """Pairs of rows that satisfy `condition`. With `outer`, also each left row without a pair, with nulls as its right columns."""

    left: Plan
    right: Plan
    condition: Scalar
    outer: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*self.left.columns, *self.right.columns)

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        return (self.condition,)


class Mode(Enum):
    """The result of a subquery in an expression."""

    EXISTS = "exists"
    IN = "in"
    SCALAR = "scalar"


@dataclass(frozen=True)
class Apply(Plan):
    """The input's rows with one additional column, `outcome`: the result of a subquery, which may use the input's columns.

    Mode IN tests whether the subquery's first column contains `needle`. Mode SCALAR takes that column of the only row.
    """

    input: Plan
    subquery: Plan
    outcome: Column
    mode: Mode
    needle: Scalar | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*self.input.columns, self.outcome)

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        used = (self.subquery.columns[0],) if self.mode is not Mode.EXISTS else ()
        return (*used, *(() if self.needle is None else (self.needle,)))


def walk(plan: Plan) -> Iterator[Plan]:
    """Yields the plan and all plans below it in pre-order."""
    yield plan
    for each in plan.inputs:
        yield from walk(each)


class Fresh:
    """Creates columns with numbers that the plan does not use."""

    def __init__(self, plan: Plan) -> None:
        self._last = max((column.number for each in walk(plan) for column in each.columns), default=0)

    def column(self, sql_type: SqlType, name: str, *, nullable: bool = True) -> Column:
        self._last += 1
        return Column(self._last, sql_type, name, nullable=nullable)


def free_columns(plan: Plan) -> set[Column]:
    """Returns the columns that the plan uses but does not produce: those of an enclosing query."""
    made = {column for each in walk(plan) for column in each.columns}
    return {column for each in walk(plan) for column in columns(*each.scalars)} - made


def rewritten(plan: Plan, rule: Callable[[Plan], Plan]) -> Plan:
    """Applies `rule` to every node in post-order."""
    before = plan.inputs
    after = tuple(rewritten(each, rule) for each in before)
    if any(a is not b for a, b in zip(after, before, strict=True)):
        plan = plan.over(*after)
    return rule(plan)


def described(plan: Plan, depth: int = 0) -> str:
    """Renders the plan as indented text, one line for each node."""
    match plan:
        case Scan():
            text = f"scan {plan.table.name}"
        case Constants():
            text = f"constants {len(plan.rows)}"
        case Filter():
            text = f"filter {plan.predicate}"
        case Project():
            text = "project " + ", ".join(f"{column} = {scalar}" for column, scalar in plan.items)
        case Aggregate():
            keys = ", ".join(f"{column} = {scalar}" for column, scalar in plan.keys)
            aggregates = ", ".join(f"{column} = {call}" for column, call in plan.calls)
            text = f"aggregate [{keys}] {aggregates}".rstrip() + (" total" if plan.total else "")
        case Window():
            calls = ", ".join(f"{column} = {call}" for column, call in plan.calls)
            text = f"window [{', '.join(map(str, plan.partition))}] [{', '.join(map(str, plan.order))}] {calls}"
        case Sort():
            text = f"sort {', '.join(map(str, plan.order))}"
        case Limit():
            text = f"limit {plan.count} offset {plan.offset}"
        case Union():
            text = "union " + ", ".join(map(str, plan.outputs))
        case Join():
            text = f"{'left join' if plan.outer else 'join'} on {plan.condition}"
        case Apply():
            text = f"apply {plan.outcome} = {plan.mode.value} {'' if plan.needle is None else plan.needle}".rstrip()
        case _:
            raise AssertionError(plan)
    return "\n".join(["  " * depth + text, *(described(each, depth + 1) for each in plan.inputs)])
