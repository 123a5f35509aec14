"""DAG `tidemark_history`: what it takes, when it gives up, and who may work at once."""

from __future__ import annotations

from typing import Any

import pytest
from support.airflow_home import run
from support.names import NAMES
from support.parameters import assert_accepts
from support.places import Place

from tidemark.dags import batch_job
from tidemark.ingest import topics, watch
from tidemark.serving.history import DayNotEnded, InvalidDays
from tidemark.settings.airflow_names import Dag, Pool


@pytest.fixture
def dag(dag_bag: Any) -> Any:
    return dag_bag.dags[NAMES.of(Dag.HISTORY)]


VALID_PARAMETERS = {"first_day": [None, "2024-02-29"], "last_day": [None, "1995-01-01"], "changed": [False, True]}
INVALID_PARAMETERS = {"first_day": ["29.02.2024", "2023-02-29", 20240229], "last_day": ["yesterday"], "changed": [None, "yes"]}


def test_parameters(dag: Any) -> None:
    assert_accepts(dag, VALID_PARAMETERS, INVALID_PARAMETERS)


def test_a_scheduled_run_has_the_day_that_ended_as_partition(dag: Any) -> None:
    assert (type(dag.timetable).__name__, dag.catchup) == ("CronPartitionTimetable", False)


def test_spark_jobs_are_limited_by_their_pool_and_the_nightly_batch_has_priority(dag_bag: Any, dag: Any) -> None:
    assert {task.task_id for task in dag.tasks if task.pool == NAMES.of(Pool.SPARK)} == {"land", "compute"}
    nightly = min(task.priority_weight for task in dag_bag.dags[NAMES.of(Dag.NIGHTLY_BATCH)].tasks)
    assert nightly > max(task.priority_weight for task in dag.tasks)


def test_which_errors_are_retried(dag: Any) -> None:
    from airflow.sdk import RetryAction

    policy = dag.get_task("compute").retry_policy
    permanent_errors = (batch_job.JobFailedPermanently("no such layer"), DayNotEnded("today"), InvalidDays("none"))
    assert {policy.evaluate(error, 1, 3).action for error in permanent_errors} == {RetryAction.FAIL}
    assert {policy.evaluate(error, 1, 3).action for error in (batch_job.JobFailed("MongoDB is down"), OSError())} == {RetryAction.DEFAULT}


@pytest.mark.airflow
@pytest.mark.servers
@pytest.mark.usefixtures("database")
def test_a_scheduled_run_before_the_first_event_is_skipped_without_spark(connected: Place) -> None:
    with topics.admin(connected.settings) as client:
        watch.record_end_offsets(connected.database, watch.fetch_end_offsets(client, connected.settings.topics))
    ended, tasks = run(NAMES.of(Dag.HISTORY), "history.py", last_day="2024-02-29", changed=True)
    assert (ended, tasks) == (
        "success",
        {name: ("skipped", 1 if name == "select_days" else 0) for name in ("select_days", "land", "compute")},
    )
