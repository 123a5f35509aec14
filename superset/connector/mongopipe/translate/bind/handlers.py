"""The handlers of all expressions, by node type."""

from sqlglot import exp

from mongopipe.translate.bind import aggregates, dates, functions, operators, subqueries, windows
from mongopipe.translate.bind.binder import Handlers

HANDLERS: Handlers = {
    **operators.HANDLERS,
    **functions.HANDLERS,
    **dates.HANDLERS,
    **aggregates.HANDLERS,
    **windows.HANDLERS,
    **subqueries.HANDLERS,
}


def function_names() -> list[str]:
    """Returns the SQL names of all supported functions."""
    classes = (node for node in HANDLERS if issubclass(node, exp.Func) and not issubclass(node, exp.Binary))
    return sorted({name for node in classes for name in node.sql_names() if node is not exp.Anonymous} | {"NOW", "TRUNC", "DATE_PART"})
