"""Ranks and frames that end with the current row's peers become row numbers: $rank takes one sort key, and frames count rows."""

from __future__ import annotations

from dataclasses import replace

from mongopipe.sql_types import SqlType
from mongopipe.translate.plans import Fresh, Order, Plan, Window, WindowCall, rewritten
from mongopipe.translate.scalars import Case, Column, Compare, integer

_RANKS = ("rank", "dense_rank")


def peers(plan: Plan) -> Plan:
    """RANK is the lowest row number of the peers. DENSE_RANK counts such rows. SQL's default frame has the value of the last peer."""
    fresh = Fresh(plan)
    return rewritten(plan, lambda each: _split(each, fresh) if isinstance(each, Window) else each)


def _split(plan: Window, fresh: Fresh) -> Plan:
    if not any(call.peers or call.function in _RANKS for _, call in plan.calls):
        return plan
    number = fresh.column(SqlType.INTEGER, "number", nullable=False)
    by_rows: list[tuple[Column, WindowCall]] = [(number, WindowCall("row_number"))]
    by_peers: list[tuple[Column, WindowCall]] = []
    lowest: Column | None = None
    dense: list[Column] = []
    for column, call in plan.calls:
        if call.function == "rank":
            by_peers.append((column, WindowCall("min", number)))
        elif call.function == "dense_rank":
            dense.append(column)
        elif call.peers:
            value = fresh.column(column.type, call.function)
            by_rows.append((value, replace(call, frame=(None, 0), peers=False)))
            by_peers.append((column, WindowCall("last_value", value)))
        else:
            by_rows.append((column, call))
    if dense:
        lowest = fresh.column(SqlType.INTEGER, "lowest", nullable=False)
        by_peers.append((lowest, WindowCall("min", number)))
    rows = Window(plan.input, plan.partition, plan.order, tuple(by_rows))
    numbered = (Order(number),)
    result = Window(rows, (*plan.partition, *(each.key for each in plan.order)), numbered, tuple(by_peers))
    if lowest is None:
        return result
    first = Case(((Compare("=", number, lowest), integer(1)),), integer(0), SqlType.INTEGER)
    return Window(result, plan.partition, numbered, tuple((column, WindowCall("sum", first, (None, 0))) for column in dense))
