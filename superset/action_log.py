"""Superset's log of who has done what, without what pages do by themselves.

A page that refreshes asks for a dozen charts every few seconds. A row for each in Superset's database would cost each answer a commit, and
the table would grow for ever.
"""

from typing import Any

from superset.utils.log import DBEventLogger

ANSWERS = "ChartDataRestApi."  # of charts: what their actions begin with
TOLD_BY_PAGES = "log"  # of their own drawing


class ActionLog(DBEventLogger):
    """Keeps what a person does: what is opened, asked in SQL Lab, changed."""

    def log(self, user_id: int | None, action: str, *more: Any, **named: Any) -> None:
        if action != TOLD_BY_PAGES and not action.startswith(ANSWERS):
            super().log(user_id, action, *more, **named)
