"""Links from tasks to the Superset dashboards that show their results.

This file is not a DAG (it is listed in .airflowignore).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator, BaseOperatorLink

from tidemark.settings import settings

if TYPE_CHECKING:
    from airflow.sdk.definitions.xcom_arg import PlainXComArg


class Dashboard(Enum):
    """A dashboard's name as shown in links, and its slug in superset/assets."""

    CATALOG = "Catalog", "tidemark-catalog"
    TRENDS = "Trends", "tidemark-trends"
    PIPELINE = "Pipeline", "tidemark-pipeline"


class DashboardLink(BaseOperatorLink):
    """A button next to a task's log. Airflow stores its address when the task ends."""

    def __init__(self, to: Dashboard) -> None:
        self._title, self._slug = to.value

    @property
    def name(self) -> str:
        return f"Dashboard {self._title}"

    @property
    def xcom_key(self) -> str:
        return f"_link_{self._slug}"

    def get_link(self, operator: BaseOperator, *, ti_key: object) -> str:  # noqa: ARG002
        return f"{settings().superset_pages}/superset/dashboard/{self._slug}/"


def add_dashboard_links(of: PlainXComArg | BaseOperator, *on: Dashboard) -> None:
    """Links a task to the dashboards that show its results."""
    operator = of if isinstance(of, BaseOperator) else of.operator
    operator.operator_extra_links = tuple(map(DashboardLink, on))
