"""DAGs `nightly_batch` and `rebuild`: what they take, when they give up, and a night through Airflow on real servers."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
from pyspark.sql import SparkSession
from support.hands import serve
from support.load import updates
from support.parameters import assert_takes
from support.places import Place

from ingest import connections
from serving import publications, verifications
from serving.status import state
from serving.verifications import Drifted
from settings import CHECKOUT
from spark import job

TAKEN = {
    "nightly_batch": {"mode": ["auto", "incremental", "full"], "on_drift": ["correct", "ask", "fail"], "keep": [None, 1, 30]},
    "rebuild": {"publication": [None, 0, 12]},
}
REFUSED = {
    "nightly_batch": {"mode": ["", None, "weekly"], "on_drift": [None, True], "keep": [0, "7", 1.5]},
    "rebuild": {"publication": [-1, "3", 1.5]},
}


@pytest.mark.parametrize("dag_id", TAKEN)
def test_parameters(bag: Any, dag_id: str) -> None:
    assert_takes(bag.dags[dag_id], TAKEN[dag_id], REFUSED[dag_id])


def test_every_night_and_no_day_of_its_own(bag: Any) -> None:
    dag = bag.dags["nightly_batch"]
    assert (type(dag.timetable).__name__, dag.catchup, dag.max_active_runs) == ("CronTriggerTimetable", False, 1)
    assert bag.dags["rebuild"].schedule is None


def test_spark_jobs_are_limited_by_their_pool(bag: Any) -> None:
    pools = {f"{dag}.{task.task_id}": task.pool for dag in TAKEN for task in bag.dags[dag].tasks}
    assert {name for name, pool in pools.items() if pool == "spark"} == {
        *(f"nightly_batch.{name}" for name in ("land", "cut", "recompute", "verify", "publish")),
        "rebuild.restore",
    }


def test_what_a_person_is_asked_stands_before_what_it_decides(bag: Any) -> None:
    nightly, rebuild = bag.dags["nightly_batch"], bag.dags["rebuild"]
    assert nightly.get_task("publish").upstream_task_ids >= {"decide", "approve"}
    assert rebuild.get_task("restore").upstream_task_ids >= {"chosen", "choose"}
    assert [asset.name for asset in nightly.get_task("publish").outlets] == ["reports"]
    assert [asset.name for asset in nightly.get_task("land").inlets] == ["products"]


def test_what_is_tried_again(bag: Any) -> None:
    from airflow.sdk import RetryAction

    policy = bag.dags["nightly_batch"].get_task("publish").retry_policy
    for_good = (job.JobFailedForGood("start again at cut"), Drifted("2 differences"))
    assert {policy.evaluate(error, 1, 3).action for error in for_good} == {RetryAction.FAIL}
    assert {policy.evaluate(error, 1, 3).action for error in (job.JobFailed("MongoDB is down"), OSError())} == {RetryAction.DEFAULT}
    restore = bag.dags["rebuild"].get_task("restore").retry_policy
    assert restore.evaluate(job.JobFailedForGood("no publication 9"), 1, 3).action == RetryAction.FAIL


@pytest.fixture
def connected(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Airflow's connections are to this place's servers."""
    for name, value in connections.environment().items():
        monkeypatch.setitem(os.environ, name, value)
    return place


def _run(dag_id: str, file: str, **conf: object) -> tuple[str, dict[str, tuple[str, int]]]:
    """A run of the DAG in this process; its state, and each task's with the number of its tries."""
    from airflow.dag_processing.dagbag import DagBag

    run = DagBag(str(CHECKOUT / "dags" / file)).dags[dag_id].test(run_conf=conf)
    return str(run.state), {one.task_id: (str(one.state), one.try_number) for one in run.get_task_instances()}


@pytest.mark.airflow
@pytest.mark.servers
@pytest.mark.usefixtures("database")
class TestNights:
    def test_a_night_that_corrects(self, connected: Place, spark: SparkSession) -> None:
        random = Random(121)
        connected.send(updates(random, 200, keys=40))
        serve(connected, spark)
        connected.database.product.delete_one({})
        ended, tasks = _run("nightly_batch", "nightly.py", on_drift="correct")
        assert (ended, tasks.pop("approve")[0]) == ("success", "skipped")
        assert {found for found, _ in tasks.values()} == {"success"}
        assert publications.served(connected.database) == 1
        assert verifications.read(connected.database, 1)["counts"]["product"] == 1
        assert state(connected.database)["night"]["publication"] == 1, "no alert is to miss it"
        assert connected.wrong() == []
        assert connected.wrong_documents() == []

    def test_a_rebuild_of_what_is_not_there_fails_at_once(self, connected: Place) -> None:
        state, tasks = _run("rebuild", "rebuild.py", publication=7)
        assert state == "failed"
        assert tasks["restore"] == ("failed", 1)
        assert tasks["choose"][0] == "skipped"
