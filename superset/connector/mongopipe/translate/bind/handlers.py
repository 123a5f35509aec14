"""All handlers of expressions, by node type."""

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
