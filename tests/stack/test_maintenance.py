"""Upkeep of a whole stack, Airflow's own records among it, which no task can reach by itself."""

from __future__ import annotations

import pytest
from support.stacks import Stack

from local.runs import Airflow
from serving.database import connect, tidemark

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(900)]

MAINTENANCE = "maintenance"


def test_a_run_by_hand(stack: Stack) -> None:
    with Airflow() as airflow:
        run = airflow.trigger({}, MAINTENANCE)
    assert stack.end_of(run, MAINTENANCE) == "success"
    tasks = ("raw_history", "measure", "collections", "records", "logs", "leftovers")
    assert stack.states(run, MAINTENANCE) == {task: {"success"} for task in tasks}
    assert stack.wrong() == []
    with connect() as client:
        parts = set(tidemark(client).report_size.distinct("part"))
    assert parts >= {"lake: events", "collection product", "folder kafka", "folder airflow", "folder mongodb"}
