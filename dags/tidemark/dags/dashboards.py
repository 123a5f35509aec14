"""Links from tasks to the dashboards of Superset that show what they have done.

No DAG itself (.airflowignore names it).
"""

from __future__ import annotations

from enum import Enum

from airflow.sdk import BaseOperator, BaseOperatorLink, XComArg

from tidemark.settings import settings


class Dashboard(Enum):
    """A dashboard's name in a link, and its slug in superset/assets."""

    CATALOG = "Catalog", "tidemark-catalog"
    TRENDS = "Trends", "tidemark-trends"
    PIPELINE = "Pipeline", "tidemark-pipeline"


class DashboardLink(BaseOperatorLink):
    """A button beside a task's log. Airflow keeps its address when the task has ended."""

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


def add_dashboard_links(of: XComArg | BaseOperator, *on: Dashboard) -> None:
    """Says on which dashboards what a task does is seen."""
    operator = of if isinstance(of, BaseOperator) else of.operator
    operator.operator_extra_links = tuple(map(DashboardLink, on))
