"""Window functions."""

from __future__ import annotations

from sqlglot import exp

from mongopipe.errors import NotSupportedError, ProgrammingError
from mongopipe.sql_types import SqlType
from mongopipe.translate.bind.aggregates import aggregate_call, result_type
from mongopipe.translate.bind.binder import Binder, Handlers, Over, construct, only
from mongopipe.translate.bind.coerce import as_truth, literal_as
from mongopipe.translate.plans import Order, WindowCall
from mongopipe.translate.scalars import Case, Literal, Scalar, integer

_RANKS: dict[type[exp.Expression], str] = {exp.RowNumber: "row_number", exp.Rank: "rank", exp.DenseRank: "dense_rank"}
_SHIFTS: dict[type[exp.Expression], str] = {exp.Lag: "lag", exp.Lead: "lead"}
_ENDS: dict[type[exp.Expression], str] = {exp.FirstValue: "first_value", exp.LastValue: "last_value"}
_AGGREGATES = ("count", "sum", "avg", "min", "max")


def orders(binder: Binder, node: exp.Expression | None) -> tuple[Order, ...]:
    """Returns the sort keys of an ORDER BY node."""
    return () if node is None else tuple(ordered(each, binder.bind(each.this)) for each in node.expressions)


def ordered(node: exp.Expression, key: Scalar) -> Order:
    """Returns the sort key of an Ordered node over `key`. Raises NotSupportedError for a type without an order."""
    only(node, "this desc nulls_first")
    if not key.type.ordered:
        raise NotSupportedError(f"ordering by {key.type.value} is not supported")
    return Order(key, bool(node.args.get("desc")), bool(node.args.get("nulls_first")))


def _window(binder: Binder, node: exp.Window) -> Scalar:
    name = construct(node.this)
    if not binder.windows:
        raise ProgrammingError(f"window {name} is not allowed in {binder.clause}: compute it in a subquery")
    outer, binder.inside = binder.inside, None
    binder.windows = False
    try:
        partition = tuple(binder.bind_all(node.args.get("partition_by") or []))
        for each in partition:
            if not each.type.ordered:
                raise NotSupportedError(f"PARTITION BY {each.type.value} is not supported")
        order = orders(binder, node.args.get("order"))
        call, sql_type = _call(binder, node.this, node.args.get("spec"), bool(order))
    finally:
        binder.windows, binder.inside = True, outer
    value = binder.fresh(sql_type, call.function)
    binder.collected.windows.append(Over(value, call, partition, order))
    return value


def _call(binder: Binder, node: exp.Expression, spec: exp.WindowSpec | None, has_order: bool) -> tuple[WindowCall, SqlType]:
    """Returns the function call with its frame, and the type of its values."""
    where = None
    if isinstance(node, exp.Filter):
        where, node = as_truth(binder.bind(node.expression.this)), node.this
    if isinstance(node, exp.RespectNulls):
        node = node.this
    if where is not None and (type(node) in _RANKS or type(node) in _SHIFTS or type(node) in _ENDS):
        raise NotSupportedError(f"FILTER on {construct(node)} is not supported")
    if type(node) in _RANKS or type(node) in _SHIFTS:
        if spec is not None:
            raise NotSupportedError(f"a frame for {construct(node)} is not supported")
        if not has_order:
            raise NotSupportedError(f"{construct(node)} without ORDER BY is not supported: add ORDER BY to OVER")
        if type(node) in _RANKS:
            only(node, "")
            return WindowCall(_RANKS[type(node)]), SqlType.INTEGER
        return _shift(binder, node)
    frame, peers = _frame(binder, spec, has_order)
    if type(node) in _ENDS:
        only(node, "this")
        value = binder.bind(node.this)
        if not has_order:
            raise NotSupportedError(f"{construct(node)} without ORDER BY is not supported: add ORDER BY to OVER")
        return WindowCall(_ENDS[type(node)], value, frame, peers), value.type
    call = aggregate_call(binder, node)
    if call.distinct or call.function not in _AGGREGATES:
        raise NotSupportedError(f"{construct(node)} as a window function is not supported")
    value = call.arg if call.arg is not None else integer(1)
    condition = where if call.where is None else call.where
    if condition is not None:
        value = Case(((condition, value),), Literal(None, SqlType.NULL), value.type)
    return WindowCall(call.function, value, frame, peers), result_type(call)


def _shift(binder: Binder, node: exp.Expression) -> tuple[WindowCall, SqlType]:
    only(node, "this offset default")
    value = binder.bind(node.this)
    offset = binder.whole(node.args["offset"], f"the offset of {_SHIFTS[type(node)].upper()}") if node.args.get("offset") else 1
    default = None
    if node.args.get("default") is not None:
        literal = binder.constant(node.args["default"], f"the default of {_SHIFTS[type(node)].upper()}")
        fitting = literal_as(literal, value.type)
        if fitting is None:
            raise ProgrammingError(f"the default of {_SHIFTS[type(node)].upper()} must be {value.type.value}, not {literal.type.value}")
        default = fitting.value
    return WindowCall(_SHIFTS[type(node)], value, offset=offset, default=default), value.type


def _frame(binder: Binder, spec: exp.WindowSpec | None, has_order: bool) -> tuple[tuple[int | None, int | None], bool]:
    """Returns the frame in rows, and whether it ends with the last peer of the current row."""
    if spec is None:
        return (None, None), has_order
    only(spec, "kind start start_side end end_side")
    start = _bound(binder, spec.args.get("start"), spec.args.get("start_side"))
    end = _bound(binder, spec.args.get("end") or "CURRENT ROW", spec.args.get("end_side"))
    if str(spec.args.get("kind")).upper() != "ROWS":
        if start is None and end is None:
            return (None, None), False
        if start is None and end == 0:
            return (None, None), has_order
        raise NotSupportedError(f"frame {spec.sql()} is not supported: use ROWS")
    if not has_order and (start is not None or end is not None):
        raise NotSupportedError("a frame of rows without ORDER BY is not supported: add ORDER BY to OVER")
    if start is not None and end is not None and start > end:
        raise NotSupportedError(f"an empty frame is not supported ({spec.sql()})")
    return (start, end), False


def _bound(binder: Binder, bound: exp.Expression | str | None, side: str | None) -> int | None:
    if isinstance(bound, str):
        return 0 if bound.upper() == "CURRENT ROW" else None
    assert bound is not None
    rows = binder.whole(bound, "a frame's bound")
    return -rows if str(side).upper() == "PRECEDING" else rows


HANDLERS: Handlers = {exp.Window: ("this partition_by order spec over", _window)}
