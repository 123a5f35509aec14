"""Upkeep of a whole stack, Airflow's own records among it, which no task can reach by itself."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page
from support.databases import connected
from support.forms import Form
from support.stacks import Stack

from tidemark.settings.airflow_names import Dag

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.soak(proof="forms"), pytest.mark.timeout(1800)]


def test_manual_runs_of_maintenance(stack: Stack, page: Page) -> None:
    """Two at once, and single tasks again."""
    run = Form(page, Dag.MAINTENANCE).trigger()
    with stack.airflow() as airflow:
        beside = airflow.trigger({}, Dag.MAINTENANCE)
    stack.succeeds(run, Dag.MAINTENANCE)
    stack.succeeds(beside, Dag.MAINTENANCE)
    stack.clear(run, Dag.MAINTENANCE, "measure", "collections", "logs", "leftovers")
    tasks = ("raw_history", "measure", "collections", "records", "logs", "leftovers")
    assert stack.states(run, Dag.MAINTENANCE) == {task: {"success"} for task in tasks}
    assert stack.wrong() == []
    with connected() as database:
        parts = set(database.report_size.distinct("part"))
    assert parts >= {"lake: events", "collection product", "folder kafka", "folder airflow", "folder mongodb"}
