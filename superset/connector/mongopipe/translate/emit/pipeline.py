"""Converts plans to stages.

The emitter walks a plan bottom-up. Besides the stages it keeps an environment: the expression of each column at that point. Renaming and
computing columns therefore needs no stage, because each expression is inlined where it is used. The emitter adds a stage only if MongoDB
needs a field (to sort or join by), or if an expression with several uses would be computed several times.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mongopipe.sql_types import SqlType
from mongopipe.translate.emit.accumulators import Accumulators
from mongopipe.translate.emit.environment import (
    Environment,
    Expression,
    Names,
    either,
    is_cheap,
    is_literal,
    is_null,
    is_path,
    literal,
    not_null,
    path,
)
from mongopipe.translate.emit.match import match
from mongopipe.translate.emit.values import Values
from mongopipe.translate.plans import (
    Aggregate,
    Apply,
    Constants,
    Filter,
    Join,
    Limit,
    Mode,
    Order,
    Plan,
    Project,
    Scan,
    Sort,
    Union,
    Window,
    WindowCall,
    free_columns,
    walk,
)
from mongopipe.translate.scalars import TRUE, Column, Compare, Scalar, columns, conjunction, conjuncts

Stage = dict[str, Any]


@dataclass(frozen=True)
class Pipeline:
    """The stages to run on `collection`, or on the database if it is None.

    Each output document has one field for each of the plan's columns, in order: c0, c1 ... `types` are the types of the columns.
    """

    collection: str | None
    stages: list[Stage]
    types: tuple[SqlType, ...]


@dataclass
class _Stream:
    """A pipeline under construction. If `plain`, its stages only filter, and documents are the collection's own.

    `first` holds uncorrelated subqueries as $lookup stages, by the name of the variable for their result. They run once, before the
    stages, which use the variables.
    """

    collection: str | None
    stages: list[Stage]
    environment: Environment
    plain: bool = False
    first: dict[str, Stage] = field(default_factory=dict)

    def add(self, *stages: Stage) -> None:
        self.stages.extend(stages)
        self.plain = False

    def closed(self) -> _Stream:
        """Puts the `first` stages before the stream. They start from one empty document, and a $lookup then adds the stream's documents."""
        if not self.first:
            return self
        lets = {name: {"$first": f"$first.{name}"} for name in self.first}
        source = {} if self.collection is None else {"from": self.collection}
        rows: Stage = {"$lookup": {**source, "let": lets, "pipeline": self.stages, "as": "row"}}
        stages = [{"$documents": [{}]}, *self.first.values(), rows, {"$unwind": "$row"}, {"$replaceRoot": {"newRoot": "$row"}}]
        return _Stream(None, stages, self.environment)


def emit(plan: Plan) -> Pipeline:
    """Returns the pipeline of a plan. Raises NotSupportedError for an unsupported correlation."""
    uses = Counter(column.number for each in walk(plan) for column in columns(*each.scalars))
    emitter = _Emitter(uses)
    stream = emitter.stream(plan, {column.number for column in plan.columns}, {})
    outputs = {f"c{place}": stream.environment[column.number] for place, column in enumerate(plan.columns)}
    if outputs:
        stream.add({"$project": {"_id": 0, **outputs}})
    stream = stream.closed()
    return Pipeline(stream.collection, stream.stages, tuple(column.type for column in plan.columns))


class _Emitter:
    def __init__(self, uses: Counter[int]) -> None:
        self.uses = uses
        self.names = Names()

    def stream(self, plan: Plan, required: set[int], outer: Environment) -> _Stream:
        """Returns the stream of a plan, with at least the `required` columns. `outer` holds the variables of correlated columns."""
        needed = required | {column.number for column in columns(*plan.scalars)}
        match plan:
            case Scan():
                environment = {column.number: path(field.path) for column, field in plan.items}
                return _Stream(plan.table.name, [], {**outer, **environment}, plain=True)
            case Constants():
                return self._constants(plan, outer)
            case Filter():
                return self._filter(plan, self.stream(plan.input, needed, outer))
            case Project():
                return self._project(plan, required, outer)
            case Aggregate():
                return self._aggregate(plan, outer)
            case Sort():
                stream = self.stream(plan.input, needed, outer)
                self._sort(stream, plan.order, required)
                return stream
            case Limit():
                stream = self.stream(plan.input, needed, outer)
                stream.add(*_limit(plan))
                return stream
            case Union():
                return self._union(plan, outer)
            case Join():
                return self._join(plan, needed, outer)
            case Apply():
                return self._apply(plan, needed, outer)
            case Window():
                return self._window(plan, required, needed, outer)
        raise AssertionError(plan)

    def _values(self, stream: _Stream) -> Values:
        return Values(stream.environment, self.names)

    def _materialise(self, stream: _Stream, fields: Environment) -> None:
        """Adds a stage after which documents have exactly these columns as fields."""
        kept = {number: stream.environment[number] for number in stream.environment if is_variable(stream.environment[number])}
        stream.add({"$project": {"_id": 0, **{f"c{number}": expression for number, expression in fields.items()}}})
        stream.environment = {**kept, **{number: f"$c{number}" for number in fields}}

    def _keep(self, stream: _Stream, required: set[int], more: dict[str, Expression] | None = None) -> None:
        """Adds a stage after which documents have the required columns and the fields `more`."""
        environment = stream.environment
        self._materialise(stream, {number: environment[number] for number in sorted(required) if not is_variable(environment[number])})
        stream.stages[-1]["$project"].update(more or {})

    def _keep_variables_too(self, stream: _Stream, required: set[int]) -> None:
        """Makes fields of all required columns. Some are variables of a $lookup and are used outside of it."""
        stream.add({"$project": {"_id": 0, **{f"c{number}": stream.environment[number] for number in sorted(required)}}})
        stream.environment = {number: f"$c{number}" for number in required}

    def _constants(self, plan: Constants, outer: Environment) -> _Stream:
        documents = [{f"c{column.number}": literal(value) for column, value in zip(plan.outputs, row, strict=True)} for row in plan.rows]
        environment = {**outer, **{column.number: f"$c{column.number}" for column in plan.outputs}}
        return _Stream(None, [{"$documents": documents}], environment)

    def _filter(self, plan: Filter, stream: _Stream) -> _Stream:
        query = match(plan.predicate, self._values(stream))
        if query:
            stream.stages.append({"$match": query})
        return stream

    def _project(self, plan: Project, required: set[int], outer: Environment) -> _Stream:
        items = [(column, scalar) for column, scalar in plan.items if column.number in required]
        stream = self.stream(plan.input, {column.number for column in columns(*(scalar for _, scalar in items))}, outer)
        values = self._values(stream)
        computed = {column.number: values.value(scalar) for column, scalar in items}
        if any(not is_cheap(expression) and self.uses[number] > 1 for number, expression in computed.items()):
            self._materialise(stream, computed)
        else:
            stream.environment = {**outer, **computed}
        return stream

    # Grouping

    def _aggregate(self, plan: Aggregate, outer: Environment) -> _Stream:
        stream = self.stream(plan.input, {column.number for column in columns(*plan.scalars)}, outer)
        values = self._values(stream)
        keys = [values.value(scalar) for _, scalar in plan.keys]
        environment = dict(outer)
        group: Stage = {"_id": None}
        if len(keys) == 1:
            group["_id"] = keys[0]
            environment[plan.keys[0][0].number] = "$_id"
        elif keys:
            group["_id"] = keys  # an array has null for missing values, and is smaller than a document
            environment |= {column.number: {"$arrayElemAt": ["$_id", place]} for place, (column, _) in enumerate(plan.keys)}
        accumulators = Accumulators(values)
        environment |= {column.number: accumulators.value(call) for column, call in plan.calls}
        stream.add({"$group": {**group, **accumulators.fields}})
        if plan.total:
            document = {"_id": literal(1), **{name: literal(value) for name, value in accumulators.empty.items()}}
            stream.add({"$unionWith": {"pipeline": [{"$documents": [document]}]}}, {"$sort": {"_id": 1}}, {"$limit": 1})
        stream.environment = environment
        return stream

    # Order

    def _sort(self, stream: _Stream, order: tuple[Order, ...], required: set[int]) -> None:
        """Adds a $sort by fields. Other expressions become fields first."""
        values = self._values(stream)
        keys: list[tuple[Expression, int]] = []
        for each in order:
            expression = values.value(each.key)
            direction = -1 if each.descending else 1
            if each.nulls_displaced:
                keys.append((is_null(expression), -1 if each.nulls_first else 1))
            keys.append((expression, direction))
        keys = [(expression, direction) for expression, direction in keys if not is_literal(expression)]
        if not keys:
            return
        if not all(is_path(expression) for expression, _ in keys):
            keys = self._with_fields(stream, keys, required)
        fields: dict[str, int] = {}
        for expression, direction in keys:
            fields.setdefault(expression[1:], direction)
        stream.add({"$sort": fields})

    def _with_fields(self, stream: _Stream, keys: list[tuple[Expression, int]], required: set[int]) -> list[tuple[Expression, int]]:
        """Adds a stage with the sort keys as fields, and returns the keys as paths."""
        extra: dict[str, Expression] = {}
        fields = []
        for expression, direction in keys:
            number = next((each for each in required if stream.environment[each] == expression), None)
            name = f"s{len(extra)}" if number is None else f"c{number}"
            if number is None:
                extra[name] = expression
            fields.append((f"${name}", direction))
        self._keep(stream, required, extra)
        return fields

    # Set operations

    def _union(self, plan: Union, outer: Environment) -> _Stream:
        names = [f"c{column.number}" for column in plan.outputs]
        streams = []
        for branch in plan.branches:
            stream = self.stream(branch, {column.number for column in branch.columns}, outer)
            fields = {name: stream.environment[column.number] for name, column in zip(names, branch.columns, strict=True)}
            stream.add({"$project": {"_id": 0, **fields}})
            streams.append(stream.closed())
        first, *rest = streams
        for stream in rest:
            source = {} if stream.collection is None else {"coll": stream.collection}
            first.add({"$unionWith": {**source, "pipeline": stream.stages}})
        first.environment = {**outer, **{column.number: f"${name}" for name, column in zip(names, plan.outputs, strict=True)}}
        return first

    # Joins and subqueries

    def _join(self, plan: Join, needed: set[int], outer: Environment) -> _Stream:
        left_numbers = {column.number for column in plan.left.columns}
        right_numbers = {column.number for column in plan.right.columns}
        stream = self.stream(plan.left, needed & left_numbers, outer)
        right = self.stream(plan.right, needed & right_numbers, _variables(outer))
        parts = [] if plan.condition == TRUE else list(conjuncts(plan.condition))
        lookup: dict[str, Any] = {}
        local = self._equality(parts, stream, right, right_numbers) if right.plain and right.collection is not None else None
        if local is not None:
            part, left_key, right_key = local
            if not is_path(stream.environment[left_key.number]):
                self._keep(stream, needed & left_numbers)
            lookup = {"localField": stream.environment[left_key.number][1:], "foreignField": right.environment[right_key.number][1:]}
            parts = [each for each in parts if each is not part]
            right.stages.append({"$match": {lookup["foreignField"]: {"$ne": None}}})
        self._correlate(lookup, right, parts, stream, left_numbers)
        right_needed = needed & right_numbers
        if not all(is_path(right.environment[number]) for number in right_needed):
            self._keep_variables_too(right, right_needed)
        right = right.closed()
        field = self.names.field()
        stream.add(_lookup(right, lookup, field), {"$unwind": {"path": f"${field}", "preserveNullAndEmptyArrays": plan.outer}})
        for number in right_needed:
            stream.environment[number] = f"${field}.{right.environment[number][1:]}"
        return stream

    def _equality(
        self, parts: list[Scalar], stream: _Stream, right: _Stream, right_numbers: set[int]
    ) -> tuple[Scalar, Column, Column] | None:
        """Returns a part of the condition that equates a left column with a right field."""
        for part in parts:
            if isinstance(part, Compare) and part.operator == "=":
                for one, other in ((part.left, part.right), (part.right, part.left)):
                    if not (isinstance(one, Column) and isinstance(other, Column)) or SqlType.MIXED in (one.type, other.type):
                        continue
                    if one.number not in right_numbers and other.number in right_numbers and is_path(right.environment[other.number]):
                        if is_variable(stream.environment[one.number]):
                            continue
                        return part, one, other
        return None

    def _correlate(self, lookup: dict[str, Any], right: _Stream, parts: list[Scalar], stream: _Stream, left: set[int]) -> None:
        """Adds the conditions to the right pipeline. The left columns that they use become variables."""
        if not parts:
            return
        used = {column.number for column in columns(*parts)} & left
        variables = {f"v{self.names.variable()}": number for number in sorted(used)}
        lookup["let"] = {name: stream.environment[number] for name, number in variables.items()}
        environment = {**right.environment, **{number: f"$${name}" for name, number in variables.items()}}
        right.stages.append({"$match": match(conjunction(parts), Values(environment, self.names))})

    def _apply(self, plan: Apply, needed: set[int], outer: Environment) -> _Stream:
        free = {column.number for column in free_columns(plan.subquery)}
        produced = {column.number for column in plan.input.columns}
        stream = self.stream(plan.input, (needed | free) & produced, outer)
        numbers = sorted(number for number in free if number in stream.environment)
        variables = {number: f"v{self.names.variable()}" for number in numbers if not is_variable(stream.environment[number])}
        lookup: dict[str, Any] = {}
        if variables:
            lookup["let"] = {name: stream.environment[number] for number, name in variables.items()}
        inner_outer = {**_variables(stream.environment), **{number: f"$${name}" for number, name in variables.items()}}
        first = plan.subquery.columns[0].number
        inner = self.stream(plan.subquery, set() if plan.mode is Mode.EXISTS else {first}, inner_outer)
        if not variables and not free and stream.collection is not None:
            return self._once(plan, inner, stream)
        field = self.names.field()
        self._end(plan, inner)
        stream.add(_lookup(inner.closed(), lookup, field), {"$unwind": {"path": f"${field}", "preserveNullAndEmptyArrays": True}})
        stream.environment[plan.outcome.number] = self._outcome(plan, stream, f"${field}")
        return stream

    def _once(self, plan: Apply, inner: _Stream, stream: _Stream) -> _Stream:
        """Computes an uncorrelated subquery once, before all rows."""
        name = self.names.variable()
        self._end(plan, inner)
        stream.first[name] = _lookup(inner.closed(), {}, f"first.{name}")
        stream.environment[plan.outcome.number] = self._outcome(plan, stream, f"$${name}")
        stream.plain = False
        return stream

    def _end(self, plan: Apply, inner: _Stream) -> None:
        """Ends the subquery's pipeline with at most one document, which _outcome reads."""
        if plan.mode is Mode.EXISTS:
            inner.add({"$limit": 1}, {"$project": {"_id": 0, "found": literal(True)}})
            return
        value = inner.environment[plan.subquery.columns[0].number]
        if plan.mode is Mode.SCALAR:
            inner.add({"$project": {"_id": 0, "value": value}})
            return
        inner.add({"$group": {"_id": value}})
        inner.add({"$group": {"_id": None, "values": {"$push": "$_id"}, "unknown": {"$max": is_null("$_id")}}})

    def _outcome(self, plan: Apply, stream: _Stream, result: str) -> Expression:
        """Returns the outcome. `result` is the expression of the subquery's document; it is missing if the subquery has no row."""
        if plan.mode is Mode.EXISTS:
            return not_null(result)
        if plan.mode is Mode.SCALAR:
            return {"$ifNull": [f"{result}.value", None]}
        assert plan.needle is not None
        needle = self._values(stream).value(plan.needle)
        branches = [
            {"case": is_null(result), "then": False},
            {"case": is_null(needle), "then": None},
            {"case": {"$in": [needle, {"$ifNull": [f"{result}.values", []]}]}, "then": True},
            {"case": {"$eq": [f"{result}.unknown", True]}, "then": None},
        ]
        return {"$switch": {"branches": branches, "default": False}}

    # Windows

    def _window(self, plan: Window, required: set[int], needed: set[int], outer: Environment) -> _Stream:
        made = {column.number for column, _ in plan.calls}
        stream = self.stream(plan.input, needed - made, outer)
        values = self._values(stream)
        partition = {f"p{place}": _present(values.value(each)) for place, each in enumerate(plan.partition)}
        fields: dict[str, Expression] = dict(partition)
        order: dict[str, int] = {}
        for place, each in enumerate(plan.order):
            key = values.value(each.key)
            if each.nulls_displaced:
                fields[f"n{place}"] = is_null(key)
                order[f"n{place}"] = -1 if each.nulls_first else 1
            fields[f"o{place}"] = _present(key)
            order[f"o{place}"] = -1 if each.descending else 1
        output: dict[str, Any] = {}
        results: Environment = {}
        for place, (column, call) in enumerate(plan.calls):
            if call.arg is not None:
                fields[f"w{place}"] = _present(values.value(call.arg))
            results[column.number] = _windowed(call, f"w{place}", output)
        kept = {number for number in required - made if number in stream.environment}
        self._keep(stream, kept, fields)
        stage: dict[str, Any] = {"output": output}
        if partition:
            stage["partitionBy"] = f"$p{0}" if len(partition) == 1 else {name: f"${name}" for name in partition}
        if order:
            stage["sortBy"] = order
        stream.add({"$setWindowFields": stage})
        stream.environment |= results
        return stream


def is_variable(expression: Expression) -> bool:
    """Returns whether the expression is a variable of an enclosing $lookup."""
    return isinstance(expression, str) and expression.startswith("$$") and expression not in ("$$NOW",)


def _variables(environment: Environment) -> Environment:
    return {number: expression for number, expression in environment.items() if is_variable(expression)}


def _present(expression: Expression) -> Expression:
    """Replaces missing with null for stages that distinguish them."""
    return expression if is_literal(expression) else {"$ifNull": [expression, None]}


def _limit(plan: Limit) -> list[Stage]:
    if plan.count == 0:
        return [{"$match": {"$expr": False}}]
    return [*([{"$skip": plan.offset}] if plan.offset else []), *([{"$limit": plan.count}] if plan.count is not None else [])]


def _lookup(inner: _Stream, lookup: dict[str, Any], field: str) -> Stage:
    source = {} if inner.collection is None else {"from": inner.collection}
    return {"$lookup": {**source, **lookup, "pipeline": inner.stages, "as": field}}


def _windowed(call: WindowCall, name: str, output: dict[str, Any]) -> Expression:
    """Adds the fields of a window function to `output`, and returns its value over them. `name` is the field of its argument."""
    arg = f"${name}"
    window = {"documents": ["unbounded" if bound is None else bound for bound in call.frame]}
    if call.function == "row_number":
        output[f"{name}v"] = {"$sum": 1, "window": {"documents": ["unbounded", "current"]}}
    elif call.function in ("lag", "lead"):
        by = -call.offset if call.function == "lag" else call.offset
        output[f"{name}v"] = {"$shift": {"output": arg, "by": by, "default": literal(call.default)}}
    elif call.function in ("first_value", "last_value"):
        output[f"{name}v"] = {"$first" if call.function == "first_value" else "$last": arg, "window": window}
    elif call.function == "count":
        output[f"{name}v"] = {"$sum": either(not_null(arg), 1, 0), "window": window}
    elif call.function == "sum":
        output[f"{name}v"] = {"$sum": arg, "window": window}
        output[f"{name}n"] = {"$sum": either(not_null(arg), 1, 0), "window": window}
        return either({"$gt": [f"${name}n", 0]}, f"${name}v", None)
    else:
        output[f"{name}v"] = {f"${call.function}": arg, "window": window}
    return f"${name}v"
