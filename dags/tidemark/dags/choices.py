"""A run's subject: the value of its form, or, if the field is empty, a person's choice from a list.

This file is not a DAG (it is listed in .airflowignore).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLEntryOperator
from airflow.sdk import Param, XComArg, task

from tidemark.dags import policy

if TYPE_CHECKING:
    from airflow.sdk.definitions.xcom_arg import PlainXComArg


class NotChosen(Exception):
    """A person answered without choosing a value."""


def chosen(parameter: str, listed: PlainXComArg, subject: str, **schema: Any) -> XComArg:
    """The value of a nullable parameter. If it is null, the run shows the list that a task returned, asks, and continues with the answer.

    `schema` is the parameter's and must allow null: Airflow validates it before it starts any task, also the one that asks.
    """

    @task.branch
    def check_parameter(params: dict[str, Any]) -> str:
        return "choose" if params[parameter] is None else "chosen"

    @task(task_id="chosen", trigger_rule="none_failed_min_one_success")
    def value(params: dict[str, Any], ti: Any) -> Any:
        answer = ti.xcom_pull(task_ids="choose")
        found = answer["params_input"].get(parameter) if answer else params[parameter]
        if found is None:
            raise NotChosen(f"no {parameter} was chosen: clear task choose to be asked again")
        return found

    choose = HITLEntryOperator(
        task_id="choose",
        subject=subject,
        body=f"```\n{{{{ ti.xcom_pull(task_ids='{listed.operator.task_id}') }}}}\n```",
        params={parameter: Param(None, **schema)},
        **policy.NO_EXECUTION_TIMEOUT,
    )
    one: XComArg = value()
    listed >> check_parameter() >> [choose, one]
    choose >> one
    return one
