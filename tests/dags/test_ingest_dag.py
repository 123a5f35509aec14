"""DAG `tidemark_ingest` without its servers: what it takes, when it gives up, what a person is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import ServerSelectionTimeoutError
from support.counted_reads import counted_rows
from support.environment import setting
from support.names import NAMES
from support.places import Place
from support.servers import free_ports

from tidemark.ingest import connections, jobs
from tidemark.ingest.files import InvalidFile
from tidemark.ingest.generate import write
from tidemark.ingest.produce import NotAcknowledged, UnsafeProducer
from tidemark.serving.ingestions import Incomplete
from tidemark.settings import CHECKOUT
from tidemark.settings.airflow_names import Dag, Pool


@pytest.fixture
def dag(dag_bag: Any) -> Any:
    return dag_bag.dags[NAMES.of(Dag.INGEST)]


VALID_PARAMETERS = {
    "products": [[], ["/in/a.csv"], ["s3://bucket/a.csv", "/in/b c.csv"]],
    "categories": [[], ["/in/categories.csv"]],
    "observed_at": [[], ["2023-12-31"], ["2023-12-31T18:00:00Z", "2023-12-31 18:00"]],
    "columns": [None, {}, {"price": "Price", "imgUrl": ""}],
    "dry_run": [False, True],
    "hold": [None, False, True],
    "chunk_bytes": [None, 1, 16_777_216],
}
INVALID_PARAMETERS = {
    "products": ["/in/a.csv", [1], [""], None],
    "categories": ["/in/categories.csv", [None]],
    "observed_at": ["2023-12-31", ["yesterday"], ["31.12.2023"], ["2023-12-31x"]],
    "columns": ["price=Price", {"price": None}, {"price": 1}],
    "dry_run": [None, "yes", 1],
    "hold": ["yes", 0],
    "chunk_bytes": [0, -1, 1.5, "1"],
}


def test_every_parameter_is_tested(dag: Any) -> None:
    assert set(dag.params) == set(VALID_PARAMETERS) == set(INVALID_PARAMETERS)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in VALID_PARAMETERS.items() for value in values])
def test_valid_parameters_are_accepted(dag: Any, name: str, value: object) -> None:
    assert dag.params.get_param(name).resolve(value) == value


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID_PARAMETERS.items() for value in values])
def test_invalid_parameters_are_refused(dag: Any, name: str, value: object) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


def test_a_run_without_parameters_is_valid(dag: Any) -> None:
    dag.params.validate()


def test_a_scheduled_run_has_the_day_that_ended_as_partition(dag: Any) -> None:
    from airflow.sdk.timezone import utc

    assert type(dag.timetable).__name__ == "CronPartitionTimetable"
    assert dag.catchup is False
    assert dag.start_date.tzinfo == utc


def test_waiting_runs_occupy_one_worker(dag: Any) -> None:
    assert dag.get_task("served").pool == NAMES.of(Pool.SERVED)
    assert {dag.get_task(name).pool for name in ("preview", "plan", "produce")} == {NAMES.of(Pool.INGEST)}


def test_reconciling_updates_the_products_asset(dag: Any) -> None:
    assert [asset.name for asset in dag.get_task("reconcile").outlets] == ["products"]


RETRYABLE_ERRORS = (
    NotAcknowledged("Kafka is down"),
    ServerSelectionTimeoutError("MongoDB is down"),
    Incomplete("a chunk is missing"),
    OSError("the disk does not answer"),
    TimeoutError("nobody answers"),
)
PERMANENT_ERRORS = (
    InvalidFile("no header"),
    jobs.InvalidParameters("no date"),
    UnsafeProducer("acks is 1"),
    FileNotFoundError("a.csv"),
    PermissionError("a.csv"),
    LookupError("not registered"),
)


@pytest.mark.parametrize("task", ["preview", "plan", "produce", "reconcile", "served"])
def test_which_errors_are_retried(dag: Any, task: str) -> None:
    from airflow.sdk import RetryAction

    policy = dag.get_task(task).retry_policy
    assert {policy.evaluate(error, 1, 3).action for error in PERMANENT_ERRORS} == {RetryAction.FAIL}
    assert {policy.evaluate(error, 1, 3).action for error in RETRYABLE_ERRORS} == {RetryAction.DEFAULT}


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Connections to servers that are not there."""
    kafka, mongodb = map(str, free_ports(2))
    with setting(kafka_port=kafka, mongodb_port=mongodb, ingest_from=str(tmp_path)) as of:
        for name, value in connections.environment(of).items():
            monkeypatch.setitem(os.environ, name, value)
        yield


def _fails_at_once(at: str, **conf: object) -> None:
    """In that task, at its first try, before anything is asked of Kafka or MongoDB, which are not there: that would be tried again."""
    from airflow.dag_processing.dagbag import DagBag

    # One of its own: a test run leaves its parameters in it.
    dag = DagBag(str(CHECKOUT / "dags" / "tidemark" / "dags" / "ingestion.py")).dags[NAMES.of(Dag.INGEST)]
    run = dag.test(run_conf=conf)
    tasks = {task.task_id: (str(task.state), task.try_number) for task in run.get_task_instances()}
    assert str(run.state) == "failed"
    assert tasks.pop(at) == ("failed", 1)
    before = {"preview": "success", "approve": "skipped"} if at == "plan" else {}
    assert {name: state for name, (state, _) in tasks.items()} == {name: before.get(name, "upstream_failed") for name in tasks}


@pytest.mark.airflow
@pytest.mark.usefixtures("database", "unreachable")
class TestInvalidRuns:
    def test_a_manual_run_without_files(self) -> None:
        _fails_at_once("preview")

    def test_a_missing_file(self, tmp_path: Path) -> None:
        _fails_at_once("preview", products=[f"{tmp_path}/none.csv"], observed_at=["2024-01-01"])

    def test_a_file_outside_of_the_named_folders(self) -> None:
        _fails_at_once("preview", products=[__file__], observed_at=["2024-01-01"])

    def test_a_file_without_a_date(self, tmp_path: Path) -> None:
        _, day = write(10, 1, 1, tmp_path, date(2024, 1, 1))
        _fails_at_once("preview", products=[str(day)])

    def test_a_file_of_another_kind(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("id,category_name\n1,Luggage\n")
        _fails_at_once("preview", products=[str(tmp_path / "a.csv")], observed_at=["2024-01-01"], dry_run=True)
        _fails_at_once("plan", products=[str(tmp_path / "a.csv")], observed_at=["2024-01-01"])


@pytest.mark.airflow
@pytest.mark.servers
@pytest.mark.usefixtures("database")
def test_chunks_are_passed_by_key_and_shown_by_name(connected: Place, tmp_path: Path) -> None:
    """A run with a preview, until the stream would have to serve it. Its file is parsed twice."""
    from airflow.dag_processing.dagbag import DagBag

    _, day = write(60, 1, 1, tmp_path, date(2024, 1, 1))
    conf = {"products": [str(day)], "observed_at": ["2024-01-01"], "chunk_bytes": day.stat().st_size // 3}
    dag = DagBag(str(CHECKOUT / "dags" / "tidemark" / "dags" / "ingestion.py")).dags[NAMES.of(Dag.INGEST)]
    with setting(hold_rejected_share="1"), counted_rows() as parsed:
        done = dag.test(run_conf=conf, mark_success_pattern="served")
    assert str(done.state) == "success"
    rows = connected.database.ingestion.distinct("rows")[0]
    assert 2 * rows <= parsed.rows < 2 * rows + 10
    tasks = done.get_task_instances()
    (plan,) = (one for one in tasks if one.task_id == "plan")
    identity = plan.xcom_pull(task_ids="plan", key="ingestions")[0]
    chunks = plan.xcom_pull(task_ids="plan")
    assert chunks == [{"ingestion": identity, "number": number} for number in range(len(chunks))]
    assert {one.map_index: one.rendered_map_index for one in tasks if one.task_id == "produce"} == {
        number: f"{day.name} {number + 1}" for number in range(len(chunks))
    }
    assert len(chunks) > 2
