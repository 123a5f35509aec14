"""Superset's action log, without the entries that pages cause by themselves.

A page that refreshes requests a dozen charts every few seconds. Superset logs each answer in five rows; each row is a commit in its
database, after which it reloads everything about the chart, and the table would grow without limit.
"""

from typing import Any

from flask import has_request_context, request
from superset.utils.log import DBEventLogger

ANSWERS = "ChartDataRestApi."  # prefix of the endpoints that return chart data
BROWSER_EVENTS = "log"  # action with which pages report their own rendering


class ActionLog(DBEventLogger):
    """Logs what people do: pages opened, queries in SQL Lab, changes."""

    def log(self, user_id: int | None, action: str, *more: Any, **named: Any) -> None:
        if action != BROWSER_EVENTS and not _is_answer():
            super().log(user_id, action, *more, **named)


def _is_answer() -> bool:
    return has_request_context() and (request.endpoint or "").startswith(ANSWERS)
