"""Queries as relational plans: SELECT, set operations, WITH and FROM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from mongopipe.errors import NotSupportedError, ProgrammingError
from mongopipe.schema import Catalog
from mongopipe.sql_types import SqlType
from mongopipe.translate.bind.binder import Binder, Collected, Subquery, construct, only
from mongopipe.translate.bind.coerce import alike, as_truth, comparable
from mongopipe.translate.bind.handlers import HANDLERS
from mongopipe.translate.bind.names import Name, Relation, Scope, matching
from mongopipe.translate.bind.windows import ordered
from mongopipe.translate.plans import (
    Aggregate,
    Apply,
    Constants,
    Filter,
    Join,
    Limit,
    Order,
    Plan,
    Project,
    Scan,
    Sort,
    Union,
    Window,
)
from mongopipe.translate.scalars import (
    TRUE,
    Cast,
    Column,
    Compare,
    Literal,
    Scalar,
    columns,
    conjunction,
    rewritten,
)

_QUERY = "with_ with order limit offset"
_SELECT = f"{_QUERY} expressions distinct from_ from joins where group having qualify"
_SET = f"{_QUERY} this expression distinct"
_GROUPINGS: dict[type[exp.Expression], str] = {exp.Rollup: "ROLLUP", exp.Cube: "CUBE", exp.GroupingSets: "GROUPING SETS"}


@dataclass(frozen=True)
class Bound:
    """A plan and the labels of its columns."""

    plan: Plan
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Common:
    """A WITH query, and the earlier WITH queries that are visible in it."""

    query: exp.Query
    names: tuple[str, ...]
    visible: Mapping[str, _Common]


def bind(query: exp.Query, catalog: Catalog, parameters: Mapping[str, Any]) -> Bound:
    """Returns the plan of a query.

    Raises ProgrammingError for invalid names and types, and NotSupportedError for constructs without a translation.
    """
    return QueryBinder(catalog, parameters).query(query, Scope(), {})


class QueryBinder:
    """Binds the queries of one statement and numbers their columns."""

    def __init__(self, catalog: Catalog, parameters: Mapping[str, Any]) -> None:
        self.catalog = catalog
        self.parameters = parameters
        self._last = 0
        self._commons: Mapping[str, _Common] = {}

    def fresh(self, sql_type: SqlType, name: str, *, nullable: bool = True, element: SqlType | None = None) -> Column:
        """Returns a column with a unique number."""
        self._last += 1
        return Column(self._last, sql_type, name, element, nullable)

    def like(self, scalar: Scalar, name: str) -> Column:
        """Returns a new column for the values of the expression."""
        column = scalar if isinstance(scalar, Column) else None
        return self.fresh(scalar.type, name, element=None if column is None else column.element, nullable=column is None or column.nullable)

    def binder(
        self,
        scope: Scope,
        clause: str,
        collected: Collected,
        *,
        aggregates: bool = False,
        windows: bool = False,
        aliases: Mapping[str, Scalar] | None = None,
    ) -> Binder:
        """Returns a binder for the expressions of one clause (see Binder)."""
        return Binder(HANDLERS, self, scope, clause, collected, aggregates=aggregates, windows=windows, aliases=aliases)

    def subquery(self, node: exp.Expression, outer: Scope) -> Plan:
        """Returns the plan of a subquery in an expression."""
        return self._nested(node, Scope(outer=outer)).plan

    def _nested(self, node: exp.Expression, scope: Scope) -> Bound:
        if isinstance(node, exp.Subquery):
            only(node, "this alias")
            node = node.this
            return self._nested(node, scope)
        if not isinstance(node, exp.Query):
            raise NotSupportedError(f"{construct(node)} as a subquery is not supported")
        return self.query(node, scope, self._commons)

    def query(self, node: exp.Query, scope: Scope, commons: Mapping[str, _Common]) -> Bound:
        """Returns the plan of a query whose enclosing scope is `scope.outer`."""
        before, self._commons = self._commons, self._with(node, commons)
        try:
            if isinstance(node, exp.Select):
                return self._select(node, scope)
            if isinstance(node, exp.Union):
                return self._union(node, scope)
            if isinstance(node, exp.Subquery):
                return self._parenthesised(node, scope)
            raise NotSupportedError(f"{type(node).__name__.upper()} is not supported")
        finally:
            self._commons = before

    def _with(self, node: exp.Query, commons: Mapping[str, _Common]) -> Mapping[str, _Common]:
        clause = node.args.get("with_") or node.args.get("with")
        if clause is None:
            return commons
        only(clause, "expressions")
        found = dict(commons)
        for each in clause.expressions:
            only(each, "this alias")
            names = tuple(column.name for column in each.args["alias"].args.get("columns") or ())
            found[each.alias] = _Common(each.this, names, dict(found))
        return found

    def _parenthesised(self, node: exp.Subquery, scope: Scope) -> Bound:
        """Binds `(SELECT ...) ORDER BY ... LIMIT ...`."""
        only(node, f"{_QUERY} this")
        bound = self.query(node.this, scope, self._commons)
        return self._arranged(node, bound, scope)

    # FROM

    def _from(self, node: exp.Select, scope: Scope) -> Plan:
        clause = node.args.get("from_") or node.args.get("from")
        if clause is None:
            return Constants((), ((),))
        plan, relation = self._relation(clause.this, scope)
        scope.relations.append(relation)
        for join in node.args.get("joins") or ():
            plan = self._join(plan, join, scope)
        return plan

    def _relation(self, node: exp.Expression, scope: Scope) -> tuple[Plan, Relation]:
        if isinstance(node, exp.Table):
            only(node, "this db alias")
            return self._table(node)
        if isinstance(node, exp.Subquery):
            only(node, "this alias")
            bound = self._nested(node.this, Scope(outer=scope.outer))
            names = [each.name for each in node.args["alias"].args.get("columns") or ()] if node.args.get("alias") else []
            return bound.plan, _derived(node.alias, bound, names)
        if isinstance(node, exp.Values):
            only(node, "expressions alias")
            return self._values(node)
        raise NotSupportedError(f"{construct(node)} in FROM is not supported")

    def _table(self, node: exp.Table) -> tuple[Plan, Relation]:
        if not isinstance(node.this, exp.Identifier):
            raise NotSupportedError(f"{construct(node.this)} in FROM is not supported")
        alias = node.args.get("alias")
        names = [] if alias is None else [each.name for each in alias.args.get("columns") or ()]
        common = self._commons.get(node.name) if not node.db else None
        if common is not None:
            bound = self.query(common.query, Scope(), common.visible)
            return bound.plan, _derived(node.alias or node.name, bound, names or list(common.names))
        if names:
            raise NotSupportedError("column aliases of a table are not supported: name the columns in a subquery")
        if node.db and node.db != self.catalog.database:
            raise NotSupportedError(f"database {node.db} is not supported: the connection reads {self.catalog.database} only")
        table = self.catalog.table(node.name)
        items = tuple((self.fresh(each.type, each.name, element=each.element), each) for each in table.fields)
        relation = Relation(node.alias or node.name, [(field.name, column) for column, field in items], node.db or self.catalog.database)
        return Scan(table, items), relation

    def _values(self, node: exp.Values) -> tuple[Plan, Relation]:
        binder = self.binder(Scope(), "VALUES", Collected())
        rows = [
            [binder.constant(each, "a value in VALUES") for each in (row.expressions if isinstance(row, exp.Tuple) else [row])]
            for row in node.expressions
        ]
        if len({len(row) for row in rows}) != 1:
            raise ProgrammingError("the rows of VALUES differ in length: give each row the same number of values")
        alias = node.args.get("alias")
        names = [each.name for each in alias.args.get("columns") or ()] if alias else []
        sides = [alike(list(values), "VALUES") for values in zip(*rows, strict=True)]
        if not all(isinstance(each, Literal) for values, _ in sides for each in values):
            raise ProgrammingError("a column of VALUES has values of different types: use one type")
        outputs = tuple(self.fresh(sql_type, f"column{place}") for place, (_, sql_type) in enumerate(sides, 1))
        values = tuple(zip(*([each.value for each in column if isinstance(each, Literal)] for column, _ in sides), strict=True))
        plan = Constants(outputs, values)
        return plan, _derived(node.alias, Bound(plan, tuple(column.name for column in outputs)), names)

    def _join(self, left: Plan, node: exp.Join, scope: Scope) -> Plan:
        only(node, "this on using side kind")
        side, kind = node.side.upper(), node.kind.upper()
        if side not in ("", "LEFT", "RIGHT") or kind not in ("", "INNER", "OUTER", "CROSS"):
            raise NotSupportedError(f"{side} {kind}".strip() + " JOIN is not supported")
        if side == "RIGHT" and len(scope.relations) != 1:
            raise NotSupportedError("RIGHT JOIN after another join is not supported: use LEFT JOIN")
        right, relation = self._relation(node.this, scope)
        using = [each.name for each in node.args.get("using") or ()]
        condition = self._using(using, scope, relation) if using else TRUE
        scope.relations.append(relation)
        if node.args.get("on") is not None:
            collected = Collected()
            condition = as_truth(self.binder(scope, "ON", collected).bind(node.args["on"]))
            if collected.subqueries:
                raise NotSupportedError("a subquery in ON is not supported: join the subquery, or use it in WHERE")
        if side == "RIGHT":
            return Join(right, left, condition, outer=True)
        return Join(left, right, condition, outer=side == "LEFT")

    def _using(self, names: list[str], scope: Scope, relation: Relation) -> Scalar:
        comparisons = []
        for name in names:
            left, right = scope.column(Name((name,), True)), Scope([relation]).column(Name((name,), True))
            comparisons.append(Compare("=", *comparable(left, right)))
            relation.shadowed.add(name)
        return conjunction(tuple(comparisons))

    # SELECT

    def _select(self, node: exp.Select, scope: Scope) -> Bound:
        only(node, _SELECT)
        plan = self._from(node, scope)
        where = node.args.get("where")
        if where is not None:
            collected = Collected()
            predicate = as_truth(self.binder(scope, "WHERE", collected).bind(where.this))
            plan = Filter(_applied(plan, collected.subqueries), predicate)
        return _Selection(self, node, scope, plan).bound()

    # Set operations, ORDER BY, LIMIT

    def _union(self, node: exp.Union, scope: Scope) -> Bound:
        only(node, _SET)
        sides = [self._branch(each, scope) for each in (node.this, node.expression)]
        if len({len(side.labels) for side in sides}) != 1:
            raise ProgrammingError(
                f"the sides of UNION have {' and '.join(str(len(side.labels)) for side in sides)} columns: select the same number"
            )
        types = []
        for pair in zip(*(side.plan.columns for side in sides), strict=True):
            _, sql_type = alike(list(pair), "UNION")
            types.append(sql_type)
        outputs = tuple(self.fresh(sql_type, name) for sql_type, name in zip(types, sides[0].labels, strict=True))
        plan: Plan = Union(tuple(self._converted(side.plan, types) for side in sides), outputs)
        if node.args.get("distinct"):
            plan = self.distinct(plan)
        return self._arranged(node, Bound(plan, sides[0].labels), scope)

    def _branch(self, node: exp.Expression, scope: Scope) -> Bound:
        if isinstance(node, exp.Subquery):
            return self._parenthesised(node, Scope(outer=scope.outer))
        if isinstance(node, exp.Query):
            return self.query(node, Scope(outer=scope.outer), self._commons)
        raise NotSupportedError(f"{construct(node)} in UNION is not supported")

    def _converted(self, plan: Plan, types: list[SqlType]) -> Plan:
        """Casts columns to text where the other side of the UNION has text."""
        if all(column.type is sql_type or sql_type is not SqlType.STRING for column, sql_type in zip(plan.columns, types, strict=True)):
            return plan
        items = []
        for column, sql_type in zip(plan.columns, types, strict=True):
            cast = sql_type is SqlType.STRING and column.type not in (SqlType.STRING, SqlType.NULL)
            items.append((self.fresh(sql_type, column.name), Cast(column, sql_type) if cast else column))
        return Project(plan, tuple(items))

    def distinct(self, plan: Plan) -> Plan:
        """Removes duplicate rows."""
        return Aggregate(plan, tuple((self.like(column, column.name), column) for column in plan.columns), ())

    def _arranged(self, node: exp.Query, bound: Bound, scope: Scope) -> Bound:
        """Applies ORDER BY and LIMIT to the result of a whole query."""
        plan, labels = bound.plan, bound.labels
        outputs = list(zip(labels, plan.columns, strict=True))
        if node.args.get("order") is not None:
            inner = Scope([Relation("", outputs)], scope.outer)
            binder = self.binder(inner, "ORDER BY", Collected())
            order = []
            for each in node.args["order"].expressions:
                order.append(ordered(each, _place(each.this, plan.columns) or binder.bind(each.this)))
            plan = Sort(plan, tuple(order))
        return Bound(self.limited(node, plan), labels)

    def limited(self, node: exp.Query, plan: Plan) -> Plan:
        """Applies the query's LIMIT and OFFSET. Raises ProgrammingError if one is negative."""
        count = self._rows(node.args.get("limit"), "LIMIT")
        offset = self._rows(node.args.get("offset"), "OFFSET") or 0
        return plan if count is None and not offset else Limit(plan, count, offset)

    def _rows(self, node: exp.Expression | None, clause: str) -> int | None:
        if node is None:
            return None
        if isinstance(node, exp.Fetch):
            only(node, "count direction limit_options")
            options = node.args.get("limit_options")
            if options is not None and (options.args.get("percent") or options.args.get("with_ties")):
                raise NotSupportedError("FETCH with PERCENT or WITH TIES is not supported")
            value = node.args.get("count")
        else:
            only(node, "expression this")
            value = node.expression
        if value is None:
            return 1
        rows = self.binder(Scope(), clause, Collected()).whole(value, clause)
        if rows < 0:
            raise ProgrammingError(f"{clause} must not be negative")
        return rows


class _Selection:
    """The parts of one SELECT after FROM and WHERE: grouping, window functions, the select list, DISTINCT and ORDER BY."""

    def __init__(self, queries: QueryBinder, node: exp.Select, scope: Scope, plan: Plan) -> None:
        self.queries = queries
        self.node = node
        self.scope = scope
        self.plan = plan
        self.collected = Collected()
        self.labels: list[str] = []
        self.items: list[Scalar] = []
        self.keys: list[Scalar] = []
        self.key_columns: list[Column] = []
        self.grouped = False

    def bound(self) -> Bound:
        """Returns the plan of the whole SELECT."""
        node = self.node
        select = self._binder("SELECT", windows=True)
        for each in node.expressions:
            self._item(select, each)
        aliases = self._aliases()
        group = node.args.get("group")
        having = node.args.get("having")
        qualify = node.args.get("qualify")
        self.keys = [] if group is None else self._group_keys(group)
        conditions = None if having is None else as_truth(self._binder("HAVING", aliases=aliases).bind(having.this))
        qualified = None if qualify is None else as_truth(self._binder("QUALIFY", windows=True, aliases=aliases).bind(qualify.this))
        order = self._order(aliases)

        if group is not None or having is not None or self.collected.aggregates:
            self._aggregate(group is None)
        replace = self._replacement()
        self.plan = _applied(self.plan, [_mapped(each, replace) for each in self.collected.subqueries])
        if conditions is not None:
            conditions = replace(conditions)
            self._check([conditions])
            self.plan = Filter(self.plan, conditions)
        self._windows(replace)
        if qualified is not None:
            self.plan = Filter(self.plan, replace(qualified))
        self.items = [replace(each) for each in self.items]
        order = [Order(replace(each.key), each.descending, each.nulls_first) for each in order]
        self._check(self.items, [each.key for each in order])
        return self._output(order)

    def _binder(self, clause: str, *, windows: bool = False, aliases: Mapping[str, Scalar] | None = None) -> Binder:
        return self.queries.binder(self.scope, clause, self.collected, aggregates=True, windows=windows, aliases=aliases)

    def _item(self, binder: Binder, node: exp.Expression) -> None:
        if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
            self._star(node)
            return
        self.labels.append(_label(node))
        self.items.append(binder.bind(node.this if isinstance(node, exp.Alias) else node))

    def _star(self, node: exp.Expression) -> None:
        star = node if isinstance(node, exp.Star) else node.this
        only(star, "")
        if node is star:
            pairs = [pair for relation in self.scope.relations for pair in relation.visible()]
        else:
            pairs = self.scope.relation(Name((node.args["table"].name,), bool(node.args["table"].args.get("quoted")))).columns
        if not pairs:
            raise ProgrammingError("* selects no columns: add a table to FROM")
        for name, column in pairs:
            self.labels.append(name)
            self.items.append(column)

    def _aliases(self) -> dict[str, Scalar]:
        """Returns the expressions of the select list by alias. The first of equal aliases wins."""
        found: dict[str, Scalar] = {}
        for label, item in zip(self.labels, self.items, strict=True):
            found.setdefault(label, item)
        return found

    def _group_keys(self, group: exp.Group) -> list[Scalar]:
        for each in group.iter_expressions():
            if type(each) in _GROUPINGS:
                raise NotSupportedError(f"GROUP BY {_GROUPINGS[type(each)]} is not supported")
        only(group, "expressions")
        binder = self.queries.binder(self.scope, "GROUP BY", self.collected, aliases=self._aliases())
        keys: list[Scalar] = []
        for each in group.expressions:
            key = _place(each, self.items) or binder.bind(each)
            computed = set(self.collected.aggregates.values()) | {over.value for over in self.collected.windows}
            if computed & set(columns(key)):
                raise ProgrammingError("an aggregate or window function is not allowed in GROUP BY: compute it in a subquery")
            if key.type is SqlType.DOCUMENT:
                raise NotSupportedError("GROUP BY a document is not supported: group by its fields")
            if not isinstance(key, Literal) and key not in keys:
                keys.append(key)
        return keys

    def _order(self, aliases: Mapping[str, Scalar]) -> list[Order]:
        """Returns the sort keys. A bare name is an alias first; inside an expression it is a column first."""
        clause = self.node.args.get("order")
        if clause is None:
            return []
        binder = self._binder("ORDER BY", windows=True, aliases=aliases)
        order = []
        for each in clause.expressions:
            key = _place(each.this, self.items)
            if key is None and isinstance(each.this, exp.Column) and not each.this.table:
                name = Name.of(each.this)
                key = next(iter(matching(str(name), name.quoted, aliases.items())), None)
            order.append(ordered(each, key if key is not None else binder.bind(each.this)))
        return order

    def _aggregate(self, total: bool) -> None:
        plan = _applied(self.plan, self.collected.inner_subqueries)
        self.key_columns = [self.queries.like(key, _name(key)) for key in self.keys]
        keys = tuple(zip(self.key_columns, self.keys, strict=True))
        aggregates = tuple((column, call) for call, column in self.collected.aggregates.items())
        self.plan = Aggregate(plan, keys, aggregates, total=total) if keys or total else self._one_group(plan, aggregates)
        self.grouped = True

    def _one_group(self, plan: Plan, aggregates: Any) -> Plan:
        """Groups by constants only: the result has one row if the input has rows, and no row otherwise."""
        return Aggregate(plan, ((self.queries.fresh(SqlType.INTEGER, "group"), Literal(1, SqlType.INTEGER)),), aggregates)

    def _replacement(self) -> Any:
        """Returns a function that converts an expression over the input's columns to one over the group's columns."""
        if not self.grouped:
            return lambda scalar: scalar
        columns_of = dict(zip(self.keys, self.key_columns, strict=True))
        return lambda scalar: rewritten(scalar, lambda each: None if isinstance(each, Literal) else columns_of.get(each))

    def _windows(self, replace: Any) -> None:
        groups: dict[Any, list[Any]] = {}
        for over in self.collected.windows:
            partition = tuple(map(replace, over.partition))
            order = tuple(Order(replace(each.key), each.descending, each.nulls_first) for each in over.order)
            call = over.call
            if call.arg is not None:
                call = type(call)(call.function, replace(call.arg), call.frame, call.peers, call.offset, call.default)
            self._check(list(partition), [each.key for each in order], list(call.scalars))
            groups.setdefault((partition, order), []).append((over.value, call))
        for (partition, order), calls in groups.items():
            self.plan = Window(self.plan, partition, order, tuple(calls))

    def _check(self, *scalars: list[Scalar]) -> None:
        """Raises ProgrammingError if an expression over groups uses a column that is not constant in a group."""
        if not self.grouped:
            return
        here = {column for relation in self.scope.relations for _, column in relation.columns}
        for column in columns(*(each for group in scalars for each in group)):
            if column in here:
                raise ProgrammingError(f"column {column.name} must be in GROUP BY or inside an aggregate function")

    def _output(self, order: list[Order]) -> Bound:
        queries = self.queries
        outputs = tuple((queries.like(item, label), item) for item, label in zip(self.items, self.labels, strict=True))
        known = {item: column for column, item in reversed(outputs)}
        extra: dict[Scalar, Column] = {}
        keys = []
        for each in order:
            if isinstance(each.key, Literal):
                continue
            column = known.get(each.key) or extra.get(each.key)
            if column is None:
                column = extra[each.key] = queries.like(each.key, _name(each.key))
            keys.append(Order(column, each.descending, each.nulls_first))
        distinct = self.node.args.get("distinct")
        if distinct is not None:
            only(distinct, "")
            if extra:
                raise ProgrammingError("the select list of SELECT DISTINCT must have the expressions of ORDER BY")
        plan: Plan = Project(self.plan, (*outputs, *((column, key) for key, column in extra.items())))
        if distinct is not None:
            before = plan.columns
            plan = queries.distinct(plan)
            renamed = dict(zip(before, plan.columns, strict=True))
            keys = [Order(renamed[each.key], each.descending, each.nulls_first) for each in keys if isinstance(each.key, Column)]
        visible = plan.columns[: len(outputs)]
        if keys:
            plan = Sort(plan, tuple(keys))
        plan = queries.limited(self.node, plan)
        if extra:
            plan = Project(plan, tuple((queries.like(column, column.name), column) for column in visible))
        return Bound(plan, tuple(self.labels))


def _derived(alias: str, bound: Bound, names: list[str]) -> Relation:
    """Returns the relation of a subquery in FROM. Raises ProgrammingError if the alias names more columns than the subquery has."""
    if len(names) > len(bound.labels):
        raise ProgrammingError(f"{alias} names {len(names)} columns, but its query has {len(bound.labels)}")
    labels = (*names, *bound.labels[len(names) :])
    return Relation(alias, list(zip(labels, bound.plan.columns, strict=True)))


def _applied(plan: Plan, subqueries: list[Subquery]) -> Plan:
    for each in subqueries:
        plan = Apply(plan, each.plan, each.outcome, each.mode, each.needle)
    return plan


def _mapped(subquery: Subquery, replace: Any) -> Subquery:
    needle = None if subquery.needle is None else replace(subquery.needle)
    return Subquery(subquery.plan, subquery.outcome, subquery.mode, needle)


def _place(node: exp.Expression, items: Any) -> Scalar | None:
    """Returns the select item that a number in ORDER BY or GROUP BY refers to. Raises ProgrammingError if there is none."""
    if not isinstance(node, exp.Literal) or node.is_string or not node.name.isdigit():
        return None
    place = int(node.name)
    if not 1 <= place <= len(items):
        raise ProgrammingError(f"position {place} is not in the select list, which has {len(items)} items")
    found: Scalar = items[place - 1]
    return found


def _label(node: exp.Expression) -> str:
    """Returns the label of a select item: its alias, or the column's name, or the SQL text."""
    if isinstance(node, exp.Alias):
        return str(node.alias)
    if isinstance(node, exp.Column | exp.Dot):
        return Name.of(node).parts[-1] if isinstance(node, exp.Column) else str(Name.of(node))
    return str(node.sql())


def _name(scalar: Scalar) -> str:
    return scalar.name if isinstance(scalar, Column) else "key"
