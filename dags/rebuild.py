"""DAG `rebuild`: brings products, categories, quarantine and reports to a publication; the stream goes on from there.

It repairs what was lost or altered behind the stream's back, and it is the rollback to an older publication. Trigger it with a number,
or without: then the run lists the publications and waits for a person to choose one. Nothing is lost: the stream serves again what
came since. A run that was cut off is cleared; nothing else can go on before it is done.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.hitl import HITLEntryOperator
from airflow.sdk import Asset, ExceptionRetryPolicy, Param, RetryAction, RetryRule, dag, task

from spark import job

REPORTS = Asset(name="reports", uri="tidemark://reports", group="tidemark")

FAIL_AT_ONCE = RetryRule([job.JobFailedForGood], RetryAction.FAIL, reason="another attempt would end the same")

CHOICE = {
    "title": "Publication",
    "description_md": "Its number. None: the run lists those there are, with what each would change, and asks",
    "minimum": 0,
}


@dag(
    dag_id="rebuild",
    schedule=None,
    max_active_runs=1,
    params={"publication": Param(None, type=["null", "integer"], **CHOICE)},
    default_args={
        "owner": "tidemark",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_policy": ExceptionRetryPolicy([FAIL_AT_ONCE]),
    },
    tags=["tidemark", "batch"],
    doc_md=__doc__,
)
def rebuild() -> None:
    @task
    def publications() -> str:
        return job.run("publications")

    @task.branch
    def chosen(params: dict) -> str:
        return "choose" if params["publication"] is None else "restore"

    choose = HITLEntryOperator(
        task_id="choose",
        subject="Which publication is to be served?",
        body="```\n{{ ti.xcom_pull(task_ids='publications') }}\n```",
        params={"publication": Param(type="integer", **CHOICE)},
    )

    @task(pool="spark", outlets=[REPORTS], trigger_rule="none_failed_min_one_success")
    def restore(params: dict, ti) -> None:
        answer = ti.xcom_pull(task_ids="choose")
        job.run("rebuild", answer["params_input"]["publication"] if answer else params["publication"])

    decided, restored = chosen(), restore()
    publications() >> decided >> [choose, restored]
    choose >> restored


rebuild()
