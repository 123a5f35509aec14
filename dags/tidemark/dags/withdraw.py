"""DAG `tidemark_withdraw`: withdraws an ingestion, such as a wrong file or a file with the wrong date, or what a client of the HTTP API
posted, or undoes a withdrawal.

**When to run it.** Trigger it with an ingestion's id, or without one: then the run lists the ingestions and waits for a choice. Posts are
named by the name of the API key and a time that has passed: `api/shop/2026-11-30`, or `api/shop/2026-11-30T14:00Z/2026-11-30T15:30Z`. The
run shows what the reports will become and waits for approval. Then both layers reject those events (reason `withdrawn`), a nightly batch
recomputes the reports without them, and the days of the history are computed again. Nothing is deleted, so a withdrawal can be
undone at any time. The correct file can be ingested before or after.

**If it fails.** Clear the failed task: each task continues where it stopped. If it fails after `apply`, first remove the cause; until the
nightly batch has succeeded, the reports still contain the withdrawn data.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag, task

from tidemark.catalog.posts import InvalidPosts
from tidemark.dags import batch_job, policy
from tidemark.dags.choices import NotChosen, chosen
from tidemark.dags.mongodb import connected
from tidemark.serving import control, withdrawals
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag, Pool

NAMES = settings().airflow_names
WAIT_SECONDS = 900

INGESTION: dict[str, Any] = {
    "type": ["null", "string"],
    "minLength": 1,
    "title": "Ingestion or posts",
    "description_md": "Id of the ingestion, or posts such as `api/shop/2026-11-30`. Empty: the run lists the ingestions and asks",
}
PARAMETERS = {
    "ingestion": Param(None, **INGESTION),
    "take_back": Param(False, title="Undo the withdrawal", description_md="What was withdrawn counts again", type="boolean"),
    "reason": Param(None, title="Reason", description_md="Shown if the same file is ingested again", type=["null", "string"]),
    "hold": Param(
        True, title="Hold for approval", description_md="First show what the reports will become, and wait for approval", type="boolean"
    ),
}

# Waits for the triggered run to end, without occupying a worker.
WAIT_FOR_COMPLETION: dict[str, Any] = {"wait_for_completion": True, "deferrable": True, "poke_interval": 5, "logical_date": None}


@dag(
    **policy.of(
        "operations", permanent_errors=[batch_job.JobFailedPermanently, control.NotDone, withdrawals.NoIngestion, InvalidPosts, NotChosen]
    ),
    dag_id=NAMES.of(Dag.WITHDRAW),
    schedule=None,
    max_active_runs=1,
    params=PARAMETERS,
    doc_md=__doc__,
)
def withdraw() -> None:
    @task
    def ingestions() -> str:
        with connected(settings()) as database:
            return withdrawals.choices(database)

    @task(pool=NAMES.of(Pool.SPARK))
    def impact(ingestion: str, params: dict[str, Any]) -> str:
        text: str = batch_job.run(settings(), "impact", ingestion, *(["--take-back"] if params["take_back"] else []))
        return text

    @task.branch
    def decide(params: dict[str, Any]) -> str:
        return "approve" if params["hold"] else "apply"

    approve = ApprovalOperator(
        task_id="approve",
        subject="Apply this change to the reports?",
        body="{{ 'Withdrawal to undo:' if params.take_back else 'To withdraw:' }} {{ ti.xcom_pull(task_ids='chosen') }}\n\n"
        "{{ ti.xcom_pull(task_ids='impact') }}",
        **policy.NO_EXECUTION_TIMEOUT,
    )

    @task(trigger_rule="none_failed_min_one_success")
    def apply(ingestion: str, params: dict[str, Any], dag_run: Any) -> None:
        with connected(settings()) as database:
            by = dag_run.triggering_user_name or "Airflow"
            withdrawals.apply(database, ingestion, by, params["reason"] or "", NAMES, take_back=params["take_back"])

    @task(pool=NAMES.of(Pool.SERVED))
    def wait() -> None:
        with connected(settings()) as database:
            withdrawals.await_stream(database, settings().rules, WAIT_SECONDS)

    # No further approval: the figures have been shown.
    agreed = {"on_drift": "correct", "hold": False}
    nightly = TriggerDagRunOperator(task_id="nightly", trigger_dag_id=NAMES.of(Dag.NIGHTLY_BATCH), conf=agreed, **WAIT_FOR_COMPLETION)
    yesterday = "{{ (dag_run.start_date - macros.timedelta(days=1)) | ds }}"
    days = TriggerDagRunOperator(
        task_id="history", trigger_dag_id=NAMES.of(Dag.HISTORY), conf={"last_day": yesterday, "changed": True}, **WAIT_FOR_COMPLETION
    )
    one = chosen("ingestion", ingestions(), "Which ingestion, or which posts?", **INGESTION)
    decision, applied = decide(), apply(one)
    impact(one) >> decision >> [approve, applied]
    approve >> applied >> wait() >> nightly >> days


withdraw()
