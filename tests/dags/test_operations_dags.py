"""DAGs `tidemark_withdraw` and `tidemark_stream`: what they take and refuse, and when they ask."""

from __future__ import annotations

from typing import Any

import pytest
from support.names import NAMES
from support.parameters import assert_accepts
from support.wording import Wording

from tidemark.dags.choices import NotChosen
from tidemark.serving import control, withdrawals
from tidemark.settings.airflow_names import Dag

VALID_PARAMETERS = {
    NAMES.of(Dag.WITHDRAW): {
        "ingestion": [None, "9f"],
        "take_back": [False, True],
        "reason": [None, "", "wrong date"],
        "hold": [True, False],
    },
    NAMES.of(Dag.STREAM): {"action": ["pause", "resume", "restart"], "reason": [None, "", "Kafka moves"], "drain": [True, False]}
    | {"accept": [None, 31_204]},
}
INVALID_PARAMETERS = {
    NAMES.of(Dag.WITHDRAW): {"ingestion": ["", 5], "take_back": [None, "yes"], "reason": [5], "hold": [None]},
    NAMES.of(Dag.STREAM): {"action": [None, "", "stop"], "reason": [5], "drain": [None, "yes"], "accept": [0, "all"]},
}


def test_a_withdrawal_requires_approval(dag_bag: Any) -> None:
    dag = dag_bag.dags[NAMES.of(Dag.WITHDRAW)]
    assert dag.params["hold"] is True, "a run waits unless told otherwise"
    assert dag.get_task("apply").upstream_task_ids == {"decide", "approve", "chosen"}
    decide = dag.get_task("decide").python_callable
    assert (decide({"hold": True}), decide({"hold": False})) == ("approve", "apply")


@pytest.mark.parametrize("dag_id", VALID_PARAMETERS)
def test_parameters(dag_bag: Any, dag_id: str) -> None:
    assert_accepts(dag_bag.dags[dag_id], VALID_PARAMETERS[dag_id], INVALID_PARAMETERS[dag_id])
    assert (dag_bag.dags[dag_id].schedule, dag_bag.dags[dag_id].max_active_runs) == (None, 1)


@pytest.mark.parametrize(("dag_id", "parameter"), [(NAMES.of(Dag.WITHDRAW), "ingestion"), (NAMES.of(Dag.REBUILD), "publication")])
def test_a_person_chooses_if_the_form_leaves_the_value_empty(dag_bag: Any, dag_id: str, parameter: str, wording: Wording) -> None:
    dag = dag_bag.dags[dag_id]
    check_parameter, chosen = (dag.get_task(name).python_callable for name in ("check_parameter", "chosen"))
    assert check_parameter({parameter: None}) == "choose"
    assert check_parameter({parameter: 7}) == "chosen"
    assert dag.get_task("chosen").upstream_task_ids == {"check_parameter", "choose"}
    assert chosen({parameter: 7}, _Answered(None)) == 7
    assert chosen({parameter: None}, _Answered({"params_input": {parameter: 8}})) == 8
    with pytest.raises(NotChosen) as refused:
        chosen({parameter: None}, _Answered({"params_input": {parameter: None}}))
    wording.check(str(refused.value))
    # Else Airflow would not begin the task that asks.
    dag.get_task("choose").params.validate()


def test_which_errors_are_retried(dag_bag: Any) -> None:
    from airflow.sdk import RetryAction

    for dag_id, permanent_errors in (
        (NAMES.of(Dag.WITHDRAW), withdrawals.NoIngestion("none")),
        (NAMES.of(Dag.STREAM), control.NotDone("it is paused")),
        (NAMES.of(Dag.STREAM), control.NotHeld("it runs")),
    ):
        policy = dag_bag.dags[dag_id].tasks[0].retry_policy
        assert policy.evaluate(permanent_errors, 1, 3).action == RetryAction.FAIL
        assert policy.evaluate(OSError(), 1, 3).action == RetryAction.DEFAULT


class _Answered:
    """A task instance, of which only what a person has answered is asked."""

    def __init__(self, answer: dict[str, Any] | None) -> None:
        self._answer = answer

    def xcom_pull(self, task_ids: str) -> dict[str, Any] | None:
        assert task_ids == "choose"
        return self._answer
