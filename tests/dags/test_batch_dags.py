"""DAGs `tidemark_nightly_batch` and `tidemark_rebuild`: what they take, when they give up, and a night through Airflow on real servers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession
from support.airflow_home import run
from support.environment import setting
from support.load import updates
from support.manual_stream import serve
from support.names import NAMES
from support.parameters import assert_accepts
from support.places import Place
from support.wording import Wording

from tidemark.dags import batch_job
from tidemark.serving import publications, verifications
from tidemark.serving.status import state
from tidemark.serving.verifications import ApprovalRequired, Drifted
from tidemark.settings.airflow_names import Dag, Pool
from tidemark.spark.batch import Batch

VALID_PARAMETERS = {
    NAMES.of(Dag.NIGHTLY_BATCH): {
        "mode": ["auto", "incremental", "full"],
        "on_drift": ["correct", "ask", "fail"],
        "hold": [None, False, True],
        "keep": [None, 1, 30],
    },
    NAMES.of(Dag.REBUILD): {"publication": [None, 0, 12]},
}
INVALID_PARAMETERS = {
    NAMES.of(Dag.NIGHTLY_BATCH): {"mode": ["", None, "weekly"], "on_drift": [None, True], "hold": ["yes"], "keep": [0, "7", 1.5]},
    NAMES.of(Dag.REBUILD): {"publication": [-1, "3", 1.5]},
}


@pytest.mark.parametrize("dag_id", VALID_PARAMETERS)
def test_parameters(dag_bag: Any, dag_id: str) -> None:
    assert_accepts(dag_bag.dags[dag_id], VALID_PARAMETERS[dag_id], INVALID_PARAMETERS[dag_id])


def test_the_nightly_batch_is_scheduled_and_a_rebuild_is_not(dag_bag: Any) -> None:
    dag = dag_bag.dags[NAMES.of(Dag.NIGHTLY_BATCH)]
    assert (type(dag.timetable).__name__, dag.catchup, dag.max_active_runs) == ("CronTriggerTimetable", False, 1)
    assert dag_bag.dags[NAMES.of(Dag.REBUILD)].schedule is None


def test_spark_jobs_are_limited_by_their_pool(dag_bag: Any) -> None:
    pools = {f"{dag}.{task.task_id}": task.pool for dag in VALID_PARAMETERS for task in dag_bag.dags[dag].tasks}
    assert {name for name, pool in pools.items() if pool == NAMES.of(Pool.SPARK)} == {
        *(f"{NAMES.of(Dag.NIGHTLY_BATCH)}.{name}" for name in ("land", "cut", "recompute", "verify", "publish")),
        f"{NAMES.of(Dag.REBUILD)}.rebuild_from",
    }


def test_approval_precedes_the_task_it_approves(dag_bag: Any) -> None:
    nightly, rebuild = dag_bag.dags[NAMES.of(Dag.NIGHTLY_BATCH)], dag_bag.dags[NAMES.of(Dag.REBUILD)]
    assert nightly.get_task("publish").upstream_task_ids >= {"decide", "approve"}
    assert rebuild.get_task("rebuild_from").upstream_task_ids == {"chosen"}
    assert [asset.name for asset in nightly.get_task("publish").outlets] == ["reports"]
    assert [asset.name for asset in nightly.get_task("land").inlets] == ["products"]


def test_a_nightly_batch_has_the_same_steps_in_airflow_and_in_one_process(dag_bag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order stands in the DAG and in Batch.nightly."""
    dag = dag_bag.dags[NAMES.of(Dag.NIGHTLY_BATCH)]
    steps = [task.task_id for task in dag.topological_sort() if task.task_id != "approve"]
    for before, step in pairwise(steps):
        assert before in dag.get_task(step).upstream_task_ids, "each step waits for the one before"
    taken: list[str] = []

    def noted(step: str, result: object = None) -> Callable[..., object]:
        def note(*_: object) -> object:
            taken.append(step)
            return result

        return note

    results = {"cut": 1, "verify": {"drift": 0}}
    night = SimpleNamespace(database=None, of=None, **{step: noted(step, results.get(step)) for step in steps if step != "decide"})
    monkeypatch.setattr(verifications, "read", lambda *_: {})
    monkeypatch.setattr(verifications, "requires_approval", noted("decide", False))
    Batch.nightly(night, "auto", "correct", 7)  # type: ignore[arg-type]
    assert taken == steps


def test_which_errors_are_retried(dag_bag: Any) -> None:
    from airflow.sdk import RetryAction

    policy = dag_bag.dags[NAMES.of(Dag.NIGHTLY_BATCH)].get_task("publish").retry_policy
    permanent_errors = (batch_job.JobFailedPermanently("start again at cut"), Drifted("2 differences"))
    assert {policy.evaluate(error, 1, 3).action for error in permanent_errors} == {RetryAction.FAIL}
    assert {policy.evaluate(error, 1, 3).action for error in (batch_job.JobFailed("MongoDB is down"), OSError())} == {RetryAction.DEFAULT}
    rebuilding = dag_bag.dags[NAMES.of(Dag.REBUILD)].get_task("rebuild_from").retry_policy
    assert rebuilding.evaluate(batch_job.JobFailedPermanently("no publication 9"), 1, 3).action == RetryAction.FAIL


@pytest.mark.airflow
@pytest.mark.servers
@pytest.mark.usefixtures("database")
class TestNightlyBatches:
    @pytest.mark.soak(proof="nights")
    def test_a_nightly_batch_corrects_drift(self, connected: Place, spark: SparkSession) -> None:
        random = Random(121)
        connected.send(updates(random, 200, keys=40))
        serve(connected, spark)
        connected.database.product.delete_one({})
        ended, tasks = run(NAMES.of(Dag.NIGHTLY_BATCH), "nightly.py", on_drift="correct")
        assert (ended, tasks.pop("approve")[0]) == ("success", "skipped")
        assert {found for found, _ in tasks.values()} == {"success"}
        assert publications.served(connected.database) == 1
        assert verifications.read(connected.database, 1)["counts"]["product"] == 1
        assert state(connected.database)["night"]["publication"] == 1, "no alert is to miss it"
        assert connected.wrong() == []
        assert connected.wrong_documents() == []

    @pytest.mark.soak(proof="nights")
    def test_an_implausible_nightly_batch_waits_for_approval(
        self, dag_bag: Any, connected: Place, spark: SparkSession, wording: Wording
    ) -> None:
        work = Batch(connected.database, connected.settings, spark)
        decide = dag_bag.dags[NAMES.of(Dag.NIGHTLY_BATCH)].get_task("decide").python_callable
        for seed, keys in ((122, 20), (123, 60)):
            connected.send(updates(Random(seed), 200, keys))
            serve(connected, spark)
            if keys == 20:
                work.nightly("auto", "correct", 7)
        work.land()
        work.recompute(work.cut(), "auto")
        assert "| 20 | 59 | +39 (+195.0%) |" in work.verify(2)["form"]
        compared = verifications.read(connected.database, 2)["compared"]
        assert (compared["before"]["products"], compared["after"]["products"]) == (20, 59)
        assert decide(2, {"on_drift": "correct", "hold": None}) == "publish"
        assert decide(2, {"on_drift": "correct", "hold": True}) == "approve"
        with setting(implausible_products_shift="1.9") as strict:
            assert decide(2, {"on_drift": "correct", "hold": None}) == "approve"
            assert decide(2, {"on_drift": "correct", "hold": False}) == "publish"
            connected.send(updates(Random(124), 400, keys=200))
            serve(connected, spark)
            with pytest.raises(ApprovalRequired) as held:
                Batch(connected.database, strict, spark).nightly("auto", "correct", 7)
            wording.check(str(held.value))
        assert publications.served(connected.database) == 1
        assert connected.wrong() == []
        work.publish(3, 7)
        assert publications.served(connected.database) == 3
        assert connected.wrong() == []

    def test_a_rebuild_of_an_unknown_publication_is_not_retried(self, connected: Place) -> None:
        state, tasks = run(NAMES.of(Dag.REBUILD), "rebuild.py", publication=7)
        assert state == "failed"
        assert tasks["rebuild_from"] == ("failed", 1)
        assert tasks["choose"][0] == "skipped"
