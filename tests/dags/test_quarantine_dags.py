"""DAGs `tidemark_replay_quarantine` and `tidemark_discard_quarantine`: what they take, when they give up, and runs on real servers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.airflow_home import run
from support.names import NAMES
from support.parameters import assert_accepts
from support.places import Place
from support.quarantined import quarantined

from tidemark.catalog.events import Event
from tidemark.ingest.produce import NotAcknowledged, UnsafeProducer
from tidemark.serving.lease import Busy
from tidemark.serving.publications import OtherRules
from tidemark.serving.quarantine import InvalidRequest
from tidemark.settings.airflow_names import Dag

SELECTION = {
    "reason": [None, "price", "another"],
    "file": [None, "a.csv", "api"],
    "since": [None, "2023-12-31T18:00:00Z"],
    "until": [None, "2023-12-31T18:00:00+01:00"],
    "dry_run": [False, True],
    "hold": [True, False],
}
VALID_PARAMETERS = {
    NAMES.of(Dag.REPLAY_QUARANTINE): {**SELECTION, "patch": [None, {}, {"price": "0", "title": ""}]},
    NAMES.of(Dag.DISCARD_QUARANTINE): {**SELECTION, "why": ["", "test rows"]},
}
OF_SELECTION = {
    **{"reason": [5, ["price"]], "file": [["a.csv"]], "since": ["yesterday", 5], "until": ["31.12.2023"]},
    **{"dry_run": [None, "yes"], "hold": [None, 1]},
}
INVALID_PARAMETERS = {
    NAMES.of(Dag.REPLAY_QUARANTINE): {**OF_SELECTION, "patch": ["price=0", {"price": 0}, {"price": None}]},
    NAMES.of(Dag.DISCARD_QUARANTINE): {**OF_SELECTION, "why": [None, 5]},
}


@pytest.mark.parametrize(("dag_id", "last"), [(NAMES.of(Dag.REPLAY_QUARANTINE), "send"), (NAMES.of(Dag.DISCARD_QUARANTINE), "discard")])
def test_approval_lies_between_preview_and_action(dag_bag: Any, dag_id: str, last: str) -> None:
    dag = dag_bag.dags[dag_id]
    assert dag.schedule is None
    assert dag.params["hold"] is True, "a run waits unless told otherwise"
    assert {task.task_id for task in dag.tasks} == {"preview", "approve", last}
    assert dag.get_task(last).upstream_task_ids == {"preview", "approve"}
    assert dag.get_task("approve").upstream_task_ids == {"preview"}
    assert_retried(dag.get_task(last).retry_policy)


@pytest.mark.parametrize("dag_id", VALID_PARAMETERS)
def test_parameters(dag_bag: Any, dag_id: str) -> None:
    assert_accepts(dag_bag.dags[dag_id], VALID_PARAMETERS[dag_id], INVALID_PARAMETERS[dag_id])


def assert_retried(policy: Any) -> None:
    from airflow.sdk import RetryAction

    permanent_errors = (InvalidRequest("no such file"), OtherRules("restart"), UnsafeProducer("acks is 1"))
    assert {policy.evaluate(error, 1, 3).action for error in permanent_errors} == {RetryAction.FAIL}
    passing = (NotAcknowledged("Kafka is down"), Busy("another run"), OSError())
    assert {policy.evaluate(error, 1, 3).action for error in passing} == {RetryAction.DEFAULT}


def test_sending_updates_the_products_asset(dag_bag: Any) -> None:
    assert [asset.name for asset in dag_bag.dags[NAMES.of(Dag.REPLAY_QUARANTINE)].get_task("send").outlets] == ["products"]


@pytest.fixture
def with_records(connected: Place) -> Place:
    """Some records are in quarantine."""
    usual = {"asin": "B0T0000001", "title": "Bag", "stars": "4", "reviews": "0", "price": "n/a", "listPrice": "0", "category_id": "1"}
    value = {**usual, "isBestSeller": "False", "boughtInLastMonth": "0", "date": "2024-01-01"}
    connected.send([Event("ingest-product", 0, 0, 0, None, json.dumps(value).encode()), Event("ingest-product", 0, 0, 0, None, b"nothing")])
    quarantined(connected)
    return connected


@pytest.mark.airflow
@pytest.mark.servers
@pytest.mark.usefixtures("database")
class TestRuns:
    def test_a_replay_without_approval_and_a_discard_of_the_rest(self, with_records: Place) -> None:
        state, tasks = run(NAMES.of(Dag.REPLAY_QUARANTINE), "quarantine.py", patch={"price": "5"}, dry_run=True)
        assert (state, tasks["preview"][0], tasks["send"][0]) == ("success", "success", "skipped")
        assert sum(with_records.ends().values()) == 2
        state, tasks = run(NAMES.of(Dag.REPLAY_QUARANTINE), "quarantine.py", patch={"price": "5"}, hold=False)
        assert (state, tasks["approve"][0], tasks["send"][0]) == ("success", "skipped", "success")
        (replay,) = (event for event in with_records.log() if event.header("tide-source") == "replay")
        assert json.loads(replay.value or b"")["price"] == "5"
        state, tasks = run(NAMES.of(Dag.DISCARD_QUARANTINE), "quarantine.py", why="test rows", hold=False)
        assert (state, tasks["approve"][0], tasks["discard"][0]) == ("success", "skipped", "success")
        found = {one["reason"]: one for one in with_records.database.quarantine.find()}
        assert (found["price"]["status"], found["malformed"]["status"]) == ("replayed", "discarded")
        assert found["price"]["replayed"]["by"].startswith("manual__")
        assert found["malformed"]["discarded"]["why"] == "test rows"

    def test_invalid_runs_are_not_retried(self, with_records: Place) -> None:
        state, tasks = run(NAMES.of(Dag.REPLAY_QUARANTINE), "quarantine.py", reason="withdrawn")
        assert (state, tasks["preview"]) == ("failed", ("failed", 1))
        state, tasks = run(NAMES.of(Dag.DISCARD_QUARANTINE), "quarantine.py", hold=False)
        assert (state, tasks["preview"]) == ("failed", ("failed", 1))
