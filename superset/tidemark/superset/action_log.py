"""Superset's log of who has done what, without what pages do by themselves.

A page that refreshes asks for a dozen charts every few seconds. Superset takes down each answer in five rows, by parts of its own code;
each row is a commit in its database, after which it reads anew all it knows of the chart, and the table would grow for ever.
"""

from typing import Any

from flask import has_request_context, request
from superset.utils.log import DBEventLogger

ANSWERS = "ChartDataRestApi."  # of charts: what the endpoints that give them begin with
TOLD_BY_PAGES = "log"  # of their own drawing


class ActionLog(DBEventLogger):
    """Keeps what a person does: what is opened, asked in SQL Lab, changed."""

    def log(self, user_id: int | None, action: str, *more: Any, **named: Any) -> None:
        if action != TOLD_BY_PAGES and not _is_answer():
            super().log(user_id, action, *more, **named)


def _is_answer() -> bool:
    return has_request_context() and (request.endpoint or "").startswith(ANSWERS)
