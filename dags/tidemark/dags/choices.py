"""What a run is about: as its form says, or where that is left empty as a person chooses from a list.

No DAG itself (.airflowignore names it).
"""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import HITLEntryOperator
from airflow.sdk import Param, XComArg, task

from tidemark.dags import policy


class NotChosen(Exception):
    """A person has answered, and named nothing."""


def chosen(parameter: str, listed: XComArg, subject: str, **schema: Any) -> XComArg:
    """The value of a parameter that may be null; then the run shows what a task has listed, asks, and goes on with the answer.

    `schema` is the parameter's, null included: Airflow begins no task whose parameters do not fit, and the question is one of them.
    """

    @task.branch
    def asked(params: dict) -> str:
        return "choose" if params[parameter] is None else "chosen"

    @task(task_id="chosen", trigger_rule="none_failed_min_one_success")
    def value(params: dict, ti) -> Any:
        answer = ti.xcom_pull(task_ids="choose")
        found = answer["params_input"].get(parameter) if answer else params[parameter]
        if found is None:
            raise NotChosen(f"no {parameter} has been chosen: clear task choose, which asks again")
        return found

    choose = HITLEntryOperator(
        task_id="choose",
        subject=subject,
        body=f"```\n{{{{ ti.xcom_pull(task_ids='{listed.operator.task_id}') }}}}\n```",
        params={parameter: Param(None, **schema)},
        **policy.NO_EXECUTION_TIMEOUT,
    )
    one = value()
    listed >> asked() >> [choose, one]
    choose >> one
    return one
